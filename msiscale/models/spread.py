"""Count, mean and scatter of each variable by itself: all that a very long axis can have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from msiscale.grid import Floats
from msiscale.models.moments import Moments, Which
from msiscale.models.rowblocks import Run, missing, reduce_blocks, row_blocks
from msiscale.saving import Layout, Saved


@dataclass(frozen=True, eq=False)
class Spread(Saved):
    """Weighted sums over rows, each variable by itself.

    Attributes
    ----------
    rows : int
        Rows with a weight above zero.
    n : float
        Sum of their weights.
    mean, scatter : (p,) float64
        Weighted mean, and sum of squares about it.
    eps : float
        Rounding unit of the values.
    """

    layout = Layout(
        "spread", "spread", dict.fromkeys(("mean", "scatter"), ("variable",)), ("rows", "n", "eps")
    )

    rows: int
    n: float
    mean: Floats
    scatter: Floats
    eps: float

    @classmethod
    def of(cls, x: Any, weight: Any = None) -> Spread:
        """Of one block.

        Parameters
        ----------
        x : (n, p) NumPy or scipy sparse array
            Sparse rows are not centred.
        weight : (n,), optional
            Not below zero.

        Returns
        -------
        Spread

        Raises
        ------
        ValueError
            A value that is not finite in a row of weight above zero.
        """
        w = np.ones(x.shape[0]) if weight is None else np.asarray(weight, dtype=np.float64)
        kept = w > 0
        x, w = (x, w) if kept.all() else (x[kept], w[kept])
        n, eps = float(w.sum()), float(np.finfo(x.dtype).eps)
        if not len(w):
            return cls(0, 0.0, np.zeros(x.shape[1]), np.zeros(x.shape[1]), eps)
        if issparse(x):
            x = csr_array(x, dtype=np.float64)
            mean = x.T @ w / n
            scatter = x.multiply(x).T @ w - n * mean**2
        else:
            mean = w @ x.astype(np.float64, copy=False) / n
            scatter = w @ (x - mean) ** 2
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise ValueError("X has a value that is not finite; leave such rows out")
        return cls(len(w), n, mean, np.maximum(scatter, 0), eps)

    @classmethod
    def of_moments(cls, sums: Moments, which: Which) -> Spread:
        """The diagonal of `sums`."""
        scatter = np.diag(sums.scatter(which)).copy()
        return cls(sums.rows, sums.n, sums.mean(which), scatter, sums.eps)

    def __add__(self, other: Spread) -> Spread:
        """Sums of both (Chan, Golub and LeVeque 1983)."""
        if not (self.n and other.n):
            return self if self.n else other
        n = self.n + other.n
        away = other.mean - self.mean
        return Spread(
            self.rows + other.rows,
            n,
            self.mean + away * (other.n / n),
            self.scatter + other.scatter + away**2 * (self.n * other.n / n),
            max(self.eps, other.eps),
        )

    @property
    def scale(self) -> Floats:
        """Standard deviation (ddof 0); 0 where it is no more than the rounding of the mean."""
        sd = np.sqrt(self.scatter / max(self.n, 1e-300))
        return np.where(sd > 4 * self.eps * np.abs(self.mean), sd, 0.0)

    def about(self, centre: Floats) -> Floats:
        """Sum of squares of each variable about a given value.

        Parameters
        ----------
        centre
            (p,) float64.

        Returns
        -------
        ndarray
            (p,) float64.
        """
        return self.scatter + self.n * (self.mean - centre) ** 2


def spread(
    x: Any, *, weight: Any = None, skip_missing: bool = False, run: Run | None = None
) -> Spread:
    """Spread of the variables of x (..., p), one pass; parameters as for `moments`."""
    step = partial(_step, skip_missing=skip_missing)
    return reduce_blocks(row_blocks(x, weight), step, Spread.__add__, run=run)


def _step(total: Spread | None, x: Any, weight: Any, *, skip_missing: bool) -> Spread:
    if skip_missing and (gone := missing(x)).any():
        x, weight = x[~gone], None if weight is None else weight[~gone]
    found = Spread.of(x, weight)
    return found if total is None else total + found
