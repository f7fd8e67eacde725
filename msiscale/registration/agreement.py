"""How much two pictures say of each other: the Gaussian mutual information of their channels.

With canonical correlations r_i between the channels of the two, it is ``-1/2 sum log(1 - r_i^2)``
nats a pixel [1]_. Unlike the correlation of one channel with one other it asks for no channel
that looks alike in both; times the pixels that overlap it is the logarithm of the likelihood
ratio of "these lie on each other" against "these have nothing to do with each other".

.. [1] A. N. Kolmogorov, I. M. Gelfand, A. M. Yaglom (1957); S. Kullback, Information Theory and
   Statistics (1959), section 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, svd

from msiscale.grid import Floats

RIDGE = 0.02  # of a channel's variance over its whole picture: what noise alone explains


@dataclass(frozen=True, eq=False)
class Agreement:
    """Two pictures laid on each other."""

    total: float  # nats, summed over the pixels that count in both
    each: Floats  # (h, w), what every pixel adds to it; 0 where they do not overlap
    overlap: float  # share of the pixels of the first that lie on pixels of the second
    correlations: Floats  # (k,), canonical, strongest first
    x_weights: Floats  # (p, k), of the canonical variates
    y_weights: Floats  # (q, k)


def whitened(values: NDArray[np.floating]) -> Floats:
    """Whiten channels: uncorrelated, of variance 1 over the pixels that count.

    Parameters
    ----------
    values
        (h, w, c) floats in any units; a pixel with a value that is not finite does not count.

    Returns
    -------
    NDArray
        (h, w, k) float64, without a unit, strongest first; k <= c, as directions that hardly vary
        are dropped. NaN where a pixel does not count.
    """
    # directions without variance are dropped; the span stays, so that agreement has no units
    counts = np.isfinite(values).all(axis=-1)
    rows = values[counts].astype(np.float64)
    centred = rows - rows.mean(axis=0)
    scale = centred.std(axis=0)
    centred = centred[:, scale > 0] / scale[scale > 0]
    strength, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    keep = strength > 1e-4 * strength.max(initial=0)
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(strength))] < 0, -1.0, 1.0)
    axes = (axes * signs)[:, keep][:, ::-1]
    scores = centred @ axes / np.sqrt(strength[keep][::-1])
    out = np.full((*counts.shape, scores.shape[1]), np.nan)
    out[counts] = scores
    return out


def information(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Information that two whitened pictures have of each other where both count.

    Parameters
    ----------
    x
        (h, w, p) floats, channels from `whitened`; NaN where a pixel does not count.
    y
        (h, w, q) floats, those of the other picture at the same pixels.

    Returns
    -------
    float
        Nats, summed over the pixels; 0 where no more than p + q pixels count in both.
    """
    rows, _ = _together(x, y)
    p = x.shape[-1]
    if len(rows) <= rows.shape[1]:
        return 0.0
    joint = _covariance(rows)
    whole, own, other = (np.linalg.slogdet(m)[1] for m in (joint, joint[:p, :p], joint[p:, p:]))
    return float(len(rows) * 0.5 * (own + other - whole))


def agreement(x: NDArray[np.floating], y: NDArray[np.floating]) -> Agreement:
    """`information` with all that it is made of.

    Parameters
    ----------
    x
        (h, w, p) floats, channels from `whitened`; NaN where a pixel does not count.
    y
        (h, w, q) floats, those of the other picture at the same pixels.

    Returns
    -------
    Agreement
        Without canonical variates where no more than p + q pixels count in both.
    """
    rows, both = _together(x, y)
    p, q, n = x.shape[-1], y.shape[-1], len(rows)
    each = np.zeros(both.shape)
    share = n / max(int(np.isfinite(x).all(axis=-1).sum()), 1)
    if n <= p + q:
        return Agreement(0.0, each, share, np.zeros(0), np.zeros((p, 0)), np.zeros((q, 0)))
    joint = _covariance(rows)
    cxx, cyy = joint[:p, :p], joint[p:, p:]
    lx, ly = np.linalg.cholesky(cxx), np.linalg.cholesky(cyy)
    mixed = np.linalg.solve(lx, np.linalg.solve(ly, joint[p:, :p]).T)
    u, r, vt = svd(mixed, full_matrices=False)
    log_ratio = -0.5 * float(np.log1p(-(r**2)).sum())
    # pixel by pixel: log p(x, y) - log p(x) - log p(y)
    apart = _square(rows[:, :p], cxx) + _square(rows[:, p:], cyy)
    excess = apart - _square(rows, joint)
    each[both] = log_ratio + 0.5 * (excess - excess.mean())  # a mean that is zero but for the ridge
    weights = np.linalg.solve(lx.T, u), np.linalg.solve(ly.T, vt.T)
    return Agreement(n * log_ratio, each, share, r, *weights)


def _together(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Floats, NDArray[np.bool_]]:
    """Centred rows (n, p + q) of the pixels that count in both, and where those are."""
    both = np.isfinite(x).all(axis=-1) & np.isfinite(y).all(axis=-1)
    rows = np.concatenate([x[both], y[both]], axis=1).astype(np.float64)
    return rows - (rows.mean(axis=0) if len(rows) else 0.0), both


def _covariance(rows: Floats) -> Floats:
    joint = rows.T @ rows / len(rows)
    joint[np.diag_indices(len(joint))] += RIDGE
    return joint


def _square(part: Floats, covariance: Floats) -> Floats:
    """Squared Mahalanobis length of every row."""
    return np.asarray((part * cho_solve(cho_factor(covariance), part.T).T).sum(axis=1))
