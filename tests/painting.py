"""Copies of a slide with outlines painted on them, as people make them; what is in them is known.

The truth is in level-0 pixels, whatever the scale, and whatever was done to the copy afterwards.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from msiscale.slide.reader import Slide
from msiscale.slide.working import working

Points = Sequence[tuple[float, float]]
COLOURS = {
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 240, 0),
    "red": (255, 0, 0),
    "magenta": (255, 0, 255),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "dark blue": (0, 0, 96),
    "dark red": (128, 0, 0),
    "dark green": (0, 80, 0),
    "pink": (255, 150, 200),
    "cyan": (0, 255, 255),
    "orange": (255, 140, 0),
}
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Paint:
    """How outlines are painted; widths and lengths in pixels of the copy."""

    scale: float = 0.5
    colour: str = "green"
    width: float = 4.0
    alpha: float = 1.0
    fill: bool = False  # all over instead of a line
    dash: tuple[float, float] | None = None  # drawn, left out
    gap: float = 0.0  # share of the outline that is left out, at its first point
    quality: int | None = None  # of a JPEG
    shift: tuple[int, int] = (0, 0)  # right and down, what comes in is white
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    gamma: float = 1.0
    crop: tuple[int, int] = (0, 0)  # columns and rows that the export dropped at the far end


def plain(slide: Slide, scale: float) -> Image.Image:
    """The slide at a scale, resampled as Pillow does, which is not how the product does it."""
    image = working(slide, slide.mpp.x * max(1.0, 0.25 / scale))  # finer than the copy by far
    full = Image.fromarray(image.read(0, 0, *image.shape))
    size = round(slide.shape[1] * scale), round(slide.shape[0] * scale)
    return full if size == full.size else full.resize(size, Image.Resampling.LANCZOS)


def paint(picture: Image.Image, outlines: Iterable[Points], how: Paint) -> Image.Image:
    """Paint outlines, given in level-0 pixels, on a copy, and spoil it as asked."""
    pixels = np.asarray(picture, np.float32)
    coverage = np.zeros(pixels.shape[:2], np.float32)
    for outline in outlines:
        coverage = np.maximum(coverage, _coverage(picture.size, np.asarray(outline), how))
    share = (how.alpha * coverage)[..., None]
    mixed = pixels * (1 - share) + np.array(COLOURS[how.colour], np.float32) * share
    return spoil(Image.fromarray((mixed + 0.5).astype(np.uint8)), how)


def spoil(picture: Image.Image, how: Paint) -> Image.Image:
    """Do to a copy what programs do to it."""
    if how.shift != (0, 0):
        moved = Image.new("RGB", picture.size, "white")
        moved.paste(picture, how.shift)
        picture = moved
    picture = ImageEnhance.Brightness(picture).enhance(how.brightness)
    picture = ImageEnhance.Contrast(picture).enhance(how.contrast)
    picture = ImageEnhance.Color(picture).enhance(how.saturation)
    if how.gamma != 1:
        picture = picture.point([round(255 * (v / 255) ** how.gamma) for v in range(256)] * 3)
    if how.crop != (0, 0):
        size = picture.width - how.crop[0], picture.height - how.crop[1]
        picture = picture.crop((0, 0, *size))
    if how.quality is not None:
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=how.quality)
        picture = Image.open(file).convert("RGB")
    return picture


def _coverage(
    size: tuple[int, int], outline: NDArray[np.float64], how: Paint
) -> NDArray[np.float32]:
    n = SUPERSAMPLING
    canvas = Image.new("L", (size[0] * n, size[1] * n), 0)
    pen = ImageDraw.Draw(canvas)
    points = outline * how.scale * n - 0.5
    if how.fill:
        pen.polygon([tuple(p) for p in points], fill=255)
    else:
        for part in _strokes(np.vstack([points, points[:1]]), how, n):
            line = [tuple(p) for p in part]
            pen.line(line, fill=255, width=max(1, round(how.width * n)), joint="curve")
    return np.asarray(canvas.resize(size, Image.Resampling.BOX), np.float32) / 255


def _strokes(closed: NDArray[np.float64], how: Paint, n: int) -> list[NDArray[np.float64]]:
    """The pieces of an outline that are drawn."""
    steps = np.hypot(*np.diff(closed, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    length = float(along[-1])
    if how.dash is not None:
        on, off = (v * n for v in how.dash)
        spans = [(s, min(s + on, length)) for s in np.arange(0, length, on + off)]
    elif how.gap:
        spans = [(how.gap * length, length)]
    else:
        return [np.vstack([closed, closed[1:3]])]  # without a notch where it closes
    pieces = []
    for start, stop in spans:
        inside = along[(along > start) & (along < stop)]
        at = np.concatenate([[start], inside, [stop]])
        pieces.append(np.column_stack([np.interp(at, along, closed[:, k]) for k in (0, 1)]))
    return pieces


def wavy(x: float, y: float, radius: float, lobes: int, depth: float = 0.18) -> Points:
    """A closed outline that is not convex."""
    return [
        (x + r * np.cos(t), y + r * np.sin(t))
        for t in np.linspace(0, 2 * np.pi, 80, endpoint=False)
        for r in [radius * (1 + depth * np.sin(lobes * t))]
    ]


def truth(outlines: Iterable[Points], slide: Slide) -> shapely.Geometry:
    """The area inside any of the outlines, on the slide."""
    area = shapely.union_all([shapely.Polygon(points) for points in outlines])
    return area.intersection(shapely.box(0, 0, slide.shape[1], slide.shape[0]))


def agreement(areas: Iterable[shapely.Geometry], true: shapely.Geometry) -> float:
    """Intersection over union."""
    area = shapely.union_all(list(areas))
    return float(area.intersection(true).area / area.union(true).area)
