"""What a slide format has to offer, and what all of them share.

A backend is one open handle of one thread. It reads rectangles that lie inside a level; `reader`
adds everything else (handles for threads, errors, the border). A faster path for a format is a new
class with these attributes and a line in `reader.BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import PixelSize

Pixels = NDArray[np.uint8]

# Outside this range (µm) a number in a file is a print resolution (72 dpi is 353 µm), not a scan.
PLAUSIBLE_MPP = (0.01, 20.0)


@dataclass(frozen=True)
class Level:
    """One resolution of a slide."""

    shape: tuple[int, int]  # height and width in pixels of this level
    downsample: tuple[float, float]  # (y, x), level-0 pixels per pixel of this level


class Backend(Protocol):
    """An open slide."""

    levels: tuple[Level, ...]  # finest first
    mpp: PixelSize | None  # µm per level-0 pixel as the file says, None where it does not
    bounds: tuple[int, int]  # (x, y) in level-0 pixels: the corner of the scanned area
    hint: str  # what the file says instead of an mpp ("objective power 40"), or ""
    notes: list[str]  # what to say of it: which image was taken, how it is shown

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""

    def close(self) -> None:
        """Release the file."""


def axis_downsample(full: int, size: int) -> float:
    """Level-0 pixels per level pixel along one axis."""
    # Scanners halve and drop, or round up, an odd last pixel: 4443 -> 2221 is a factor of 2, not of
    # 2.00045. A whole factor that explains the size within its rounding is taken as the true one.
    whole = round(full / size)
    if whole >= 1 and size in (floor(full / whole), ceil(full / whole)):
        return float(whole)
    return full / size


def level_table(shapes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from their shapes ``(h, w)``, finest first."""
    full = shapes[0]
    return tuple(
        Level((h, w), (axis_downsample(full[0], h), axis_downsample(full[1], w))) for h, w in shapes
    )


def plausible_mpp(y: float | None, x: float | None) -> PixelSize | None:
    """µm per pixel if it can be a scan's; one that is missing is as the other."""
    y, x = (x, x) if y is None else (y, y if x is None else x)
    low, high = PLAUSIBLE_MPP
    if y is None or x is None or not (low <= y <= high and low <= x <= high):
        return None
    return PixelSize(float(y), float(x))


def on_white(pixels: Pixels, *, premultiplied: bool = False) -> Pixels:
    """RGB of uint8 RGB(A) ``(h, w, 3 or 4)``; transparent pixels on white."""
    if pixels.shape[-1] == 3:
        return np.ascontiguousarray(pixels)
    alpha = pixels[..., 3:]
    if (alpha == 255).all():
        return np.ascontiguousarray(pixels[..., :3])
    a = alpha.astype(np.uint32)
    if premultiplied:
        return np.asarray(np.minimum(pixels[..., :3] + (255 - a), 255), np.uint8)
    blended = (pixels[..., :3] * a + 255 * (255 - a) + 127) // 255
    return blended.astype(np.uint8)
