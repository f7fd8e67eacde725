"""Folders of DICOM files: the series in them, of which OpenSlide opens one by any of its files."""

from __future__ import annotations

import re
from pathlib import Path

from msiscale.errors import InputError
from msiscale.slide.openslides import CannotOpen, OpenSlideBackend
from msiscale.slide.which import Image, the_slide

_ZARR = ("zarr.json", ".zgroup", ".zattrs", ".zarray")  # of which a folder is no DICOM
HEADER = 1 << 16  # bytes in which the series is named
# the element Series Instance UID, with and without its type: its length, then its value
_SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]{5,64})", re.S)


def series_in(folder: Path) -> list[list[Path]]:
    """The files of every series in a folder, each with the largest first; none of no DICOM."""
    found: dict[bytes, list[Path]] = {}
    if any((folder / name).exists() for name in _ZARR):
        return []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(HEADER)
            if head[128:132] == b"DICM":
                named = _SERIES.search(head)
                found.setdefault(named[1] if named else str(path).encode(), []).append(path)
    return [sorted(files, key=lambda p: -p.stat().st_size) for files in found.values()]


def open_folder(folder: str, scene: int | None = None) -> OpenSlideBackend:
    """The slide in a folder of DICOM files.

    Parameters
    ----------
    folder : str
        A local folder.
    scene : int, optional
        Which of its series, from 1, in the order of their first files' names.

    Returns
    -------
    OpenSlideBackend

    Raises
    ------
    InputError
        No series there can be opened, or not that one.
    """
    opened: dict[int, OpenSlideBackend] = {}
    reasons: list[str] = []
    for number, files in enumerate(series_in(Path(folder)), 1):
        for path in files:  # OpenSlide finds the others, but not by a label
            try:
                opened[number] = OpenSlideBackend(str(path))
                break
            except CannotOpen as error:
                reasons.append(str(error))
    try:
        if not opened:
            raise InputError(reasons[0] if reasons else f"{folder}: no DICOM files there")
        images = [Image(n, one.levels[0].shape, one.mpp) for n, one in opened.items()]
        slide, notes = the_slide(folder, images, scene, apart=True)
    except InputError:
        for one in opened.values():
            one.close()
        raise
    for number, one in opened.items():
        if number != slide.number:
            one.close()
    opened[slide.number].notes = notes
    return opened[slide.number]
