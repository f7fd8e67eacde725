"""How far the m/z of one ion scatter, measured on sums of peaks; and the window that follows.

For centroids: pairs of peaks of different spectra that are nearer to each other than by chance are
of one ion, so the number of pairs by their distance falls off with the scatter (standard deviation
s) as ``exp(-d**2 / (4 s**2))``, whatever else there is. For profile spectra: the full width at half
maximum of the strongest peaks of the mean spectrum, over 2.355.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from msiscale.msi.peaks import SUB, PeakSums
from msiscale.msi.spectra import Floats, Ints
from msiscale.msi.window import LAWS, Window

WIDE = 3.0  #: half-width of a window in standard deviations
LEAST_PPM = 3.0  #: half-width, as the m/z of some files are rounded
MOST_PPM = 3000.0
ASSUMED = Window(5.0)  #: where there are too few peaks to measure
DIFFERENT = 2.0  #: times the usual scatter, or part of it, from which a specimen is named
_BAND = 0.125  #: of ln(m/z)
_STRONG = 8  #: m/z of a band that are kept, to tell how far specimens lie apart
_PAIRS, _SURE = 100, 8.0  #: of one ion at least; and standard deviations above those by chance
_FEWEST, _STRONGEST, _CLEAR = 3, 30, 20.0  #: peaks of a band of a profile, and times the noise
_TAIL = 0.25  #: of the pairs at no distance, at which their fall is measured
_LEVELS = 15
_NEAR = 6.0  #: standard deviations within which strong peaks of two specimens may be of one ion


@dataclass(frozen=True)
class Scatter:
    """Standard deviations of the m/z of ions in a specimen.

    Attributes
    ----------
    mz : m/z at which it was measured
    ppm : standard deviation there, in ppm
    strong : m/z of the strongest peaks
    profile : whether it is the width of profile peaks
    """

    mz: list[float] = field(default_factory=list)
    ppm: list[float] = field(default_factory=list)
    strong: list[float] = field(default_factory=list)
    profile: bool = False

    def facts(self) -> dict[str, Any]:
        """For a record; ``Scatter(**facts)`` reads it."""
        return asdict(self)


def scatter_of(sums: PeakSums) -> Scatter:
    """Measure how far the m/z of one ion scatter in a specimen.

    Parameters
    ----------
    sums
        of all its spectra, on a grid of 0.5 ppm or so

    Returns
    -------
    The scatter, in bands of m/z; without any where there are too few peaks to tell.
    """
    found: list[tuple[float, float]] = []
    strong: list[float] = []
    if len(sums.bins):
        measure = _of_profile if sums.profile else _of_centroids
        first, last = int(sums.bins[0]), int(sums.bins[-1]) + 1
        band = max(1, round(_BAND / sums.step))
        for wide in (band, 4 * band, last - first):  # wider, where peaks are few
            for low in range(first, last, wide):
                a, b = np.searchsorted(sums.bins, [low, low + wide])
                sigma, places = measure(sums, int(a), int(b))
                if sigma is not None:
                    middle = (low + min(low + wide, last)) / 2
                    found.append((float(np.exp(middle * sums.step)), sigma))
                    strong += np.exp(places * sums.step).tolist()
            if found:
                break
    return Scatter(
        [round(mz, 3) for mz, _ in found],
        [float(f"{ppm:.4g}") for _, ppm in found],
        [round(mz, 6) for mz in strong],
        sums.profile,
    )


@dataclass(frozen=True)
class Choice:
    """The window of a cohort, and what it was chosen from.

    Attributes
    ----------
    window : wide enough for nearly every specimen
    ppm : scatter of each specimen at the window's m/z, NaN where it could not be measured
    apart : how far the m/z of each specimen lie from the others', in ppm; NaN where not known
    specimens : their names
    profile : those whose scatter is the width of profile peaks
    """

    window: Window
    ppm: Floats
    apart: Floats
    specimens: list[str]
    profile: list[str]

    @property
    def measured(self) -> bool:
        """Whether any specimen had peaks enough."""
        return bool(np.isfinite(self.ppm).any())

    def text(self) -> str:
        """What was chosen, and from what."""
        if not self.measured:
            return (
                f"the window around an m/z is {self.window}, which is assumed: there are too few "
                "peaks to measure their scatter; give --tolerance-ppm"
            )
        known = self.ppm[np.isfinite(self.ppm)]
        what = "width of the profile peaks" if self.profile else "scatter of the centroids"
        if 0 < len(self.profile) < len(self.specimens):
            what = "scatter of the centroids and width of the profile peaks"
        spread = f"{known.min():.3g}"
        if known.max() > 1.05 * known.min():
            spread += f" to {known.max():.3g}"
        at = f" at m/z {self.window.at:.0f}" if self.window.power else ""
        drift = _deviation(self.apart, float(known.max()))
        more = f", {drift:.2g} ppm between specimens" if drift > 0.1 * self.window.ppm else ""
        return (
            f"the window around an m/z is {self.window}, from the {what} "
            f"(standard deviation {spread} ppm{at}{more}); --tolerance-ppm fixes it"
        )

    def different(self) -> dict[str, str]:
        """What is unlike the others about some specimens, by name."""
        usual = float(np.nanmedian(self.ppm)) if self.measured else np.nan
        said = {}
        for name, own, apart in zip(self.specimens, self.ppm, self.apart, strict=True):
            if max(own, usual) * WIDE > LEAST_PPM and not 1 / DIFFERENT <= own / usual <= DIFFERENT:
                if np.isfinite(own):
                    said[name] = (
                        f"its m/z scatter by {own:.3g} ppm, where {usual:.3g} ppm are usual here: "
                        "another instrument or mode? Put it into a run of its own, or fix "
                        "--tolerance-ppm"
                    )
            elif abs(apart) > self.window.ppm:
                said[name] = (
                    f"its m/z lie {apart:+.3g} ppm from those of the others, more than the window "
                    f"of ±{self.window.ppm:.3g} ppm; --recalibrate may mend it"
                )
        return said


def common_window(scatters: Mapping[str, Scatter]) -> Choice:
    """The window that suits the specimens of a cohort.

    Parameters
    ----------
    scatters
        of every specimen, by name

    Returns
    -------
    The choice: three standard deviations of what an ion scatters in the specimen that scatters most
    (of 20 or more, but for one in twenty), and of what specimens lie apart; as `Window` where
    nothing could be measured.
    """
    names = list(scatters)
    profile = [name for name in names if scatters[name].profile]
    known = {name: s for name, s in scatters.items() if s.mz}
    apart = _apart(scatters)
    if not known:
        return Choice(ASSUMED, np.full(len(names), np.nan), apart, names, profile)
    at = float(np.exp(np.median(np.log(np.concatenate([s.mz for s in known.values()])))))
    power = _power(list(known.values()), at)
    own = np.array([_level(scatters[name], power, at) for name in names])
    top = float(np.quantile(own[np.isfinite(own)], 0.95, method="higher"))
    half = WIDE * float(np.hypot(top, _deviation(apart, top)))
    half = float(f"{min(max(half, LEAST_PPM), MOST_PPM):.3g}")
    window = Window(half, power, round(at)) if half > LEAST_PPM else Window(half)
    return Choice(window, own, apart, names, profile)


def _power(known: list[Scatter], at: float) -> float:
    """The law that bands of m/z follow best; that of a TOF where no other is better."""
    place = np.concatenate([np.log(np.array(s.mz) / at) for s in known])
    level = [np.log(s.ppm) for s in known]
    misfit = {}
    for power in LAWS:
        left = [
            own - power * np.log(np.array(s.mz) / at) for own, s in zip(level, known, strict=True)
        ]
        misfit[power] = float(np.mean(np.abs(np.concatenate([v - np.median(v) for v in left]))))
    best = min(misfit, key=lambda power: misfit[power])
    telling = np.ptp(place) >= 2.5 * _BAND and misfit[best] < 0.9 * misfit[0.0]
    return best if telling else 0.0


def _level(scatter: Scatter, power: float, at: float) -> float:
    if not scatter.mz:
        return float("nan")
    return float(np.median(np.array(scatter.ppm) / (np.array(scatter.mz) / at) ** power))


def _apart(scatters: Mapping[str, Scatter]) -> Floats:
    """How far the m/z of every specimen lie from the others', in ppm."""
    found = np.full(len(scatters), np.nan)
    some = [i for i, s in enumerate(scatters.values()) if len(s.strong) >= _FEWEST]
    if len(some) < 2:
        return found
    every = list(scatters.values())
    place = np.concatenate([np.log(every[i].strong) for i in some])
    owner = np.concatenate([np.full(len(every[i].strong), i) for i in some])
    reach = 1e-6 * max(_NEAR * float(np.median(np.concatenate([every[i].ppm for i in some]))), 10)
    order = np.argsort(place, kind="stable")
    place, owner = place[order], owner[order]
    group = np.concatenate([[0], np.cumsum(np.diff(place) > reach)])
    distance = np.full(len(place), np.nan)
    for first, last in _runs(group):
        if len(np.unique(owner[first:last])) > len(some) / 2:
            distance[first:last] = place[first:last] - np.median(place[first:last])
    for i in some:
        own = distance[(owner == i) & np.isfinite(distance)]
        if len(own) >= _FEWEST:
            found[i] = np.median(own) * 1e6
    return found


def _runs(group: Ints) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _deviation(apart: Floats, usual: float) -> float:
    """Standard deviation of what is known; where it is above the usual, that of most of it."""
    known = apart[np.isfinite(apart)]
    if len(known) < 2:
        return 0.0
    most = 1.4826 * np.median(np.abs(known - np.median(known)))
    return float(max(most, min(known.std(ddof=1), usual)))


def _of_centroids(sums: PeakSums, a: int, b: int) -> tuple[float | None, Floats]:
    """Standard deviation in ppm of the peaks of bins ``[a, b)``, and places of the strongest."""
    bins, count = sums.bins[a:b].astype(np.int64), sums.count[a:b].astype(np.float64)
    if len(bins) < 2:
        return None, np.zeros(0)
    dense = np.zeros(int(bins[-1] - bins[0]) + 1)
    dense[bins - bins[0]] = count
    distance, pairs = _pairs(dense)
    chance = pairs[distance > 0.3 * distance[-1]].mean()
    # the fall of the pairs, without the noise of single distances
    above = np.maximum.accumulate((pairs - chance)[::-1])[::-1]
    lag = _falls_to(distance, above, _TAIL * above[0])
    of_one, by_chance = len(dense) * lag * above[0], len(dense) * lag * chance
    if above[0] < chance or of_one < max(_PAIRS, _SURE * np.sqrt(by_chance)):
        return None, np.zeros(0)
    sigma = lag / (2 * np.sqrt(-np.log(_TAIL)))
    places = _strongest(bins, count, _inside(sums, a, b), max(1, round(2 * sigma)))
    return sigma * sums.step * 1e6, places


def _pairs(dense: Floats) -> tuple[Floats, Floats]:
    """Distances in bins, and pairs of peaks that far apart, of a bin and a bin."""
    # products of whole numbers, which are exact, so that the order of summing changes nothing
    itself = (float(dense @ dense - dense.sum()) / len(dense), 1 / 3)  # a peak is no pair
    found = [itself]
    wide = 1
    for _ in range(_LEVELS):
        for k in (1, 2, 3) if wide == 1 else (2, 3):
            if len(dense) > 4 * k:
                pairs = float(dense[:-k] @ dense[k:]) / (len(dense) - k) / wide**2
                found.append((pairs, float(k * wide)))
        dense = dense[: len(dense) // 2 * 2].reshape(-1, 2).sum(axis=1)
        wide *= 2
        if len(dense) < 16:
            break
    pairs, distance = np.array(found).T
    return distance, pairs


def _falls_to(distance: Floats, curve: Floats, level: float) -> float:
    """Distance at which a falling curve falls to a level, between its points."""
    i = int(np.argmax(curve <= level))
    if curve[i] > level:
        return float(distance[-1])
    if i == 0:
        return float(distance[0])
    part = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return float(distance[i - 1] + part * (distance[i] - distance[i - 1]))


def _of_profile(sums: PeakSums, a: int, b: int) -> tuple[float | None, Floats]:
    """Standard deviation in ppm of the strongest peaks of bins ``[a, b)``, and their places."""
    from scipy.signal import find_peaks, peak_widths  # slow to import

    bins, weight, points = (
        getattr(sums, name)[a:b].astype(np.float64) for name in ("bins", "weight", "points")
    )
    if len(bins) < 8:
        return None, np.zeros(0)
    # spacing of the samples of a spectrum, where there is signal
    gap = np.diff(bins, append=bins[-1] + 1)
    spacing = float((weight * gap * sums.n_pixels / points).sum() / weight.sum())
    wide = max(1, round(spacing))
    group, at = np.unique(bins // wide, return_inverse=True)
    height = np.bincount(at, weight) / np.maximum(np.bincount(at, points), sums.n_pixels)
    # values that were left out are zeros, but for one that lies between two groups
    sample = np.arange(int(group[0]) - 1, int(group[-1]) + 2)
    known = np.concatenate([[0.0], np.interp(sample[1:-1], group, height), [0.0]])
    away = np.full(len(sample), 2)
    away[(group - group[0] + 1).astype(int)] = 0
    empty = (away > 0) & (np.minimum(np.roll(away, 1), np.roll(away, -1)) > 0)
    known[empty] = 0.0
    noise = 1.4826 * np.median(np.abs(np.diff(known))) / np.sqrt(2)
    top, found = find_peaks(known, prominence=max(_CLEAR * noise, known.max() * 1e-3))
    best = top[np.argsort(-found["prominences"], kind="stable")[:_STRONGEST]]
    if len(best) < _FEWEST:
        return None, np.zeros(0)
    width = peak_widths(known, np.sort(best), rel_height=0.5)[0]
    sigma = float(np.median(width)) * wide / 2.3548
    places = (sample[np.sort(best[:_STRONG])] + 0.5) * wide
    return sigma * sums.step * 1e6, places


def _inside(sums: PeakSums, a: int, b: int) -> Floats:
    """Mean position of what is in each of bins ``[a, b)``, from 0 to 1."""
    mean = sums.moment[a:b] / np.maximum(sums.weight[a:b], 1)
    return np.asarray((mean + 0.5) / SUB)


def _strongest(bins: Ints, count: Floats, inside: Floats, wide: int) -> Floats:
    """Mean places of the peaks around the fullest of groups of so many bins, ascending."""
    group, at = np.unique(bins // wide, return_inverse=True)
    total = np.bincount(at, count)
    best = group[np.argsort(-total, kind="stable")[: 2 * _STRONG]]
    beside = [np.isin(best[:i], [g - 1, g + 1]).any() for i, g in enumerate(best)]
    best = np.sort(best[~np.array(beside)][:_STRONG])
    places = []
    for first in (best - 1) * wide:
        near = slice(*np.searchsorted(bins, [first, first + 3 * wide]))
        places.append(float(np.average(bins[near] + inside[near], weights=count[near])))
    return np.array(places)
