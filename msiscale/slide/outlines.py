"""Outlines on a slide: areas in level-0 pixels with the name that the pathologist gave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

# Beyond it (in pixels) a coordinate is a mistake, whose square would spoil every area.
FARTHEST = 1e9
# Kinds of what is in a file and is no outline.
LINES = "points or lines"
CELLS = "cells, detections or tiles"  # objects of QuPath that no person drew
MEASURES = "rulers, arrows or pins"
BOXES = "shapes without a polygon"  # of Darwin: bounding boxes, ellipses, tags


@dataclass(frozen=True)
class Outline:
    """One annotated area.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon in level-0 pixels (x, y), valid
    name : class name as in the file; None without one
    parents : classes that its class is a part of, the nearest first
    classed : whether `name` is a class; False for the name of the object alone
    """

    polygon: BaseGeometry
    name: str | None = None
    parents: tuple[str, ...] = ()
    classed: bool = True


@dataclass
class Drawn:
    """What a file of outlines holds.

    Attributes
    ----------
    outlines : areas, in the order of the file
    left : how many of what is there is no outline, by kind
    from_bounds : whether a program wrote it that counts from the slide's bounds (QuPath)
    origin : (x, y) in level-0 pixels that the file says its coordinates count from
    """

    outlines: list[Outline] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    from_bounds: bool = False
    origin: tuple[float, float] | None = None


def polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry, made valid and joined; lines and points are dropped."""
    # of others the parts are joined: made valid as one, where they overlap would be a hole
    if geometry.geom_type == "Polygon" and not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    if geometry.geom_type == "Polygon" or (
        geometry.geom_type == "MultiPolygon" and geometry.is_valid
    ):
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


def without(areas: Sequence[BaseGeometry], holes: Sequence[BaseGeometry]) -> list[BaseGeometry]:
    """Areas with holes cut out of them; an area that lies in a hole is an island, and stays.

    Parameters
    ----------
    areas, holes
        Polygons or MultiPolygons, valid.

    Returns
    -------
    list of BaseGeometry
        One an area, in their order.
    """
    cut = list(areas)
    tree = shapely.STRtree(holes)
    for index, area in enumerate(areas):
        near = [holes[i] for i in tree.query(area, predicate="intersects")]
        own = [hole for hole in near if not (hole.area > area.area and hole.covers(area))]
        if own:
            cut[index] = polygonal(shapely.difference(area, shapely.union_all(own)))
    return cut


def moved(outline: Outline, by: tuple[float, float]) -> Outline:
    """The outline with (x, y) added to its coordinates."""
    if by == (0, 0):
        return outline
    shifted = shapely.transform(outline.polygon, lambda xy: xy + np.asarray(by))
    return Outline(shifted, outline.name, outline.parents, outline.classed)
