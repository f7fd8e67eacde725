"""How well a specimen supports an m/z: frequency, intensity and signal-to-noise in its window.

Noise alone gives peaks too, the more the longer the spectra. A signal-to-noise that noise would be
expected to reach anywhere in the specimen (`FALSE` times) counts as none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msiscale.msi.peaks import SHARE, PeakSums
from msiscale.msi.spectra import Floats, Ints, Numbers
from msiscale.msi.window import Window
from msiscale.ranges import ranges

FALSE = 0.005  #: peaks of noise in a specimen, as expected
_BLOCK = 200  #: neighbouring windows that the background of one is judged from
_TRIES = 3  #: places a window that a peak of noise may be found at
_GROUPS = 2.0  #: samples of a mean spectrum in half a window
_AROUND = 51  #: samples whose median is the baseline of a profile


@dataclass(frozen=True)
class Grid:
    """Fine bins of `step` in ln(m/z), and the window in half-widths of which places are counted."""

    window: Window
    step: float

    def of(self, part: PeakSums) -> Floats:
        """Places of the middle of a specimen's fine bins, (b,) float64 ascending."""
        return self.window.place((part.bins.astype(np.float64) + 0.5) * self.step)


def support(place: Floats, part: PeakSums, grid: Grid) -> dict[str, Floats]:
    """Frequency, mean intensity and signal-to-noise of one specimen at every place.

    Parameters
    ----------
    place
        (k,) float64 ascending, in half-widths of the window
    part
        sums of the specimen
    grid
        of the sums

    Returns
    -------
    ``frequency``, ``mean_intensity`` (share of the total ion current) and ``snr``, (k,) float64
    each; ``snr`` is 0 where noise alone would reach it.
    """
    n = len(place)
    if n == 0 or len(part.bins) == 0:
        return {name: np.zeros(n) for name in ("frequency", "mean_intensity", "snr")}
    own = grid.of(part)
    hit, index = windows(place, own)
    count = np.bincount(index, part.count[hit], minlength=n)
    weight = np.bincount(index, part.weight[hit], minlength=n)
    return {
        # Two peaks of one pixel in a window would count twice.
        "frequency": np.minimum(count / part.n_pixels, 1.0),
        "mean_intensity": weight / part.n_pixels / SHARE,
        "snr": _profile_snr(place, part, own)
        if part.profile
        else _count_snr(place, count, part, own),
    }


def windows(place: Floats, own: Floats) -> tuple[Ints, Ints]:
    """Fine bins in the windows of places; a bin belongs to the nearest place.

    Parameters
    ----------
    place
        (k,) float64 ascending, in half-widths
    own
        (b,) float64 ascending, middles of the fine bins

    Returns
    -------
    hit : (h,) int64, which bins lie in a window
    index : (h,) int64, the place of each
    """
    if len(place) == 0 or len(own) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # only bins near to a place are looked at, a small part of all
    first, last = np.searchsorted(own, place - 1), np.searchsorted(own, place + 1, side="right")
    first = np.maximum(first, np.append(0, np.maximum.accumulate(last)[:-1]))  # each bin once
    near = ranges(first, last)[1]
    hit, index = _owned(place, own[near])
    return near[hit], index


def _owned(place: Floats, centre: Floats) -> tuple[Ints, Ints]:
    """Which of some centres are in the window of a place, and the place they are nearest to."""
    index = np.searchsorted((place[1:] + place[:-1]) / 2, centre)
    hit = np.flatnonzero(np.abs(centre - place[index]) <= 1)
    return hit, index[hit]


def in_windows(place: Floats, part: PeakSums, own: Floats) -> Numbers:
    """Peaks in the window of each place, whatever other windows overlap with it.

    Parameters
    ----------
    place
        (k,) float64, in half-widths
    part
        sums of a specimen
    own
        (b,) float64, middles of its fine bins

    Returns
    -------
    ndarray
        (k,) numbers of peaks
    """
    total = np.concatenate([[0], np.cumsum(part.count)])
    first, last = np.searchsorted(own, place - 1), np.searchsorted(own, place + 1, side="right")
    return np.asarray(total[last] - total[first])


def _count_snr(place: Floats, count: Numbers, part: PeakSums, own: Floats) -> Floats:
    """Excess of peaks in a window over the local background, in Poisson standard deviations."""
    from scipy.stats import poisson  # slow to import

    low = own[0] - 1e-9
    n = int((own[-1] - low) // 2) + 1  # windows are few and bins are many
    total = np.concatenate([[0], np.cumsum(part.count)])
    peaks = np.diff(total[np.searchsorted(own, low + 2.0 * np.arange(n + 1))])
    blocks = np.array_split(peaks, max(1, round(n / _BLOCK)))
    ends = np.cumsum([len(block) for block in blocks])
    background, uneven = np.array([_background(block) for block in blocks]).T
    at = np.searchsorted(ends, ((place - low) // 2).clip(0, n - 1), side="right")
    expected, more = background[at], uneven[at]
    # windows that vary more than counts do are taken for counts of so many at once
    chance = poisson.sf(count / more - 1, expected / more)
    snr = np.asarray((count - expected) / np.sqrt(np.maximum(expected * more, 1.0)))
    snr[_TRIES * n * chance > FALSE] = 0
    return snr


def _background(peaks: Ints) -> tuple[float, float]:
    """Mean number of peaks in a window without ions, and its variance over that of counts."""
    median = float(np.median(peaks))
    if median < 1:  # from the share of windows that are empty
        return -float(np.log(np.mean(peaks == 0))) if (peaks == 0).any() else 1.0, 1.0
    return median, max(1.0, float(np.median(np.abs(peaks - median)) * 1.4826) ** 2 / median)


def samples(part: PeakSums, own: Floats) -> tuple[Ints, Floats, Ints]:
    """Mean spectrum in groups of half a half-width.

    Parameters
    ----------
    part
        sums of a specimen
    own
        (b,) float64, middles of its fine bins

    Returns
    -------
    group : (g,) int64 ascending, numbers of the groups
    mean : (g,) float64, heights, in shares of the total ion current
    points : (g,) int64, values that are in each
    """
    # the mean over values where every pixel has one or more (so their number does not show), and
    # over pixels where zeros were left out
    group = np.floor(own * _GROUPS).astype(np.int64)
    first = np.flatnonzero(np.diff(group, prepend=group[:1] - 1))
    weight, points = (np.add.reduceat(values, first) for values in (part.weight, part.points))
    return group[first], weight / np.maximum(points, part.n_pixels) / SHARE, points


def middle(group: Ints) -> Floats:
    """Place of the middle of a group.

    Parameters
    ----------
    group
        (g,) int64

    Returns
    -------
    ndarray
        (g,) float64, in half-widths
    """
    return np.asarray((group + 0.5) / _GROUPS)


def filled(group: Ints, mean: Floats) -> tuple[Ints, Floats]:
    """A mean spectrum with zeros where values were left out because they are zero.

    Parameters
    ----------
    group
        (g,) int64 ascending
    mean
        (g,) float64

    Returns
    -------
    group, mean : (f,) each, with the zeros
    """
    from scipy.ndimage import median_filter  # slow to import

    gaps = np.diff(group)
    if len(gaps) == 0:
        return group, mean
    usual = np.maximum(median_filter(gaps, size=51, mode="nearest"), 1)
    wide = np.flatnonzero(gaps > 3 * usual)
    zeros = np.concatenate([group[wide] + usual[wide], group[wide + 1] - usual[wide]])
    group = np.concatenate([group, zeros])
    mean = np.concatenate([mean, np.zeros(len(zeros))])
    order = np.argsort(group, kind="stable")
    return group[order], mean[order]


def prominent(mean: Floats) -> tuple[Ints, Floats]:
    """Maxima of a mean spectrum.

    Parameters
    ----------
    mean
        (g,) float64

    Returns
    -------
    top : (n,) int64, which samples are maxima
    prominence : (n,) float64
    """
    from scipy.signal import find_peaks  # slow to import

    top, found = find_peaks(np.pad(mean, 1), prominence=0)
    return top - 1, found["prominences"]


def _profile_snr(place: Floats, part: PeakSums, own: Floats) -> Floats:
    """Largest prominence of the specimen's mean spectrum in each window, by the noise around."""
    # noise is that of samples against their neighbours; a maximum counts as none where noise of
    # exponential values, as of magnitudes and of single ions, would rise as far above the baseline
    from scipy.ndimage import median_filter  # slow to import
    from scipy.stats import norm  # slow to import

    snr = np.zeros(len(place))
    if len(place) == 0 or len(part.bins) == 0:
        return snr
    group, mean, points = samples(part, own)
    n = len(group)
    cuts = np.arange(_BLOCK, n, _BLOCK)
    noise = np.array([_noise(piece) for piece in np.split(mean, cuts)])
    # A spectrum without noise (simulated, or thresholded) has its smallest signal for it.
    noise = np.where(noise > 0, noise, mean[mean > 0].min())
    values = np.array([max(1.0, float(np.median(piece))) for piece in np.split(points, cuts)])
    level = norm.isf(FALSE / n)
    level = level + (level**2 - 1) / 6 * 2 / np.sqrt(values)  # for the skewness (Cornish, Fisher)
    every, whole = filled(group, mean)
    top, prominence = prominent(whole)
    rise = whole[top] - median_filter(whole, size=_AROUND, mode="nearest")[top]
    block = np.searchsorted(group, every[top]).clip(max=n - 1) // _BLOCK
    ratio = prominence / noise[block]
    ratio[np.minimum(prominence, rise) / noise[block] < level[block]] = 0
    hit, index = _owned(place, middle(every[top]))
    np.maximum.at(snr, index, ratio[hit])
    return snr


def _noise(mean: Floats) -> float:
    """Standard deviation of samples, from how far each lies from the mean of its neighbours."""
    if len(mean) < 3:
        return 0.0
    bend = mean[1:-1] - (mean[:-2] + mean[2:]) / 2
    return float(1.4826 * np.median(np.abs(bend)) / np.sqrt(1.5))
