"""Scores of many ions in one specimen, from its peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msiscale.biomarkers.msm import Bools, Floats, score
from msiscale.ranges import between

COLUMNS = ("chaos", "spatial", "spectral", "ppm_error", "intensity")
BUDGET = 24_000_000  #: peaks held at a time, 20 bytes each and as much again while they are sorted


@dataclass(frozen=True)
class Peaks:
    """Peaks of a specimen: m/z (n,) float64, flat pixel (n,) int64, intensity (n,) float32."""

    mz: Floats
    pixel: NDArray[np.int64]
    intensity: NDArray[np.float32]

    def take(self, which: NDArray[np.generic]) -> Peaks:
        """Take some of them, by mask or index.

        Parameters
        ----------
        which
            (n,) bool, or integer indices.

        Returns
        -------
        Peaks
            In the order of `which`.
        """
        return Peaks(self.mz[which], self.pixel[which], self.intensity[which])

    @staticmethod
    def joined(parts: list[Peaks]) -> Peaks:
        """One after the other."""
        if not parts:
            return Peaks(np.empty(0), np.empty(0, np.int64), np.empty(0, np.float32))
        columns = ("mz", "pixel", "intensity")
        return Peaks(*(np.concatenate([getattr(p, c) for p in parts]) for c in columns))


def score_ions(
    read: Callable[[], Iterator[Peaks]],
    mz: Floats,
    theory: Floats,
    sampled: Bools,
    *,
    ppm: float,
    budget: int = BUDGET,
) -> Floats:
    """Score every ion of a specimen.

    An isotope image is the sum of all peaks within ``mz * (1 ± ppm * 1e-6)``. At most `budget`
    peaks that lie in any window are held; where there are more, the specimen is read again for the
    ions of higher m/z. The scores do not depend on it.

    Parameters
    ----------
    read
        the peaks of the specimen, anew at each call, in parts
    mz, theory
        (k, n) isotope peaks of each ion by ascending m/z, NaN behind the last
    sampled
        (y, x) bool, measured pixels
    ppm
        half a window
    budget
        peaks held

    Returns
    -------
    (k, 5) float64, `COLUMNS`: the three measures (0 where nothing is seen), the mean mass error of
    the first isotope peak in ppm, weighted by intensity (NaN where not seen), and its summed
    intensity.
    """
    found = np.zeros((len(mz), len(COLUMNS)))
    found[:, 3] = np.nan
    high = np.nanmax(mz, axis=1) * (1 + ppm * 1e-6) if len(mz) else np.empty(0)
    left = np.argsort(high, kind="stable")
    while len(left):
        windows = _merged(mz[left], ppm)
        peaks, limit = _collect(read(), windows, least=float(high[left[0]]), budget=budget)
        ready = high[left] < limit
        for i in left[ready]:
            n = int(np.isfinite(mz[i]).sum())
            found[i] = _scored(peaks, mz[i, :n], theory[i, :n], sampled, ppm)
        left = left[~ready]
        del peaks
    return found


def _merged(mz: Floats, ppm: float) -> tuple[Floats, Floats]:
    """Lower and upper borders of the union of all windows, ascending."""
    centres = np.sort(mz[np.isfinite(mz)])
    low, high = centres * (1 - ppm * 1e-6), centres * (1 + ppm * 1e-6)
    first = np.concatenate([[True], low[1:] > np.maximum.accumulate(high)[:-1]])
    last = np.concatenate([first[1:], [True]])
    return low[first], np.maximum.accumulate(high)[last]


def _collect(
    parts: Iterator[Peaks], windows: tuple[Floats, Floats], *, least: float, budget: int
) -> tuple[Peaks, float]:
    """Peaks within the windows, sorted, and the m/z below which all are; never below `least`."""
    lower, upper = windows
    kept: list[Peaks] = []
    held, limit = 0, np.inf
    for part in parts:
        at = np.searchsorted(lower, part.mz, side="right") - 1
        inside = (at >= 0) & (part.mz <= upper[at]) & (part.mz < limit) & (part.intensity > 0)
        kept.append(part.take(inside))
        held += int(inside.sum())
        if held > budget:
            every = Peaks.joined(kept)
            limit = max(float(np.median(every.mz)), float(np.nextafter(least, np.inf)))
            kept = [every.take(every.mz < limit)]
            held = len(kept[0].mz)
    peaks = Peaks.joined(kept)
    return peaks.take(np.argsort(peaks.mz, kind="stable")), limit


def _scored(
    peaks: Peaks, mz: Floats, theory: Floats, sampled: Bools, ppm: float
) -> tuple[float, float, float, float, float]:
    first, after = between(peaks.mz, mz * (1 - ppm * 1e-6), mz * (1 + ppm * 1e-6))
    own = slice(first[0], after[0])
    total = float(peaks.intensity[own].sum(dtype=np.float64))
    if not total > 0:
        return 0.0, 0.0, 0.0, np.nan, 0.0
    weighted = float((peaks.mz[own] * peaks.intensity[own]).sum())
    error = (weighted / total / mz[0] - 1) * 1e6
    if not (after[1:] > first[1:]).any():  # no other isotope: nothing correlates
        return 0.0, 0.0, 0.0, error, total
    images = np.stack(
        [
            np.bincount(peaks.pixel[a:b], peaks.intensity[a:b], minlength=sampled.size).astype(
                float
            )
            for a, b in zip(first, after, strict=True)
        ]
    ).reshape(-1, *sampled.shape)
    made = score(images, theory, sampled)
    return made.chaos, made.spatial, made.spectral, error, total
