"""Mass recalibration of a specimen against ions that are known to be in it.

The error in ppm is a constant or a line in m/z, found from pairs of a reference and a peak of the
specimen's summed spectrum. A wide window holds wrong pairs, so the pairs vote first: right ones
agree on an error, wrong ones do not. The line is then Theil and Sen's, which tolerates wrong pairs
that are left. Recalibration makes some data sets worse, so the error after it is measured on
references that had no part in the fit, and a correction that does not halve it is not made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.msi.peaks import SUB, PeakSums
from msiscale.msi.spectra import Floats, Ints
from msiscale.ranges import between, ranges

MIN_MATCHES = 5  #: below which nothing is corrected
LINE_MATCHES = 20  #: from which the error may change with m/z
LINE_SPAN = 0.25  #: share of the specimen's m/z range that matches must then span
CHANCE = 1e-3  #: that pairs agree so by chance on any of the errors tried, at most
GAIN = 0.5  #: of the error, that may be left after a correction
MARGIN = 2.0  #: lead over any other error, in standard deviations of counts
SLOPES = 20  #: steps of slope that the pairs vote on, up and down
_FOLDS = 5
_MOST = 1500  #: pairs that a line is fitted to, as Theil and Sen's method takes their square


@dataclass(frozen=True)
class Calibration:
    """The mass error of a specimen: ``offset_ppm + slope_ppm * (mz - centre) / 100``.

    Attributes
    ----------
    offset_ppm : error at `centre`; positive where the file's m/z are too high
    slope_ppm : change of the error over 100 Da
    centre : m/z
    low, high : m/z between which the matches lie; beyond, the error of the nearer end is used
    """

    offset_ppm: float = 0.0
    slope_ppm: float = 0.0
    centre: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is corrected."""
        return bool(self.offset_ppm or self.slope_ppm)

    def error_ppm(self, mz: ArrayLike) -> Floats:
        """Error of the file's m/z, in ppm of the true ones.

        Parameters
        ----------
        mz
            m/z of the file, of any shape

        Returns
        -------
        ndarray
            float64 of the same shape, in ppm; positive where the file's m/z are too high
        """
        inside = np.clip(np.asarray(mz, np.float64), self.low, self.high)
        return self.offset_ppm + self.slope_ppm * (inside - self.centre) / 100

    def correct(self, mz: Floats) -> Floats:
        """True m/z from the file's.

        Parameters
        ----------
        mz
            (n,) float64, m/z of the file

        Returns
        -------
        ndarray
            (n,) float64, true m/z; the same array where nothing is corrected
        """
        if not self:
            return mz
        factor = self.error_ppm(mz)
        factor *= 1e-6
        factor += 1
        return np.divide(mz, factor, out=factor)

    def facts(self) -> dict[str, float]:
        """For a record; ``Calibration(**facts)`` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """A calibration and the evidence for it.

    Attributes
    ----------
    calibration : nothing is corrected by it where `note` is not empty
    matches : references that were paired with a peak
    before, after : (median, median absolute deviation from it) of the error in ppm over these;
        `after` of each by a fit without it. NaN without matches
    note : why no correction is made; empty where one is
    """

    calibration: Calibration
    matches: int
    before: tuple[float, float]
    after: tuple[float, float]
    note: str = ""

    def record(self) -> dict[str, Any]:
        """A row of ``calibration.csv``, without the specimen."""
        kept = self.calibration
        return {
            "matches": self.matches,
            "median_ppm_before": self.before[0],
            "mad_before": self.before[1],
            "median_ppm_after": self.after[0],
            "mad_after": self.after[1],
            "offset_ppm": kept.offset_ppm,
            "slope_ppm_per_100": kept.slope_ppm,
            "centre_mz": kept.centre,
            "low_mz": kept.low,
            "high_mz": kept.high,
            "note": self.note,
        }


def estimate(
    peaks: ArrayLike,
    references: ArrayLike,
    *,
    window_ppm: float = 50.0,
    tolerance_ppm: float = 5.0,
) -> Estimate:
    """The mass error of a specimen from its peaks and the m/z of ions known to be in it.

    Parameters
    ----------
    peaks
        (k,) m/z of the peaks of its summed spectrum
    references
        (r,) m/z of lock masses, matrix ions or lipids; those that are not there do no harm
    window_ppm
        the largest error that is looked for
    tolerance_ppm
        how far a right pair may lie from the line

    Returns
    -------
    The calibration, and what speaks for it or against.
    """
    from scipy.stats import poisson  # slow to import

    peaks = np.unique(np.asarray(peaks, np.float64))
    references = np.unique(np.asarray(references, np.float64))
    # every reference with every peak in its window
    width = references * window_ppm * 1e-6
    wanted, found = ranges(*between(peaks, references - width, references + width))
    error = (peaks[found] / references[wanted] - 1) * 1e6
    if len(error) < MIN_MATCHES:
        return _refused(np.zeros(0), f"only {len(error)} references have a peak near")
    vote = _vote(peaks[found], error, window_ppm, tolerance_ppm)
    line = vote.line
    for _ in range(3):  # pairs and line agree after two, as a rule
        some = _nearest(wanted, found, error - line.error_ppm(peaks[found]), tolerance_ppm)
        mz, own = peaks[found[some]], error[some]
        if len(own) < MIN_MATCHES:
            return _refused(own, f"only {len(own)} references have a peak of their own")
        line = _line(mz, own, peaks)
    # near a line by chance, in a band of the tolerance out of twice the window
    others = max((len(error) - vote.votes) * tolerance_ppm / (2 * window_ppm), 0.1)
    if vote.lines * poisson.sf(vote.votes - 1, others) > CHANCE:
        return _refused(own, "no error is backed by more references than by chance")
    if vote.votes - vote.rival < MARGIN * np.sqrt(vote.votes + vote.rival):
        return _refused(own, "another error is backed by nearly as many references")
    after = _held_out(mz, own, peaks)
    if np.median(np.abs(after)) >= GAIN * np.median(np.abs(own)):
        return _refused(own, "it would not halve the error of references left out")
    return Estimate(line, len(own), _spread(own), _spread(after))


def _refused(error: Floats, why: str) -> Estimate:
    spread = _spread(error)
    return Estimate(Calibration(), len(error), spread, spread, f"not recalibrated: {why}")


def _spread(error: Floats) -> tuple[float, float]:
    if len(error) == 0:
        return float("nan"), float("nan")
    median = float(np.median(error))
    return median, float(np.median(np.abs(error - median)))


@dataclass(frozen=True)
class _Vote:
    """The line that most pairs lie near to."""

    line: Calibration  #: over the m/z of the pairs
    votes: int  #: pairs within half the tolerance of it
    rival: int  #: most of the other pairs on a line that is elsewhere at the centre
    lines: int  #: that were tried


def _vote(mz: Floats, error: Floats, window_ppm: float, tolerance_ppm: float) -> _Vote:
    """The line with most votes, of a grid; of as many votes the flatter and the smaller one."""
    low, high = float(mz.min()), float(mz.max())
    centre, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    place = (mz - centre) / half
    # a quarter of the tolerance apart, slopes at the ends of the m/z range
    step, reach = tolerance_ppm / 4, tolerance_ppm / 2
    n = int(np.ceil(window_ppm / step))
    offsets = np.asarray(np.arange(-n, n + 1) * step, np.float64)
    # the error at an end differs from that at the centre by half the window at most
    n = min(n // 2, SLOPES)
    slopes = np.array(sorted(np.arange(-n, n + 1) * step, key=abs), np.float64)
    votes = _votes(place, error, offsets, slopes, reach)
    i = int(votes.max(axis=1).argmax())
    best = np.flatnonzero(votes[i] == votes[i].max())
    j = int(best[np.argmin(np.abs(offsets[best]))])
    others = np.abs(error - slopes[i] * place - offsets[j]) > reach
    elsewhere = np.abs(offsets - offsets[j]) > 2 * tolerance_ppm
    rivals = _votes(place[others], error[others], offsets[elsewhere], slopes, reach)
    line = Calibration(float(offsets[j]), float(slopes[i] / half * 100), centre, low, high)
    return _Vote(line, int(votes[i, j]), int(rivals.max(initial=0)), votes.size)


def _votes(
    place: Floats, error: Floats, offsets: Floats, slopes: Floats, reach: float
) -> NDArray[np.int64]:
    """Pairs within `reach` of every line, (slope, offset)."""
    votes = np.empty((len(slopes), len(offsets)), np.int64)
    for row, slope in zip(votes, slopes, strict=True):
        first, last = between(np.sort(error - slope * place), offsets - reach, offsets + reach)
        row[:] = last - first
    return votes


def _nearest(wanted: Ints, found: Ints, left: Floats, tolerance_ppm: float) -> Ints:
    """Pairs within the tolerance, the best of each reference and of each peak."""
    distance = np.abs(left)
    some = np.flatnonzero(distance <= tolerance_ppm)
    for owner in (wanted, found):
        order = some[np.argsort(distance[some], kind="stable")]
        _, first = np.unique(owner[order], return_index=True)
        some = np.sort(order[first])
    return some


def _line(mz: Floats, error: Floats, peaks: Floats) -> Calibration:
    """Median error; or a line where there are matches enough over enough of the m/z range."""
    from scipy.stats import theilslopes  # slow to import

    low, high = float(mz.min()), float(mz.max())
    centre, slope = float(np.median(mz)), 0.0
    if len(mz) >= LINE_MATCHES and high - low >= LINE_SPAN * (peaks[-1] - peaks[0]):
        some = np.unique(np.linspace(0, len(mz) - 1, _MOST).astype(int))
        slope = float(theilslopes(error[some], (mz[some] - centre) / 100)[0])
    offset = float(np.median(error - slope * (mz - centre) / 100))
    return Calibration(offset, slope, centre, low, high)


def _held_out(mz: Floats, error: Floats, peaks: Floats) -> Floats:
    """Error that is left of every match by the fit to four fifths that it is not in."""
    left = np.empty(len(mz))
    for k in range(_FOLDS):
        out = np.arange(len(mz)) % _FOLDS == k
        left[out] = error[out] - _line(mz[~out], error[~out], peaks).error_ppm(mz[out])
    return left


def correct_sums(sums: PeakSums, calibration: Calibration) -> PeakSums:
    """Peak sums as if the spectra had been corrected before they were summed."""
    # What is in a fine bin moves as a whole by the correction of its mean m/z, in steps of 1/256 of
    # a bin; counts, weights and, but for these steps, the sum of positions are conserved.
    if not calibration or len(sums.bins) == 0:
        return sums
    inside = np.divide(sums.moment, np.maximum(sums.weight, 1))
    scale = sums.step / SUB
    place = sums.bins * float(SUB) + inside + 0.5
    shift = np.rint(np.log(calibration.correct(np.exp(place * scale))) / scale - place)
    shift = shift.astype(np.int64)
    bins = np.floor((sums.bins * float(SUB) + inside + shift) / SUB).astype(np.int64)
    moment = sums.moment + sums.weight * (shift + SUB * (sums.bins - bins))
    return replace(sums, bins=bins, moment=np.maximum(moment, 0)).merged()
