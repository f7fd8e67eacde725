"""Slides of any format: open, check, read rectangles of any level from any thread or process."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import openslide

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import Block, PixelSize
from msiscale.slide.backend import Backend, Level, Pixels
from msiscale.slide.czi import CziBackend
from msiscale.slide.dicom import open_folder, series_in
from msiscale.slide.foreign import refuse_foreign
from msiscale.slide.omezarr import OmeZarrBackend
from msiscale.slide.openslides import CannotOpen, OpenSlideBackend
from msiscale.slide.png_jpeg import PngJpegBackend
from msiscale.slide.tiff import open_tiff
from msiscale.slide.tiff_images import of_openslide
from msiscale.store import (
    is_url,
    local_copy,
    local_path,
    open_file,
    size_and_state,
    split_scene,
)
from msiscale.store.content import seen

BACKENDS: dict[str, Callable[[str, int | None], Backend]] = {  # of a file and ``#scene=N``
    # it reads no URLs
    "openslide": lambda path, scene: OpenSlideBackend(local_copy(path), scene),
    "czi": lambda path, scene: CziBackend(str(local_path(path)), scene),
    "dicom": lambda path, scene: open_folder(str(local_path(path)), scene),
    "tiff": open_tiff,
    "omezarr": OmeZarrBackend,
    "picture": PngJpegBackend,
}
HANDLES_KEPT = 4  # open slides a thread keeps
MOST_PIXELS = 1 << 40  # a million on a side; what says more is damaged
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ONE_FILE = {".ndpi", ".scn", ".svslide", ".bif"}  # of OpenSlide alone, so copied to the machine
_LOCAL_ONLY = {".mrxs", ".vms", ".vmu", ".czi", ".dcm"}  # of several files, most of them
_PICTURES = {".png", ".jpg", ".jpeg"}


class _Open(OrderedDict[tuple[str, str, str, int], Backend]):
    """Slides that are open in a thread, the last used at the end; closed when the thread ends."""

    def __del__(self) -> None:
        while self:
            with contextlib.suppress(Exception):
                self.popitem()[1].close()


class _Handles(threading.local):
    """A handle is of one thread."""

    def __init__(self) -> None:
        self.of = _Open()


_handles = _Handles()


@atexit.register
def _close() -> None:
    """The main thread's handles, which Python would complain of when it ends."""
    _handles.of.__del__()


@dataclass(frozen=True)
class Slide:
    """A slide: what is known of it, and its pixels. Make one with `open_reader`.

    It holds no handle, so it is pickled and shared as it is; each thread opens the file once and
    keeps it for a while.
    """

    path: str  # or URL; with ``#scene=N`` where one was asked for
    mpp: PixelSize  # µm per level-0 pixel
    levels: tuple[Level, ...]  # finest first
    bounds: tuple[int, int]  # (x, y) of QuPath's origin in level-0 pixels, for `read_annotation`
    backend: str  # key of `BACKENDS`
    token: str  # state of the file when it was opened; one that was replaced is opened anew

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of level 0."""
        return self.levels[0].shape

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels of a rectangle.

        Parameters
        ----------
        level : int
            Index into `levels`.
        y, x : int
            Corner in pixels of that level; may lie outside.
        h, w : int
            Size in pixels of that level.

        Returns
        -------
        uint8 (h, w, 3)
            255 outside the slide.

        Raises
        ------
        InputError
            The file is damaged there, on a fresh handle too.
        """
        height, width = self.levels[level].shape
        wanted = Block(y, y + h, x, x + w)
        inside = wanted & Block(0, height, 0, width)
        if inside == wanted:
            return np.ascontiguousarray(self._read(level, inside))
        out = np.full((h, w, 3), 255, np.uint8)
        if inside is not None:
            out[inside.within(wanted)] = self._read(level, inside)
        return out

    def _read(self, level: int, block: Block) -> Pixels:
        """The same inside the level; a handle that failed stays broken, so it is replaced once."""
        y, x = block.y0, block.x0
        try:
            return _handle(self).read(level, y, x, *block.shape)
        except Exception:
            _drop(self)
        try:
            return _handle(self).read(level, y, x, *block.shape)
        except InputError:
            _drop(self)
            raise
        except Exception as error:
            _drop(self)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.path}: level {level} cannot be read at y {y}, x {x} ({reason});"
                " the file is damaged: copy it again"
            ) from None


def _key(slide: Slide) -> tuple[str, str, str, int]:
    return slide.backend, slide.path, slide.token, os.getpid()


def _handle(slide: Slide) -> Backend:
    """This thread's open handle of the slide."""
    key = _key(slide)
    if key not in _handles.of:
        _keep(slide, BACKENDS[slide.backend](*split_scene(slide.path)))
    _handles.of.move_to_end(key)
    return _handles.of[key]


def _keep(slide: Slide, backend: Backend) -> None:
    _drop(slide)  # one that was opened before
    _handles.of[_key(slide)] = backend
    while len(_handles.of) > HANDLES_KEPT:
        _handles.of.popitem(last=False)[1].close()


def _drop(slide: Slide) -> None:
    backend = _handles.of.pop(_key(slide), None)
    if backend is not None:
        with contextlib.suppress(Exception):
            backend.close()


def open_reader(path: str | os.PathLike[str], *, mpp: float | None = None) -> Slide:
    """Open a slide of any format.

    Parameters
    ----------
    path : str or path
        OpenSlide format, CZI, a folder of DICOM files, plain or OME TIFF (8-bit RGB), OME-Zarr 0.4
        or 0.5, PNG or JPEG; OME-Zarr, TIFF (also svs) and pictures may be behind a URL. Of several
        images in a file the largest is taken; ``#scene=N`` at the end takes another.
    mpp : float, optional
        µm per level-0 pixel; overrules the file.

    Returns
    -------
    Slide

    Raises
    ------
    InputError
        No such file, a format that cannot be read, no picture of a stained section, or no `mpp` in
        the file and none given.
    """
    url = os.fspath(path)
    url = url if is_url(url) else str(local_path(url))
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise InputError(f"{url}: mpp {mpp} is not a pixel size; give µm per pixel, as 0.25")
    name, backend, notes = _first_that_opens(url)
    height, width = backend.levels[0].shape
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        backend.close()
        raise InputError(f"{url}: says that it has {width} x {height} px; export the slide again")
    size = PixelSize.of(mpp) if mpp is not None else backend.mpp
    if size is None:
        backend.close()
        hint = f" (it says only: {backend.hint})" if backend.hint else ""
        raise InputError(
            f"{url}: the file has no µm per pixel{hint}; give it in the manifest column `mpp`"
        )
    slide = Slide(url, size, backend.levels, backend.bounds, name, _token(url))
    _keep(slide, backend)
    for note in notes:
        warnings.warn(f"{url}: {note}", MsiscaleWarning, stacklevel=2)
    return slide


def check(slide: Slide) -> None:
    """Decode one tile's worth in the middle of every level; `InputError` where that fails."""
    for index, level in enumerate(slide.levels):
        h, w = level.shape
        slide.read(index, h // 2, w // 2, min(64, h), min(64, w))


def _token(url: str) -> str:
    url, _ = split_scene(url)
    if url.rstrip("/").endswith(".zarr") or (not is_url(url) and local_path(url).is_dir()):
        return ""
    if not is_url(url):
        return "-".join(map(str, seen(local_path(url))))
    size, state = size_and_state(url)
    return f"{state}-{size}"


def _first_that_opens(url: str) -> tuple[str, Backend, list[str]]:
    """The backend for the file, and what to say of it; of several, the error of the last counts."""
    file, scene = split_scene(url)
    names, notes = _candidates(file, scene)
    for name in names[:-1]:
        with contextlib.suppress(CannotOpen):
            backend = BACKENDS[name](file, scene)
            return name, backend, list(dict.fromkeys([*notes, *backend.notes]))
    backend = BACKENDS[names[-1]](file, scene)
    return names[-1], backend, list(dict.fromkeys([*notes, *backend.notes]))


def _candidates(url: str, scene: int | None) -> tuple[list[str], list[str]]:
    """Backends to try, by what the file is rather than its name; and what to say of that."""
    suffix = PurePosixPath(url.rstrip("/")).suffix.lower()
    refuse_foreign(url, suffix)
    if is_url(url):
        return [_of_url(url, suffix)], []
    local = local_path(url)
    if not local.exists():
        raise InputError(f"{url}: no such file; check the manifest column `slide`")
    if local.is_dir():
        return ["dicom" if series_in(local) else "omezarr"], []
    vendor = openslide.OpenSlide.detect_format(str(local))
    if vendor == "generic-tiff":
        shown, notes = of_openslide(str(local), scene)
        return (["openslide", "tiff"], notes) if shown else (["tiff"], [])
    with open_file(url) as file:
        magic = file.read(10)
    if magic == b"ZISRAWFILE":
        return ["openslide", "czi"], []
    if vendor is not None:
        return ["openslide"], []
    if magic[:4] == b"\x89PNG" or magic[:2] == b"\xff\xd8":
        return ["picture"], []
    if magic[:4] in _TIFF_MAGIC:
        return ["tiff"], []
    raise InputError(
        f"{url}: not a slide (no format of OpenSlide, TIFF, OME-Zarr, PNG or JPEG);"
        " check the file or export it again"
    )


def _of_url(url: str, suffix: str) -> str:
    """The backend for what is behind a URL, by its name."""
    if suffix in _PICTURES:
        return "picture"
    if suffix in _ONE_FILE:
        return "openslide"
    if suffix in _LOCAL_ONLY:
        raise InputError(
            f"{url}: {suffix} is read from a local path only; copy the slide there, or make an "
            "OME-Zarr of it with `msiscale convert SLIDE URL`"
        )
    return "tiff" if suffix in {".tif", ".tiff", ".svs", ".btf", ".tf8"} else "omezarr"
