"""Where the coordinates of outlines and landmarks count from, and at which scale.

A scanner may have left margins around what it scanned. OpenSlide counts from the corner of level 0,
margins and all; QuPath crops to the bounds (``openslide.bounds-x`` and ``-y``) unless it is told
not to, and counts from there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from msiscale.errors import NOTE
from msiscale.slide.reader import Slide
from msiscale.slide.tissue import tissue_mask

Origin = str | tuple[float, float]  # "level0", "bounds" or (x, y) in level-0 pixels
Points = NDArray[np.float64]
CLEARER = 0.2  # of points on the tissue, by which one reading is clearly better than another
ENOUGH = 0.5  # of points on the tissue; outlines are where they were drawn
SAMPLES = 128  # points along a side of the extent of outlines
FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of level 0 against another level, or its inverse
SLACK = 1.05  # of the slide's size, beyond which outlines reach by mistake


def said_offset(said: Origin, slide: Slide | None) -> tuple[float, float]:
    """What is added to coordinates, of an origin that is said.

    Parameters
    ----------
    said : str or (float, float)
        ``"level0"``, ``"bounds"``, or (x, y) in level-0 pixels.
    slide : Slide or None
        Has the bounds; without it there are none.

    Returns
    -------
    (float, float)
        (x, y) in level-0 pixels.
    """
    if not isinstance(said, str):
        return float(said[0]), float(said[1])
    if said == "bounds" and slide is not None:
        return float(slide.bounds[0]), float(slide.bounds[1])
    return 0.0, 0.0


def found_offset(
    points: Points, slide: Slide, what: str = "outlines"
) -> tuple[tuple[float, float], str | None]:
    """Whether coordinates count from the slide's bounds, and what to say of it.

    Parameters
    ----------
    points : (n, 2) float64
        (x, y), inside the outlines or the landmarks themselves.
    slide : Slide
        Whose tissue decides, where its bounds are not its corner.
    what : str
        What the points are, for the text.

    Returns
    -------
    offset : (float, float)
        (x, y) to be added, in level-0 pixels.
    text : str or None
        What was found or assumed; None where the bounds are the corner.
    """
    bounds = float(slide.bounds[0]), float(slide.bounds[1])
    if bounds == (0, 0) or not len(points):
        return (0.0, 0.0), None
    shares = [on_tissue(points + by, slide) for by in ((0, 0), bounds)]
    told = f"the slide's bounds begin at x, y {bounds[0]:.0f}, {bounds[1]:.0f}"
    on = f"{shares[1]:.0%} of the {what} lie on tissue counted from there, {shares[0]:.0%} from"
    on += " the corner of level 0"
    if shares[1] - shares[0] >= CLEARER:
        return (
            bounds,
            f"{NOTE}{told}, and {on}; they are taken to count from the bounds, as QuPath's",
        )
    if shares[0] - shares[1] >= CLEARER:
        return (0.0, 0.0), f"{NOTE}{told}, and {on}; they are taken to count from the corner"
    if _inside(points + bounds, slide) < 1 <= _inside(points, slide):
        return (0.0, 0.0), (
            f"{told}, and {on}; counted from the bounds they would reach beyond the slide, so they"
            " are taken to count from the corner: check that, or write it in the manifest column"
            " annotation_origin"
        )
    return bounds, (
        f"{told}, and {on}, which does not decide; they are taken to count from the bounds, as"
        " QuPath's do: write level0, bounds or x,y in the manifest column annotation_origin"
    )


def other_scale(points: Points, slide: Slide) -> str | None:
    """A text where outlines would lie on the tissue if their coordinates were multiplied.

    Looks at those only that all lie in the slide's first quarter, or reach beyond the slide: others
    fit at no other level.

    Parameters
    ----------
    points : (n, 2) float64
        (x, y) inside the outlines, in what should be level-0 pixels.
    slide : Slide
        Whose tissue decides.

    Returns
    -------
    str or None
    """
    if not len(points):
        return None
    size = np.array(slide.shape[::-1], dtype=np.float64)
    reach = float((points.max(axis=0) / size).max())
    finer = {1 / d for level in slide.levels for d in level.downsample if d > 1.5}
    coarser = (*FACTORS, *(1 / d for d in finer))
    wanted = coarser if reach <= SLACK / 2 else (*(1 / f for f in coarser),)
    if SLACK / 2 < reach <= SLACK:
        return None
    now = on_tissue(points, slide)
    if now >= ENOUGH:
        return None
    by = {f: on_tissue(points * f, slide) for f in wanted if reach * f <= SLACK}
    best = max(by, key=lambda f: (round(by[f], 2), f), default=None)
    if best is None or by[best] < max(ENOUGH, 2 * now):
        return None
    factor = f"multiplied by {best:.4g}" if best > 1 else f"divided by {1 / best:.4g}"
    return (
        f"{now:.0%} of the outlined area lies on tissue, and {by[best]:.0%} would if its"
        f" coordinates were {factor}; it seems to be drawn at another level or on another image:"
        " export it in level-0 pixels"
    )


def inner_points(geometry: BaseGeometry) -> Points:
    """Points spread evenly over an area.

    Parameters
    ----------
    geometry
        Polygons.

    Returns
    -------
    (n, 2) float64
        (x, y); one in each part where the grid of points misses all of them.
    """
    if geometry.is_empty:
        return np.zeros((0, 2))
    x0, y0, x1, y1 = geometry.bounds
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(x0 + (x1 - x0) * steps, y0 + (y1 - y0) * steps)
    shapely.prepare(geometry)
    inside = shapely.contains_xy(geometry, x, y)
    if inside.any():
        return np.stack([x[inside], y[inside]], axis=-1)
    parts = shapely.get_parts(geometry)
    return np.asarray(shapely.get_coordinates(shapely.point_on_surface(parts)))


def _inside(points: Points, slide: Slide) -> float:
    """The share of points that lie on the slide."""
    inside = (points >= 0) & (points < slide.shape[::-1])
    return float(inside.all(axis=1).mean())


def on_tissue(points: Points, slide: Slide) -> float:
    """The share of points (x, y), in level-0 pixels, that lie on the slide's tissue."""
    mask, (sy, sx) = _tissue(slide)
    x, y = (np.floor(points[:, i] / s).astype(np.int64) for i, s in ((0, sx), (1, sy)))
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    return float(mask[y[inside], x[inside]].sum() / len(points))


@lru_cache(maxsize=1)
def _tissue(slide: Slide) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    return tissue_mask(slide)
