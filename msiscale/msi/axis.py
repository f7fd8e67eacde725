"""One m/z axis for a cohort: the peaks found on the sum of all specimens, or an axis given."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.cube import check_axis
from msiscale.msi.peaks import SHARE, SUB, PeakSums
from msiscale.msi.spectra import Floats, Ints, Numbers
from msiscale.ranges import ranges

#: Neighbouring windows that the background of one is judged from.
_BLOCK = 200


def find_axis(
    sums: Mapping[str, PeakSums],
    *,
    mz: ArrayLike | None = None,
    tolerance_ppm: float = 5.0,
    min_frequency: float = 0.01,
    snr: float = 3.0,
    most: int | None = None,
) -> xr.Dataset:
    """The m/z axis of a cohort.

    Candidates are the maxima of the cohort's density, in which every specimen counts the same: for
    centroids the smoothed number of peaks per pixel, for profile spectra the mean spectrum. They
    are thinned to at least the tolerance apart, strongest first, moved to the intensity-weighted
    mean m/z of their window, and kept when at least one specimen supports them.

    A specimen supports an m/z when its frequency (peaks per pixel in the window) is at least
    `min_frequency` and its signal-to-noise at least `snr`. For centroids the latter is the excess
    of the window's peaks over the local background (the median of 200 windows around) in Poisson
    standard deviations; for profile spectra the prominence in the specimen's mean spectrum in
    units of the local noise (1.4826 MAD).

    Parameters
    ----------
    sums
        statistics of every specimen, in the order in which they are reported
    mz
        (k,) an axis that is given: it is kept whole, and only the statistics are found
    tolerance_ppm
        half-width of the window around an m/z
    min_frequency, snr
        what a specimen that supports an m/z has at least
    most
        the longest axis that can be found; default any

    Returns
    -------
    Dataset with coords ``mz`` (mz,) float64 ascending and ``specimen``, variables ``frequency``,
    ``mean_intensity`` (mean share of the total ion current) and ``snr``, all (specimen, mz)
    float64, and the parameters as attributes (``fixed`` is whether the axis was given).

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
    if tolerance_ppm * 1e-6 < 3.999 * step:
        raise ValueError(
            f"the peak sums are too coarse for {tolerance_ppm} ppm; "
            "sum the spectra again with that tolerance"
        )
    width = tolerance_ppm * 1e-6 / step  # the tolerance in fine bins
    parts = Parts(sums, list(sums))
    axis = None if mz is None else check_axis(np.asarray(mz))
    if axis is None:
        kinds = {
            profile: Parts(sums, [n for n, (_, p, bins) in facts.items() if p == profile and bins])
            for profile in (False, True)
        }
        place = _places(parts, kinds, width, min_frequency, snr)
    else:
        place = np.log(axis) / step
    tables = [_support(place, part, width) for part in parts]
    data = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    good = np.ones(len(place), bool)
    if axis is None:
        good = np.any((data["frequency"] >= min_frequency) & (data["snr"] >= snr), axis=0)
        if not good.any():
            raise InputError(
                f"no m/z found in {', '.join(list(sums)[:3])}{', ...' if len(sums) > 3 else ''} at "
                f"{tolerance_ppm:g} ppm, frequency {min_frequency:g}, signal-to-noise {snr:g}; "
                "lower these or give a fixed m/z axis"
            )
        _check_length("m/z axis", int(good.sum()), most, "raise --min-frequency or --snr")
        axis = np.exp(place[good] * step)
    return xr.Dataset(
        {name: (("specimen", "mz"), values[:, good]) for name, values in data.items()},
        coords={"mz": axis, "specimen": list(sums)},
        attrs={
            "tolerance_ppm": float(tolerance_ppm),
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
    parts: Parts, kinds: Mapping[bool, Parts], width: float, min_frequency: float, snr: float
) -> Floats:
    """Places of the cohort's peaks, in fine bins, ascending."""
    places, heights = [], []
    for profile, candidates in ((False, _centroid_candidates), (True, _profile_candidates)):
        kind = kinds[profile]
        if len(kind):
            place, height = candidates(kind, width)
            keep = _frequent(place, kind, width, min_frequency)
            if profile:  # or bumps on the flank of a peak would pass for its frequency
                above = np.zeros(len(place), bool)
                for part in kind:
                    above |= _profile_snr(place, part, width) >= snr
                keep &= above
            places.append(place[keep])
            heights.append(height[keep] / max(height.max(initial=0), 1e-300))
    if not places:
        return np.zeros(0)
    return _centre(_thin(np.concatenate(places), np.concatenate(heights), width), parts, width)


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
    good = (some["frequency"].values >= frequency) & (some["snr"].values >= limit)
    return np.asarray(good.any(axis=0))


def _check_length(what: str, n: int, most: int | None, remedy: str) -> None:
    if most is not None and n > most:
        raise InputError(f"{what}: {n:,} m/z, and at most {most:,} can be fitted; {remedy}")


_COARSER = "give a coarser axis, or none, so that peaks are found"


def fixed_axis(spec: str | ArrayLike, *, most: int | None = None) -> Floats:
    """An axis that is given: m/z values, a CSV of them, or bins in ppm.

    Parameters
    ----------
    spec
        sequence of m/z; or ``"ppm:LO:HI:STEP"``, centres from LO to HI in steps of STEP ppm; or
        path of a CSV with a column ``mz`` (or ``m/z``), or of a single column
    most
        the longest axis that will do; default any

    Returns
    -------
    (k,) float64, ascending, duplicates removed

    Raises
    ------
    InputError
        the axis cannot be read, is not one, or is longer than `most`
    """
    if not isinstance(spec, str):
        try:
            axis = check_axis(np.unique(np.asarray(spec, np.float64)))
        except ValueError as error:
            raise InputError(f"m/z axis: {error}") from None
    elif spec.startswith("ppm:"):
        try:
            low, high, ppm = (float(word) for word in spec[4:].split(":"))
        except ValueError:
            raise InputError(f"m/z axis {spec!r}: write it as ppm:LO:HI:STEP") from None
        if not (0 < low < high < np.inf and 0.01 <= ppm < 1e6):
            raise InputError(f"m/z axis {spec!r}: needs 0 < LO < HI and STEP >= 0.01 ppm")
        ratio = np.log1p(ppm * 1e-6)
        n = int(np.log(high / low) / ratio) + 1
        _check_length(f"m/z axis {spec!r}", n, most, _COARSER)  # before it is made
        return np.asarray(low * np.exp(np.arange(n) * ratio))
    else:
        axis = _axis_from_csv(spec)
    what = f"m/z axis {spec}" if isinstance(spec, str) else "m/z axis"
    _check_length(what, len(axis), most, _COARSER)
    return axis


def _axis_from_csv(path: str) -> Floats:
    try:
        text = store.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the m/z axis cannot be read ({error}); give a CSV") from None
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError(f"{path}: the m/z axis is empty; give a CSV with a column mz")
    names = [cell.strip().lower() for cell in rows[0]]
    column = next((names.index(name) for name in ("mz", "m/z") if name in names), None)
    if column is not None:
        rows = rows[1:]
    elif len(names) > 1:
        raise InputError(f"{path}: has no column mz; name the column with the m/z so")
    values = []
    for number, row in enumerate(rows):
        try:
            values.append(float(row[column or 0]))
        except (ValueError, IndexError):
            if number == 0 and column is None:
                continue  # the heading of a single column
            raise InputError(f"{path}: {','.join(row)!r} holds no m/z; mend the line") from None
    try:
        return check_axis(np.unique(values))
    except ValueError as error:
        raise InputError(f"{path}: {error}; mend the column mz") from None


def _centroid_candidates(parts: Parts, width: float) -> tuple[Floats, Floats]:
    """Maxima of the smoothed number of peaks per pixel: place (fine bins, centre) and height."""
    from scipy.signal import find_peaks  # slow to import

    reach = int(np.ceil(width))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / (0.3 * width)) ** 2)
    ends = [(int(part.bins[0]), int(part.bins[-1])) for part in parts]
    low, high = min(first for first, _ in ends), max(last for _, last in ends) + 1
    places, heights = [], []
    # In pieces, with a margin on either side, so that memory does not grow with the m/z range.
    margin, piece = 2 * reach + 2, 1 << 20
    for begin in range(low, high, piece):
        first, last = begin - margin, min(begin + piece, high) + margin
        density = np.zeros(last - first)
        for part in parts:
            a, b = _at(np.array([first, last]), part)
            density[part.bins[a:b] - first] += part.count[a:b] / part.n_pixels
        smooth = np.convolve(density, kernel, mode="same")
        top, _ = find_peaks(smooth)
        top = top[(top >= margin) & (top < len(smooth) - margin)]
        places.append(top + first + 0.5)
        heights.append(smooth[top])
    return np.concatenate(places), np.concatenate(heights)


def _profile_candidates(parts: Parts, width: float) -> tuple[Floats, Floats]:
    """Maxima of the cohort's mean spectrum: place (fine bins, centre) and prominence."""
    groups = np.zeros(0, np.int64)
    for part in parts:
        groups = np.union1d(groups, part.bins // _group(width))
    mean = np.zeros(len(groups))
    for part in parts:
        own, height = _mean_spectrum(part, width)
        mean[np.searchsorted(groups, own)] += height
    top, prominence = _prominent(groups, mean / len(parts))
    return np.asarray((top + 0.5) * _group(width), np.float64), prominence


def _prominent(groups: Ints, mean: Floats) -> tuple[Ints, Floats]:
    """Samples at which a mean spectrum has a maximum, and the prominence of each."""
    from scipy.ndimage import median_filter  # slow to import
    from scipy.signal import find_peaks

    gaps = np.diff(groups)
    if len(gaps):
        # Where values were left out because they are zero, zeros are needed to see the maximum.
        usual = np.maximum(median_filter(gaps, size=51, mode="nearest"), 1)
        wide = np.flatnonzero(gaps > 3 * usual)
        zeros = np.concatenate([groups[wide] + usual[wide], groups[wide + 1] - usual[wide]])
        groups = np.concatenate([groups, zeros])
        mean = np.concatenate([mean, np.zeros(len(zeros))])
        order = np.argsort(groups, kind="stable")
        groups, mean = groups[order], mean[order]
    top, found = find_peaks(np.pad(mean, 1), prominence=0)
    return groups[top - 1], found["prominences"]


def _group(width: float) -> int:
    """Fine bins that form one sample of a mean spectrum: half the tolerance."""
    return max(1, round(width / 2))


def _mean_spectrum(part: PeakSums, width: float) -> tuple[Ints, Floats]:
    """Mean spectrum sampled at half the tolerance: sample numbers and heights."""
    # the mean over values where every pixel has one or more (so their number does not show), and
    # over pixels where zeros were left out
    groups, at = np.unique(part.bins // _group(width), return_inverse=True)
    weight = np.bincount(at, part.weight)
    points = np.bincount(at, part.points)
    return groups, weight / np.maximum(points, part.n_pixels) / SHARE


def _frequent(place: Floats, parts: Parts, width: float, min_frequency: float) -> NDArray[np.bool_]:
    """Candidates with enough peaks within the tolerance in at least one specimen."""
    good = np.zeros(len(place), bool)
    for part in parts:
        total = np.concatenate([[0], np.cumsum(part.count)])
        # a bin's centre is half a bin on
        a = _at(np.ceil(place - width - 0.5), part)
        b = _at(np.floor(place + width - 0.5) + 1, part)
        good |= total[b] - total[a] >= min_frequency * part.n_pixels
    return good


def _thin(place: Floats, height: Floats, width: float) -> Floats:
    """Places at least `width` apart, the highest first; ties go to the lower m/z."""
    order = np.argsort(place, kind="stable")
    place, height = place[order], height[order]
    alive = np.ones(len(place), bool)
    for i in np.argsort(-height, kind="stable"):
        if alive[i]:
            a = np.searchsorted(place, place[i] - width, side="right")
            b = np.searchsorted(place, place[i] + width, side="left")
            alive[a:b] = False
            alive[i] = True
    return place[alive]


def _windows(place: Floats, part: PeakSums, width: float) -> tuple[Ints, Ints]:
    """Fine bins of `part` within `width` of a place, and the place they are nearest to."""
    if len(place) == 0 or len(part.bins) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # only bins near to a place are looked at, a small part of all
    first = _at(np.floor(place - width) - 1, part)
    last = _at(np.ceil(place + width) + 1, part)
    first = np.maximum(first, np.append(0, np.maximum.accumulate(last)[:-1]))  # each bin once
    near = ranges(first, last)[1]
    hit, index = _owned(place, part.bins[near] + 0.5, width)
    return near[hit], index


def _owned(place: Floats, centre: Numbers, width: float) -> tuple[Ints, Ints]:
    """Which of some centres are within `width` of a place, and the place they are nearest to."""
    index = np.searchsorted((place[1:] + place[:-1]) / 2, centre)
    hit = np.flatnonzero(np.abs(centre - place[index]) <= width)
    return hit, index[hit]


def _at(bins: Floats | Ints, part: PeakSums) -> Ints:
    """Where the first of `part.bins` that is not below each of some bins, whole numbers, stands."""
    # of their own type, or all of the part's would be converted
    return np.searchsorted(part.bins, bins.astype(part.bins.dtype))


def _centre(place: Floats, parts: Parts, width: float) -> Floats:
    """Places moved to the intensity-weighted mean of their windows, each specimen counting once."""
    mass, moment = np.zeros(len(place)), np.zeros(len(place))
    for part in parts:
        hit, index = _windows(place, part, width)
        weight = part.weight[hit] / part.n_pixels
        inside = (part.moment[hit] / part.weight[hit] + 0.5) / SUB
        offset = part.bins[hit] - place[index] + inside
        mass += np.bincount(index, weight, minlength=len(place))
        moment += np.bincount(index, weight * offset, minlength=len(place))
    moved = place + np.divide(moment, mass, out=np.zeros_like(mass), where=mass > 0)
    return np.unique(moved)


def _support(place: Floats, part: PeakSums, width: float) -> dict[str, Floats]:
    """Frequency, mean intensity and signal-to-noise of one specimen at every place."""
    n = len(place)
    if n == 0 or len(part.bins) == 0:
        return {name: np.zeros(n) for name in ("frequency", "mean_intensity", "snr")}
    hit, index = _windows(place, part, width)
    count = np.bincount(index, part.count[hit], minlength=n)
    weight = np.bincount(index, part.weight[hit], minlength=n)
    if part.profile:
        snr = _profile_snr(place, part, width)
    else:
        snr = _count_snr(place, count, part, width)
    return {
        # Two peaks of one pixel in a window would count twice.
        "frequency": np.minimum(count / part.n_pixels, 1.0),
        "mean_intensity": weight / part.n_pixels / SHARE,
        "snr": snr,
    }


def _count_snr(place: Floats, count: Numbers, part: PeakSums, width: float) -> Floats:
    """Excess of peaks in a window over the local background, in Poisson standard deviations."""
    size = 2 * width
    low = int(part.bins[0] // size)
    blocks = (int(part.bins[-1] // size) - low) // _BLOCK + 1
    # from a running total: windows are few and bins are many
    edges = (low + np.arange(blocks * _BLOCK + 1)) * size
    total = np.concatenate([[0], np.cumsum(part.count)])
    peaks = np.diff(total[_at(np.ceil(edges), part)])
    background = np.median(peaks.reshape(blocks, _BLOCK), axis=1)
    at = ((place // size).astype(np.int64) - low) // _BLOCK
    expected = background[at.clip(0, blocks - 1)]
    return np.asarray((count - expected) / np.sqrt(np.maximum(expected, 1.0)))


def _profile_snr(place: Floats, part: PeakSums, width: float) -> Floats:
    """Largest prominence of the specimen's own mean spectrum in a window, by its block's MAD."""
    if len(place) == 0 or len(part.bins) == 0:
        return np.zeros(len(place))
    groups, mean = _mean_spectrum(part, width)
    cuts = np.arange(_BLOCK, len(mean), _BLOCK)
    noise = np.array(
        [1.4826 * np.median(np.abs(piece - np.median(piece))) for piece in np.split(mean, cuts)]
    )
    # A spectrum without noise (simulated, or thresholded) has its smallest signal for it.
    noise = np.where(noise > 0, noise, mean[mean > 0].min())
    top, prominence = _prominent(groups, mean)
    block = np.searchsorted(groups, top).clip(max=len(groups) - 1) // _BLOCK
    ratio = prominence / noise[block]
    snr = np.zeros(len(place))
    hit, index = _owned(place, (top + 0.5) * _group(width), width)
    np.maximum.at(snr, index, ratio[hit])
    return snr
