"""Principal components: exact from second moments in one pass, or of long axes in a few."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from msiscale.errors import MsiscaleWarning
from msiscale.grid import Floats
from msiscale.models.estimator import SparseTaker, checked_x
from msiscale.models.moments import Moments, Which, moments, product_dtype
from msiscale.models.randomized import principal_axes
from msiscale.models.rowblocks import apply_rows, is_labelled, row_blocks
from msiscale.threads import one_blas_thread

MAX_COLUMNS = 12_000  # 1.2 GB a matrix of second moments, of which an eigensolver needs a few
SOLVERS = ("auto", "covariance_eigh", "randomized")


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SparseTaker):  # type: ignore[misc]
    """Principal component analysis of arrays that need not fit in memory.

    The names are scikit-learn's. A component's sign is such that its loading of largest magnitude
    is positive.

    Parameters
    ----------
    n_components : int or None
        At most this many; fewer where the data's numerical rank is lower. None: all.
    svd_solver : {"auto", "covariance_eigh", "randomized"}
        "covariance_eigh": eigenvectors of the summed scatter, exact, from one reading; holds some
        ``32 p^2`` bytes. "randomized": block Krylov iteration from a random start, without a
        p x p matrix and without centring sparse rows, until it has converged: some 6 readings
        where the spectrum decays fast, 15 where it hardly does; holds ``8 p (9 b + k)`` bytes,
        b = 1.2 k or k + 10 (`msiscale.models.randomized`), and two or three sums of ``8 p b`` in
        a worker. "auto" is "covariance_eigh" up to 12,000 variables and "randomized" above.
    tol : float
        Of "randomized": largest ``|A v - value v| / value`` of a component v, A being the scatter,
        at which to stop. About the error of the subspace in radians; that of a variance is about
        its square.
    max_passes : int
        Of "randomized": readings at most; when they do not suffice a warning says how far it got.
    random_state : int
        Seed of the random start.

    Attributes
    ----------
    mean_ (p,), components_ (k, p), explained_variance_ (k,), explained_variance_ratio_ (k,),
    singular_values_ (k,) : float64
        `explained_variance_` has the divisor n - 1.
    n_components_, n_features_in_, n_samples_ : int
    n_passes_ : int
        Readings of X by the last fit.
    residual_ : float
        How far "randomized" got, in the terms of `tol`; 0 where the fit is exact.
    moments_ : Moments
        The sums so far; `partial_fit` adds to them. Not there after "randomized".

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import msiscale as ms
    >>> line = np.linspace(-1, 1, 100)[:, None] * [3.0, 4.0] + [10.0, 0.0]
    >>> pca = ms.PCA(n_components=1).fit(da.from_array(line, chunks=(20, 2)))
    >>> np.round(pca.components_, 3).tolist(), np.round(pca.mean_, 3).tolist()
    ([[0.6, 0.8]], [10.0, 0.0])
    >>> pca.transform(da.from_array(line, chunks=(20, 2)))[0].compute().round(3).tolist()
    [-5.0]
    """

    def __init__(
        self,
        n_components: int | None = 200,
        *,
        svd_solver: str = "auto",
        tol: float = 1e-4,
        max_passes: int = 30,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.svd_solver = svd_solver
        self.tol = tol
        self.max_passes = max_passes
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Fit to the rows of X.

        Parameters
        ----------
        X : (..., p) NumPy, Dask, xarray, scipy sparse or `CsrRows`
            A row of a Dask or xarray array that holds a NaN was not measured and is left out.
        y : None
            Not looked at.

        Returns
        -------
        PCA, itself

        Raises
        ------
        ValueError
            Fewer than two rows, a parameter out of range, or what scikit-learn refuses (a NaN).
        """
        self._check_parameters()
        X = checked_x(self, X, reset=True)
        if self._solver(X.shape[-1]) == "randomized":
            return self._iterate(X)
        return self._set(self._sums(X, rows=2))

    def partial_fit(self, X: Any, y: Any = None) -> PCA:
        """Add the rows of X to those already seen: exact, whatever the order or the sizes."""
        self._check_parameters()
        first = not hasattr(self, "moments_")
        X = checked_x(self, X, reset=first)
        if self._solver(X.shape[-1]) == "randomized":
            raise ValueError("svd_solver='randomized' reads X several times: use fit on all of it")
        sums = self._sums(X, rows=1)
        return self._set(sums if first else self.moments_ + sums)

    @classmethod
    def from_moments(cls, sums: Moments, which: Which = "m", n_components: int | None = 200) -> PCA:
        """Fit to variables `which` ("x" or "m") of sums already made."""
        return cls(n_components)._set(sums if which == "x" else sums.swap())

    def transform(self, X: Any) -> Any:
        """Scores (..., k) of X (..., p), in its container and precision."""
        check_is_fitted(self, "components_")
        X = checked_x(self, X, reset=False)
        return apply_rows(self._scores, X, self.n_components_, "component")

    def inverse_transform(self, X: Any) -> Any:
        """Spectra (..., p) from scores (..., k), in the container of X."""
        check_is_fitted(self, "components_")
        X = X if is_labelled(X) else np.asarray(X)
        return apply_rows(self._spectra, X, len(self.mean_), "feature")

    def _scores(self, x: Any) -> NDArray[Any]:
        loadings, mean = self.components_.T.astype(x.dtype), self.mean_.astype(x.dtype)
        if issparse(x):
            return np.asarray(x @ loadings - mean @ loadings)
        return np.asarray((x - mean) @ loadings)

    def _spectra(self, scores: NDArray[Any]) -> NDArray[Any]:
        dtype = np.result_type(scores.dtype, np.float32)
        return np.asarray(scores @ self.components_.astype(dtype) + self.mean_.astype(dtype))

    def _solver(self, p: int) -> str:
        """Which way p variables are decomposed."""
        if self.svd_solver == "auto":
            return "covariance_eigh" if p <= MAX_COLUMNS else "randomized"
        if self.svd_solver == "covariance_eigh" and p > MAX_COLUMNS:
            raise ValueError(
                f"X has {p} variables and the second moments would take {p**2 * 8 / 1e9:.0f} GB;"
                f" above {MAX_COLUMNS} use svd_solver='randomized'"
            )
        return self.svd_solver

    def _sums(self, X: Any, *, rows: int) -> Moments:
        sums: Moments = moments(X, dtype=product_dtype(X), skip_missing=is_labelled(X))
        if sums.rows < rows:
            raise ValueError(f"n_samples={sums.rows}: principal components need 2 rows or more")
        return sums

    def _check_parameters(self) -> None:
        if self.n_components is not None and not (
            isinstance(self.n_components, int | np.integer) and self.n_components >= 1
        ):
            raise ValueError(f"n_components={self.n_components!r}: give 1 or more, or None")
        if self.svd_solver not in SOLVERS:
            raise ValueError(f"svd_solver={self.svd_solver!r}: choose one of {', '.join(SOLVERS)}")
        if not self.tol > 0 or self.max_passes < 2:
            raise ValueError(
                f"tol={self.tol!r}, max_passes={self.max_passes!r}: give tol above 0 and 2 or more"
                " passes"
            )

    def _iterate(self, X: Any) -> PCA:
        p, dtype = X.shape[-1], product_dtype(X)
        if self.n_components is None:
            raise ValueError(f"n_components=None: give a number for X of {p} variables")
        axes = principal_axes(
            row_blocks(X),
            p,
            self.n_components,
            dtype=dtype,
            floor=noise_floor(p, float(np.finfo(dtype).eps)),
            tol=self.tol,
            max_passes=self.max_passes,
            random_state=self.random_state,
            skip_missing=is_labelled(X),
        )
        if axes.rows < 2:
            raise ValueError(f"n_samples={axes.rows}: principal components need 2 rows or more")
        if not axes.pairs.converged:
            warnings.warn(
                f"PCA stopped after {axes.passes} passes at a residual of"
                f" {axes.pairs.residual:.1e}, above tol={self.tol:g}; raise max_passes or tol, or"
                " ask for fewer components",
                MsiscaleWarning,
                stacklevel=3,
            )
        if hasattr(self, "moments_"):
            del self.moments_  # of an earlier fit
        self.n_passes_, self.residual_ = axes.passes, axes.pairs.residual
        vectors = with_signs(axes.pairs.vectors)
        return self._describe(axes.pairs.values, vectors, axes.mean, axes.total, axes.rows)

    def _set(self, sums: Moments) -> PCA:
        self._check_parameters()
        values, vectors = principal(sums.sxx, self.n_components, sums.rows - 1, sums.eps)
        self.moments_, self.n_passes_, self.residual_ = sums, 1, 0.0
        self.n_features_in_ = sums.p
        total = float(np.trace(sums.sxx))
        return self._describe(values, vectors, sums.mean_x, total, sums.rows, n=sums.n)

    def _describe(
        self,
        values: Floats,
        vectors: Floats,
        mean: Floats,
        total: float,
        rows: int,
        *,
        n: float | None = None,
    ) -> PCA:
        """Set what is fitted, from eigenpairs and trace of the scatter of rows of weight n."""
        divisor = max((rows if n is None else n) - 1, 1e-300)
        self.n_samples_ = rows
        self.mean_ = mean
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
    """Leading eigenpairs of a scatter matrix, above noise.

    Parameters
    ----------
    scatter
        (p, p) float64, symmetric.
    n_components
        Greatest number of pairs; None for all.
    max_rank
        Greatest rank that the scatter can have.
    eps
        Rounding unit of the products in it, for `noise_floor`.

    Returns
    -------
    values : ndarray
        (k,) float64, descending.
    vectors : ndarray
        (k, p) float64, one a row, with the signs of `with_signs`.
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
    """Eigenvalues of a p x p second moment below this, relative to the largest, are rounding."""
    # measured on low-rank data: 2e-8 for float32 products, 4e-16 for float64
    return max(eps, 10 * p * float(np.finfo(np.float64).eps))


def with_signs(rows: Floats) -> Floats:
    """Multiply each row by +-1, so that its entry of largest magnitude is positive.

    Parameters
    ----------
    rows
        (k, p) float64.

    Returns
    -------
    ndarray
        (k, p) float64; `rows` itself where it is empty.
    """
    if rows.size == 0:
        return rows
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    return np.ascontiguousarray(rows * np.where(largest < 0, -1.0, 1.0)[:, None])
