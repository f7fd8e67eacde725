"""One m/z axis for a cohort: the peaks found on the sum of all specimens, or an axis given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from msiscale.errors import InputError
from msiscale.msi.cube import check_axis
from msiscale.msi.fixed_axis import check_length
from msiscale.msi.peaks import SHARE, SUB, PeakSums
from msiscale.msi.spectra import Floats
from msiscale.msi.support import (
    Grid,
    filled,
    in_windows,
    middle,
    prominent,
    samples,
    support,
    windows,
)
from msiscale.msi.window import Window

_PER = 10  #: cells of a density in half a window
_PIECE = 1 << 20  #: cells that are smoothed together
_CLEAR = 4.0  #: standard deviations by which a peak on the flank of another rises from it


def find_axis(
    sums: Mapping[str, PeakSums],
    *,
    mz: ArrayLike | None = None,
    tolerance_ppm: float | Window = 5.0,
    min_frequency: float = 0.01,
    snr: float = 3.0,
    most: int | None = None,
) -> xr.Dataset:
    """The m/z axis of a cohort.

    Candidates are the maxima of the cohort's density, in which every specimen counts the same: for
    centroids the smoothed number of peaks per pixel, for profile spectra the mean spectrum. They
    are thinned to at least the tolerance apart, strongest first (and to twice that where one is
    only the noise on another's flank), moved to the intensity-weighted mean m/z of their window,
    and kept when at least one specimen supports them.

    A specimen supports an m/z when its frequency (peaks per pixel in the window) is at least
    `min_frequency` and its signal-to-noise at least `snr`. For centroids the latter is the excess
    of the window's peaks over the local background (the median of 200 windows around) in Poisson
    standard deviations; for profile spectra the prominence in the specimen's mean spectrum in
    units of the local noise (1.4826 MAD of samples from their neighbours). It is 0 where 0.005 such
    peaks of noise or more are expected in the specimen as a whole, however long its spectra are.

    Parameters
    ----------
    sums
        statistics of every specimen, in the order in which they are reported
    mz
        (k,) an axis that is given: it is kept whole, and only the statistics are found
    tolerance_ppm
        half-width of the window around an m/z, or a `Window`
    min_frequency, snr
        what a specimen that supports an m/z has at least
    most
        the longest axis that can be found; default any

    Returns
    -------
    Dataset with coords ``mz`` (mz,) float64 ascending and ``specimen``, variables ``frequency``,
    ``mean_intensity`` (mean share of the total ion current) and ``snr``, all (specimen, mz)
    float64, ``captured`` (specimen,), the share of its ion current that is in the windows, and the
    parameters as attributes (``fixed`` is whether the axis was given).

    Raises
    ------
    InputError
        no m/z is supported by any specimen, or more than `most` are
    ValueError
        no specimen, or sums of different or too coarse bins
    """
    if not sums:
        raise ValueError("an axis needs at least one specimen")
    facts = {name: (part.step, part.profile, len(part.bins)) for name, part in sums.items()}
    step = next(iter(facts.values()))[0]
    if any(other != step for other, _, _ in facts.values()):
        raise ValueError("the specimens were summed on different grids")
    window = Window.of(tolerance_ppm)
    grid = Grid(window, step)
    if window.ppm * 1e-6 < 3.999 * step:
        raise ValueError(
            f"the peak sums are too coarse for {window.ppm} ppm; "
            "sum the spectra again with that tolerance"
        )
    parts = Parts(sums, list(sums))
    axis = None if mz is None else check_axis(np.asarray(mz))
    if axis is None:
        kinds = {
            profile: Parts(sums, [n for n, (_, p, bins) in facts.items() if p == profile and bins])
            for profile in (False, True)
        }
        place = _places(parts, kinds, grid, min_frequency, snr)
    else:
        place = window.place(np.log(axis))
    tables, currents = [], []
    for part in parts:
        tables.append(support(place, part, grid))
        currents.append(max(int(part.weight.sum()), 1) / SHARE / part.n_pixels)
    data = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    good: NDArray[np.bool_] = np.ones(len(place), bool)
    if axis is None:
        good = np.asarray(_supported(data, min_frequency, snr).any(axis=0))
        if not good.any():
            raise InputError(
                f"no m/z found in {', '.join(list(sums)[:3])}{', ...' if len(sums) > 3 else ''} at "
                f"{window.ppm:g} ppm, frequency {min_frequency:g}, signal-to-noise {snr:g}; "
                "lower these or give a fixed m/z axis"
            )
        check_length("m/z axis", int(good.sum()), most, "raise --min-frequency or --snr")
        axis = np.exp(window.log_mz(place[good]))
    variables: dict[str, Any] = {
        name: (("specimen", "mz"), values[:, good]) for name, values in data.items()
    }
    captured = data["mean_intensity"][:, good].sum(axis=1) / currents
    variables["captured"] = ("specimen", captured)
    return xr.Dataset(
        variables,
        coords={"mz": axis, "specimen": list(sums)},
        attrs={
            "window": window.facts(),
            "min_frequency": float(min_frequency),
            "snr": float(snr),
            "fixed": mz is not None,
        },
    )


@dataclass(frozen=True)
class Parts:
    """Sums of some specimens, taken one after the other, as often as they are asked for.

    With a mapping that reads them from a store, the cohort's are never all in memory.
    """

    sums: Mapping[str, PeakSums]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[PeakSums]:
        return (self.sums[name] for name in self.names)


def _places(
    parts: Parts, kinds: Mapping[bool, Parts], grid: Grid, min_frequency: float, snr: float
) -> Floats:
    """Places of the cohort's peaks, in half-widths of the window, ascending."""
    places, heights, clear = [], [], []
    for profile, candidates in ((False, _centroid_candidates), (True, _profile_candidates)):
        kind = kinds[profile]
        if len(kind):
            place, height, own = candidates(kind, grid)
            keep = _frequent(place, kind, grid, min_frequency)
            places.append(place[keep])
            heights.append(height[keep] / max(height.max(initial=0), 1e-300))
            clear.append(own[keep])
    if not places:
        return np.zeros(0)
    found = _thin(np.concatenate(places), np.concatenate(heights), np.concatenate(clear))
    # before they are moved, as noise would be moved to the flank of the next peak and pass for it
    good = np.zeros(len(found), bool)
    for part in parts:
        good |= _supported(support(found, part, grid), min_frequency, snr)
    return _centre(found[good], parts, grid)


def _supported(
    table: Mapping[str, NDArray[np.float64]], min_frequency: float, snr: float
) -> NDArray[np.bool_]:
    """Whether a specimen supports each m/z."""
    return np.asarray((table["frequency"] >= min_frequency) & (table["snr"] >= snr))


def supported(
    axis: xr.Dataset,
    specimens: Sequence[str],
    *,
    min_frequency: float | None = None,
    snr: float | None = None,
) -> NDArray[np.bool_]:
    """The m/z that at least one of `specimens` supports, judged by their own sums only.

    Parameters
    ----------
    axis
        from `find_axis`
    specimens
        names, typically the training specimens of a fold
    min_frequency, snr
        limits; default those that the axis was found with

    Returns
    -------
    (mz,) bool; all True for an axis that was given, as no specimen had a say in it

    Raises
    ------
    KeyError
        a specimen that the axis does not know
    """
    if axis.attrs.get("fixed"):
        return np.ones(axis.sizes["mz"], bool)
    some = axis.sel(specimen=list(specimens))
    frequency = axis.attrs["min_frequency"] if min_frequency is None else min_frequency
    limit = axis.attrs["snr"] if snr is None else snr
    table = {name: some[name].values for name in ("frequency", "snr")}
    return np.asarray(_supported(table, frequency, limit).any(axis=0))


def _centroid_candidates(parts: Parts, grid: Grid) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Maxima of the smoothed number of peaks per pixel.

    Returns
    -------
    place, height, and whether it rises from what is around by more than chance; (n,) each
    """
    from scipy.signal import find_peaks  # slow to import

    kernel = np.exp(-0.5 * (np.arange(-_PER, _PER + 1) / (0.3 * _PER)) ** 2)
    ends = [(grid.of(part)[[0, -1]] * _PER) for part in parts]
    low = int(min(first for first, _ in ends)) - 2
    high = int(max(last for _, last in ends)) + 2
    places, heights, clear = [], [], []
    # In pieces, with a margin on either side, so that memory does not grow with the m/z range.
    margin = 3 * _PER
    for begin in range(low, high, _PIECE):
        first, last = begin - margin, min(begin + _PIECE, high) + margin
        density, spread = np.zeros(last - first + 1), np.zeros(last - first + 1)
        for part in parts:
            own = grid.of(part) * _PER - 0.5 - first  # on cells whose middles are whole numbers
            a, b = np.searchsorted(own, [0, last - first - 1])
            cell = np.floor(own[a:b]).astype(np.int64)
            right = own[a:b] - cell  # shared by two cells, or rounding would make a comb
            for at, share in ((cell, 1 - right), (cell + 1, right)):
                peaks = np.bincount(at, part.count[a:b] * share, minlength=len(density))
                density += peaks / part.n_pixels
                spread += peaks / part.n_pixels**2
        smooth = np.convolve(density[:-1], kernel, mode="same")
        top, found = find_peaks(smooth, prominence=0, wlen=4 * _PER + 1)
        noise = np.sqrt(np.convolve(spread[:-1], kernel**2, mode="same")[top])
        inside = (top >= margin) & (top < len(smooth) - margin)
        places.append((top[inside] + first + 0.5) / _PER)
        heights.append(smooth[top[inside]])
        clear.append((found["prominences"] >= _CLEAR * noise)[inside])
    return np.concatenate(places), np.concatenate(heights), np.concatenate(clear)


def _profile_candidates(parts: Parts, grid: Grid) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Maxima of the cohort's mean spectrum: place and prominence; all of them clear."""
    groups = np.zeros(0, np.int64)
    for part in parts:
        groups = np.union1d(groups, samples(part, grid.of(part))[0])
    mean = np.zeros(len(groups))
    for part in parts:
        own, height, _ = samples(part, grid.of(part))
        mean[np.searchsorted(groups, own)] += height
    groups, mean = filled(groups, mean / len(parts))
    top, prominence = prominent(mean)
    return middle(groups[top]), prominence, np.ones(len(top), bool)


def _frequent(place: Floats, parts: Parts, grid: Grid, min_frequency: float) -> NDArray[np.bool_]:
    """Candidates with enough peaks in the window in at least one specimen."""
    good = np.zeros(len(place), bool)
    for part in parts:
        good |= in_windows(place, part, grid.of(part)) >= min_frequency * part.n_pixels
    return good


def _thin(place: Floats, height: Floats, clear: NDArray[np.bool_]) -> Floats:
    """Places at least a half-width apart, the highest first; ties go to the lower m/z."""
    # one that is not clear does not stand within two half-widths of a higher one
    order = np.argsort(place, kind="stable")
    place, height, clear = place[order], height[order], clear[order]
    alive = np.ones(len(place), bool)
    for i in np.argsort(-height, kind="stable"):
        if alive[i]:
            a, b = np.searchsorted(place, [place[i] - 2, place[i] + 2])
            near = np.abs(place[a:b] - place[i]) < 1
            alive[a:b] &= ~near & clear[a:b]
            alive[i] = True
    return place[alive]


def _centre(place: Floats, parts: Parts, grid: Grid) -> Floats:
    """Places moved to the intensity-weighted mean of their windows, each specimen counting once."""
    mass, moment = np.zeros(len(place)), np.zeros(len(place))
    at = grid.window.log_mz(place) / grid.step
    for part in parts:
        hit, index = windows(place, grid.of(part))
        weight = part.weight[hit] / part.n_pixels
        inside = (part.moment[hit] / part.weight[hit] + 0.5) / SUB
        offset = part.bins[hit] - at[index] + inside
        mass += np.bincount(index, weight, minlength=len(place))
        moment += np.bincount(index, weight * offset, minlength=len(place))
    moved = at + np.divide(moment, mass, out=np.zeros_like(mass), where=mass > 0)
    return np.unique(grid.window.place(moved * grid.step))
