"""How far an AUC strays by chance in tissue whose ion images are smooth: the annotation moved.

Neighbouring pixels are alike, so a smooth ion image and a smooth annotation agree far more often
than as many independent pixels would. Here the annotation of a specimen is laid elsewhere over its
tissue, whole: shifted on the torus of the tissue's bounding box, mirrored or not (a random shift
as in Lotwick & Silverman 1982, J R Stat Soc B 44:406; for maps, Upton & Fingleton 1985). What
either map owes to its own smoothness stays; only what they owe to each other is gone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHIFTS = 500
LEAST = 0.5  # of the annotation that must still lie on tissue where it is laid
_ROWS_BYTES = 32 << 20  # of moved annotations at a time
FEWEST = 20  # places that tell anything
_ALIKE = 1e-6  # AUCs that differ by less are one (they are kept as float32)


def moved_labels(
    positive: Bools, known: Bools, shifts: int = SHIFTS, *, seed: int | tuple[int, ...] = 0
) -> Bools:
    """(n, pixels of `known`) the annotation as it is, and laid elsewhere at most `shifts` times."""
    # a place where less than half of the annotated pixels, or all pixels, would be annotated is
    # left out
    rows, columns = np.nonzero(known)
    label = positive[known]
    kept = [label]
    size, n = int(label.sum()), label.size
    if not 0 < size < n:
        return label[None]
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    inside = known[box]
    own = positive[box] & inside
    width = own.shape[1]
    mirrored = [own, own[::-1], own[:, ::-1], own[::-1, ::-1]]
    rng = np.random.default_rng(seed)
    order = rng.permutation(4 * own.size - 1) + 1  # 0 is where it is
    for place in order:
        if len(kept) > shifts:
            break
        mirror, where = divmod(int(place), own.size)
        at = np.roll(mirrored[mirror], divmod(where, width), axis=(0, 1))[inside]
        if LEAST * size <= at.sum() < n:
            kept.append(at)
    return np.stack(kept)


def moved_auc(values: NDArray[np.floating], labels: Bools) -> NDArray[np.float32]:
    """AUC of every m/z under every labelling of the pixels.

    Parameters
    ----------
    values
        (k, pixels) float, intensities without NaN.
    labels
        (n, pixels) bool, which pixels are of the positive class, see `moved_labels`.

    Returns
    -------
    ndarray
        (n, k) float32, 0..1; NaN where a labelling has one class only.
    """
    # Ranks and their sums are whole numbers (doubled, as ties have half ranks), so the sums are
    # exact in float64 and do not depend on how the work is cut.
    ranks = 2.0 * stats.rankdata(values, axis=1).T
    n1 = labels.sum(axis=1).astype(np.float64)
    n0 = labels.shape[1] - n1
    sums = np.empty((len(labels), values.shape[0]))
    step = max(1, _ROWS_BYTES // (8 * labels.shape[1]))
    for start in range(0, len(labels), step):
        sums[start : start + step] = labels[start : start + step].astype(np.float64) @ ranks
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = (sums / 2 - (n1 * (n1 + 1) / 2)[:, None]) / (n1 * n0)[:, None]
    return np.asarray(auc, np.float32)


def spread_and_chance(auc: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """How far AUCs stray from 0.5 by chance, and how often as far as the first.

    Parameters
    ----------
    auc
        (n, k) float, first of the annotation as it is, then of it moved, see `moved_auc`.

    Returns
    -------
    sd : ndarray
        (k,) float64, root mean square of ``auc - 0.5``; NaN with at most `FEWEST` rows.
    p : ndarray
        (k,) float64, share of the rows at least as far from 0.5 as the first; NaN where `sd` is.
    """
    # around 0.5, the value of no association, and so never too small for an ion that differs
    # between the middle and the rim of the tissue
    if len(auc) <= FEWEST:
        return np.full(auc.shape[1], np.nan), np.full(auc.shape[1], np.nan)
    # a row an m/z: sums along rows are the same however many there are
    deviation = np.abs(np.ascontiguousarray(auc.T, dtype=np.float64) - 0.5)
    sd = np.sqrt((deviation**2).mean(axis=1))
    with np.errstate(invalid="ignore"):
        p = (deviation >= deviation[:, :1] - _ALIKE).mean(axis=1)
    return sd, np.where(np.isfinite(sd), p, np.nan)
