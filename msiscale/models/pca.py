"""Principal components from second moments: exact, in one pass, and mergeable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from msiscale.models._blocks import apply_rows, is_labelled, one_blas_thread
from msiscale.models._estimator import checked_x
from msiscale.models.moments import Moments, Which, moments, product_dtype

Floats = NDArray[np.float64]

MAX_COLUMNS = 12_000  # 1.2 GB a matrix of second moments, of which an eigensolver needs a few


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal component analysis of arrays that need not fit in memory.

    The eigenvectors of the summed scatter, so exact; the names are scikit-learn's. A component's
    sign is such that its loading of largest magnitude is positive.

    Parameters
    ----------
    n_components : int or None
        At most this many; fewer where the data's numerical rank is lower. None: all.
    svd_solver : {"auto", "covariance_eigh"}
        "auto" is "covariance_eigh" (and says so, with the remedy, above 12,000 variables).

    Attributes
    ----------
    mean_ (p,), components_ (k, p), explained_variance_ (k,), explained_variance_ratio_ (k,),
    singular_values_ (k,) : float64
        `explained_variance_` has the divisor n - 1.
    n_components_, n_features_in_, n_samples_ : int
    moments_ : Moments
        The sums so far; `partial_fit` adds to them.
    """

    def __init__(self, n_components: int | None = 200, *, svd_solver: str = "auto") -> None:
        self.n_components = n_components
        self.svd_solver = svd_solver

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Fit to the rows of X (..., p): NumPy, Dask or xarray.

        A row of a Dask or xarray array that holds a NaN was not measured and is left out; NumPy
        input with NaN raises ValueError, as in scikit-learn.
        """
        return self._set(self._sums(X, reset=True))

    def partial_fit(self, X: Any, y: Any = None) -> PCA:
        """Add the rows of X to those already seen: exact, whatever the order or the sizes."""
        first = not hasattr(self, "moments_")
        sums = self._sums(X, reset=first, rows=1)
        return self._set(sums if first else self.moments_ + sums)

    @classmethod
    def from_moments(cls, sums: Moments, which: Which = "m", n_components: int | None = 200) -> PCA:
        """Fit to variables `which` ("x" or "m") of sums already made."""
        return cls(n_components)._set(sums if which == "x" else sums.swap())

    def transform(self, X: Any) -> Any:
        """Scores (..., k), in the container of X; xarray gives them the dimension ``component``.

        The product is in the precision of X.
        """
        check_is_fitted(self, "components_")
        X = checked_x(self, X, reset=False)
        return apply_rows(self._scores, X, self.n_components_, "component")

    def inverse_transform(self, X: Any) -> Any:
        """Spectra (..., p) from scores (..., k)."""
        check_is_fitted(self, "components_")
        X = X if is_labelled(X) else np.asarray(X)
        return apply_rows(self._spectra, X, len(self.mean_), "feature")

    def _scores(self, x: NDArray[Any]) -> NDArray[Any]:
        return (x - self.mean_.astype(x.dtype)) @ self.components_.T.astype(x.dtype)

    def _spectra(self, scores: NDArray[Any]) -> NDArray[Any]:
        dtype = np.result_type(scores.dtype, np.float32)
        return scores @ self.components_.astype(dtype) + self.mean_.astype(dtype)

    def _sums(self, X: Any, *, reset: bool, rows: int = 2) -> Moments:
        self._check_parameters()
        X = checked_x(self, X, reset=reset)
        if X.shape[-1] > MAX_COLUMNS:
            raise ValueError(
                f"X has {X.shape[-1]} variables and the second moments would take"
                f" {X.shape[-1] ** 2 * 8 / 1e9:.0f} GB; bin or pick peaks down to {MAX_COLUMNS}"
            )
        sums = moments(X, dtype=product_dtype(X), skip_missing=is_labelled(X))
        if sums.rows < rows:
            raise ValueError(f"n_samples={sums.rows}: principal components need 2 rows or more")
        return sums

    def _check_parameters(self) -> None:
        if self.n_components is not None and not (
            isinstance(self.n_components, int | np.integer) and self.n_components >= 1
        ):
            raise ValueError(f"n_components={self.n_components!r}: give 1 or more, or None")
        if self.svd_solver not in ("auto", "covariance_eigh"):
            raise ValueError(f"svd_solver={self.svd_solver!r}: choose 'auto' or 'covariance_eigh'")

    def _set(self, sums: Moments) -> PCA:
        self._check_parameters()
        values, vectors = principal(sums.sxx, self.n_components, sums.rows - 1, sums.eps)
        divisor = max(sums.n - 1, 1e-300)
        total = float(np.trace(sums.sxx))
        self.moments_ = sums
        self.n_features_in_ = sums.p
        self.n_samples_ = sums.rows
        self.mean_ = sums.mean_x
        self.components_ = vectors
        self.n_components_ = len(values)
        self.explained_variance_ = values / divisor
        self.explained_variance_ratio_ = values / total if total > 0 else values
        self.singular_values_ = np.sqrt(values)
        return self

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def principal(
    scatter: Floats, n_components: int | None, max_rank: int, eps: float
) -> tuple[Floats, Floats]:
    """Leading eigenvalues (k,), descending, and eigenvectors (k, p) of a scatter matrix.

    Those above the noise only: more than `eps` (the products' rounding unit) and more than
    ``10 p`` float64 roundings of the largest, and no more than `max_rank` of them.
    """
    p = len(scatter)
    k = min(p if n_components is None else n_components, p, max_rank)
    if k < 1 or not np.diag(scatter).any():
        return np.zeros(0), np.zeros((0, p))
    with one_blas_thread():
        values, vectors = eigh(scatter, subset_by_index=[p - k, p - 1], driver="evr")
    values, vectors = values[::-1], vectors.T[::-1]
    kept = values > values[0] * noise_floor(p, eps)
    return values[kept].copy(), with_signs(vectors[kept])


def noise_floor(p: int, eps: float) -> float:
    """Eigenvalues of a p x p second moment below this, relative to the largest, are rounding.

    Measured on low-rank data: 2e-8 for float32 products, 4e-16 for float64.
    """
    return max(eps, 10 * p * float(np.finfo(np.float64).eps))


def with_signs(rows: Floats) -> Floats:
    """Each row times +-1, so that its entry of largest magnitude is positive."""
    if rows.size == 0:
        return rows
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    return np.ascontiguousarray(rows * np.where(largest < 0, -1.0, 1.0)[:, None])
