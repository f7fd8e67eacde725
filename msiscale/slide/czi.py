"""Zeiss CZI that OpenSlide does not open (JPEG XR, time or z series), through pylibCZIrw."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from msiscale.errors import InputError
from msiscale.grid import Block, PixelSize
from msiscale.slide.backend import Level, Pixels, plausible_mpp
from msiscale.slide.which import Image, the_slide

CELL = 512  # pixels of a fixed cell of a coarse level, read at once
CELLS_KEPT = 32
MOST_STEP = 256  # level-0 pixels per pixel of the coarsest level
_WHITE = (1.0, 1.0, 1.0)


class CziBackend:
    """A brightfield CZI: one of its scenes."""

    def __init__(self, path: str, scene: int | None = None) -> None:
        try:
            from pylibCZIrw import czi
        except ImportError:
            raise InputError(
                f"{path}: OpenSlide does not read this CZI (it may hold JPEG XR); install another "
                "reader with `pip install 'msiscale[czi]'`, or save it as OME-TIFF"
            ) from None
        try:
            self._reader: Any = czi.CziReader(path, cache_options=_cache(czi))
            kinds: Mapping[int, str] = self._reader.pixel_types
            self.mpp = _mpp(self._reader.raw_metadata)
            scenes: Mapping[int, Any] = self._reader.scenes_bounding_rectangle_no_pyramid
            keys: list[int | None] = [*sorted(scenes)] or [None]
            places = [
                self._reader.total_bounding_rectangle_no_pyramid if key is None else scenes[key]
                for key in keys
            ]
        except Exception as error:  # of a damaged file: RuntimeError, KeyError, ...
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable CZI ({reason}); copy or export it again"
            ) from None
        coloured = [channel for channel, kind in kinds.items() if kind == "Bgr24"]
        trouble = "" if len(coloured) == 1 else _trouble(kinds)
        images = [
            Image(number, (place.h, place.w), self.mpp, trouble)
            for number, place in enumerate(places, 1)
        ]
        try:
            slide, self.notes = the_slide(path, images, scene, apart=True)
        except InputError:
            self._reader.close()
            raise
        self._plane, self._scene = {"C": coloured[0]}, keys[slide.number - 1]
        self._corner = places[slide.number - 1].x, places[slide.number - 1].y
        h, w = slide.shape
        self._steps = [1, *self._coarser(Block(0, h, 0, w))]
        self.levels = tuple(
            Level((ceil(h / step), ceil(w / step)), (float(step), float(step)))
            for step in self._steps
        )
        self.bounds = (0, 0)  # QuPath opens a scene from its own corner
        self.hint = ""
        self._cells: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()

    def _coarser(self, scene: Block) -> list[int]:
        """Steps of the coarser levels that the file holds."""
        found: set[int] = set()

        def look(_: int, info: Any) -> bool:
            large, small = info.logicalRect.w, info.physicalSize.w
            if small and large > small:
                found.add(round(large / small))
            return True

        roi = (*self._corner, scene.shape[1], scene.shape[0])
        self._reader.enumerate_subblocks_subset(look, plane=self._plane, roi=roi)
        return sorted(step for step in found if 1 < step <= MOST_STEP)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        if level == 0:
            return self._region(1, y, x, h, w)
        # the library rounds by the window: cells of fixed places make it the same in every one
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
            self._cells[key] = self._region(step, cy * CELL, cx * CELL, CELL, CELL)
            while len(self._cells) > CELLS_KEPT:
                self._cells.popitem(last=False)
        self._cells.move_to_end(key)
        return self._cells[key]

    def _region(self, step: int, y: int, x: int, h: int, w: int) -> Pixels:
        """`h` x `w` pixels of the level of that step, from ``(y, x)`` of it."""
        left, top = self._corner
        roi = (left + x * step, top + y * step, w * step, h * step)
        zoom = 1.0 if step == 1 else (1 + 1e-9) / step  # a hair more, so that no last row is lost
        found = self._reader.read(
            roi=roi, plane=self._plane, scene=self._scene, zoom=zoom, background_pixel=_WHITE
        )
        if found.shape != (h, w, 3):
            raise ValueError(f"{found.shape} for {h} x {w} pixels")
        return np.ascontiguousarray(found[..., ::-1])  # stored blue first

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def _cache(czi: Any) -> Any:
    """Unpacked tiles that a handle keeps, which overlapping windows need again."""
    return czi.CacheOptions(
        type=czi.CacheType.Standard, max_memory_usage=64 << 20, max_sub_block_count=1 << 10
    )


def _trouble(kinds: Mapping[int, str]) -> str:
    """Why these channels are no stained section."""
    names = ", ".join(dict.fromkeys(kinds.values()))
    if len(kinds) == 1 and "Bgr" in names:
        return f"a picture of {names} pixels, not of 8 bits a colour"
    return f"{len(kinds)} channels of {names} pixels, as of fluorescence, and no RGB"


def _mpp(xml: str) -> PixelSize | None:
    """µm per pixel by the metadata, which give it in metres."""
    try:
        root = ElementTree.fromstring(xml, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException):
        return None
    sizes: dict[str, float] = {}
    for node in root.iterfind("./Metadata/Scaling/Items/Distance"):
        try:
            sizes[str(node.get("Id"))] = float(node.findtext("Value") or 0) * 1e6
        except ValueError:
            continue
    return plausible_mpp(sizes.get("Y"), sizes.get("X"))
