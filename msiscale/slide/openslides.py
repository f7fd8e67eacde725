"""Slides through OpenSlide, with its coarse levels made exact.

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
from msiscale.slide.backend import Level, Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.tiff import TiffBackend

CELL = 512  # pixels of a fixed cell, read at once
CELLS_KEPT = 32


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


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
        crooked = any(abs(step - round(step)) > 1e-9 for step in self._steps)
        self._tiff = self._companion(path) if crooked else None

    def _companion(self, path: str) -> TiffBackend | None:
        """The same levels as whole TIFF tiles, where they can be had."""
        try:
            tiff = TiffBackend(path)
        except InputError:
            return None
        if [level.shape for level in tiff.levels] == [level.shape for level in self.levels]:
            return tiff
        tiff.close()
        return None

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` of a rectangle that lies inside the level."""
        step = self._steps[level]
        if abs(step - round(step)) <= 1e-9:
            return self._region(level, y * round(step), x * round(step), h, w)
        if self._tiff is not None:
            return self._tiff.read(level, y, x, h, w)
        out = np.empty((h, w, 3), np.uint8)
        for cy in range(y // CELL, (y + h - 1) // CELL + 1):
            for cx in range(x // CELL, (x + w - 1) // CELL + 1):
                y0, y1 = max(y, cy * CELL), min(y + h, (cy + 1) * CELL)
                x0, x1 = max(x, cx * CELL), min(x + w, (cx + 1) * CELL)
                cell = self._cell(level, cy, cx)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = cell[
                    y0 - cy * CELL : y1 - cy * CELL, x0 - cx * CELL : x1 - cx * CELL
                ]
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
