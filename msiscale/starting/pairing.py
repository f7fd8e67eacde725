"""Which files are of one specimen, by their names; what that leaves over is said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from msiscale.cohort import RESERVED
from msiscale.starting.files import Found, Role

OTHERS: tuple[Role, ...] = ("annotation", "landmarks", "matrix")


@dataclass
class Row:
    """A specimen: its name and its files."""

    name: str
    files: dict[Role, Found]


@dataclass
class Pairs:
    """The specimens of a folder, the files of none, and what a person should look at."""

    rows: list[Row] = field(default_factory=list)
    left: list[Found] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def paired(files: Iterable[Found]) -> Pairs:
    """Pair every MSI file with a slide, and with an annotation and landmarks where there are some.

    Parameters
    ----------
    files
        See `msiscale.starting.files.files_in`.

    Returns
    -------
    Pairs
        Names are equal but for words such as ``HE`` and ``msi``, or one begins with all the words
        of the other; else the two are alone in their folder. Of several that fit equally, none is
        taken, and that is said.
    """
    found = list(files)
    of = {role: [f for f in found if f.role == role] for role in ("msi", "slide", *OTHERS)}
    pairs, used = Pairs(), set[Found]()
    for msi in of["msi"]:
        slide = _fitting(msi, of["slide"], of["msi"], pairs)
        if slide is None:
            continue
        row = Row(_free(msi.name, pairs.rows), {"msi": msi, "slide": slide})
        for role in OTHERS:
            if role == "matrix" and "landmarks" in row.files:  # a manifest takes one of the two
                continue
            other = _fitting(msi, of[role], of["msi"], pairs) or _fitting(
                slide, of[role], of["slide"], pairs
            )
            if other is not None:
                row.files[role] = other
        used |= {*row.files.values()}
        pairs.rows.append(row)
    pairs.left = [file for file in found if file not in used]
    pairs.doubts = [*dict.fromkeys(pairs.doubts), *_shared(pairs.rows)]
    return pairs


def _fitting(one: Found, others: list[Found], rivals: list[Found], pairs: Pairs) -> Found | None:
    """The file among `others` that is of the same specimen; a doubt where several may be."""
    fits = [other for other in others if other.words == one.words]
    if not fits:
        n = max((_common(one, other) for other in others), default=0)
        fits = [other for other in others if n and _common(one, other) == n]
    if not fits:
        near = [other for other in others if other.path.parent == one.path.parent]
        near = [other for other in near if not other.picture] or near
        alone = sum(rival.path.parent == one.path.parent for rival in rivals) == 1
        if not alone or len(near) != 1:
            return None
        pairs.doubts.append(
            f"{one.path}: {near[0].path.name} is taken as its {near[0].role}, as there is no other "
            "in that folder; check that this is right"
        )
        return near[0]
    if len(fits) > 1:
        fits = [f for f in fits if not f.picture] or fits
    if len(fits) > 1:
        fits = [f for f in fits if f.path.stem == one.path.stem] or fits
    if len(fits) > 1:
        fits = [f for f in fits if f.path.parent == one.path.parent] or fits
    if len(fits) > 1:
        names = ", ".join(str(f.path) for f in fits[:4]) + (" and others" if len(fits) > 4 else "")
        pairs.doubts.append(
            f"{one.path}: {len(fits)} files could be its {fits[0].role} ({names}); none was taken, "
            "so write the right one into the manifest"
        )
        return None
    return fits[0] if fits else None


def _common(one: Found, other: Found) -> int:
    """Words of the shorter name where the longer one begins with all of them; else 0."""
    short, long = sorted((one.words, other.words), key=len)
    return len(short) if long[: len(short)] == short else 0


def _free(name: str, rows: list[Row]) -> str:
    """A name that a specimen may have and that no other has."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:90] or "specimen"
    taken = {row.name for row in rows} | {*RESERVED}
    if plain not in taken and not plain.endswith(".json"):
        return plain
    return next(f"{plain}-{n}" for n in range(2, len(rows) + 4) if f"{plain}-{n}" not in taken)


def _shared(rows: list[Row]) -> list[str]:
    """Files that several specimens have, which may be meant."""
    users: dict[Found, list[str]] = {}
    for row in rows:
        for file in row.files.values():
            users.setdefault(file, []).append(row.name)
    return [
        f"{file.path}: is the {file.role} of {', '.join(names)}; check that this is right"
        for file, names in users.items()
        if len(names) > 1
    ]


def patients(names: list[str]) -> dict[str, str]:
    """Whose each specimen is, by what stands before the first ``_``; nothing where that is no sign.

    Parameters
    ----------
    names
        Of the specimens.

    Returns
    -------
    dict of str to str
        Specimen -> patient, where every name has a first part with a digit in it that is no date,
        and these parts are not all the same.
    """
    first = {name: name.partition("_")[0] for name in names}
    sign = all(
        "_" in name and re.search("[0-9]", part) and not re.fullmatch("(19|20)[0-9]{6}", part)
        for name, part in first.items()
    )
    return first if sign and len({*first.values()}) > 1 else {}
