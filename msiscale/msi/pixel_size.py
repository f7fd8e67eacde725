"""The size of a pixel, from what the header of an imzML says of it, checked against the pixels.

Headers state it in several ways that contradict one another: IMS:1000046 was an area until 2017 and
is a length since, units go by an accession, a name or neither, and the extent of the image
(IMS:1000044, 45) divided by its pixels may say something else. Every way to read a size is listed;
the file decides where one is left that fits the extent and lies between 0.1 µm and 1 mm. Where it
does not decide, the size is unknown and the line says what it could be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from msiscale.grid import PixelSize
from msiscale.msi.places import Places

X, Y = "IMS:1000046", "IMS:1000047"
_EXTENT = ("IMS:1000045", "IMS:1000044")  # y, x
_COUNT = ("IMS:1000043", "IMS:1000042")
#: µm of a pixel that are believed of a file; beyond them only the user is.
SMALLEST, LARGEST = 0.1, 1000.0
GIVE = "give it in the manifest column pixel_um, for example 50 (µm)"

_UM = {"UO:0000008": 1e6, "UO:0000015": 1e4, "UO:0000016": 1e3, "UO:0000017": 1.0}
_UM |= {"UO:0000018": 1e-3}
_UM2 = {"UO:0000080": 1e6, "UO:0000081": 1e4, "UO:0000082": 1e3, "UO:0010001": 1.0}
_NAMED = {"micrometer": 1.0, "micron": 1.0, "um": 1.0, "nanometer": 1e-3, "nm": 1e-3}
_NAMED |= {"millimeter": 1e3, "mm": 1e3, "centimeter": 1e4, "cm": 1e4, "meter": 1e6, "m": 1e6}


@dataclass(frozen=True)
class Term:
    """A cvParam of the scan settings, as written."""

    accession: str
    name: str
    value: str
    unit: str  #: accession, "" for none
    unit_name: str

    @property
    def number(self) -> float | None:
        """The value where it is a number."""
        try:
            return float(self.value)
        except ValueError:
            return None

    @property
    def has_unit(self) -> bool:
        return bool(self.unit or self.unit_name)


@dataclass(frozen=True)
class Unit:
    """A length: µm, and whether its square is meant."""

    um: float
    area: bool = False


@dataclass(frozen=True)
class Reading:
    """A way to read the terms; `odd` says what is unusual about it, "" for nothing."""

    size: PixelSize
    odd: str = ""


@dataclass
class Resolved:
    """The size of a pixel, where it came from, and what is to be said of it.

    Where the size is None, `source` says why in words that end before the remedy.
    """

    size: PixelSize | None = None
    source: str = ""
    notes: list[str] = field(default_factory=list)


def believable(size: PixelSize) -> bool:
    """Whether a file may be believed that its pixels are so large."""
    return all(SMALLEST <= side <= LARGEST for side in size)


def worded(size: PixelSize) -> str:
    """A size in words, x by y."""
    square = abs(size.x - size.y) <= 1e-6 * size.x
    return f"{size.x:g} µm" if square else f"{size.x:g} x {size.y:g} µm"


def resolve(settings: Sequence[Sequence[Term]], places: Places) -> Resolved:
    """The size that scan settings state, if the file as a whole decides it.

    Parameters
    ----------
    settings
        the terms of every scan settings element, those of its groups included
    places
        where the pixels are, which extents and counts are compared with

    Returns
    -------
    Resolved
    """
    stating = [terms for terms in settings if any(t.accession in (X, Y) for t in terms)]
    found = [_of_one(terms, places) for terms in stating]
    known = [f for f in found if f.size is not None]
    if not known:
        return found[0] if found else Resolved(source="the file states no pixel size")
    if len({f.size for f in known}) == 1 and len(known) == len(found):
        return known[0]
    said = [f.source if f.size is None else worded(f.size) for f in found]
    both = ", ".join(dict.fromkeys(said))
    fit = [
        f
        for f, terms in zip(found, stating, strict=True)
        if f.size is not None and _agrees(terms, f.size, places)
    ]
    if len({f.size for f in fit}) != 1 or fit[0].size is None:
        return Resolved(source=f"scan settings disagree on the pixel size ({both})")
    used = f"{worded(fit[0].size)} fits the pixels and is used"
    note = f"scan settings disagree on the pixel size ({both}); {used}"
    return Resolved(fit[0].size, fit[0].source, [*fit[0].notes, note])


def _of_one(terms: Sequence[Term], places: Places) -> Resolved:
    notes: list[str] = []
    sizes = [t for a in (X, Y) for t in terms if t.accession == a and _usable(t, notes)]
    x = next((t for t in sizes if t.accession == X), None)
    y = next((t for t in sizes if t.accession == Y), None)
    if x is None and y is None:
        return Resolved(source="; ".join(notes) or "the file states no pixel size", notes=notes)
    if x is not None and y is not None and x.has_unit != y.has_unit:  # the other has it too
        unit, unit_name = (x.unit or y.unit), (x.unit_name or y.unit_name)
        x, y = (replace(t, unit=unit, unit_name=unit_name) for t in (x, y))
        sizes = [x, y]
    stated = " and ".join(_quoted(t) for t in (x, y) if t is not None)
    unitless = not any(t.has_unit for t in sizes)
    steps = _extent_counts_pixels(terms, places)
    if unitless and (steps or any(t.number == 1 for t in sizes)):
        # R packages write the steps of the grid so
        why = f"{stated}, without a unit, is taken as unknown: it may count steps of the grid"
        return Resolved(source=why)
    plain, other = _readings(x, y)
    if places.steps != (1, 1):
        plain, other = (
            [r for one in some for r in _of_steps(one, terms, places, unitless)]
            for some in (plain, other)
        )
    axes = tuple(axis for axis, term in enumerate((y, x)) if term is not None)
    evidence = {r: _fits(terms, r.size, places, axes) for r in [*plain, *other]}
    right = [r for r in plain if believable(r.size) and evidence[r] is not False]
    if True in evidence.values() and not any(evidence[r] for r in right):
        right = [r for r in other if believable(r.size) and evidence[r]]
    elif True in evidence.values():
        right = [r for r in right if evidence[r]]
    distinct = list({worded(r.size): r for r in right}.values())
    if len(distinct) != 1:
        return Resolved(source=_undecided(stated, plain, distinct, terms, places))
    (chosen,) = distinct
    size = _completed(chosen.size, x, y, terms, places)
    if (x is None or y is None) and not chosen.odd:
        axis = "x" if y is None else "y"
        notes.append(f"the pixel size is stated for {axis} only; taken as {worded(size)}")
    notes += _said(chosen, plain, sizes, stated)
    return Resolved(size, " and ".join(t.accession for t in sizes) + " of the file", notes)


def _usable(term: Term, notes: list[str]) -> bool:
    """Whether a term states a size at all."""
    value = term.number
    if value is None:
        notes.append(f"{term.name} is {term.value!r}, which is not a number; ignored")
    elif not 0 < value < float("inf"):
        notes.append(f"pixel size {value:g} is not a size; ignored")
    elif not units(term):
        unit = term.unit or term.unit_name
        notes.append(f"pixel size has the unit {unit}; ignored; {GIVE}")
    else:
        return True
    return False


def units(term: Term) -> list[Unit]:
    """What the unit of a term may be: by its accession, and by its name where that differs.

    Parameters
    ----------
    term
        of a size or an extent

    Returns
    -------
    list of Unit
        µm where no unit is named at all; none where it is no length
    """
    if not term.has_unit:
        return [Unit(1.0)]
    found = []
    if term.unit in _UM:
        found.append(Unit(_UM[term.unit]))
    elif term.unit in _UM2:
        found.append(Unit(_UM2[term.unit], area=True))
    word = term.unit_name.strip().lower().replace("metre", "meter")
    word = word.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    length = re.sub(r"^square[ _]|[\^]?[2²]$", "", word)
    if (um := _NAMED.get(length) or _NAMED.get(length.removesuffix("s"))) is not None:
        found.append(Unit(um, area=length != word))
    return list(dict.fromkeys(found))


def _readings(x: Term | None, y: Term | None) -> tuple[list[Reading], list[Reading]]:
    """Ways to read the terms that are as good as one another, and those that need a reason."""
    plain, other = list[Reading](), list[Reading]()
    for ux, uy in _pairs(x, y):
        if x is None or y is None:
            term = x or y
            assert term is not None and term.number is not None
            one = ux if x is not None else uy
            value = term.number
            side = Reading(_square(value * one.um), _by(term, one))
            root = Reading(_square(value**0.5 * one.um), "it is the area of a pixel")
            if one.area or "area" in term.name.lower():
                plain.append(root)
            elif x is not None and not re.search(r"\bx\b", term.name.lower()):  # as until 2017
                plain += [side, root]
            else:
                plain.append(side)
                other.append(root)
            continue
        assert x.number is not None and y.number is not None
        vx, vy = x.number, y.number
        height = (vy**0.5 if uy.area else vy) * uy.um
        if ux.area:
            plain.append(Reading(PixelSize(height, vx**0.5 * ux.um), "it is the area of a pixel"))
            continue
        sides = Reading(PixelSize(height, vx * ux.um), _by(x, ux))
        mixed = PixelSize(height, vx * ux.um**2 / height)
        area = Reading(mixed, f"{X} is the area of a pixel")
        plain.append(sides)
        (plain if vx != vy and abs(vx - vy**2) < 1e-6 * vx else other).append(area)
        roots = PixelSize(vy**0.5 * uy.um, vx**0.5 * ux.um)
        other.append(Reading(roots, "they are areas"))
    return plain, other


def _pairs(x: Term | None, y: Term | None) -> Iterator[tuple[Unit, Unit]]:
    """Units of x and y; the same word means the same of both."""
    ux, uy = units(x) if x else [Unit(1.0)], units(y) if y else [Unit(1.0)]
    alike = x and y and (x.unit, x.unit_name) == (y.unit, y.unit_name)
    yield from zip(ux, uy, strict=True) if alike else product(ux, uy)


def _square(side: float) -> PixelSize:
    return PixelSize(side, side)


def _by(term: Term, unit: Unit) -> str:
    if len(units(term)) == 1:
        return ""
    by_accession = unit == units(term)[0]
    return f"the unit is that of its {'accession' if by_accession else 'name'}"


def _quoted(term: Term) -> str:
    unit = " ".join(filter(None, [term.unit, term.unit_name])) or "no unit"
    return f"{term.name or term.accession} {term.number:g} ({unit})"


def _extents(terms: Sequence[Term]) -> list[Term | None]:
    """The terms of the extent along y and x that are numbers."""
    return [
        next((t for t in terms if t.accession == a and t.number is not None and t.number > 0), None)
        for a in _EXTENT
    ]


def _counts(terms: Sequence[Term], places: Places) -> list[set[int]]:
    """What the number of pixels along y and x may be: found, reached by coordinates, declared."""
    out = []
    for axis, accession in enumerate(_COUNT):
        counts = {places.shape[axis]}
        if places.steps[axis] == 1:
            counts.add(places.reach[axis])
            counts |= {int(t.number) for t in terms if t.accession == accession and t.number}
        out.append({n for n in counts if n > 0})
    return out


def _extent_counts_pixels(terms: Sequence[Term], places: Places) -> bool:
    """Whether the extent is in pixels rather than in a length."""
    return any(
        t is not None and not t.has_unit and t.number in (n, reach)
        for t, n, reach in zip(_extents(terms), places.shape, places.reach, strict=True)
    )


def _fits(
    terms: Sequence[Term], size: PixelSize, places: Places, axes: tuple[int, ...] = (0, 1)
) -> bool | None:
    """Whether pixels of this size make up the extent along axes; None where none is stated."""
    if _extent_counts_pixels(terms, places):
        return None
    answers = []
    extents, every = _extents(terms), _counts(terms, places)
    for axis in axes:
        extent, side, counts = extents[axis], size[axis], every[axis]
        if extent is None or extent.number is None or not units(extent):
            continue
        times = [extent.number * u.um / side for u in units(extent)]
        answers.append(any(_about(ratio, n) for ratio in times for n in counts))
    return None if not answers else all(answers)


def _about(ratio: float, n: int) -> bool:
    """An extent of `ratio` pixels is that of `n`, from edge to edge or between the outer centres"""
    slack = 0.05 + 0.02 * n
    return max(n - 1, 0.9) - slack <= ratio <= n + slack


def _agrees(terms: Sequence[Term], size: PixelSize, places: Places) -> bool:
    """Whether settings, of several, are those of the pixels that there are."""
    fits = _fits(terms, size, places)
    counts = [
        int(t.number) in (n, reach)
        for accession, n, reach in zip(_COUNT, places.shape, places.reach, strict=True)
        for t in terms
        if t.accession == accession and t.number is not None
    ]
    return fits is not False and all(counts) and (fits is True or bool(counts))


def _completed(
    size: PixelSize, x: Term | None, y: Term | None, terms: Sequence[Term], places: Places
) -> PixelSize:
    """The side that is not stated, from the extent, where there is one along both axes."""
    known, lacking = (1, 0) if y is None else (0, 1)
    extents = _extents(terms)
    if (x is None) == (y is None) or None in extents or _extent_counts_pixels(terms, places):
        return size
    sides = list(size)
    a, b = extents[known], extents[lacking]
    assert a is not None and b is not None and a.number and b.number
    if len(units(a)) != 1 or len(units(b)) != 1:
        return size
    counts = _counts(terms, places)
    whole = any(abs(a.number * units(a)[0].um / sides[known] - n) < 0.05 for n in counts[known])
    n = places.shape[lacking] - (0 if whole else 1)
    other = b.number * units(b)[0].um / max(n, 1)
    if abs(other - size[lacking]) > 0.02 * size[lacking] and SMALLEST <= other <= LARGEST:
        sides[lacking] = other
    return PixelSize(*sides)


def _of_steps(
    reading: Reading, terms: Sequence[Term], places: Places, unitless: bool
) -> list[Reading]:
    """Ways to read a size of pixels whose coordinates come in steps of more than 1."""
    sides: list[list[float]] = []
    for axis in (0, 1):
        side, step = reading.size[axis], places.steps[axis]
        counts = [t.number for t in terms if t.accession == _COUNT[axis]]
        few = step < 5  # so few pixels may well have been left out between two that were measured
        if step == 1 or (abs(side - step) < 0.01 * step and not (unitless and few)):
            sides.append([side])  # in µm
        elif places.shape[axis] in counts or not few:
            sides.append([side])
        elif any(n is not None and abs(n - places.reach[axis]) <= 1 for n in counts):
            sides.append([side * step])
        else:
            sides.append([side, side * step])
    ways = max(map(len, sides))  # what is doubtful of both axes is the same of both
    return [Reading(PixelSize(*(s[i % len(s)] for s in sides)), reading.odd) for i in range(ways)]


def _undecided(
    stated: str,
    plain: list[Reading],
    left: list[Reading],
    terms: Sequence[Term],
    places: Places,
) -> str:
    """Why a size is unknown: what it could be."""
    names = dict.fromkeys(worded(r.size) for r in left)
    if left:
        return f"{stated} may be a pixel size of {' or '.join(names)}"
    taken = " or ".join(dict.fromkeys(worded(r.size) for r in plain))
    sides = [
        e.number * u.um / n
        for e, n in zip(_extents(terms), places.shape, strict=True)
        if e is not None and e.number is not None and not _extent_counts_pixels(terms, places)
        for u in units(e)[:1]
    ]
    if sides:
        extent = worded(PixelSize.of([sides[0], sides[-1]]))
        return f"{stated} is {taken}, but the extent divided by the pixels is {extent}"
    return f"{stated} is {taken}, which is outside 0.1 µm to 1 mm"


def _said(chosen: Reading, plain: list[Reading], sizes: list[Term], stated: str) -> list[str]:
    """What is unusual of a size that was found."""
    if chosen.odd:
        return [f"{stated} is read as {worded(chosen.size)}: {chosen.odd}"]
    if not any(t.has_unit for t in sizes):
        values = " x ".join(dict.fromkeys(f"{t.number:g}" for t in sizes))
        return [f"pixel size {values} has no unit; taken as µm"]
    said = []
    for term in sizes:
        (unit,) = units(term)[:1]
        if not term.unit and term.has_unit:
            said.append(
                f"{stated} names a unit without its accession; taken as {worded(chosen.size)}"
            )
        elif unit.um != 1 or unit.area:
            said.append(f"pixel size {term.number:g} ({term.unit}) converted to µm")
    return list(dict.fromkeys(said))
