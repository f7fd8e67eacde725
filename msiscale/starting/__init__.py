"""A manifest and a file of options to begin with, for files that are there: ``msiscale init``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msiscale.errors import InputError
from msiscale.starting import written
from msiscale.starting.files import files_in
from msiscale.starting.pairing import Pairs, paired, patients
from msiscale.starting.questions import Answers, ask
from msiscale.store import files, is_url

__all__ = ["Answers", "ask", "begin"]

SHOWN = 20  # files that are listed one by one


def begin(
    folder: str | None,
    out: str,
    config_out: str,
    *,
    answers: Answers | None = None,
    force: bool = False,
) -> Iterator[str]:
    """Write a manifest and a file of options for the files of a folder.

    Parameters
    ----------
    folder
        Where the files are; None: as in `answers`.
    out, config_out
        The files to write.
    answers
        What the user said when asked; else the manifest has what the names tell.
    force
        Write over files that are there.

    Yields
    ------
    str
        Lines for the user: what was written, what was guessed, what could not be paired, and what
        to do next.

    Raises
    ------
    InputError
        A file is there, the folder cannot be looked into, or nothing in it could be paired.
    """
    said = answers or Answers(folder or ".")
    place = Path(folder or said.folder)
    for file in (out, config_out):
        if is_url(file) or is_url(str(place)):
            raise InputError(f"{file}: is made for local files; write a manifest of URLs by hand")
        if Path(file).exists() and not force:
            raise InputError(f"{file}: is there already; give --force to overwrite it")
    pairs = paired(files_in(place))
    if not pairs.rows:
        raise InputError(f"{place}: {_nothing(pairs)}; give MSI and slide the same name")
    groups = patients([row.name for row in pairs.rows]) if said.grouped is not False else {}
    home = Path(out).absolute().parent
    files.write(Path(out), [written.manifest(pairs, home, groups, said.columns)])
    files.write(Path(config_out), [written.options(said.options).encode()])
    n = len(pairs.rows)
    yield f"{out}: {n} specimen{'' if n == 1 else 's'}"
    yield from _patients(groups, [row.name for row in pairs.rows])
    yield from pairs.doubts
    for left in pairs.left[:SHOWN]:
        yield f"not paired: {left.path} ({left.role})"
    if len(pairs.left) > SHOWN:
        yield f"not paired: {len(pairs.left) - SHOWN} more, which {out} lists at its end"
    yield f"{config_out}: every option with its default, as comments to change"
    yield f"next: msiscale check {out} --config {config_out}"


def _patients(groups: dict[str, str], names: list[str]) -> Iterator[str]:
    if not groups:
        yield (
            "patients: the names do not show them, so each specimen counts as a patient of its "
            "own; fill in the column patient where specimens share a patient, for example P01"
        )
        return
    n = len({*groups.values()})
    yield (
        f"patients: guessed from the part of each name before its first _: {n} patients of "
        f"{len(names)} specimens, such as {groups[names[0]]} of {names[0]}; correct the column "
        "patient where this is wrong"
    )


def _nothing(pairs: Pairs) -> str:
    """Why there is no specimen."""
    count = {role: sum(f.role == role for f in pairs.left) for role in ("msi", "slide")}
    if not count["msi"]:
        return "holds no MSI file (imzML, HDF5 or Zarr)"
    if not count["slide"]:
        return f"holds {count['msi']} MSI files, but no slide"
    some = [str(f.path.name) for f in pairs.left if f.role in ("msi", "slide")][:4]
    return (
        f"holds {count['msi']} MSI files and {count['slide']} slides, but no two of one name "
        f"({', '.join(some)}, …)"
    )
