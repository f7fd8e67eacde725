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

import numpy as np
import openslide

from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.slide.backend import Level, Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.tiff import DamagedTile, TiffBackend

CELL = 512  # pixels of a fixed cell, read at once
CELLS_KEPT = 32
_WHOLE_TILES = {"aperio", "generic-tiff"}  # vendors whose levels are TIFF pages, tile by tile


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _is_whole(step: float) -> bool:
    return abs(step - round(step)) <= 1e-9


class OpenSlideBackend:
    """A file that OpenSlide reads (svs, tiff, ndpi, mrxs, scn, dicom, ...)."""

    def __init__(self, path: str) -> None:
        try:
            self._slide = openslide.OpenSlide(path)
            facts = dict(self._slide.properties)
            sizes = self._slide.level_dimensions
            self._steps = self._slide.level_downsamples
        except openslide.OpenSlideError as error:
            raise InputError(
                f"{path}: not a slide that OpenSlide can open ({error}); copy or export it again"
            ) from None
        self.levels: tuple[Level, ...] = level_table([(h, w) for w, h in sizes])
        self.mpp = plausible_mpp(
            _number(facts.get(openslide.PROPERTY_NAME_MPP_Y)),
            _number(facts.get(openslide.PROPERTY_NAME_MPP_X)),
        )
        self.bounds = (
            int(facts.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(facts.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        power = facts.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        self.hint = f"objective power {power}" if power else ""
        self._cells: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()
        crooked = any(not _is_whole(step) for step in self._steps)
        plain = facts.get(openslide.PROPERTY_NAME_VENDOR) in _WHOLE_TILES
        self._tiff = self._companion(path, crooked) if crooked or plain else None

    def _companion(self, path: str, crooked: bool) -> TiffBackend | None:
        """The same levels as whole TIFF tiles, where they can be had."""
        try:
            tiff = TiffBackend(path, self._second_opinion)
        except InputError:
            return None
        same = [level.shape for level in tiff.levels] == [level.shape for level in self.levels]
        if same and (tiff.plain or crooked):
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
        return on_white(np.asarray(self._slide.read_region((x, y), level, (w, h))))

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()
