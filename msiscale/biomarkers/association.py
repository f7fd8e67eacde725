"""How each m/z differs between cancer and other tissue in a specimen.

Pixels of one specimen are not independent of each other, so none is counted as a witness: a
specimen gives one AUC and one effect, and how far that AUC strays by chance is measured by moving
the annotation over the tissue (`shifting`). `combination` goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from msiscale.biomarkers.shifting import moved_auc, moved_labels, spread_and_chance

Floats = NDArray[np.float64]
_READ_BYTES = 8  # a value of a slab and its copy by rows
_RANK_BYTES = 64  # a value, its rank and the temporaries of both
_CHUNK = 64  # m/z that lie together in the store


def rank_auc(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> Floats:
    """AUC of each row, ties counted one half.

    Parameters
    ----------
    values
        (k, n) float; NaN are left out.
    positive
        (n,) bool, which columns are of the positive class.

    Returns
    -------
    ndarray
        (k,) float64, 0..1; NaN where a class is empty.
    """
    auc = np.full(values.shape[0], np.nan)
    whole = ~np.isnan(values).any(axis=1)
    n1 = int(positive.sum())
    n0 = positive.size - n1
    if n1 and n0 and whole.any():
        ranks = stats.rankdata(values[whole], axis=1)
        auc[whole] = (ranks[:, positive].sum(axis=1) - n1 * (n1 + 1) / 2) / (n1 * n0)
    for row in np.flatnonzero(~whole):
        seen = ~np.isnan(values[row])
        auc[row] = (
            rank_auc(values[row : row + 1, seen], positive[seen])[0] if seen.any() else np.nan
        )
    return auc


def specimen_association(
    intensity: Any,
    cancer: ArrayLike,
    tissue: ArrayLike,
    *,
    mz: ArrayLike | None = None,
    threshold: float = 0.5,
    memory: int = 256 << 20,
    shifts: int = 0,
    seed: int | tuple[int, ...] = 0,
    restore: Callable[[NDArray[np.floating]], NDArray[np.floating]] | None = None,
) -> pd.DataFrame:
    """Compare cancer with other labelled tissue for every m/z of one specimen.

    Parameters
    ----------
    intensity
        (y, x, mz) float; NumPy, Zarr, or an xarray.DataArray on Dask or lazy. It is read in slabs
        of m/z that hold about `memory` bytes (64 m/z at the least).
    cancer
        (y, x) annotated fraction, NaN where unknown. At or above `threshold` is cancer.
    tissue
        (y, x) bool.
    mz
        (mz,) needed when `intensity` is not labelled.
    threshold
        fraction from which a pixel is cancer
    memory
        bytes
    shifts
        places of the tissue where the annotation is laid as well, to see how far chance alone takes
        an AUC where pixels are like their neighbours; 0 for none. See `shifting`.
    seed
        of the places.
    restore
        undoes a transform of the intensities, for means, effect and difference; an AUC does not
        depend on it.

    Returns
    -------
    DataFrame, one row an m/z in the order of the axis: mz; auc (cancer against other tissue, 0.5
    when an m/z is nowhere seen, NaN when a class is empty); effect (log2 of the ratio of mean
    intensities, both with a pseudo-count of 1 % of the specimen's median positive mean);
    standardized_difference (difference of means over the pooled standard deviation); mean_cancer,
    mean_other; n_cancer, n_other (pixels); effective_cancer, effective_other (what these pixels
    hold of their class: the sum of the fraction, and of 1 less it). With `shifts` also auc_sd (root
    mean square of
    ``auc - 0.5`` over the places), p_shift (share of the places whose AUC is as far from 0.5) and
    n_places, the annotation's own among them.

    Raises
    ------
    ValueError
        shapes that do not fit
    """
    axis = np.asarray(intensity["mz"] if mz is None else mz, dtype=np.float64)
    if intensity.ndim != 3 or intensity.shape[2] != axis.size:
        raise ValueError(f"intensity has shape {intensity.shape}, but the axis has {axis.size} m/z")
    fraction = np.asarray(cancer, dtype=np.float32)
    known = np.asarray(tissue, dtype=bool) & np.isfinite(fraction)
    if known.shape != intensity.shape[:2]:
        raise ValueError(f"cancer has shape {fraction.shape}, but intensity {intensity.shape}")
    # an m/z axis has no empty pixels: one that is NaN at the first m/z was not measured
    known &= np.isfinite(_slab(intensity, 0, 1)[..., 0]) if axis.size else False
    positive = fraction[known] >= threshold
    held = fraction[known].astype(np.float64)
    labels = moved_labels(fraction >= threshold, known, shifts, seed=seed)
    step = max(1, memory // (_READ_BYTES * known.size) // _CHUNK) * _CHUNK
    part = max(1, memory // (_RANK_BYTES * max(1, positive.size) + 16 * len(labels)))
    results = np.full((6, axis.size), np.nan)
    for start in range(0, axis.size, step):
        # a row an m/z: sums along rows are the same whatever the slab
        values = np.ascontiguousarray(_slab(intensity, start, start + step)[known].T)
        for row in range(0, len(values), part):
            some = values[row : row + part]
            at = slice(start + row, start + row + len(some))
            results[:4, at] = _compare(some, positive, restore)
            if shifts:
                results[4:, at] = _by_chance(some, labels)
    auc, mean_cancer, mean_other, difference, spread, chance = results
    pseudo = _pseudo_count(np.concatenate([mean_cancer, mean_other]))
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.log2((mean_cancer + pseudo) / (mean_other + pseudo))
    found = pd.DataFrame(
        {
            "mz": axis,
            "auc": auc,
            "effect": effect,
            "standardized_difference": difference,
            "mean_cancer": mean_cancer,
            "mean_other": mean_other,
            "n_cancer": int(positive.sum()),
            "n_other": int(positive.size - positive.sum()),
            "effective_cancer": float(held[positive].sum()),
            "effective_other": float((1 - held[~positive]).sum()),
        }
    )
    if shifts:
        found = found.assign(auc_sd=spread, p_shift=chance, n_places=len(labels))
    return found


def _slab(intensity: Any, start: int, stop: int) -> NDArray[np.floating]:
    """``intensity[:, :, start:stop]`` in memory."""
    if isinstance(intensity, xr.DataArray):
        part = intensity.transpose("y", "x", "mz").isel(mz=slice(start, stop))
        return np.asarray(part.values)
    return np.asarray(intensity[:, :, start:stop])


def _by_chance(values: NDArray[np.floating], labels: NDArray[np.bool_]) -> Floats:
    """(2, k) spread and p of `spread_and_chance`; an m/z with a NaN gets none."""
    found = np.full((2, len(values)), np.nan)
    whole = ~np.isnan(values).any(axis=1)
    if whole.any():
        found[:, whole] = spread_and_chance(moved_auc(values[whole], labels))
    return found


def _compare(
    values: NDArray[np.floating],
    positive: NDArray[np.bool_],
    restore: Callable[[NDArray[np.floating]], NDArray[np.floating]] | None,
) -> Floats:
    """AUC, mean of cancer, mean of the others, standardized difference of (k, n) values."""
    auc = rank_auc(values, positive)
    values = values if restore is None else restore(values)
    ones = np.ascontiguousarray(values[:, positive], dtype=np.float64)
    zeros = np.ascontiguousarray(values[:, ~positive], dtype=np.float64)
    n1, mean1, var1 = _moments(ones)
    n0, mean0, var0 = _moments(zeros)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.sqrt((n1 * var1 + n0 * var0) / (n1 + n0 - 2))
        difference = np.where(mean1 == mean0, 0.0, (mean1 - mean0) / pooled)
    difference[np.isnan(mean1) | np.isnan(mean0)] = np.nan
    return np.stack([auc, mean1, mean0, difference])


def _moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Count, mean and variance along the last axis, NaN left out; NaN where nothing is left."""
    seen = ~np.isnan(values)
    n = seen.sum(axis=-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(seen, values, 0.0).sum(axis=-1) / n
        variance = (np.where(seen, values - mean[..., None], 0.0) ** 2).sum(axis=-1) / n
    return n, mean, variance


def _pseudo_count(means: Floats) -> float:
    found = means[np.isfinite(means) & (means > 0)]
    return 0.01 * float(np.median(found)) if found.size else 1.0
