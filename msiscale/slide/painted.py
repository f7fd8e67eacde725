"""The study's own annotation: a copy of the slide on which outlines were drawn in colour.

The outlines are found (by their colour, or by how they differ from the slide), closed, filled and
turned into polygons. A region ends in the middle of its outline.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.color import rgb2hsv
from skimage.measure import find_contours

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import Block, PixelSize, blocks
from msiscale.slide.outlines import Outline, polygonal, ring
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.working import WorkingImage

MAX_SIDE = 4096  # of the mask in which outlines are followed
TILE = 2048
DIFFERENT = 80  # grey levels by which a drawn pixel differs from the slide's
SPECK = 0.015  # of the picture's diagonal; what is shorter was not drawn
OPEN_LINE = 0.03  # of the diagonal; a line as long as this that encloses nothing is worth a warning
GAP = 0.004  # of the diagonal; gaps in an outline up to this are closed


def read_painted(
    path: str, slide_shape: tuple[int, int], *, slide: Slide | None = None
) -> list[Outline]:
    """What is outlined in colour on a copy of the slide, compared with the slide if given."""
    # without the slide, lines are saturated colours that H&E has not: green, blue, cyan, yellow,
    # pure red, black
    picture = open_reader(path, mpp=1.0)
    height, width = picture.shape
    scale = slide_shape[0] / height, slide_shape[1] / width
    if abs(scale[0] / scale[1] - 1) > 0.02:
        raise InputError(
            f"{path}: {width} x {height} px is not a copy of the slide of {slide_shape[1]} x"
            f" {slide_shape[0]} px; export the whole slide, not a part of it"
        )
    drawn, pool = _drawn(picture, slide, scale)
    areas = _insides(drawn, (pool * scale[0], pool * scale[1]))
    outlines = [Outline(area) for area in areas if not area.is_empty]
    if len(outlines) < len(areas):
        warnings.warn(
            f"{path}: {len(areas) - len(outlines)} drawn line(s) enclose nothing and are left out;"
            " close them if they are outlines",
            MsiscaleWarning,
            stacklevel=3,
        )
    return outlines


def _drawn(
    picture: Slide, slide: Slide | None, scale: tuple[float, float]
) -> tuple[NDArray[np.bool_], int]:
    """Mask where any pixel of the picture is drawn, and the side of its pixels in those."""
    height, width = picture.shape
    pool = -(-max(height, width) // MAX_SIDE)
    mask = np.zeros((-(-height // pool), -(-width // pool)), bool)
    original = None if slide is None else _at_scale(slide, scale)
    for block in blocks((height, width), (max(1, TILE // pool) * pool,) * 2):
        h, w = block.shape
        pixels = picture.read(0, block.y0, block.x0, h, w)
        drawn = unlike_he(pixels) if original is None else _differs(pixels, original, block)
        drawn = np.pad(drawn, ((0, -h % pool), (0, -w % pool)))
        rows, columns = drawn.shape[0] // pool, drawn.shape[1] // pool
        pooled = drawn.reshape(rows, pool, columns, pool).any(axis=(1, 3))
        y0, x0 = block.y0 // pool, block.x0 // pool
        mask[y0 : y0 + rows, x0 : x0 + columns] = pooled
    return mask, pool


def _at_scale(slide: Slide, scale: tuple[float, float]) -> WorkingImage:
    """The slide at the picture's scale (y, x), level-0 pixels a pixel."""
    fine = [i for i, v in enumerate(slide.levels) if max(v.downsample) <= max(scale) * 1.001]
    shape = round(slide.shape[0] / scale[0]), round(slide.shape[1] / scale[1])
    mpp = PixelSize(slide.mpp.y * scale[0], slide.mpp.x * scale[1])
    return WorkingImage(slide, max(fine, default=0), shape, mpp, scale)


def _differs(pixels: NDArray[np.uint8], original: WorkingImage, block: Block) -> NDArray[np.bool_]:
    """Pixels that differ from every pixel of the slide nearby."""
    h, w = block.shape  # the neighbourhood allows for another resampling and a shift by a pixel
    around = original.read(block.y0 - 1, block.x0 - 1, h + 2, w + 2)
    high = ndimage.maximum_filter(around, size=(3, 3, 1))[1:-1, 1:-1].astype(np.int16)
    low = ndimage.minimum_filter(around, size=(3, 3, 1))[1:-1, 1:-1].astype(np.int16)
    beyond = np.maximum(pixels - high, low - pixels).max(axis=-1)
    return np.asarray(beyond > DIFFERENT)


def unlike_he(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a colour that haematoxylin and eosin do not give.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8.

    Returns
    -------
    NDArray
        (h, w) bool.
    """
    hue, saturation, value = np.moveaxis(rgb2hsv(rgb), -1, 0)
    degrees = hue * 360
    foreign = (degrees > 40) & (degrees < 235) & (saturation > 0.5) & (value > 0.35)
    blue = (degrees >= 235) & (degrees < 255) & (saturation > 0.75) & (value > 0.35)
    red = ((degrees < 15) | (degrees > 350)) & (saturation > 0.85) & (value > 0.6)
    black = value < 0.13
    return np.asarray(foreign | blue | red | black)


def _insides(drawn: NDArray[np.bool_], scale: tuple[float, float]) -> list[BaseGeometry]:
    """For each line the area inside it, to the middle of the line; empty for an open line."""
    if not drawn.any():
        return []
    diagonal = float(np.hypot(*drawn.shape))
    gap = max(1, round(GAP * diagonal / 2))  # lines are widened by this to close them
    margin = gap + 2
    padded = np.pad(drawn, margin)
    wide, n = ndimage.label(ndimage.distance_transform_edt(~padded) <= gap, np.ones((3, 3)))
    areas = []
    for index, window in enumerate(ndimage.find_objects(wide, n), start=1):
        rows, columns = (slice(max(0, s.start - 1), s.stop + 1) for s in window)
        widened = wide[rows, columns] == index
        line = widened & padded[rows, columns]
        height, width = (np.ptp(axis) for axis in np.nonzero(line))
        extent = float(np.hypot(height, width))
        if extent < SPECK * diagonal:
            continue
        full = ndimage.binary_fill_holes(widened)
        inner = full & ~widened
        depth = ndimage.distance_transform_edt(full)
        thick = float(ndimage.distance_transform_edt(line).max())
        if np.count_nonzero(inner) >= max(thick**2, (SPECK * diagonal / 2) ** 2):
            # The middle of the line is as far from the outside as from the inside.
            field, border = depth - ndimage.distance_transform_edt(~inner), 0.0
        elif thick > gap and np.count_nonzero(line) < 40 * thick**2:
            field, border = depth, gap + 0.5  # a region painted all over: its edge
        else:
            if extent > OPEN_LINE * diagonal:
                areas.append(shapely.Polygon())
            continue
        corner = rows.start - margin, columns.start - margin
        areas.append(_contour(field, border, corner, scale))
    return areas


def _contour(
    field: NDArray[np.float64],
    border: float,
    corner: tuple[int, int],
    scale: tuple[float, float],
) -> BaseGeometry:
    """Area, in level-0 pixels, where `field`, which begins at the mask's `corner`, exceeds it."""
    y0, x0 = corner
    padded = np.pad(field, 1, mode="constant", constant_values=-1.0)
    contours: Any = find_contours  # without types
    lines = contours(padded, border)
    # The centre of the first padded pixel is half a pixel outside the corner.
    rings = [
        ring([((x - 0.5 + x0) * scale[1], (y - 0.5 + y0) * scale[0]) for y, x in line])
        for line in lines
    ]
    return polygonal(shapely.simplify(shapely.union_all(rings), 0.2 * max(scale)))
