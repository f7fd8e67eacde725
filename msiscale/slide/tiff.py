"""TIFF (Aperio, plain, OME), whole tiles or strips at a time, through tifffile and imagecodecs.

Pyramids may be further pages or SubIFDs. Only the tiles under a rectangle are decoded; neighbours
in the file come in one read. Decoders fill the missing half of a tile in silence, so a tile that
does not begin and end as its format does, or has another size, is not believed: `second_opinion`
is asked for its pixels (not of JPEG 2000, of which it would believe half), else it is an error.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC

from msiscale.errors import InputError
from msiscale.grid import Block, PixelSize
from msiscale.slide.backend import Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.decoding import decoded
from msiscale.store import is_url, local_path, open_file

MOST_TILE = 1 << 27  # pixels of a tile or strip, which is decoded whole
CACHE_BYTES = 64 << 20  # decoded tiles kept by a handle
_GAP, _RUN = 1 << 16, 1 << 23  # bytes: ranges nearer than that are one read of up to that
_JPEG = {COMPRESSION.JPEG, COMPRESSION.OJPEG}
_JPEG2000 = {COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB}
_MARKS = {  # first and last bytes of a whole tile
    **dict.fromkeys(_JPEG, (b"\xff\xd8", b"\xff\xd9")),
    **dict.fromkeys(_JPEG2000, (b"\xff\x4f\xff\x51", b"\xff\xd9")),
}
# Codecs that turn YCbCr into RGB themselves.
_OWN_COLOURS = _JPEG | _JPEG2000
_UM = dict.fromkeys(("µm", "μm", "um", "micron", "micrometer"), 1.0) | {
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "m": 1e6,
}

Tile = NDArray[np.uint8] | None  # (h, w, samples), or never written


class DamagedTile(ValueError):
    """A tile that is missing, cut, or not what the file says."""


class _Segment(NamedTuple):
    """A tile or strip: its number in the page, and its corner."""

    place: int
    y: int
    x: int


class TiffBackend:
    """An 8-bit RGB(A) TIFF, local or behind a URL.

    `second_opinion` gives the pixels of a rectangle ``(level, y, x, h, w)``, or raises, where a
    tile is missing or damaged; without it a missing tile is white, a damaged one an error.
    """

    def __init__(
        self, path: str, second_opinion: Callable[[int, int, int, int, int], Pixels] | None = None
    ) -> None:
        self._path, self._second_opinion = path, second_opinion
        self._file: Any = None
        try:
            if is_url(path):
                self._file = open_file(path)
            self._tiff = tifffile.TiffFile(self._file or str(local_path(path)))
            images = list(self._tiff.series)
            number = max(range(len(images)), key=lambda i: _pixels(images[i]))
            series = images[number]
            pages = [_pages(path, level) for level in series.levels]
            full = pages[0][0].imagewidth
            pages = pages[:1] + [p for p in pages[1:] if p[0].imagewidth < full]
            self._levels = pages
            self.levels = level_table([(p[0].imagelength, p[0].imagewidth) for p in pages])
            self.mpp = _mpp(self._tiff, number)
            power = re.search(r"AppMag\s*=\s*([\d.]+)", _description(self._tiff))
            #: RGB in pages of one plane, the right way up: what OpenSlide shows is what is stored
            self.plain = all(len(p) == 1 and _is_plain(p[0]) for p in pages)
        except Exception as error:  # tifffile raises nearly anything of tags that are not sound
            self.close()
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable TIFF ({reason}); copy or export it again"
            ) from None
        self.bounds = (0, 0)
        self.hint = f"objective power {power[1]}" if power else ""
        self._cache: OrderedDict[tuple[int, int, int], Tile] = OrderedDict()
        self._cached = 0

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        pages, wanted = self._levels[level], Block(y, y + h, x, x + w)
        channels = len(pages) if len(pages) > 1 else pages[0].samplesperpixel
        out = np.full((h, w, channels), 255, np.uint8)
        for plane, page in enumerate(pages):
            separate = page.planarconfig == 2 and page.samplesperpixel > 1
            for channel in range(page.samplesperpixel if separate else 1):
                target = out[..., plane + channel, None] if separate or len(pages) > 1 else out
                segments = list(self._segments(page, channel, y, x, h, w))
                for segment, tile in self._tiles(level, plane, page, segments):
                    bottom, right = segment.y + tile.shape[0], segment.x + tile.shape[1]
                    whole = Block(segment.y, bottom, segment.x, right)
                    if both := whole & wanted:
                        target[both.within(wanted)] = tile[both.within(whole)]
        return on_white(out)

    @staticmethod
    def _segments(page: Any, channel: int, y: int, x: int, h: int, w: int) -> Iterator[_Segment]:
        """Every tile or strip under the rectangle."""
        th, tw = _tile_shape(page)
        rows, columns = -(-page.imagelength // th), -(-page.imagewidth // tw)
        for ty in range(y // th, (y + h - 1) // th + 1):
            for tx in range(x // tw, (x + w - 1) // tw + 1):
                yield _Segment((channel * rows + ty) * columns + tx, ty * th, tx * tw)

    def _tiles(
        self, level: int, plane: int, page: Any, segments: Sequence[_Segment]
    ) -> Iterator[tuple[_Segment, NDArray[np.uint8]]]:
        """Decoded tiles ``(h, w, samples)``, in any order; without those that nobody wrote."""
        missing = []
        for segment in segments:
            key = (level, plane, segment.place)
            if key in self._cache:
                self._cache.move_to_end(key)
                if (tile := self._cache[key]) is not None:
                    yield segment, tile
            else:
                missing.append(segment)
        for run in _runs(page, missing):
            begin = page.dataoffsets[run[0].place]
            data = self._bytes(begin, _end(page, run[-1].place))

            def tile_of(segment: _Segment, data: bytes = data, begin: int = begin) -> Tile:
                first = page.dataoffsets[segment.place] - begin
                part = data[first : first + page.databytecounts[segment.place]]
                return self._believed(level, page, segment, part)

            for segment, tile in zip(run, decoded(tile_of, run), strict=True):
                self._remember((level, plane, segment.place), tile)
                if tile is not None:
                    yield segment, tile

    def _remember(self, key: tuple[int, int, int], tile: Tile) -> None:
        self._cache[key] = tile
        self._cached += 0 if tile is None else tile.nbytes
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            old = self._cache.popitem(last=False)[1]
            self._cached -= 0 if old is None else old.nbytes

    def _bytes(self, begin: int, end: int) -> bytes:
        handle = self._tiff.filehandle
        handle.seek(begin)
        return bytes(handle.read(end - begin))

    def _believed(self, level: int, page: Any, segment: _Segment, data: bytes) -> Tile:
        """A decoded tile, or what the second opinion says of it."""
        opinion = self._second_opinion
        try:
            tile = _decoded(page, segment.place, data)
            if tile is not None or opinion is None:
                return tile
        except Exception:  # whatever a decoder raises of bytes that are not what it expects
            # OpenSlide shows the first half of a cut JPEG 2000 as if it were all
            if opinion is None or page.compression in _JPEG2000:
                raise
        h = min(page.tilelength or page.rowsperstrip, page.imagelength - segment.y)
        w = min(page.tilewidth or page.imagewidth, page.imagewidth - segment.x)
        return opinion(level, segment.y, segment.x, h, w)

    def close(self) -> None:
        """Release the file."""
        if getattr(self, "_tiff", None) is not None:
            self._tiff.close()
        if self._file is not None:
            self._file.close()


def _end(page: Any, index: int) -> int:
    return int(page.dataoffsets[index] + page.databytecounts[index])


def _runs(page: Any, segments: Iterable[_Segment]) -> Iterator[list[_Segment]]:
    """Tiles that lie near to each other in the file, in its order, to be read at once."""
    run: list[_Segment] = []
    for segment in sorted(segments, key=lambda s: page.dataoffsets[s.place]):
        if run:
            gap = page.dataoffsets[segment.place] - _end(page, run[-1].place)
            length = _end(page, segment.place) - page.dataoffsets[run[0].place]
            if not 0 <= gap <= _GAP or length > _RUN:
                yield run
                run = []
        run.append(segment)
    if run:
        yield run


def _decoded(page: Any, index: int, data: bytes) -> Tile:
    """Pixels ``(h, w, samples)`` of a tile or strip; None of one that was never written."""
    count = page.databytecounts[index]
    if not count:
        return None
    if len(data) != count:
        raise DamagedTile(f"tile {index} is cut short")
    first, last = _MARKS.get(page.compression, (b"", b""))
    if not (data.startswith(first) and (data.endswith(last) or data.rstrip(b"\0").endswith(last))):
        raise DamagedTile(f"tile {index} is not a whole {COMPRESSION(page.compression).name}")
    size = page.tilelength, page.tilewidth
    if page.compression in _JPEG and page.is_tiled and _jpeg_size(data) != size:
        raise DamagedTile(f"tile {index} is not of the size that the file says")
    tables = page.jpegtables
    tile, _, shape = page.decode(data, index, jpegtables=tables, jpegheader=page.jpegheader)
    return None if tile is None else np.asarray(tile).reshape(shape[-3:])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG by its frame header, None where it has none before its pixels."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        at += 2 + length
    return None


def _tile_shape(page: Any) -> tuple[int, int]:
    """(height, width) of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _check_tiles(path: str, page: Any) -> None:
    """Tiles of a bearable size, and an offset and a length for every one of them."""
    h, w = _tile_shape(page)
    if h * w > MOST_TILE:
        raise InputError(f"{path}: in tiles of {w} x {h} px; save it in tiles of 256 x 256 px")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    wanted = -(-page.imagelength // h) * -(-page.imagewidth // w) * planes
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if found < wanted:
        raise InputError(f"{path}: {found} tiles of {wanted} are there; copy or export it again")


def _is_plain(page: Any) -> bool:
    turned = page.tags.valueof(274, 1) != 1
    return page.samplesperpixel == 3 and page.planarconfig == 1 and not turned


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
    pages = [page.aspage() for page in pages]
    for page in pages:
        _check_tiles(path, page)
    return pages


def _description(tiff: tifffile.TiffFile) -> str:
    return str(tiff.pages.first.description)


def _mpp(tiff: tifffile.TiffFile, image: int) -> PixelSize | None:
    """µm per pixel from OME-XML, Aperio's or ImageJ's description or the resolution tags."""
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


def _ome_mpp(xml: str | None, image: int) -> PixelSize | None:
    """Physical pixel size of image number `image` of an OME-XML document, in µm."""
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
