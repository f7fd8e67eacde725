"""A run of mass spectra in three flat arrays, the form in which every reader hands them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Intensities = NDArray[np.float32]
Ints = NDArray[np.int64]
Numbers = NDArray[Any]  #: of whatever type a file has


@dataclass(frozen=True)
class Repairs:
    """How many values were read otherwise than written.

    Attributes
    ----------
    not_finite : NaN or infinite intensities, read as 0
    negative : negative intensities, read as 0
    unsorted : spectra whose m/z did not ascend, sorted
    """

    not_finite: int = 0
    negative: int = 0
    unsorted: int = 0

    def __add__(self, other: Repairs) -> Repairs:
        return Repairs(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __bool__(self) -> bool:
        return any(astuple(self))

    def __str__(self) -> str:
        said = (
            (self.not_finite, "intensities that are not finite read as 0"),
            (self.negative, "negative intensities read as 0"),
            (self.unsorted, "spectra sorted by m/z"),
        )
        return ", ".join(f"{n} {what}" for n, what in said if n) or "nothing"


@dataclass(frozen=True)
class Spectra:
    """Spectra, concatenated: spectrum i is ``[start[i]:start[i + 1]]``, its m/z ascending.

    Attributes
    ----------
    mz : (n,) float64
    intensity : (n,) float32, finite, not negative
    start : (m + 1,) int64
    repairs : what was read otherwise than written
    """

    mz: Floats
    intensity: Intensities
    start: Ints
    repairs: Repairs = field(default_factory=Repairs)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, i: int) -> tuple[Floats, Intensities]:
        part = slice(int(self.start[i]), int(self.start[i + 1]))
        return self.mz[part], self.intensity[part]

    @classmethod
    def on_shared_axis(cls, values: Intensities) -> Spectra:
        """Intensities (m, k) on a shared axis as m spectra without m/z, for what needs none."""
        return cls(np.empty(0), values.ravel(), starts([values.shape[1]] * len(values)))

    def part(self, begin: int, end: int) -> Spectra:
        """The spectra ``[begin, end)``, without their repairs."""
        start = self.start[begin : end + 1]
        values = slice(int(start[0]), int(start[-1]))
        return Spectra(self.mz[values], self.intensity[values], start - start[0])

    def parts(self, values: int) -> Iterator[Spectra]:
        """Runs of whole spectra of at most so many values, and at least one spectrum."""
        return (self.part(begin, end) for begin, end in runs(self.start, values))

    def __iter__(self) -> Iterator[tuple[Floats, Intensities]]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> Ints:
        """Number of values of every spectrum, (m,) int64."""
        return np.diff(self.start)

    @property
    def rows(self) -> Ints:
        """The spectrum that every value belongs to, (n,) int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)


def starts(lengths: Sequence[int] | NDArray[np.integer]) -> Ints:
    """Boundaries of runs of the given lengths.

    Parameters
    ----------
    lengths
        (m,) integers

    Returns
    -------
    ndarray
        (m + 1,) int64, from 0; run i is ``[start[i]:start[i + 1]]``
    """
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def runs(start: Ints, values: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole spectra of at most so many values, and at least one spectrum.

    Parameters
    ----------
    start
        (m + 1,) int64, boundaries of the spectra
    values
        values of a range, at most, unless a single spectrum has more

    Yields
    ------
    tuple of int
        ``[begin, end)`` of the spectra
    """
    begin = 0
    while begin < len(start) - 1:
        ahead = int(np.searchsorted(start, start[begin] + values, side="right")) - 1
        end = max(begin + 1, ahead)
        yield begin, end
        begin = end


def clean(intensity: Numbers) -> tuple[Intensities, Repairs]:
    """Intensities as float32; those that are not finite, or negative, become 0 and are counted."""
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is counted
        values = np.asarray(intensity).astype(np.float32, copy=False)
    low = values.min() if values.size else np.float32(0)
    if low >= 0 and values.max(initial=0) < np.inf:  # a NaN makes either comparison false
        return values, Repairs()
    bad = ~np.isfinite(values)
    negative = values < 0
    negative &= ~bad
    out = np.where(bad | negative, np.float32(0), values)
    return out, Repairs(not_finite=int(bad.sum()), negative=int(negative.sum()))


def sort_mz(mz: Floats, intensity: Intensities, start: Ints) -> tuple[Floats, Intensities, int]:
    """Sort spectra by m/z, stably.

    Parameters
    ----------
    mz
        (n,) float64, of the spectra one after another
    intensity
        (n,) float32
    start
        (m + 1,) int64, boundaries of the spectra

    Returns
    -------
    mz : ndarray
        (n,) float64, ascending within every spectrum
    intensity : ndarray
        (n,) float32, in the same order
    unsorted : int
        spectra whose order changed; if 0 the arrays are those given

    Raises
    ------
    ValueError
        an m/z is not finite
    """
    if len(mz) == 0:
        return mz, intensity, 0
    ascending = mz[1:] >= mz[:-1]  # false next to a NaN
    border = start[1:-1]
    ascending[border[(border > 0) & (border < len(mz))] - 1] = True
    ends = np.concatenate([start[:-1].clip(max=len(mz) - 1), start[1:].clip(min=1) - 1])
    if ascending.all() and np.isfinite(mz[ends]).all():
        return mz, intensity, 0
    if not np.isfinite(mz).all():
        raise ValueError("an m/z is not finite")
    rows = np.repeat(np.arange(len(start) - 1), np.diff(start))
    order = np.lexsort((mz, rows))
    changed = len(np.unique(rows[order != np.arange(len(order))]))
    return mz[order], intensity[order], changed


def regular(mz: Floats) -> bool:
    """Whether the spacing of neighbouring m/z changes so little that they sample a profile.

    Parameters
    ----------
    mz
        (n,) float64, ascending

    Returns
    -------
    bool
        False for fewer than 200 m/z
    """
    if len(mz) < 200:
        return False
    gaps = np.diff(mz)
    alike = np.abs(np.diff(gaps)) <= 0.1 * gaps[1:]
    return bool(np.mean(alike) > 0.6)


def smooth(intensity: Intensities) -> bool:
    """Whether neighbouring intensities go together, as in a profile."""
    values = intensity.astype(np.float64)
    if len(values) < 3 or min(np.ptp(values[:-1]), np.ptp(values[1:])) == 0:
        return False
    return bool(np.corrcoef(values[:-1], values[1:])[0, 1] > 0.8)
