"""Where a pixel's features or annotation are taken from, when a question asks for another place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block


@dataclass(frozen=True)
class Elsewhere:
    """Pixel (y, x) takes what is at (y + dy, x + dx), of the image mirrored as asked.

    A part of a pixel is interpolated between neighbours: a little smoother than a slide that
    really was misplaced.
    """

    dy: float = 0.0
    dx: float = 0.0
    flip_y: bool = False
    flip_x: bool = False

    def corners(self) -> Iterator[tuple[float, int, int]]:
        """Shares of the neighbours that count, and where they are."""
        y, x = int(np.floor(self.dy)), int(np.floor(self.dx))
        fy, fx = self.dy - y, self.dx - x
        for oy, wy in ((y, 1 - fy), (y + 1, fy)):
            for ox, wx in ((x, 1 - fx), (x + 1, fx)):
                if wy * wx > 0:
                    yield wy * wx, oy, ox

    def take(self, array: Any, cell: Block) -> NDArray[np.float32]:
        """The values (h, w, ...) for the pixels of a cell; those from outside are of the edge."""
        height, width = array.shape[:2]
        total: Any = 0
        for share, oy, ox in self.corners():
            y = _within(np.arange(cell.y0, cell.y1) + oy, height, self.flip_y)
            x = _within(np.arange(cell.x0, cell.x1) + ox, width, self.flip_x)
            part = np.asarray(array[y.min() : y.max() + 1, x.min() : x.max() + 1], np.float32)
            total = total + np.float32(share) * part[np.ix_(y - y.min(), x - x.min())]
        return np.asarray(total)

    def all_of(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the pixels whose values all come from pixels of the mask.

        Parameters
        ----------
        mask
            (y, x) bool.

        Returns
        -------
        numpy.ndarray
            (y, x) bool; false where a value would come from outside the image.
        """
        found = np.ones(mask.shape, bool)
        for _, oy, ox in self.corners():
            y, x = np.arange(mask.shape[0]) + oy, np.arange(mask.shape[1]) + ox
            inside = np.ix_((y >= 0) & (y < mask.shape[0]), (x >= 0) & (x < mask.shape[1]))
            there = np.zeros(mask.shape, bool)
            turned = mask[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
            rows, columns = np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)
            there[inside] = turned[np.ix_(rows, columns)][inside]
            found &= there
        return found

    def rolled(self, image: NDArray[Any]) -> NDArray[Any]:
        """Move the whole image by whole pixels; what leaves on one side comes in on the other.

        Parameters
        ----------
        image
            (y, x, ...) of any type.

        Returns
        -------
        numpy.ndarray
            Of the same shape and type.
        """
        turned = image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.roll(turned, (-round(self.dy), -round(self.dx)), (0, 1))


HERE = Elsewhere()


def _within(index: NDArray[np.intp], size: int, flip: bool) -> NDArray[np.intp]:
    inside = np.clip(index, 0, size - 1)
    return size - 1 - inside if flip else inside
