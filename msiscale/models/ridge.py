"""Multi-output ridge regression from second moments: every penalty and every fold of one pass.

For standardised x (training mean 0, standard deviation 1) and each target, minimises

    1/n sum_i w_i (m_i - b - z_i beta)^2 + alpha |beta|^2,     n = sum_i w_i,

so `alpha` is relative to the number of rows and to the variance of a variable: the same alpha
means the same shrinkage in every fold (scikit-learn's ``Ridge(alpha=n * alpha)`` after its
``StandardScaler``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from msiscale.grid import Floats
from msiscale.models.estimator import SparseTaker, checked_weight, checked_x, checked_xy
from msiscale.models.groups import scales
from msiscale.models.moments import Moments, leave_one_out, moments, product_dtype, reciprocal
from msiscale.models.pca import MAX_COLUMNS, noise_floor
from msiscale.models.r2 import R2, r2_from_moments
from msiscale.models.rowblocks import apply_rows, is_labelled
from msiscale.threads import one_blas_thread

LEAST_ALPHA = 1e-6  # below it a Cholesky factor may fail on variables that are collinear
ALPHAS = tuple(10.0**e for e in range(-4, 4))
BETWEEN = 3  # penalties tried between the best of the grid and its neighbours


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Ridge of m on x for every alpha, after one eigendecomposition of the correlation of x.

    Attributes
    ----------
    sums : Moments
    scale (p,) : what x is divided by, if not otherwise asked for its standard deviation; 0 where
        x does not vary.
    values (p,), vectors (p, p) : eigenvalues, ascending, and eigenvectors (columns).
    cross (p, t) : covariance of the rotated standardised x with the targets.
    rank : int
    """

    sums: Moments
    scale: Floats
    values: Floats
    vectors: Floats
    cross: Floats
    rank: int

    @classmethod
    def of(
        cls, sums: Moments, *, least_scale: float = 0.0, scale: Floats | None = None
    ) -> RidgePath:
        """Decompose the sums of the training rows.

        Parameters
        ----------
        sums : Moments
            x = variables (p), m = targets (t).
        least_scale : float
            See `msiscale.models.groups.scales`.
        scale : (p,) float64, optional
            What x is divided by in the place of its deviations; 0 leaves a variable out.

        Returns
        -------
        RidgePath
        """
        if scale is None:
            scale = scales(sums.scale("x"), (), least_scale)
        with one_blas_thread():
            scaled, cross = _scaled(sums, scale)
            values, vectors = eigh(scaled, driver="evd")
            cross = vectors.T @ cross
        values = np.maximum(values, 0)
        floor = noise_floor(sums.p, sums.eps) * (values[-1] if sums.p else 0)
        return cls(sums, scale, values, vectors, cross, int((values > floor).sum()))

    def shrunk(self, alpha: ArrayLike) -> Floats:
        """Coefficients in the rotated coordinates.

        Parameters
        ----------
        alpha
            Penalty: a number, or (t,), one a target.

        Returns
        -------
        ndarray
            (p, t) float64.
        """
        # where alpha is 0, directions without variance (beyond `rank`) get 0: the pseudo-inverse
        a = np.broadcast_to(np.asarray(alpha, dtype=np.float64), self.cross.shape[1:])
        return self.factor(a) * self.cross

    def factor(self, alpha: Floats) -> Floats:
        """What shrinks each rotated variable.

        Parameters
        ----------
        alpha
            (t,) penalties.

        Returns
        -------
        ndarray
            (p, t) float64.
        """
        denominator = self.values[:, None] + alpha
        solvable = (np.arange(len(self.values)) >= len(self.values) - self.rank)[:, None]
        return np.divide(
            1.0, denominator, out=np.zeros_like(denominator), where=solvable | (alpha > 0)
        )

    def coefficients(self, alpha: ArrayLike) -> tuple[Floats, Floats]:
        """Coefficients for x as it comes, neither centred nor scaled.

        Parameters
        ----------
        alpha
            Penalty: a number, or (t,), one a target.

        Returns
        -------
        coef : ndarray
            (t, p) float64.
        intercept : ndarray
            (t,) float64.
        """
        with one_blas_thread():
            coef = (reciprocal(self.scale)[:, None] * (self.vectors @ self.shrunk(alpha))).T
            return coef, self.sums.mean_m - coef @ self.sums.mean_x

    def losses(self, alphas: Sequence[float], heldout: Moments) -> Floats:
        """Squared errors on held-out rows, from their sums: ``(len(alphas), t)`` float64."""
        return self.against(heldout).losses(alphas)

    def against(self, heldout: Moments) -> HeldOutLoss:
        """What gives the squared errors on held-out rows for any penalty."""
        with one_blas_thread():
            rotated = reciprocal(self.scale)[:, None] * self.vectors
            return HeldOutLoss(
                self,
                heldout.n,
                rotated.T @ heldout.sxx @ rotated,
                rotated.T @ heldout.sxm,
                np.diag(heldout.smm).copy(),
                (heldout.mean_x - self.sums.mean_x) @ rotated,
                heldout.mean_m - self.sums.mean_m,
            )

    def generalised_cross_validation(self, alphas: Sequence[float]) -> Floats:
        """Score ``(len(alphas), t)`` by Golub, Heath and Wahba 1979: needs no held-out rows."""
        total = np.diag(self.sums.smm) / self.sums.n
        scores = []
        for alpha in alphas:
            beta = self.shrunk(alpha)
            error = total - (2 * beta * self.cross - self.values[:, None] * beta**2).sum(0)
            kept = self.values[len(self.values) - self.rank :]
            freedom = 1 + (kept / (kept + alpha)).sum()
            scores.append(error / max(1 - freedom / self.sums.n, 1e-12) ** 2)
        return np.array(scores)


@dataclass(frozen=True, eq=False)
class HeldOutLoss:
    """Squared errors of a path on held-out rows.

    Attributes
    ----------
    path : RidgePath
    n : their weight
    sxx (p, p), sxm (p, t), smm (t,) : their scatter, x in the rotated coordinates of the path
    shift (p,), target_shift (t,) : their means less those of training
    """

    path: RidgePath
    n: float
    sxx: Floats
    sxm: Floats
    smm: Floats
    shift: Floats
    target_shift: Floats

    def losses(self, alphas: Sequence[float]) -> Floats:
        """Squared errors, ``(len(alphas), t)`` float64."""
        found = []
        with one_blas_thread():
            for alpha in alphas:
                beta = self.path.shrunk(alpha)
                square = self.smm - 2 * (beta * self.sxm).sum(0) + (beta * (self.sxx @ beta)).sum(0)
                found.append(square + self.n * (self.target_shift - self.shift @ beta) ** 2)
        return np.array(found)

    @cached_property
    def _form(self) -> tuple[Floats, Floats, float]:
        """The squared error over all targets as a quadratic form of `RidgePath.factor`."""
        cross, n, shift = self.path.cross, self.n, self.shift
        with one_blas_thread():
            square = (self.sxx + n * np.outer(shift, shift)) * (cross @ cross.T)
            linear = (cross * self.sxm).sum(1) + n * shift * (cross @ self.target_shift)
        return square, linear, float(self.smm.sum() + n * (self.target_shift**2).sum())

    def total(self, alphas: Sequence[float]) -> Floats:
        """Squared errors over all targets, ``(len(alphas),)`` float64; one product serves all."""
        square, linear, fixed = self._form
        factors = self.path.factor(np.asarray(alphas, np.float64)).T
        with one_blas_thread():
            return np.array([fixed - 2 * (f @ linear) + f @ (square @ f) for f in factors])


def refined(curves: Sequence[HeldOutLoss], alphas: Sequence[float]) -> tuple[float, str]:
    """The penalty of the smallest squared error over all targets and held-out parts.

    Parameters
    ----------
    curves : sequence of HeldOutLoss
        One a part.
    alphas : sequence of float
        The grid. Around its best penalty others are tried, up to its neighbours.

    Returns
    -------
    alpha : float
    edge : str
        "smallest" or "largest" where it is that of the grid, so that a better one may lie
        beyond; else "".
    """

    def total(some: Sequence[float]) -> Floats:
        return np.asarray(np.sum([curve.total(some) for curve in curves], axis=0))[:, None]

    best = choose(total(alphas), alphas)
    grid = sorted(alphas)
    at = grid.index(best)
    near = [a for a in grid[max(at - 1, 0) : at + 2] if a > 0]
    if len(near) > 1:
        steps = np.linspace(0, 1, BETWEEN + 2)
        tried = [a ** (1 - t) * b**t for a, b in itertools.pairwise(near) for t in steps]
        best = choose(total(tried), tried)
    edge = {grid[0]: "smallest", grid[-1]: "largest"}.get(best, "")
    return best, edge if best > 0 else ""


def _scaled(sums: Moments, scale: Floats) -> tuple[Floats, Floats]:
    """Covariance of scaled x, (p, p), and with the targets, (p, t)."""
    inverse = reciprocal(scale)
    n = max(sums.n, 1e-300)
    return sums.sxx / n * np.outer(inverse, inverse), inverse[:, None] * sums.sxm / n


def solve(sums: Moments, alpha: float) -> tuple[Floats, Floats, Floats]:
    """``coef (t, p), intercept (t,), scale (p,)`` at one penalty, by a Cholesky factor."""
    # a fifth of the work of a `RidgePath`; for an `alpha` that dwarfs rounding (`LEAST_ALPHA`)
    scale = sums.scale("x")
    with one_blas_thread():
        scaled, cross = _scaled(sums, scale)
        np.einsum("ii->i", scaled)[...] += alpha
        factor = cho_factor(scaled, overwrite_a=True, check_finite=False)
        coef = (reciprocal(scale)[:, None] * cho_solve(factor, cross, check_finite=False)).T
        return coef, sums.mean_m - coef @ sums.mean_x, scale


def heldout_losses(
    parts: Sequence[Moments], alphas: Sequence[float], *, least_scale: float = 0.0
) -> Floats:
    """Squared errors over leaving out each part in turn.

    Parameters
    ----------
    parts : sequence of Moments
        x = variables, m = targets (t).
    alphas : sequence of float
        Penalties.
    least_scale : float
        See `RidgePath.of`.

    Returns
    -------
    (len(alphas), t) float64
    """
    total: Any = 0.0
    for heldout, training in zip(parts, leave_one_out(parts), strict=True):
        if heldout.n > 0 and training.n > 0:
            total = total + RidgePath.of(training, least_scale=least_scale).losses(alphas, heldout)
    return np.asarray(total)


def choose(losses: Floats, alphas: Sequence[float], *, per_target: bool = False) -> Any:
    """The alpha of the smallest loss; ties go to the larger.

    Parameters
    ----------
    losses : (len(alphas), t) float64
        Summed over the targets, unless `per_target`.
    alphas : sequence of float
        In any order.
    per_target : bool
        Choose for each target.

    Returns
    -------
    float, or (t,) float64 with `per_target`
    """
    table = np.asarray(losses) if per_target else np.asarray(losses).sum(axis=1, keepdims=True)
    order = np.argsort(alphas, kind="stable")[::-1]
    best = np.asarray(alphas, dtype=np.float64)[order][np.argmin(table[order], axis=0)]
    return best if per_target else float(best[0])


class Ridge(MultiOutputMixin, RegressorMixin, SparseTaker):  # type: ignore[misc]
    """Multi-output ridge regression, standardised inside, from one pass over the data.

    Parameters
    ----------
    alpha : float or sequence of float
        Penalty, in units of the module's docstring; 0 is least squares by pseudo-inverse. Of a
        sequence the best is chosen: by leaving out each of the `groups` given to `fit`, else by
        generalised cross-validation (which is optimistic where rows are correlated, as pixels
        are: give groups).
    alpha_per_target : bool
        Choose an alpha for each target rather than one for all.

    Attributes
    ----------
    coef_ (t, p), intercept_ (t,) : float64; (p,) and a scalar for a target given as (n,).
    alpha_ : float, or (t,) with `alpha_per_target`
    rank_ : int
        Numerical rank of the standardised x, where it was found: with an alpha of 0 or several.
    scale_ (p,), n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> import msiscale as ms
    >>> x = np.random.default_rng(0).normal(size=(300, 3))
    >>> y = x @ [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]] + [5.0, 6.0]
    >>> ridge = ms.Ridge(alpha=[1e-6, 1.0]).fit(x, y, groups=np.arange(300) // 100)
    >>> ridge.alpha_, ridge.predict([[1.0, 1.0, 1.0]]).round(3).tolist()
    (1e-06, [[6.0, 8.0]])
    >>> round(ridge.score(x, y), 3)
    1.0
    """

    coef_: Any
    intercept_: Any

    def __init__(
        self, alpha: float | Sequence[float] = 1.0, *, alpha_per_target: bool = False
    ) -> None:
        self.alpha = alpha
        self.alpha_per_target = alpha_per_target

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Ridge:
        """Fit y to X.

        Parameters
        ----------
        X : (..., p) NumPy, Dask, xarray, scipy sparse or `CsrRows`
            Rows of Dask or xarray arrays with a NaN in X or y were not measured and are left out.
        y : (..., t) or (...)
            Targets.
        sample_weight : (...), optional
            Not below zero.
        groups : (...) labels, optional
            Whom to leave out together (patients) when an alpha is chosen.

        Returns
        -------
        Ridge, itself

        Raises
        ------
        ValueError
            No rows, too many variables, an alpha below zero, or what scikit-learn refuses.
        """
        X, y = checked_xy(self, X, y, multi_output=True, y_numeric=True)
        sums = _sums(X, y, sample_weight, groups)
        parts = [sums] if groups is None else list(sums.values())
        if not sum(part.rows for part in parts):
            raise ValueError("no row has a weight and no missing value")
        self._set(parts)
        if y.ndim < X.ndim:
            self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]
        return self

    @classmethod
    def from_moments(
        cls,
        sums: Moments | Sequence[Moments],
        targets: ArrayLike | None = None,
        alpha: float | Sequence[float] = 1.0,
        *,
        alpha_per_target: bool = False,
    ) -> Ridge:
        """Fit m on x from sums.

        Parameters
        ----------
        sums : Moments, or one a group
            With several, an alpha is chosen (of a sequence) by leaving out each in turn.
        targets : (t, q) array, optional
            Targets are ``(m - mean_m) @ targets.T`` (PCA scores) rather than m.
        alpha, alpha_per_target
            See `Ridge`.

        Returns
        -------
        Ridge
        """
        parts = [sums] if isinstance(sums, Moments) else list(sums)
        if targets is not None:
            centre = Moments.merge(parts).mean_m
            parts = [part.project(targets, centre) for part in parts]
        return cls(alpha, alpha_per_target=alpha_per_target)._set(parts)

    def predict(self, X: Any) -> Any:
        """Predictions (..., t) or (...) of X (..., p), in its container and precision."""
        check_is_fitted(self, "coef_")
        X = checked_x(self, X, reset=False)
        coef = np.atleast_2d(self.coef_)
        found = apply_rows(self._predict, X, len(coef), "target")
        return found[..., 0] if self.coef_.ndim == 1 else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean R² of the targets; of Dask and xarray arrays from their sums, one reading."""
        if not (is_labelled(X) or is_labelled(y)):
            return float(super().score(X, y, sample_weight))
        check_is_fitted(self, "coef_")
        X = checked_x(self, X, reset=False)
        return float(np.mean(self.r2(_sums(X, y, sample_weight)).per_target))

    def _predict(self, x: Any) -> NDArray[Any]:
        coef = np.atleast_2d(self.coef_)
        found = x @ coef.T.astype(x.dtype) + np.asarray(self.intercept_, dtype=x.dtype)
        return np.asarray(found)

    def _set(self, parts: Sequence[Moments]) -> Ridge:
        alphas = [float(a) for a in np.atleast_1d(np.asarray(self.alpha, dtype=np.float64))]
        if not alphas or not np.isfinite(alphas).all() or min(alphas) < 0:
            raise ValueError(f"alpha={self.alpha!r}: give finite numbers, none below zero")
        sums = Moments.merge(parts)
        self.n_features_in_ = sums.p
        self.alpha_: Any = alphas[0]
        if len(alphas) == 1 and alphas[0] >= LEAST_ALPHA:
            self.coef_, self.intercept_, self.scale_ = solve(sums, alphas[0])
            return self
        path = RidgePath.of(sums)
        if len(alphas) > 1:
            usable = [part for part in parts if part.n > 0]
            losses = (
                heldout_losses(usable, alphas)
                if len(usable) > 1
                else path.generalised_cross_validation(alphas)
            )
            self.alpha_ = choose(losses, alphas, per_target=self.alpha_per_target)
        self.coef_, self.intercept_ = path.coefficients(self.alpha_)
        self.rank_ = path.rank
        self.scale_ = path.scale
        return self

    def r2(self, heldout: Moments, train_mean: ArrayLike | None = None) -> R2:
        """R² on held-out rows from their sums.

        Parameters
        ----------
        heldout
            With x (p) and the targets as m (t).
        train_mean
            (t,), mean of the targets in training; by default that of the held-out rows.

        Returns
        -------
        R2
            Of t targets.
        """
        check_is_fitted(self, "coef_")
        mean = heldout.mean_m if train_mean is None else train_mean
        return r2_from_moments(
            np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_), heldout, mean
        )


def _sums(X: Any, y: Any, sample_weight: Any, groups: Any = None) -> Any:
    """Moments of X and the targets, of each group if there are groups."""
    targets = y[..., None] if y.ndim < X.ndim else y
    _check_width(X.shape[-1], "X")
    _check_width(targets.shape[-1], "y")
    return moments(
        X,
        targets,
        weight=checked_weight(sample_weight, X),
        groups=groups,
        dtype=product_dtype(X, y),
        skip_missing=is_labelled(X) or is_labelled(y),
    )


def _check_width(size: int, name: str) -> None:
    if size > MAX_COLUMNS:
        raise ValueError(
            f"{name} has {size} variables, too many for second moments; reduce it to"
            f" {MAX_COLUMNS} or fewer, with PCA(k).fit_transform for example"
        )
