"""Partial least squares from mergeable sums: one reading of the data, any number of components.

The algorithm is the improved kernel PLS of Dayal and MacGregor (1997, J. Chemometrics 11:73): the
weights, loadings and coefficients of PLS2 are functions of X'X and X'Y alone, and only X'Y is
deflated. X and Y are centred and scaled to unit variance, as in scikit-learn's ``PLSRegression``,
whose coefficients these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.grid import Floats
from msiscale.models.moments import Moments, leave_one_out, reciprocal


@dataclass(frozen=True, eq=False)
class PLSPath:
    """Every number of components at once, up to the most asked for or until x is used up."""

    sums: Moments
    rotations: Floats  # (p, most): scores are ``(x - mean) / scale @ rotations``
    loadings: Floats  # (t, most): scaled targets are ``scores @ loadings.T``

    @classmethod
    def of(cls, sums: Moments, most: int) -> PLSPath:
        """Decompose the sums of the training rows; ValueError for less than one component."""
        if most < 1:
            raise ValueError(f"n_components={most}: give 1 or more")
        p, n = sums.p, max(sums.n, 1e-300)
        ix, im = reciprocal(sums.scale("x")), reciprocal(sums.scale("m"))
        xx = sums.sxx / n * np.outer(ix, ix)
        xy = sums.sxm / n * np.outer(ix, im)
        floor = p * sums.eps * max(float(np.trace(xx)), 1e-300) / max(p, 1)
        rotations: list[Floats] = []
        loads: list[Floats] = []
        targets: list[Floats] = []
        start = float(np.linalg.norm(xy))
        for _ in range(min(most, p, max(sums.rows - 1, 0))):
            if np.linalg.norm(xy) <= 1e-10 * start or not start:
                break
            w = _first_left_vector(xy)
            r = w.copy()
            for earlier, load in zip(rotations, loads, strict=True):
                r -= (load @ w) * earlier
            square = float(r @ xx @ r)
            if square <= floor:
                break
            load = xx @ r / square
            target = xy.T @ r / square
            xy = xy - square * np.outer(load, target)
            rotations.append(r)
            loads.append(load)
            targets.append(target)
        found = np.array(rotations).reshape(-1, p).T, np.array(targets).reshape(-1, sums.q).T
        return cls(sums, *found)

    @property
    def most(self) -> int:
        """Components that were found."""
        return int(self.rotations.shape[1])

    def coefficients(self, n_components: ArrayLike) -> tuple[Floats, Floats]:
        """Compute the coefficients for one number of components, or one for each target.

        Parameters
        ----------
        n_components
            One integer, or (t,) integers; above `most`, all components are used.

        Returns
        -------
        coef
            (t, p) float64, for variables and targets in their own units.
        intercept
            (t,) float64, in the units of the targets.
        """
        wanted = np.broadcast_to(np.asarray(n_components), (self.sums.q,))
        used = np.where(np.arange(self.most)[None, :] < wanted[:, None], self.loadings, 0.0)
        coef = used @ self.rotations.T
        coef = coef * self.sums.scale("m")[:, None] * reciprocal(self.sums.scale("x"))
        return coef, self.sums.mean_m - coef @ self.sums.mean_x

    def losses(self, heldout: Moments, most: int) -> Floats:
        """Sum of squared errors on held-out rows with 1 ... `most` components: (most, t)."""
        rotated = reciprocal(self.sums.scale("x"))[:, None] * self.rotations
        sxx = rotated.T @ heldout.sxx @ rotated
        sxm = rotated.T @ heldout.sxm
        shift = (heldout.mean_x - self.sums.mean_x) @ rotated
        target_shift = heldout.mean_m - self.sums.mean_m
        total = np.diag(heldout.smm)
        found = np.empty((most, self.sums.q))
        for a in range(1, most + 1):
            b = np.where(np.arange(self.most)[:, None] < a, self.loadings.T, 0.0)
            b = b * self.sums.scale("m")
            square = total - 2 * (b * sxm).sum(0) + (b * (sxx @ b)).sum(0)
            found[a - 1] = square + heldout.n * (target_shift - shift @ b) ** 2
        return found


def pls_losses(parts: Sequence[Moments], most: int) -> Floats:
    """Sum of squared errors (most, t) over leaving out each part in turn."""
    total = np.zeros((most, parts[0].q))
    for heldout, training in zip(parts, leave_one_out(parts), strict=True):
        if heldout.n > 0 and training.n > 0:
            total += PLSPath.of(training, most).losses(heldout, most)
    return total


def fewest(losses: Floats) -> NDArray[np.int64]:
    """Choose for each target the number of components with the smallest loss; ties to the fewer.

    Parameters
    ----------
    losses
        (most, t) float64, with 1 ... `most` components.

    Returns
    -------
    numpy.ndarray
        (t,) int64, from 1.
    """
    return np.asarray(np.argmin(losses, axis=0) + 1, np.int64)


def _first_left_vector(xy: Floats) -> Floats:
    """The direction of x with the largest covariance with the targets, its sign fixed."""
    w = np.linalg.svd(xy, full_matrices=False)[0][:, 0]
    return np.asarray(w if w[np.argmax(np.abs(w))] > 0 else -w)
