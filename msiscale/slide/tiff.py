"""Plain and OME TIFF, whole tiles (or strips) at a time, through tifffile and imagecodecs.

Pyramids may be further pages or SubIFDs. Only the tiles under a rectangle are read and decoded;
a JPEG tile without its end marker is an error, since decoders fill the missing half in silence.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC

from msiscale.errors import InputError
from msiscale.slide.backend import Pixels, level_table, on_white, plausible_mpp
from msiscale.store import is_url, local_path, open_file

CACHE_BYTES = 64 << 20  # decoded tiles kept by a handle
_JPEG = {COMPRESSION.JPEG, COMPRESSION.OJPEG}
# Codecs that turn YCbCr into RGB themselves.
_OWN_COLOURS = _JPEG | {COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB}
_UM = {
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "m": 1e6,
}


class TiffBackend:
    """An 8-bit RGB(A) TIFF, local or behind a URL."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None
        try:
            if is_url(path):
                self._file = open_file(path)
            self._tiff = tifffile.TiffFile(self._file or str(local_path(path)))
            images = list(self._tiff.series)
            number = max(range(len(images)), key=lambda i: _pixels(images[i]))
            series = images[number]
            pages = [_pages(path, level) for level in series.levels]
        except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError) as error:
            self.close()
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable TIFF ({reason}); copy or export it again"
            ) from None
        full = pages[0][0].imagewidth
        pages = pages[:1] + [p for p in pages[1:] if p[0].imagewidth < full]
        self._levels = pages
        self.levels = level_table([(p[0].imagelength, p[0].imagewidth) for p in pages])
        self.mpp = _mpp(self._tiff, number)
        self.bounds = (0, 0)
        power = re.search(r"AppMag\s*=\s*([\d.]+)", _description(self._tiff))
        self.hint = f"objective power {power[1]}" if power else ""
        self._cache: OrderedDict[tuple[int, int, int], NDArray[np.uint8] | None] = OrderedDict()
        self._cached = 0

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` of a rectangle that lies inside the level."""
        pages = self._levels[level]
        channels = len(pages) if len(pages) > 1 else pages[0].samplesperpixel
        out = np.full((h, w, channels), 255, np.uint8)
        for plane, page in enumerate(pages):
            separate = page.planarconfig == 2 and page.samplesperpixel > 1
            for channel in range(page.samplesperpixel if separate else 1):
                target = out[..., plane + channel, None] if separate or len(pages) > 1 else out
                for segment, y0, x0 in self._segments(page, channel, y, x, h, w):
                    tile = self._tile(level, plane, page, segment)
                    if tile is None:  # a tile that was never written
                        continue
                    top, left = max(y, y0), max(x, x0)
                    bottom = min(y + h, y0 + tile.shape[0])
                    right = min(x + w, x0 + tile.shape[1])
                    target[top - y : bottom - y, left - x : right - x] = tile[
                        top - y0 : bottom - y0, left - x0 : right - x0
                    ]
        return on_white(out)

    @staticmethod
    def _segments(
        page: Any, channel: int, y: int, x: int, h: int, w: int
    ) -> Iterator[tuple[int, int, int]]:
        """Index and corner (y, x) of every tile or strip under the rectangle."""
        th = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        tw = page.tilewidth if page.is_tiled else page.imagewidth
        rows, columns = -(-page.imagelength // th), -(-page.imagewidth // tw)
        for ty in range(y // th, (y + h - 1) // th + 1):
            for tx in range(x // tw, (x + w - 1) // tw + 1):
                yield (channel * rows + ty) * columns + tx, ty * th, tx * tw

    def _tile(self, level: int, plane: int, page: Any, index: int) -> NDArray[np.uint8] | None:
        """Decoded tile ``(h, w, samples)``, None for one that was never written."""
        key = (level, plane, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        tile = self._decode(page, index)
        self._cache[key] = tile
        self._cached += 0 if tile is None else tile.nbytes
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            old = self._cache.popitem(last=False)[1]
            self._cached -= 0 if old is None else old.nbytes
        return tile

    def _decode(self, page: Any, index: int) -> NDArray[np.uint8] | None:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            return None
        handle = self._tiff.filehandle
        handle.seek(offset)
        data = handle.read(count)
        if len(data) != count:
            raise ValueError(f"tile {index} is cut short")
        whole = data[:2] == b"\xff\xd8" and data.rstrip(b"\0").endswith(b"\xff\xd9")
        if page.compression in _JPEG and not whole:
            raise ValueError(f"tile {index} is not a whole JPEG")
        tables = page.jpegtables
        tile, _, shape = page.decode(data, index, jpegtables=tables, jpegheader=page.jpegheader)
        if tile is None:
            return None
        return np.asarray(tile).reshape(shape[-3:])

    def close(self) -> None:
        """Release the file."""
        if getattr(self, "_tiff", None) is not None:
            self._tiff.close()
        if self._file is not None:
            self._file.close()


def _pixels(series: Any) -> int:
    """Pixels of the first level; what is not an image of colours counts nothing."""
    sizes = dict(zip(series.axes, series.shape, strict=False))
    colours = sizes.get("S", sizes.get("C", 1)) in (3, 4)
    return sizes.get("Y", 0) * sizes.get("X", 0) if colours else 0


def _pages(path: str, level: Any) -> list[Any]:
    """The page of a level, or its pages of one channel each."""
    sizes = {a: n for a, n in zip(level.axes, level.shape, strict=True) if a in "YXSC" or n != 1}
    samples, channels = sizes.pop("S", 1), sizes.pop("C", 1)
    pages = [page for page in level.pages if page is not None]
    first = pages[0]
    if set(sizes) != {"Y", "X"} or samples * channels not in (3, 4) or first.dtype != np.uint8:
        raise InputError(
            f"{path}: axes {level.axes} {level.shape} of {first.dtype}; save it as 8-bit RGB TIFF"
        )
    if len(pages) not in (1, channels):
        raise InputError(f"{path}: {len(pages)} pages for one image; save it as 8-bit RGB TIFF")
    codec = first.compression
    foreign = first.photometric == PHOTOMETRIC.YCBCR and codec not in _OWN_COLOURS
    if codec not in tifffile.TIFF.DECOMPRESSORS or foreign or codec == 33003:
        raise InputError(
            f"{path}: TIFF compression {int(codec)} cannot be decoded;"
            " save it with JPEG or deflate compression"
        )
    return [page.aspage() for page in pages]


def _description(tiff: tifffile.TiffFile) -> str:
    return str(tiff.pages.first.description)


def _mpp(tiff: tifffile.TiffFile, image: int) -> tuple[float, float] | None:
    """µm per pixel (y, x) from OME-XML, Aperio's or ImageJ's description or the resolution tags."""
    text = _description(tiff)
    found = _ome_mpp(tiff.ome_metadata, image) if tiff.is_ome else None
    aperio = re.search(r"\|\s*MPP\s*=\s*([\d.]+)", text)
    if found is None and aperio:
        found = plausible_mpp(float(aperio[1]), None)
    if found is not None:
        return found
    page: Any = tiff.pages.first
    unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit))
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = str(tiff.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ") or unit
    if unit not in _UM or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    x, y = (page.tags[tag].value for tag in ("XResolution", "YResolution"))
    if not (x[0] and y[0]):
        return None
    return plausible_mpp(_UM[unit] * y[1] / y[0], _UM[unit] * x[1] / x[0])


def _ome_mpp(xml: str | None, image: int) -> tuple[float, float] | None:
    """Physical pixel size (y, x) of image number `image` of an OME-XML document, in µm."""
    try:
        root = ElementTree.fromstring(xml or "", forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException):
        return None
    pixels = [node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"]
    if image >= len(pixels):
        return None
    sizes: list[float | None] = []
    for axis in "YX":
        size = pixels[image].get(f"PhysicalSize{axis}")
        unit = _UM.get(pixels[image].get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(float(size) * unit if size and unit else None)
    return plausible_mpp(*sizes)
