"""MSI pixels as polygons, in MSI index coordinates before the affine map: squares, or deformed."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from msiscale.grid import Block
from msiscale.placing import GridMap, Placing, pixel_corners, with_affine


class Shapes:
    """Of the pixels of a grid.

    Parameters
    ----------
    placing
        How they lie on the slide.
    """

    def __init__(self, placing: Placing) -> None:
        self.deformed = with_affine(placing, np.eye(3)) if isinstance(placing, GridMap) else None

    def outline(self, block: Block) -> BaseGeometry:
        """A block of them as one polygon."""
        if self.deformed is None:
            return shapely.box(block.x0 - 0.5, block.y0 - 0.5, block.x1 - 0.5, block.y1 - 0.5)
        a, b, c, d = np.moveaxis(pixel_corners(self.deformed, block), 2, 0)
        ring = (a[0], b[:, -1], c[-1, ::-1], d[::-1, 0])  # along each side in turn
        return shapely.Polygon(np.concatenate(ring))

    def shares(self, part: BaseGeometry, block: Block) -> NDArray[np.float64]:
        """Share of each pixel (h, w) that lies in `part`."""
        if self.deformed is None:
            y, x = np.mgrid[block.y0 : block.y1, block.x0 : block.x1]
            pixels = shapely.box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)
            return np.asarray(shapely.area(shapely.intersection(part, pixels)))
        pixels = shapely.polygons(pixel_corners(self.deformed, block))
        found = shapely.area(shapely.intersection(part, pixels)) / shapely.area(pixels)
        return np.asarray(found)
