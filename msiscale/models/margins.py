"""How far a prediction errs on a pixel of a new patient: conformal margins, patients as the unit.

Pixels of a patient are not exchangeable with those of another, patients are. The errors of each
patient, of whom the model that predicted knew nothing, are a distribution of their own; these are
pooled with the same weight each (Dunn, Wasserman & Ramdas 2022, J Am Stat Assoc 118:2491; Lee,
Barber & Willett 2023, arXiv 2306.06342). Few patients make the quantile of the pool uncertain,
always in the same direction; so its level is the one at which the pool of all others covers
`LEVEL` of a patient's pixels, on the mean over patients who were left out of the pool in turn. A
margin without any assumption would need nine patients at 90 % and be infinite with fewer.

Errors are divided by `local_scale`, which grows with the distance from the training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats

LEVEL = 0.9  # of a new patient's pixels whose value lies within the margin
LEAST_PATIENTS = 2
LOWEST, HIGHEST, A_DOUBLING = -8, 12, 10  # bins of errors: powers of 2, and bins a power
BINS = (HIGHEST - LOWEST) * A_DOUBLING + 2
EDGES = np.concatenate([[0.0], 2.0 ** (LOWEST + np.arange(BINS - 1) / A_DOUBLING), [np.inf]])
LEVELS = np.array([*np.linspace(0.5, 0.98, 49), 0.985, 0.99, 0.995, 0.999])

Float32 = NDArray[np.float32]
Counts = NDArray[np.int64]


def local_scale(distance: NDArray[np.floating]) -> Float32:
    """How much larger errors are expected where the features are unlike the training.

    Parameters
    ----------
    distance
        Of any shape, as of `Novelty.measure`: its mean square over the training is 1.

    Returns
    -------
    ndarray
        ``sqrt((1 + distance**2) / 2)`` float32: 1 at a distance of 1, as the error of a linear map
        grows; NaN where the distance is.
    """
    values = np.asarray(distance, np.float32)
    return np.asarray(np.sqrt((1 + values**2) / 2), np.float32)


def count_errors(error: NDArray[np.floating], scale: Float32, reference: Floats) -> Counts:
    """Count errors in the bins of `EDGES`.

    Parameters
    ----------
    error
        (n, k), measured minus predicted.
    scale
        (n,) of `local_scale`.
    reference
        (k,) a size of each target, of which the edges are multiples; 0 (in float32) for one that is
        not counted.

    Returns
    -------
    ndarray
        (k, `BINS`) int64.
    """
    k, sizes_of = len(reference), np.asarray(reference, np.float32)
    known = np.flatnonzero(sizes_of >= np.finfo(np.float32).tiny)
    out = np.zeros((k, BINS), np.int64)
    if not len(known) or not len(error):
        return out
    sizes = np.abs(error[:, known]) / (scale[:, None] * sizes_of[known])
    at = _bins(sizes) + BINS * np.arange(len(known))
    out[known] = np.bincount(at.ravel(), minlength=BINS * len(known)).reshape(-1, BINS)
    return out


def _bins(sizes: NDArray[np.floating]) -> NDArray[np.intp]:
    with np.errstate(divide="ignore"):
        steps = np.floor((np.log2(sizes) - LOWEST) * A_DOUBLING) + 1
    return np.asarray(np.clip(steps, 0, BINS - 1), np.intp)


def margins(counts: Counts) -> Floats:
    """What to add and subtract, in multiples of the reference and of the local scale.

    Parameters
    ----------
    counts
        (patients, k, `BINS`), of `count_errors`. A patient without a count of a target does not
        count for it.

    Returns
    -------
    ndarray
        (k,) float64; NaN with fewer than `LEAST_PATIENTS`, infinite where errors exceed the edges.
    """
    n = counts.sum(axis=2)
    known = n > 0
    patients = known.sum(axis=0)
    own = np.cumsum(counts, axis=2) / np.maximum(n, 1)[..., None]
    pool = own.sum(axis=0)
    covered = np.zeros((counts.shape[1], len(LEVELS)))
    for p in range(len(counts)):
        others = np.maximum(patients - known[p], 1)
        apart = (pool - own[p]) / others[:, None]
        inside = np.stack([_share(own[p], _quantile(apart, level)) for level in LEVELS], axis=1)
        covered += np.where(known[p][:, None], inside, 0)
    covered /= np.maximum(patients, 1)[:, None]
    level = np.array([np.interp(LEVEL, share, LEVELS) for share in covered])
    found = _quantile(pool / np.maximum(patients, 1)[:, None], level)
    return np.where(patients >= LEAST_PATIENTS, found, np.nan)


def _quantile(distribution: Floats, level: Floats | float) -> Floats:
    """(k,) where (k, `BINS`) distribution functions reach a level, linear within a bin."""
    rows = np.arange(len(distribution))
    wanted = np.broadcast_to(np.asarray(level, np.float64), len(distribution))
    at = np.minimum((distribution < wanted[:, None]).sum(axis=1), BINS - 1)
    below = np.where(at > 0, distribution[rows, at - 1], 0.0)
    inside = np.maximum(distribution[rows, at] - below, 1e-300)
    part = np.clip((wanted - below) / inside, 0, 1)  # a flat stretch may fall by rounding
    with np.errstate(invalid="ignore"):
        found = EDGES[at] + part * (EDGES[at + 1] - EDGES[at])
    return np.where(at == BINS - 1, np.inf, found)


def _share(distribution: Floats, size: Floats) -> Floats:
    """(k,) the value of (k, `BINS`) distribution functions at a size, linear within a bin."""
    rows, at = np.arange(len(distribution)), _bins(size)
    below = np.where(at > 0, distribution[rows, at - 1], 0.0)
    with np.errstate(invalid="ignore"):
        part = (size - EDGES[at]) / (EDGES[at + 1] - EDGES[at])
    return np.asarray(
        below + np.where(at == BINS - 1, 1.0, part) * (distribution[rows, at] - below)
    )


def bounds(
    values: NDArray[np.floating],
    margin: NDArray[np.floating] | float,
    scale: Float32,
    *,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> tuple[Float32, Float32]:
    """Lower and upper bound of predictions.

    Parameters
    ----------
    values
        (...,) or (..., k) predictions.
    margin
        Of `margins` times the reference: one, or (k,).
    scale
        (...,) of `local_scale`.
    lowest, highest
        Between which a value lies in any case. Of a probability 0 and 1: its bounds are a function
        of the probability alone, and whatever is done to it can be done to them.

    Returns
    -------
    lower, upper : ndarray
        float32, of the shape of `values`.
    """
    width = np.asarray(margin, np.float32)
    wide = scale * width if width.ndim == 0 else scale[..., None] * width
    lower, upper = (np.clip(values + sign * wide, lowest, highest) for sign in (-1, 1))
    return lower.astype(np.float32), upper.astype(np.float32)
