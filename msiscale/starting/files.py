"""The files of a folder: what each is, and the words of its name that tell whose it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msiscale.errors import InputError
from msiscale.registration.landmarks import COLUMNS

Role = Literal["msi", "slide", "annotation", "landmarks", "matrix"]
MOST_FILES = 100_000
PEEKED = 4096  # bytes of a file that its name alone does not tell

MSI = {".imzml", ".h5", ".hdf5", ".h5ad"}
PICTURES = {".png", ".jpg", ".jpeg"}  # as slides, where there is no other
SLIDES = PICTURES | {".svs", ".tif", ".tiff", ".btf", ".tf8", ".ndpi", ".scn", ".svslide"}
SLIDES |= {".bif", ".mrxs", ".vms", ".vmu", ".czi", ".dcm"}
OUTLINES = {".geojson", ".xml", ".annotations"}
# words of names that tell what a file is, and not whose
WORDS: dict[str, tuple[str, ...]] = {
    "msi": ("msi", "maldi", "desi", "imzml", "ims"),
    "slide": ("he", "hne", "h&e", "wsi", "slide", "histology", "ome"),
    "annotation": ("annotation", "annotations", "annotated", "annot", "outline", "outlines"),
    "landmarks": ("landmark", "landmarks", "points", "fiducials"),
    "matrix": ("matrix", "transform", "affine"),
}
_OF_ROLE = {word: role for role, words in WORDS.items() for word in words}


@dataclass(frozen=True)
class Found:
    """A file, what it is, and the words of its name that are not of that, in small letters."""

    path: Path
    role: Role
    words: tuple[str, ...]
    name: str  # the same words as they are written

    @property
    def picture(self) -> bool:
        """Whether it is of a kind that is seldom a whole slide."""
        return self.path.suffix.lower() in PICTURES


def files_in(folder: Path) -> list[Found]:
    """Every file below a folder that a manifest may name, in order of their paths.

    Parameters
    ----------
    folder
        Folders whose names begin with a point, and results of msiscale, are not looked into.

    Returns
    -------
    list of Found

    Raises
    ------
    InputError
        It is no folder, or holds too many files to be one cohort.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the folder that holds your files")
    found = []
    for number, path in enumerate(_below(folder)):
        if number >= MOST_FILES:
            raise InputError(
                f"{folder}: holds more than {MOST_FILES:,} files; give the folder of one cohort"
            )
        role = _role(path)
        if role is not None:
            found.append(_named(path, role))
    return sorted(found, key=lambda one: str(one.path))


def _below(folder: Path) -> Iterator[Path]:
    """Files, and Zarr stores as one."""
    for place, folders, files in os.walk(folder):
        if {"ledger", "run.json"} <= {*folders, *files}:  # what a run has written
            folders.clear()
            continue
        yield from (Path(place, name) for name in files if not name.startswith("."))
        yield from (Path(place, name) for name in folders if name.endswith(".zarr"))
        kept = (n for n in folders if not n.startswith(".") and not n.endswith(".zarr"))
        folders[:] = sorted(kept)


def _role(path: Path) -> Role | None:
    suffix, said = path.suffix.lower(), _roles_said(path)
    if suffix == ".zarr":
        return "slide" if _is_picture(path) else "msi"
    if suffix in MSI:
        return "msi"
    if suffix in SLIDES:
        return "annotation" if "annotation" in said else "slide"
    if suffix in OUTLINES:
        return "annotation"
    if suffix == ".json":
        if "matrix" in said:
            return "matrix"
        start = "".join(_start(path).split())
        if start.startswith("[["):
            return "matrix"
        outlines = '"FeatureCollection"' in start or '"Feature"' in start
        return "annotation" if outlines or "annotation" in said else None
    if suffix == ".csv":
        header = {word.strip(' "') for word in _start(path).partition("\n")[0].split(",")}
        return "landmarks" if {*COLUMNS} <= {word.strip() for word in header} else None
    return None


def _is_picture(store: Path) -> bool:
    """Whether a Zarr store is an image of OME."""
    metadata = (store / name for name in ("zarr.json", ".zattrs"))
    return any("multiscales" in _start(file) for file in metadata if file.is_file())


def _start(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(PEEKED).decode("utf-8-sig", errors="replace").replace("\r", "\n")
    except OSError:  # said when it is read
        return ""


def _words(path: Path) -> list[str]:
    """The words of a name, as they are written."""
    return [word for word in re.split(r"[\s_.\-]+", path.stem) if word]


def _roles_said(path: Path) -> set[str]:
    return {_OF_ROLE[word.lower()] for word in _words(path) if word.lower() in _OF_ROLE}


def _named(path: Path, role: Role) -> Found:
    """With the words that are left; those of the folder where the name is of the role alone."""
    for stem in (path, *(Path(parent.name) for parent in path.parents[:1])):
        words = [word for word in _words(stem) if word.lower() not in _OF_ROLE]
        if words:
            break
    kept = _without_words(stem.stem) if words else path.stem
    return Found(path, role, tuple(word.lower() for word in words), kept or path.stem)


def _without_words(stem: str) -> str:
    """A name without the words of roles, its other separators as they are."""
    pieces = re.split(r"([\s_.\-]+)", stem)
    kept = ""
    for word, separator in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        if word and word.lower() not in _OF_ROLE:
            kept += word + separator
    return kept.strip(" _.-")
