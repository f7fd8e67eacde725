"""Outlines on a slide: areas in level-0 pixels with the name that the pathologist gave them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

# Beyond it (in pixels) a coordinate is a mistake, whose square would spoil every area.
FARTHEST = 1e9


@dataclass(frozen=True)
class Outline:
    """One annotated area."""

    polygon: BaseGeometry  # Polygon or MultiPolygon in level-0 pixels (x, y), valid
    name: str | None = None  # class name as in the file


def polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry, made valid; lines and points are dropped."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    areas = ("Polygon", "MultiPolygon", "GeometryCollection")
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in areas]
    return shapely.union_all([polygonal(part) for part in parts])


def placed(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates, checked: they can be pixels of a slide.

    Parameters
    ----------
    xy
        (n, 2) float64, (x, y) in level-0 pixels.

    Returns
    -------
    NDArray
        `xy` itself.

    Raises
    ------
    ValueError
        One is not finite, or `FARTHEST` pixels or more from 0.
    """
    wrong = xy[~(np.abs(xy) < FARTHEST).all(axis=-1)]
    if len(wrong):
        raise ValueError("a corner at {:g}, {:g}".format(*wrong[0]))
    return xy


def ring(points: Sequence[tuple[float, float]]) -> BaseGeometry:
    """The area inside a closed line of (x, y), each `placed`; empty with fewer than three."""
    xy = placed(np.asarray(points, dtype=np.float64).reshape(-1, 2))
    if len(xy) < 3:
        return shapely.Polygon()
    return polygonal(shapely.Polygon(xy))


def rings(lines: Iterable[Sequence[tuple[float, float]]]) -> BaseGeometry:
    """The area inside an odd number of closed lines: a line inside another is a hole."""
    area: BaseGeometry = shapely.Polygon()
    for line in lines:
        area = polygonal(shapely.symmetric_difference(area, ring(line)))
    return area
