"""One image is one kind of measurement: which spectra of a file are read.

A file may alternate between polarities by line, between MS1 and MS2 by pixel, or between several
transitions. What the user asks for chooses among them; where kinds are left that differ, the file
is refused in a line that lists what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE, InputError
from msiscale.msi.asked import Asked
from msiscale.msi.spectra import Ints

POSITIVE, NEGATIVE = "MS:1000130", "MS:1000129"
LEVEL, MS1 = "MS:1000511", "MS:1000579"
ISOLATED, SELECTED = "MS:1000827", "MS:1000744"  #: m/z of an isolation window, of the ion in it
#: Of a scan at one ion mobility: drift time, inverse reduced mobility.
MOBILITY = {"MS:1002476", "MS:1002815"}
#: Terms whose values tell kinds of spectra apart.
VALUED = {LEVEL, ISOLATED, SELECTED}
_WORDS = {"+": "positive ", "-": "negative ", "": "", "+-": "positive and negative "}


@dataclass(frozen=True)
class Scan:
    """What a spectrum says it is.

    Attributes
    ----------
    polarity : '+', '-', '' where it says nothing, '+-' where it says both
    level : MS level, 0 where it says nothing
    transitions : m/z of the ions that were isolated, of MS2 and beyond
    mobility : whether it is of one ion mobility of several
    """

    polarity: str = ""
    level: int = 0
    transitions: tuple[str, ...] = ()
    mobility: bool = False

    @classmethod
    def of(cls, terms: Iterable[str], values: Mapping[str, Sequence[str]]) -> Scan:
        """Make one from the accessions of a spectrum, and the values of those in `VALUED`."""
        found = set(terms)
        polarity = "+" * (POSITIVE in found) + "-" * (NEGATIVE in found)
        levels = {int(v) for v in values.get(LEVEL, ()) if v.isdecimal() and len(v) < 3}
        level = max(levels, default=0) or int(MS1 in found)  # 0 is written for want of one
        isolated = () if level == 1 else values.get(ISOLATED) or values.get(SELECTED) or ()
        return cls(polarity, level, tuple(map(_rounded, isolated)), bool(found & MOBILITY))

    def __str__(self) -> str:
        level = f"MS{self.level} " if self.level else ""
        of = f" of m/z {' > '.join(self.transitions)}" if self.transitions else ""
        return f"{_WORDS[self.polarity]}{level}spectra{of}"


def _rounded(value: str) -> str:
    try:
        return f"{float(value):.2f}"
    except ValueError:
        return value


@dataclass(frozen=True)
class Chosen:
    """The spectra that are read: (n,) bool, and what they all are."""

    mask: NDArray[np.bool_]
    scan: Scan


def choose(
    path: str, scans: Sequence[Scan], codes: Ints, whole: Scan, asked: Asked, notes: list[str]
) -> Chosen:
    """The spectra of one kind, as asked.

    Parameters
    ----------
    path
        of the image, for the error message
    scans
        the kinds that there are
    codes
        (n,) int64, the kind of every spectrum
    whole
        what the header says of the whole file, for spectra that say nothing
    asked
        polarity and MS level that are wanted
    notes
        notes of the source, which gain what was left out or assumed

    Returns
    -------
    Chosen

    Raises
    ------
    InputError
        none is of the kind that is asked for, or several kinds are left
    """
    times = np.bincount(codes, minlength=len(scans))
    known = _completed([s for s, n in zip(scans, times, strict=True) if n], whole, notes)
    of = {s: known[s] for s, n in zip(scans, times, strict=True) if n}
    count: dict[Scan, int] = {}
    for scan, n in zip(scans, times.tolist(), strict=True):
        if n:
            count[of[scan]] = count.get(of[scan], 0) + n
    left = [*count]
    if asked.polarity is not None:
        if any(s.polarity in ("+", "-") for s in left):
            left = [s for s in left if s.polarity == asked.polarity]
        elif whole.polarity != asked.polarity:
            notes.append(f"no spectrum says its polarity; taken as {asked.polarity} as asked")
    if asked.ms_level is not None and any(s.level for s in left):
        left = [s for s in left if s.level == asked.ms_level]
    if not left:
        wanted = str(Scan(asked.polarity or "", asked.ms_level or 0))
        raise InputError(
            f"{path}: has no {wanted}: it holds {_listed(count)}; correct the manifest columns "
            "polarity (for example +) and ms_level (for example 1), or --polarity"
        )
    if len(left) > 1:
        raise InputError(f"{path}: holds {_listed({s: count[s] for s in left})}; {_remedy(left)}")
    (scan,) = left
    mask = np.isin(codes, [i for i, s in enumerate(scans) if s in of and of[s] == scan])
    if len(count) > 1:
        notes.append(
            f"{NOTE}{int(mask.sum())} of {len(codes)} spectra are read, the {scan}, as asked"
        )
    if asked.polarity is not None and scan.polarity not in ("+", "-"):
        scan = replace(scan, polarity=asked.polarity)
    return Chosen(mask, scan)


def _completed(scans: list[Scan], whole: Scan, notes: list[str]) -> dict[Scan, Scan]:
    """What spectra are that do not say all of it: what the file is, or all others are."""
    polarities = {s.polarity for s in scans} - {""}
    levels = {s.level for s in scans} - {0}
    polarity = whole.polarity if whole.polarity in ("+", "-") else ""
    if not polarity and len(polarities) == 1:
        (polarity,) = polarities
        if any(not s.polarity for s in scans):
            notes.append(f"some spectra do not say their polarity; taken as {polarity} as the rest")
    level = whole.level or (min(levels) if len(levels) == 1 else 0)
    return {s: replace(s, polarity=s.polarity or polarity, level=s.level or level) for s in scans}


def _listed(count: dict[Scan, int]) -> str:
    named = [f"{n} {scan}" for scan, n in count.items()]
    more = f" and {len(named) - 4} kinds more" if len(named) > 4 else ""
    return ", ".join(named[:4]) + more


def _remedy(left: list[Scan]) -> str:
    """What chooses among kinds."""
    columns = []
    if len({s.polarity for s in left}) > 1:
        example = next((s.polarity for s in left if s.polarity in ("+", "-")), "+")
        columns.append(f"polarity, for example {example} (or --polarity)")
    if len({s.level for s in left}) > 1:
        columns.append(
            f"ms_level, for example {min((s.level for s in left if s.level), default=1)}"
        )
    if columns:
        plural = "s" if len(columns) > 1 else ""
        return f"choose one with the manifest column{plural} {' and '.join(columns)}"
    return "an image is of one transition: export each as an imzML of its own"
