"""Random Fourier features: a linear map of them is a smooth non-linear map of the variables.

    phi(x) = sqrt(2 / N) cos(z W + b),   z = whitened scores of the leading principal directions,

W normal and b uniform, drawn from a seed (Rahimi and Recht 2007, NIPS 20:1177-1184). The inner
product of two such rows is about the Gaussian kernel ``exp(-|z - z'|^2 / (2 s^2))``, so ridge and
logistic regression on phi are those of the kernel, while sums over rows (`Moments`) stay the model.
Directions, and hence the kernel, come from sums too, those of the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from msiscale.features.layers import Group
from msiscale.grid import Floats
from msiscale.models.estimator import SparseTaker, checked_x
from msiscale.models.groups import scales
from msiscale.models.moments import Moments, Which, moments, product_dtype, reciprocal
from msiscale.models.pca import MAX_COLUMNS, principal
from msiscale.models.rowblocks import apply_rows, is_labelled
from msiscale.saving import Layout, Saved
from msiscale.threads import one_blas_thread

FEATURES = 512
DIRECTIONS = 16  # as the kernel sees them; a kernel over many directions is all but linear
LENGTH = 1.0


@dataclass(frozen=True, eq=False)
class FourierMap(Saved):
    """What makes Fourier features of rows.

    Attributes
    ----------
    mean (p,), axes (p, r) : float64
        ``z = (x - mean) @ axes`` has variance 1 along each direction of the training.
    frequencies (r, N), phases (N,) : float64
    """

    layout = Layout(
        "fourier_map",
        "map to random Fourier features",
        {
            "mean": ("channel",),
            "axes": ("channel", "direction"),
            "frequencies": ("direction", "feature"),
            "phases": ("feature",),
        },
    )

    mean: Floats
    axes: Floats
    frequencies: Floats
    phases: Floats

    @classmethod
    def of(
        cls,
        sums: Moments,
        features: int = FEATURES,
        *,
        directions: int = DIRECTIONS,
        length: float = LENGTH,
        seed: int = 0,
        groups: Sequence[Group] = (),
        least_scale: float = 0.0,
    ) -> FourierMap:
        """Make the map of the x of some sums: those of the training rows, and of no others.

        Parameters
        ----------
        sums
            Of x (p); m is not looked at.
        features
            Their number, N.
        directions
            Leading principal directions of the scaled x, at most; fewer where the rank is lower.
        length
            Of the kernel, in units of the root of the number of directions: at 1 two rows at their
            usual distance have a kernel of about ``exp(-1)``.
        seed
            Of frequencies and phases.
        groups, least_scale
            What x is scaled by before its directions are found: `msiscale.models.groups.scales`.

        Returns
        -------
        FourierMap

        Raises
        ------
        ValueError
            No x varies, or fewer than two rows.
        """
        inverse = reciprocal(scales(sums.scale("x"), groups, least_scale))
        scatter = sums.sxx * np.outer(inverse, inverse)
        values, vectors = principal(scatter, directions, sums.rows - 1, sums.eps)
        if not len(values):
            raise ValueError(f"{sums!r}: no variable varies, so there is no direction to follow")
        axes = inverse[:, None] * vectors.T * np.sqrt(sums.n / values)
        rng = np.random.default_rng(seed)
        # rows of `frequencies` are drawn first to last: fewer directions have the same ones
        frequencies = rng.standard_normal((len(values), features)) / (length * len(values) ** 0.5)
        phases = np.random.default_rng([seed, 1]).uniform(0, 2 * np.pi, features)
        return cls(sums.mean_x, axes, frequencies, phases)

    @property
    def features(self) -> int:
        """Their number, N."""
        return len(self.phases)

    def scores(self, x: Any) -> NDArray[Any]:
        """Whitened scores (..., r) of rows (..., p), dense or sparse, in their precision."""
        axes, mean = self.axes.astype(x.dtype), self.mean.astype(x.dtype)
        if issparse(x):
            return np.asarray(x @ axes - mean @ axes)
        return np.asarray((x - mean) @ axes)

    def apply(self, x: Any) -> NDArray[Any]:
        """Fourier features (..., N) of rows (..., p), dense or sparse, in their precision."""
        with one_blas_thread():
            found = self.scores(x) @ self.frequencies.astype(x.dtype)
        found += self.phases.astype(x.dtype)
        np.cos(found, out=found)
        found *= np.asarray(np.sqrt(2 / self.features), x.dtype)
        return np.asarray(found)

    def beside(self, x: NDArray[Any]) -> NDArray[Any]:
        """Rows with their Fourier features after them.

        Parameters
        ----------
        x
            (..., p) float, dense.

        Returns
        -------
        ndarray
            (..., p + N) of its precision.
        """
        return np.concatenate([x, self.apply(x)], axis=-1)


class RandomFourier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SparseTaker):  # type: ignore[misc]
    """Random Fourier features of arrays that need not fit in memory; one reading fits them.

    Variables are standardised inside, and the kernel looks at whitened leading principal
    directions; what is fitted depends on the sums of x alone, frequencies on the seed.

    Parameters
    ----------
    n_components : int
        Fourier features, N: the error of a kernel value is about ``N ** -0.5``.
    directions : int
        Leading principal directions, at most.
    length : float
        Of the kernel, see `FourierMap.of`.
    random_state : int
        Seed.

    Attributes
    ----------
    map_ : FourierMap
        It is what is saved: ``map_.save("map.zarr")``.
    mean_ (p,), axes_ (p, r), frequencies_ (r, N), phases_ (N,) : float64, its arrays
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from msiscale.models import RandomFourier, Ridge
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> y = np.cos(2 * x[:, 0]) * x[:, 1]  # no linear map tells anything of it
    >>> phi = RandomFourier(200, length=0.5).fit_transform(x)
    >>> round(Ridge(1e-4).fit(x, y).score(x, y), 1), round(Ridge(1e-4).fit(phi, y).score(phi, y), 1)
    (0.0, 1.0)
    """

    def __init__(
        self,
        n_components: int = FEATURES,
        *,
        directions: int = DIRECTIONS,
        length: float = LENGTH,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.directions = directions
        self.length = length
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> RandomFourier:
        """Find the directions of the rows of X, and draw the frequencies.

        Parameters
        ----------
        X : (..., p) NumPy, Dask, xarray, scipy sparse or `CsrRows`
            A row of a Dask or xarray array that holds a NaN was not measured and is left out.
        y : None
            Not looked at.

        Returns
        -------
        RandomFourier, itself

        Raises
        ------
        ValueError
            Fewer than two rows, none that differs, a parameter out of range, too many variables, or
            what scikit-learn refuses (a NaN).
        """
        self._check_parameters()
        X = checked_x(self, X, reset=True)
        if X.shape[-1] > MAX_COLUMNS:
            raise ValueError(
                f"X has {X.shape[-1]} variables, too many for second moments; reduce it to"
                f" {MAX_COLUMNS} or fewer, with PCA(k).fit_transform for example"
            )
        sums: Moments = moments(X, dtype=product_dtype(X), skip_missing=is_labelled(X))
        return self._set(sums)

    @classmethod
    def from_moments(
        cls, sums: Moments, which: Which = "x", n_components: int = FEATURES, **words: Any
    ) -> RandomFourier:
        """Fit to variables `which` ("x" or "m") of sums already made; `words` as of the class."""
        made = cls(n_components, **words)
        made._check_parameters()
        return made._set(sums if which == "x" else sums.swap())

    def transform(self, X: Any) -> Any:
        """Fourier features (..., N) of X (..., p), in its container and precision."""
        check_is_fitted(self, "map_")
        X = checked_x(self, X, reset=False)
        return apply_rows(self.map_.apply, X, self.map_.features, "feature")

    def _set(self, sums: Moments) -> RandomFourier:
        if sums.rows < 2:
            raise ValueError(f"n_samples={sums.rows}: principal directions need 2 rows or more")
        self.n_features_in_ = sums.p
        self.map_ = FourierMap.of(
            sums,
            self.n_components,
            directions=self.directions,
            length=self.length,
            seed=self.random_state,
        )
        return self

    def _check_parameters(self) -> None:
        for name in ("n_components", "directions"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name}={value!r}: give a whole number of 1 or more")
        if not 0 < self.length < float("inf"):
            raise ValueError(f"length={self.length!r}: give a finite number above 0")

    @property
    def mean_(self) -> Floats:
        """Mean of the training rows, (p,)."""
        return self.map_.mean

    @property
    def axes_(self) -> Floats:
        """What makes whitened scores of centred rows, (p, r)."""
        return self.map_.axes

    @property
    def frequencies_(self) -> Floats:
        """Frequency of each feature along each direction, (r, N)."""
        return self.map_.frequencies

    @property
    def phases_(self) -> Floats:
        """Phase of each feature in radians, (N,)."""
        return self.map_.phases

    @property
    def _n_features_out(self) -> int:
        return self.map_.features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
