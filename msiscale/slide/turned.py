"""Slides that are stored turned or mirrored, with a tag that says how they are to be shown."""

from __future__ import annotations

from msiscale.errors import NOTE
from msiscale.grid import PixelSize
from msiscale.slide.backend import Backend, Level, Pixels

TURNS = range(2, 9)  # of TIFF's tag Orientation, and Exif's; 1 is as stored


class TurnedBackend:
    """A backend as its orientation shows it."""

    def __init__(self, inner: Backend, orientation: int) -> None:
        self._inner = inner
        self._swaps = orientation >= 5  # rows are columns; mirrored after that
        self._upside_down = orientation in (3, 4, 7, 8)
        self._mirrored = orientation in (2, 3, 6, 7)
        self.levels, self.mpp = inner.levels, inner.mpp
        self.bounds, self.hint = (0, 0), inner.hint
        self.notes = [*inner.notes, turned_note(orientation)]
        if self._swaps:
            self.levels = tuple(Level(v.shape[::-1], v.downsample[::-1]) for v in self.levels)
            self.mpp = None if self.mpp is None else PixelSize(self.mpp.x, self.mpp.y)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        height, width = self.levels[level].shape
        y = height - y - h if self._upside_down else y
        x = width - x - w if self._mirrored else x
        if self._swaps:
            pixels = self._inner.read(level, x, y, w, h).transpose(1, 0, 2)
        else:
            pixels = self._inner.read(level, y, x, h, w)
        return pixels[:: -1 if self._upside_down else 1, :: -1 if self._mirrored else 1]

    def close(self) -> None:
        """Release the file."""
        self._inner.close()


def turned_note(orientation: int) -> str:
    """What is said of a picture that was turned."""
    return f"{NOTE}stored turned or mirrored (Orientation {orientation}); it is shown as that says"
