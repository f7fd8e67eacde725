"""The study's own annotation: a copy of the slide on which outlines were drawn in colour.

What is drawn is found by how the copy differs from the slide, or, without the slide, by colours
that a stained section has not; `enclosed` makes areas of it. A region ends in the middle of its
outline.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.color import rgb2hsv

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import blocks
from msiscale.slide.compared import Comparison, compare
from msiscale.slide.enclosed import EIGHT, Enclosed, enclosed
from msiscale.slide.outlines import Outline, polygonal
from msiscale.slide.reader import Slide, open_reader

Mask = NDArray[np.bool_]

BLURRED = 4.0  # grey levels of noise, above which parts of a line may be lost
MAX_SIDE = 4096  # of the mask in which outlines are followed
TILE = 2048
SURE = 9.0  # times the noise: somebody drew here
MAYBE = 4.0  # times the noise: a line may go on here
SAME = 0.8  # of the outer area, that an inner outline has when it is the same stroke once more
OTHER_COLOUR = 120  # grey levels, in some channel, between two pens


def read_painted(
    path: str, slide_shape: tuple[int, int], *, slide: Slide | None = None
) -> list[Outline]:
    """Read what is outlined on a copy of the slide, compared with the slide if given.

    Parameters
    ----------
    path
        Picture of the whole slide, at any scale.
    slide_shape
        Height and width of the slide's level 0.
    slide
        The slide; without it, only lines of saturated colours and black are found.

    Returns
    -------
    list of Outline
        Without names, in level-0 pixels; empty where no line encloses anything.

    Raises
    ------
    InputError
        The picture is not a copy of the slide, or what its lines enclose cannot be told.
    """
    picture = open_reader(path, mpp=1.0)
    height, width = picture.shape
    scale = slide_shape[0] / height, slide_shape[1] / width
    if abs(scale[0] / scale[1] - 1) > 0.02:
        raise InputError(
            f"{path}: {width} x {height} px is not a copy of the slide of {slide_shape[1]} x"
            f" {slide_shape[0]} px; export the whole slide, not a part of it"
        )
    comparison = None if slide is None else compare(picture, slide, scale)
    drawn, pool = _drawn(picture, comparison)
    found = enclosed(drawn)
    _check(path, found, pool, strict=comparison is not None)
    if comparison is not None and comparison.noise.worst > BLURRED and found.strokes:
        raise InputError(
            f"{path}: {found.strokes} drawn line(s) enclose nothing, and the picture is too"
            " strongly compressed to tell whether they are outlines; save it as PNG, or close them"
        )
    areas = _without_holes(path, found, picture, pool)

    def to_slide(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return xy * pool * scale[::-1] if comparison is None else comparison.to_slide(xy * pool)

    placed = [polygonal(shapely.transform(area, to_slide)) for area in areas]
    return [Outline(area) for area in placed if not area.is_empty]


def _drawn(picture: Slide, comparison: Comparison | None) -> tuple[Mask, int]:
    """Mask where any pixel of the picture is drawn, and the side of its pixels in those."""
    height, width = picture.shape
    pool = -(-max(height, width) // MAX_SIDE)
    sure = np.zeros((-(-height // pool), -(-width // pool)), bool)
    maybe, known = sure.copy(), ~sure
    for block in blocks((height, width), (max(1, TILE // pool) * pool,) * 2):
        y0, x0 = block.y0 // pool, block.x0 // pool
        here = (
            slice(y0, y0 + -(-block.shape[0] // pool)),
            slice(x0, x0 + -(-block.shape[1] // pool)),
        )
        if comparison is None:
            sure[here] = _pooled(unlike_he(picture.read(0, block.y0, block.x0, *block.shape)), pool)
        else:
            score = comparison.differs(block)
            sure[here] = _pooled(score > SURE, pool)
            maybe[here] = _pooled(score > MAYBE, pool)
            known[here] = ~_pooled(~comparison.known(block), pool)
    if comparison is None:
        return sure, pool
    labels, n = ndimage.label(maybe | sure, EIGHT)
    certain = np.zeros(n + 1, bool)
    certain[labels[sure & known]] = True
    certain[0] = False
    return _to_the_border(certain[labels], known), pool


def _pooled(mask: Mask, pool: int) -> Mask:
    """Whether anything is set in each square of `pool` pixels."""
    padded = np.pad(mask, ((0, -mask.shape[0] % pool), (0, -mask.shape[1] % pool)))
    rows, columns = padded.shape[0] // pool, padded.shape[1] // pool
    return np.asarray(padded.reshape(rows, pool, columns, pool).any(axis=(1, 3)))


def _to_the_border(mask: Mask, known: Mask) -> Mask:
    """The mask with its rim, where nothing is known, as it is next to it."""
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if not len(rows):
        return np.zeros_like(mask)
    y = np.clip(np.arange(mask.shape[0]), rows[0], rows[-1])
    x = np.clip(np.arange(mask.shape[1]), columns[0], columns[-1])
    return mask[y[:, None], x[None, :]]


def unlike_he(rgb: NDArray[np.uint8]) -> Mask:
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


def _check(path: str, found: Enclosed, pool: int, *, strict: bool) -> None:
    """Refuse or tell what encloses nothing."""
    strokes = found.strokes
    if found.undecided:
        y, x = found.undecided[0]
        raise InputError(
            f"{path}: the line at x, y {x * pool}, {y * pool} of the picture goes from border to"
            " border, and which side is meant cannot be told; close it around the region"
        )
    if found.unclosed and strict:
        y, x = found.unclosed[0]
        raise InputError(
            f"{path}: the line at x, y {x * pool}, {y * pool} of the picture goes around"
            " something but does not close, or cannot be seen all the way; close it, or draw it"
            " thicker and in another colour"
        )
    strokes += len(found.unclosed)
    if strokes:
        warnings.warn(
            f"{path}: {strokes} drawn line(s) enclose nothing and are left out;"
            " close them if they are outlines",
            MsiscaleWarning,
            stacklevel=4,
        )


def _without_holes(path: str, found: Enclosed, picture: Slide, pool: int) -> list[BaseGeometry]:
    """The areas, less those that are drawn within another: holes."""
    order = sorted(range(len(found.areas)), key=lambda i: -found.areas[i].area)
    tops: list[int] = []
    holes: dict[int, list[int]] = {}
    for i in order:
        area = found.areas[i]
        around = [k for k in tops if area.intersection(found.areas[k]).area > 0.95 * area.area]
        if not around:
            tops.append(i)
        elif area.area < SAME * found.areas[around[0]].area:
            holes.setdefault(around[0], []).append(i)
    if not holes:
        return [found.areas[i] for i in tops]
    for top, inner in holes.items():
        pens = [_pen(picture, found.places[i], pool) for i in (top, *inner)]
        if max(np.abs(np.subtract(pen, pens[0])).max() for pen in pens) > OTHER_COLOUR:
            raise InputError(
                f"{path}: an outline lies within another one of another colour, and what the"
                " colours mean cannot be told; leave one colour, or give the annotation as GeoJSON"
                " with classes"
            )
    warnings.warn(
        f"{path}: {sum(map(len, holes.values()))} outline(s) lie within another one and are taken"
        " as holes in it",
        MsiscaleWarning,
        stacklevel=4,
    )
    areas = []
    for i in tops:
        area = found.areas[i]
        for k in holes.get(i, []):  # a region within a hole is a region again
            area = area.symmetric_difference(found.areas[k])
        areas.append(polygonal(area))
    return areas


def _pen(picture: Slide, place: tuple[int, int], pool: int) -> Sequence[float]:
    """Colour of a line at one of its pixels."""
    y, x = place
    pixels = picture.read(0, y * pool, x * pool, pool, pool).reshape(-1, 3)
    return [float(v) for v in np.median(pixels, axis=0)]
