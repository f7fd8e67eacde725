"""Slides through OpenSlide, faster where they are TIFF, and with its coarse levels made exact.

OpenSlide decodes a JPEG tile five times as slowly as libjpeg-turbo does, so tiles of Aperio and
plain TIFF are read by the TIFF backend, which gives the same pixels; a tile that it does not
believe is read by OpenSlide, which notices one that is cut.

OpenSlide places a rectangle of level l by level-0 coordinates divided by its own mean downsample.
Where that is not a whole number (4443 / 2221) the rectangle falls between pixels and is
interpolated, differently for every window. Such levels are read as whole tiles through the TIFF
backend where the file is a TIFF, and else cut from fixed cells, so that a pixel never depends on
the window it is read in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from math import ceil

import numpy as np
import openslide
import tifffile

from msiscale.errors import InputError
from msiscale.grid import Block, PixelSize
from msiscale.slide.backend import Level, Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.tiff import DamagedTile, TiffBackend
from msiscale.slide.tiff_images import GREY
from msiscale.slide.which import Image, the_slide

CELL = 512  # pixels of a fixed cell, read at once
CELLS_KEPT = 32
_CHANNELS_IN_PAGES = {"aperio", "hamamatsu"}  # that OpenSlide shows as if they were grey or RGB
_NDPI_FLUORESCENCE = 65434  # a tag: the filters
_WHOLE_TILES = {"aperio", "generic-tiff"}  # vendors whose levels are TIFF pages, tile by tile


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _is_whole(step: float) -> bool:
    return abs(step - round(step)) <= 1e-9


class CannotOpen(InputError):
    """OpenSlide does not open a file, which another reader may."""


class OpenSlideBackend:
    """A file that OpenSlide reads (svs, tiff, ndpi, mrxs, scn, czi, dicom, ...)."""

    def __init__(self, path: str, scene: int | None = None) -> None:
        try:
            self._slide = openslide.OpenSlide(path)
            facts = dict(self._slide.properties)
            sizes = self._slide.level_dimensions
            self._steps = self._slide.level_downsamples
        except openslide.OpenSlideError as error:
            raise CannotOpen(
                f"{path}: not a slide that OpenSlide can open ({error}); copy or export it again"
            ) from None
        self.mpp = plausible_mpp(
            _number(facts.get(openslide.PROPERTY_NAME_MPP_Y)),
            _number(facts.get(openslide.PROPERTY_NAME_MPP_X)),
        )
        self.bounds = (
            int(facts.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(facts.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        vendor = facts.get(openslide.PROPERTY_NAME_VENDOR)
        try:
            images, corners = _images(path, str(vendor), facts, self._slide.dimensions, self.mpp)
            slide, self.notes = the_slide(path, images, scene, apart=True)
        except InputError:
            self._slide.close()
            raise
        self._corner = corners[slide.number - 1]  # (x, y) of level 0, where OpenSlide's is larger
        self.levels: tuple[Level, ...] = level_table([(h, w) for w, h in sizes])
        if slide.shape != self.levels[0].shape:
            self.levels = tuple(
                Level((ceil(slide.shape[0] / step), ceil(slide.shape[1] / step)), (step, step))
                for step in self._steps
            )
        power = facts.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        self.hint = f"objective power {power}" if power else ""
        self._cells: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()
        crooked = any(not _is_whole(step) for step in self._steps)
        plain = vendor in _WHOLE_TILES
        self._tiff = self._companion(path, crooked) if crooked or plain else None

    def _companion(self, path: str, crooked: bool) -> TiffBackend | None:
        """The same levels as whole TIFF tiles, where they can be had."""
        try:
            tiff = TiffBackend(path, second_opinion=self._second_opinion)
        except InputError:
            return None
        same = [level.shape for level in tiff.levels] == [level.shape for level in self.levels]
        stored = tiff.orientation == 1 and tiff.colours != "cmyk"  # of which OpenSlide makes others
        if same and (tiff.plain or (crooked and stored)):
            return tiff
        tiff.close()
        return None

    def _second_opinion(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        step = self._steps[level]
        if not _is_whole(step):  # where it would interpolate
            raise DamagedTile(f"the tile at y {y}, x {x} is missing or damaged")
        return self._region(level, y * round(step), x * round(step), h, w)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        step = self._steps[level]
        if self._tiff is not None:
            return self._tiff.read(level, y, x, h, w)
        if _is_whole(step):
            return self._region(level, y * round(step), x * round(step), h, w)
        out, wanted = np.empty((h, w, 3), np.uint8), Block(y, y + h, x, x + w)
        for cy in range(y // CELL, (y + h - 1) // CELL + 1):
            for cx in range(x // CELL, (x + w - 1) // CELL + 1):
                cell = Block(cy, cy + 1, cx, cx + 1).scaled(CELL)
                if both := cell & wanted:
                    out[both.within(wanted)] = self._cell(level, cy, cx)[both.within(cell)]
        return out

    def _cell(self, level: int, cy: int, cx: int) -> Pixels:
        key = (level, cy, cx)
        if key not in self._cells:
            step = self._steps[level]
            self._cells[key] = self._region(
                level, round(cy * CELL * step), round(cx * CELL * step), CELL, CELL
            )
            while len(self._cells) > CELLS_KEPT:
                self._cells.popitem(last=False)
        self._cells.move_to_end(key)
        return self._cells[key]

    def _region(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """`h` x `w` pixels of the level whose corner is at level-0 ``(y, x)``."""
        place = x + self._corner[0], y + self._corner[1]
        return on_white(np.asarray(self._slide.read_region(place, level, (w, h))))

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()


def _images(
    path: str, vendor: str, facts: Mapping[str, str], size: tuple[int, int], mpp: PixelSize | None
) -> tuple[list[Image], list[tuple[int, int]]]:
    """What OpenSlide's canvas shows, and where: of a CZI its scenes, which ZEN and QuPath part."""
    trouble = _fluorescence(path, vendor, facts)
    whole = (0, 0), Image(1, size[::-1], mpp, trouble)
    places = []
    for n in count() if vendor == "zeiss" else ():
        found = [facts.get(f"openslide.region[{n}].{k}") for k in ("x", "y", "width", "height")]
        if None in found:
            break
        x, y, w, h = (int(text) for text in found if text is not None)
        places.append(((x, y), Image(n + 1, (h, w), mpp, trouble)))
    corners, images = zip(*(places or [whole]), strict=True)
    return list(images), list(corners)


def _fluorescence(path: str, vendor: str, facts: Mapping[str, str]) -> str:
    """Why a file that OpenSlide would show is no stained section; "" where it may be one."""
    if "FLUO" in facts.get("mirax.GENERAL.SLIDE_TYPE", "").upper():
        return "a fluorescence scan"
    if vendor in _CHANNELS_IN_PAGES:
        odd = (tifffile.TiffFileError, OSError, ValueError)  # which OpenSlide speaks of
        with suppress(*odd), tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            filters = str(page.tags.valueof(_NDPI_FLUORESCENCE, ""))
            if any(map(str.isalpha, filters)) or page.photometric in GREY:
                return "a fluorescence scan"
    return ""
