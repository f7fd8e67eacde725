"""TIFF (Aperio, plain, OME), whole tiles or strips at a time, through tifffile and imagecodecs.

Pyramids may be further pages or SubIFDs. Only the tiles under a rectangle are decoded; neighbours
in the file come in one read. Decoders fill the missing half of a tile in silence, so a tile that
does not begin and end as its format does, or has another size, is not believed: `second_opinion`
is asked for its pixels (not of JPEG 2000, of which it would believe half), else it is an error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION

from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.slide.backend import Backend, Pixels, level_table, on_white
from msiscale.slide.decoding import decoded
from msiscale.slide.tiff_images import JPEG, JPEG2000, check_tiles, chosen_image, tile_shape
from msiscale.slide.turned import TurnedBackend
from msiscale.store import is_url, local_path, open_file

CACHE_BYTES = 64 << 20  # decoded tiles kept by a handle
_GAP, _RUN = 1 << 16, 1 << 23  # bytes: ranges nearer than that are one read of up to that
_MARKS = {  # first and last bytes of a whole tile
    **dict.fromkeys(JPEG, (b"\xff\xd8", b"\xff\xd9")),
    **dict.fromkeys(JPEG2000, (b"\xff\x4f\xff\x51", b"\xff\xd9")),
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
    """An 8-bit RGB(A) or CMYK TIFF, local or behind a URL, as it is stored.

    `second_opinion` gives the pixels of a rectangle ``(level, y, x, h, w)``, or raises, where a
    tile is missing or damaged; without it a missing tile is white, a damaged one an error.
    """

    def __init__(
        self,
        path: str,
        scene: int | None = None,
        second_opinion: Callable[[int, int, int, int, int], Pixels] | None = None,
    ) -> None:
        self._second_opinion = second_opinion
        self._file: Any = None
        try:
            if is_url(path):
                self._file = open_file(path)
            self._tiff = tifffile.TiffFile(self._file or str(local_path(path)))
            slide, self.notes = chosen_image(path, self._tiff, scene)
            if slide.odd:
                raise InputError(f"{path}: {slide.odd}")
            self._levels = [[page.aspage() for page in pages] for pages in slide.levels]
            for page in chain(*self._levels):
                check_tiles(path, page)
            shapes = [(p[0].imagelength, p[0].imagewidth) for p in self._levels]
            self.levels = level_table(shapes)
            self.mpp = slide.image.mpp
        except Exception as error:  # tifffile raises nearly anything of tags that are not sound
            self.close()
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable TIFF ({reason}); copy or export it again"
            ) from None
        self.colours, self.plain, self.orientation = slide.colours, slide.plain, slide.orientation
        self.bounds = (0, 0)
        self.hint = f"objective power {slide.power}" if slide.power else ""
        self._cache: OrderedDict[tuple[int, int, int], Tile] = OrderedDict()
        self._cached = 0

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        pages, wanted = self._levels[level], Block(y, y + h, x, x + w)
        channels = len(pages) if len(pages) > 1 else pages[0].samplesperpixel
        out = np.full((h, w, channels), 0 if self.colours == "cmyk" else 255, np.uint8)
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
        return _rgb(out, self.colours)

    @staticmethod
    def _segments(page: Any, channel: int, y: int, x: int, h: int, w: int) -> Iterator[_Segment]:
        """Every tile or strip under the rectangle."""
        th, tw = tile_shape(page)
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
            if opinion is None or page.compression in JPEG2000:
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
    if page.compression in JPEG and page.is_tiled and _jpeg_size(data) != size:
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


def open_tiff(path: str, scene: int | None = None) -> Backend:
    """A TIFF as it is to be shown."""
    tiff = TiffBackend(path, scene)
    return tiff if tiff.orientation == 1 else TurnedBackend(tiff, tiff.orientation)


def _rgb(samples: Pixels, colours: str) -> Pixels:
    """RGB ``(h, w, 3)`` of what is stored."""
    if colours == "cmyk":
        return np.array(Image.fromarray(samples, "CMYK").convert("RGB"))
    if colours == "unused":
        samples = samples[..., :3]
    return on_white(samples, premultiplied=colours == "premultiplied")
