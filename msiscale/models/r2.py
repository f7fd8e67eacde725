"""R² of targets on held-out rows, from squares that add up over folds."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from msiscale.grid import Floats
from msiscale.models.moments import Moments
from msiscale.threads import one_blas_thread


@dataclass(frozen=True, eq=False)
class R2:
    """Squared errors on held-out rows, for each target; add those of several folds.

    Attributes
    ----------
    n : float
        Weight of the held-out rows.
    rss, tss, tss_train : (t,) float64
        Squared error of the prediction, of the held-out mean, and of the training mean.
    """

    n: float
    rss: Floats
    tss: Floats
    tss_train: Floats

    def __add__(self, other: R2) -> R2:
        squares = (self.rss + other.rss, self.tss + other.tss, self.tss_train + other.tss_train)
        return R2(self.n + other.n, *squares)

    @classmethod
    def total(cls, parts: Iterable[R2]) -> R2:
        """The sum of several, over the first targets that all of them have."""
        # Each part is about its own mean: modes differ between folds (each has its own PCA), so a
        # mean over folds of a mode's scores would mean nothing.
        every = list(parts)
        k = min(len(part.rss) for part in every)
        cut = [cls(part.n, part.rss[:k], part.tss[:k], part.tss_train[:k]) for part in every]
        return functools.reduce(cls.__add__, cut)

    @property
    def per_target(self) -> Floats:
        """R² of each target: 1 - rss / tss; NaN for a target that does not vary."""
        return _explained(self.rss, self.tss)

    @property
    def weighted(self) -> float:
        """R² of all targets, each by its variance: 1 - sum rss / sum tss."""
        return float(_explained(self.rss.sum(), self.tss.sum()))

    @property
    def baseline_per_target(self) -> Floats:
        """R² that the training mean would get (the mean-spectrum baseline): never above 0."""
        return _explained(self.tss_train, self.tss)

    @property
    def baseline_weighted(self) -> float:
        return float(_explained(self.tss_train.sum(), self.tss.sum()))

    @property
    def over_baseline_per_target(self) -> Floats:
        """Skill over the training mean: 1 - rss / tss_train."""
        return _explained(self.rss, self.tss_train)

    @property
    def over_baseline_weighted(self) -> float:
        return float(_explained(self.rss.sum(), self.tss_train.sum()))


def r2_from_moments(
    coef: ArrayLike, intercept: ArrayLike, heldout: Moments, train_mean: ArrayLike
) -> R2:
    """R² of a linear map on held-out rows, from their sums alone (equal to that of predictions).

    Parameters
    ----------
    coef, intercept : (t, p) and (t,)
        The prediction of m is ``coef @ x + intercept``.
    heldout : Moments
        With x (p) and the targets as m (t).
    train_mean : (t,)
        Mean of the targets in training.

    Returns
    -------
    R2, of t targets
    """
    b = np.asarray(coef, dtype=np.float64)
    with one_blas_thread():
        square = (
            np.diag(heldout.smm)
            - 2 * (b * heldout.sxm.T).sum(axis=1)
            + ((b @ heldout.sxx) * b).sum(axis=1)
        )
        bias = heldout.mean_m - b @ heldout.mean_x - np.asarray(intercept)
    tss = np.diag(heldout.smm).copy()
    rss = np.maximum(square, 0) + heldout.n * bias**2
    away = heldout.mean_m - np.asarray(train_mean)
    return R2(heldout.n, rss, tss, tss + heldout.n * away**2)


def _explained(rss: Any, tss: Any) -> Floats:
    """``1 - rss / tss``; NaN where `tss` is 0."""
    a, b = np.asarray(rss, dtype=np.float64), np.asarray(tss, dtype=np.float64)
    return np.asarray(1 - np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0))
