"""PNG and JPEG as slides of one level, decoded once and held in memory."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import ExifTags, ImageOps
from PIL.Image import Image as ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.slide.backend import Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.turned import TURNS, turned_note
from msiscale.slide.which import Image, the_slide
from msiscale.store import is_url, local_path, read_bytes

MAX_PIXELS = 1 << 27  # 1 GiB while it is decoded, however small the file is
Decoded = tuple[Pixels, PixelSize | None, list[str]]  # and what to say of it
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def _decode(path: str, data: bytes) -> Decoded:
    notes: list[str] = []
    # not Image.open, which has a limit of its own for the whole process
    kind = PngImageFile if data.startswith(b"\x89PNG") else JpegImageFile
    try:
        image: ImageFile = kind(io.BytesIO(data))
    except Exception:  # whatever a damaged header brings about
        raise InputError(f"{path}: not a readable PNG or JPEG; export it again") from None
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{path}: {image.width} x {image.height} px is too large for a PNG or JPEG;"
            " save it as a pyramidal TIFF, or smaller"
        )
    if image.mode not in _MODES:
        raise InputError(f"{path}: pixels of type {image.mode}; save it as 8-bit RGB")
    dpi = image.info.get("dpi")
    mpp = plausible_mpp(25400 / float(dpi[1]), 25400 / float(dpi[0])) if dpi and all(dpi) else None
    try:
        alpha = "A" in image.mode or "transparency" in image.info
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        if turn in TURNS:
            image = ImageOps.exif_transpose(image)
            notes.append(turned_note(turn))
            if mpp is not None and turn >= 5:
                mpp = PixelSize(mpp.x, mpp.y)
        return on_white(np.asarray(image.convert("RGBA" if alpha else "RGB"))), mpp, notes
    except Exception as error:  # whatever a decoder raises of bytes that are not what it expects
        raise InputError(f"{path}: the picture is damaged ({error}); export it again") from None


@lru_cache(maxsize=2)  # handles of all threads share the pixels
def _load(path: str, token: tuple[int, int]) -> Decoded:
    """The picture; `token` makes a file that was replaced a new one."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path") from None
    return _decode(path, data)


class PngJpegBackend:
    """A PNG or JPEG; all threads share its pixels."""

    def __init__(self, path: str, scene: int | None = None) -> None:
        stat = None if is_url(path) else local_path(path).stat()
        token = (stat.st_mtime_ns, stat.st_size) if stat else (0, 0)
        self._pixels, self.mpp, self.notes = _load(path, token)
        the_slide(path, [Image(1, self._pixels.shape[:2])], scene)
        self.levels = level_table([self._pixels.shape[:2]])
        self.bounds = (0, 0)
        self.hint = ""

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the picture."""
        return self._pixels[y : y + h, x : x + w]

    def close(self) -> None:
        """Nothing is open."""
