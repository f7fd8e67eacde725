"""The same file under two patients, whatever it is called: no patient is left out then.

A copy that trains while its twin is held out makes every score of it a lie, so such a manifest is
refused, by `check` and at the start of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from msiscale import msi
from msiscale.cohort import Cohort, Specimen
from msiscale.errors import InputError
from msiscale.log import hearing
from msiscale.notices import Notice
from msiscale.slide.annotations import read_annotation
from msiscale.store import at_once, is_url, local_path, size_and_state, split_scene
from msiscale.store.content import content_of

COLUMNS = {"msi": "MSI", "slide": "slide", "annotation": "annotation"}
_ANYWHERE = (1 << 40, 1 << 40)  # of a slide on which any outline lies
_VECTORS = (".json", ".geojson", ".xml", ".annotations", ".ndpa")


@dataclass(frozen=True)
class Twins:
    """What is refused, a line each, and what is taken but should be known."""

    problems: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def twins(cohort: Cohort) -> Twins:
    """Look for files that several specimens share by content.

    Files of the same size are compared by a digest (`msiscale.store.content`); one that cannot be
    read is left to the stage that needs it. A slide that carries sections of several patients is
    refused too: nothing in the manifest says which part of it is whose.

    Returns
    -------
    Twins
    """
    found = Twins()
    for column, called in COLUMNS.items():
        for same in _same(cohort, column):
            for number, other in enumerate(same):
                for first in same[:number]:
                    if column != "slide" or not _of_other_scenes(first.slide, other.slide):
                        _judge(found, column, called, first, other)
                        break
    return found


def _judge(found: Twins, column: str, called: str, a: Specimen, b: Specimen) -> None:
    """Two specimens have the same file in a column: of two patients, or of one."""
    file, other = getattr(a, column), getattr(b, column)
    if a.patient != b.patient:
        if column == "annotation" and _is_empty(file):
            return
        where = file if file == other else f"{file}, {other}"
        text = (
            f"{where}: specimens {a.name} and {b.name} have the same {called} but belong to "
            f"patients {a.patient} and {b.patient}; give both the same patient in the "
            f"manifest column patient, for example {a.patient}, or each its own file"
        )
        found.problems.append(str(InputError(text)))  # on one line, without secrets of a URL
    elif column == "msi" and (a.polarity, a.ms_level) == (b.polarity, b.ms_level):
        text = (
            f"the same MSI as that of specimen {a.name}, of the same patient: its pixels count "
            "twice; leave out one of the two unless you mean that"
        )
        found.notices.append(Notice(b.name, other, column, text))


def _of_other_scenes(a: str, b: str) -> bool:
    """Whether ``#scene=N`` asks for two different images of a file."""
    one, other = split_scene(a)[1], split_scene(b)[1]
    return None not in (one, other) and one != other


def _same(cohort: Cohort, column: str) -> Iterator[list[Specimen]]:
    """Specimens with the same file in a column, in the order of the manifest."""
    having = [s for s in cohort if getattr(s, column)]
    sizes = at_once(lambda s: _size(s, column), having)
    for alike in _grouped(having, sizes):
        yield from _grouped(alike, at_once(lambda s: _content(s, column), alike))


def _grouped(specimens: list[Specimen], keys: Sequence[object]) -> list[list[Specimen]]:
    """Those with the same key, where there are several; None is no key."""
    groups: dict[object, list[Specimen]] = {}
    for specimen, key in zip(specimens, keys, strict=True):
        if key is not None:
            groups.setdefault(key, []).append(specimen)
    return [group for group in groups.values() if len(group) > 1]


def _size(specimen: Specimen, column: str) -> int | None:
    """Bytes of the file, if there are any; of a folder, which has many files, -1."""
    with suppress(InputError, OSError):
        file = _data(specimen, column)
        folder = not is_url(file) and local_path(file).is_dir()
        return -1 if folder else size_and_state(file)[0] or None
    return None


def _content(specimen: Specimen, column: str) -> str | None:
    with suppress(InputError, OSError):
        return content_of(_data(specimen, column))
    return None


def _data(specimen: Specimen, column: str) -> str:
    """The file that holds the data: of an imzML its .ibd."""
    file, _ = split_scene(str(getattr(specimen, column)))
    beside = msi.companions(file) if column == "msi" else ()
    return beside[0] if beside else file


def _is_empty(annotation: str) -> bool:
    """Whether nothing is outlined: two patients without cancer may well have the same file."""
    if PurePosixPath(annotation.lower()).suffix not in _VECTORS:
        return False
    with suppress(InputError, OSError), hearing(lambda _: None):  # the stage says so itself
        return not read_annotation(annotation, _ANYWHERE)
    return False
