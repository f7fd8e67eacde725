"""Prostate-like morphology: outline, glands, tumour and nuclei, laid out in micrometres.

A section lives in the frame of its mass-spectrometry image: its top left corner is that of MSI
pixel (0, 0) and its extent is that of the MSI. Compartments are rasters of a few µm; nuclei are a
list of ellipses, so that they are sharp at any magnification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from msiscale.grid import Floats

Floats32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TARGET_STEP_UM = 2.0
_ADENOSIS = 1.2  # sd of the field above which benign glands are small and crowded
_MOST_CELLS = 24_000_000  # of a raster; larger sections are laid out more coarsely


@dataclass(frozen=True)
class Section:
    """Compartments of one section as rasters [y, x] with cells of `step_um` µm."""

    step_um: float
    tissue: Mask
    cancer: Mask  # the tumour with its own stroma
    epithelium: Mask  # of glands, benign or not
    lumen: Mask  # likewise
    nuclei: Floats32  # density, as the fraction of a cell that they cover
    immune: Floats32  # share of lymphocytes


@dataclass(frozen=True)
class Nuclei:
    """Ellipses: centres and semi-axes in µm, angle of the long axis (rad), stain (OD)."""

    x: Floats32
    y: Floats32
    major: Floats32
    minor: Floats32
    angle: Floats32
    stain: Floats32


@dataclass(frozen=True)
class Stain:
    """What the slide shows: optical density of haematoxylin and eosin without the nuclei [y, x]."""

    haematoxylin: Floats32
    eosin: Floats32
    nuclei: Nuclei


class _Layout(NamedTuple):
    """What is decided of a section before it is stained, [y, x]; distances are in µm."""

    step: float
    tissue: Mask
    growth: Mask  # where cancer differs from other tissue
    outline: Floats32  # about the distance to the edge of the tissue, positive inside, as are these
    gland: Floats32
    lumen: Floats32
    immune: Floats32
    flow: Floats32  # the same along a fibre


def raster_step(pixels: tuple[int, int], pixel_um: float) -> float:
    """Cell size in µm: about 2, a whole number of cells an MSI pixel, larger for large images."""
    area = pixels[0] * pixels[1] * pixel_um**2
    step = max(_TARGET_STEP_UM, float(np.sqrt(area / _MOST_CELLS)))
    return pixel_um / max(4, round(pixel_um / step))


def grow(
    rng: np.random.Generator,
    pixels: tuple[int, int],
    pixel_um: float,
    *,
    tumour: bool = True,
) -> tuple[Section, Stain]:
    """A section of prostate that covers about 80 % of an image of `pixels` (y, x)."""
    # without a `tumour` what is called cancer is a place like any other (a null phantom)
    step = raster_step(pixels, pixel_um)
    cells = round(pixel_um / step)
    shape = pixels[0] * cells, pixels[1] * cells
    outline = _outline(rng, shape, step)
    tissue = _largest(outline > 0)
    depth = outline > 0.1 * np.sqrt(tissue.sum()) * step
    cancer = tumour_regions(rng, tissue, depth)
    growth = cancer if tumour else np.zeros_like(cancer)
    gland, lumen = _glands(rng, growth, outline, step)
    gland = np.minimum(gland, outline)
    lumen = np.minimum(lumen, gland - 4)
    cellularity = np.exp(0.6 * smooth_noise(rng, shape, 500 / step))
    immune = _immune(rng, tissue & (gland < -5), step)
    flow, fibres = _fibres(rng, shape, step)
    layout = _Layout(step, tissue, growth, outline, gland, lumen, immune, flow)
    nuclei = _nuclei(rng, layout, cellularity)
    epithelium = tissue & (gland > 0) & (lumen <= 0)
    density = _nuclear_density(nuclei, shape, step)
    immune = np.where(epithelium, 0, immune).astype(np.float32)
    section = Section(step, tissue, cancer, epithelium, tissue & (lumen > 0), density, immune)
    return section, _stain(rng, layout, fibres, nuclei)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], length: float) -> Floats32:
    """Gaussian random field, float32 (y, x), mean 0 and sd 1, that varies over `length` cells."""
    spacing = max(1.0, length / 6)
    coarse = tuple(int(np.ceil(n / spacing)) + 3 for n in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), 2.5, mode="wrap")
    field = (field - field.mean()) / max(float(field.std()), 1e-6)
    step = 1 / spacing
    found = ndimage.affine_transform(field, [step, step], offset=1, output_shape=shape, order=1)
    return np.asarray(found, dtype=np.float32)


def mean_of_cells(raster: NDArray[Any], pixels: tuple[int, int]) -> Floats32:
    """Mean of a raster over each pixel.

    Parameters
    ----------
    raster
        (h, w) bool or numbers.
    pixels
        Rows and columns of pixels, which divide h and w exactly.

    Returns
    -------
    NDArray
        float32 of shape `pixels`, in the raster's unit.
    """
    height, width = raster.shape[0] // pixels[0], raster.shape[1] // pixels[1]
    blocks = raster.reshape(pixels[0], height, pixels[1], width)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), np.float32)


def outlines(mask: Mask, step_um: float) -> list[Floats]:
    """Outer outlines of the parts of a mask.

    Parameters
    ----------
    mask
        (h, w) bool.
    step_um
        Size of a cell of the mask, µm.

    Returns
    -------
    list of NDArray
        Each (n, 2) float64, (x, y) in µm from the mask's top left corner, closed; largest first.
    """
    smooth = ndimage.gaussian_filter(np.pad(mask, 2).astype(np.float32), 1.5)
    rings = []
    library: Any = measure  # without types
    for contour in library.find_contours(smooth, 0.5):
        ring = library.approximate_polygon(contour, 0.6)
        # a cell's centre is half a cell from its corner; holes run the other way round
        xy = (ring[:, ::-1] - 2 + 0.5) * step_um
        if len(xy) > 4 and _area(ring) * _area(contour) > 0:
            rings.append(xy)
    return sorted(rings, key=lambda xy: -abs(_area(xy)))


def _area(ring: NDArray[Any]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=bool)


def _outline(rng: np.random.Generator, shape: tuple[int, int], step: float) -> Floats32:
    """About the distance in µm to the edge of the tissue, positive inside."""
    y = ((np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0] - 0.5)[:, None]
    x = ((np.arange(shape[1], dtype=np.float32) + 0.5) / shape[1] - 0.5)[None, :]
    theta = np.arctan2(y, x)
    edge = np.full(shape, 0.465, dtype=np.float32)
    for k in range(1, 7):
        size = 0.014 if k > 1 else 0.008  # a first harmonic only moves the whole
        edge += np.float32(size * rng.standard_normal()) * np.cos(
            k * theta + np.float32(rng.uniform(0, 2 * np.pi))
        )
    radius = (np.abs(x) ** 3 + np.abs(y) ** 3) ** np.float32(1 / 3)
    smallest = min(shape) * step
    distance = (np.minimum(edge, 0.49) - radius) * np.float32(smallest)
    rough = smooth_noise(rng, shape, 150 / step)
    return np.asarray(distance + np.float32(min(18.0, 0.01 * smallest)) * rough)


def tumour_regions(
    rng: np.random.Generator, tissue: Mask, inner: Mask, likely: Floats32 | None = None
) -> Mask:
    """Draw one to three tumours, 15 to 35 % of the tissue.

    Parameters
    ----------
    rng
        Draws them.
    tissue
        (h, w) bool, where they may lie.
    inner
        (h, w) bool, where their middles may lie; anywhere in the tissue if it is empty.
    likely
        (h, w) float32, without a unit: tumours reach further where it is high.

    Returns
    -------
    NDArray
        (h, w) bool, the tumours.
    """
    extent = float(np.sqrt(tissue.sum()))  # cells
    field = np.full(tissue.shape, -1e6, dtype=np.float32)
    places = np.flatnonzero(inner if inner.any() else tissue)
    yy, xx = np.ogrid[: tissue.shape[0], : tissue.shape[1]]
    for _ in range(int(rng.integers(1, 4))):
        cy, cx = np.unravel_index(places[rng.integers(len(places))], tissue.shape)
        radius = extent * rng.uniform(0.16, 0.3)
        distance = np.hypot(yy - cy, xx - cx).astype(np.float32)
        field = np.maximum(field, np.float32(radius) - distance)
    field += np.float32(0.05 * extent) * smooth_noise(rng, tissue.shape, 0.25 * extent)
    field += np.float32(0.015 * extent) * smooth_noise(rng, tissue.shape, 0.06 * extent)
    if likely is not None:
        field += np.float32(0.15 * extent) * likely
    share = rng.uniform(0.17, 0.33)
    mask = tissue & (field > np.quantile(field[tissue][::7], 1 - share))
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = sizes >= max(0.01 * tissue.sum(), 1)
    large[0] = False
    return np.asarray(ndimage.binary_fill_holes(large[labels]), dtype=bool) & tissue


def _lattice(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float, jitter: float
) -> tuple[Floats32, Floats32]:
    """Points (y, x) in cells on a jittered hexagonal lattice that covers `shape`."""
    y = np.arange(0, shape[0] + spacing, spacing * np.sqrt(0.75))
    x = np.arange(0, shape[1] + spacing, spacing)
    yy, xx = np.meshgrid(y, x, indexing="ij")
    xx[1::2] += spacing / 2
    points = np.stack([yy.ravel(), xx.ravel()])
    points += jitter * spacing * rng.uniform(-1, 1, points.shape)
    y, x = points.astype(np.float32)  # before the test: rounding may reach the edge
    keep = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return y[keep], x[keep]


def _glands(
    rng: np.random.Generator, cancer: Mask, outline: Floats32, step: float
) -> tuple[Floats32, Floats32]:
    """About the distance in µm into a gland and into its lumen, positive inside."""
    shape = cancer.shape
    gland = np.full(shape, -1e3, dtype=np.float32)
    lumen = np.full(shape, -1e3, dtype=np.float32)
    wealth = smooth_noise(rng, shape, 900 / step)
    grade = smooth_noise(rng, shape, 600 / step)  # solid where low, open where high
    depth = ndimage.distance_transform_edt(cancer[::4, ::4]) - ndimage.distance_transform_edt(
        ~cancer[::4, ::4]
    )

    def at(field: NDArray[Any], y: Floats32, x: Floats32, scale: int = 1) -> NDArray[Any]:
        rows = np.minimum((y / scale).astype(int), field.shape[0] - 1)
        columns = np.minimum((x / scale).astype(int), field.shape[1] - 1)
        return np.asarray(field[rows, columns])

    # benign glands that crowd as a tumour's do (adenosis), here and there
    adenosis = smooth_noise(rng, shape, 450 / step)

    for kind, spacing in (("benign", 265.0), ("adenosis", 78.0), ("tumour", 56.0)):
        y, x = _lattice(rng, shape, spacing / step, 0.3)
        inside = at(depth, y, x, 4) * 4 * step  # µm into the tumour
        rich, low, crowd = at(wealth, y, x), at(grade, y, x), at(adenosis, y, x)
        if kind == "benign":
            radius = rng.uniform(60, 125, len(y)) * np.exp(0.1 * rich)
            chance = np.clip(0.75 + 0.3 * rich, 0.1, 1)
            # a few benign glands stay behind in the tumour
            chance = np.where(inside < -0.8 * radius, chance, np.where(inside > 150, 0.06, 0.0))
            chance = np.where(crowd > _ADENOSIS, 0.15, chance)
            wall = rng.uniform(24, 38, len(y))
        elif kind == "adenosis":
            radius = rng.uniform(26, 46, len(y))
            chance = np.where((crowd > _ADENOSIS) & (inside < -60), 0.85, 0.0)
            wall = np.maximum(radius - rng.uniform(0, 20, len(y)), 15)
        else:
            radius = rng.uniform(17, 33, len(y)) * np.exp(0.22 * np.clip(low, -1, 2))
            chance = np.where(inside > radius - 8, np.clip(0.85 - 0.12 * low, 0.4, 0.97), 0.0)
            hollow = rng.uniform(0, 13, len(y)) * np.exp(0.5 * low)
            wall = np.maximum(radius - hollow, 11)  # room for the nuclei
        keep = (rng.random(len(y)) < chance) & (at(outline, y, x) > radius * 0.6)
        for i in np.flatnonzero(keep):
            _paint(rng, (gland, lumen), (y[i], x[i]), radius[i], wall[i], kind == "benign", step)
    return gland, lumen


def _paint(
    rng: np.random.Generator,
    rasters: tuple[Floats32, Floats32],
    at: tuple[float, float],
    radius: float,
    wall: float,
    benign: bool,
    step: float,
) -> None:
    """Add one gland: a wavy disc; a benign lumen has papillary folds."""
    (gland, lumen), (cy, cx) = rasters, at
    reach = 1.5 * radius / step
    y0, y1 = max(0, int(cy - reach)), min(gland.shape[0], int(cy + reach) + 2)
    x0, x1 = max(0, int(cx - reach)), min(gland.shape[1], int(cx + reach) + 2)
    dy = (np.arange(y0, y1, dtype=np.float32) - np.float32(cy))[:, None] * np.float32(step)
    dx = (np.arange(x0, x1, dtype=np.float32) - np.float32(cx))[None, :] * np.float32(step)
    rho, theta = np.hypot(dy, dx), np.arctan2(dy, dx)
    edge = np.full(rho.shape, radius, dtype=np.float32)
    fold = np.zeros_like(edge)
    for k in (2, 3, 4, 6) if benign else (2, 3):
        size = radius * (0.22 if benign else 0.16) / np.sqrt(k) * rng.uniform(0, 1)
        edge += np.float32(size) * np.cos(k * theta + np.float32(rng.uniform(0, 6.3)))
    if benign:
        for k in (7, 11):
            depth = np.float32(rng.uniform(3, 10))
            fold += depth * np.cos(k * theta + np.float32(rng.uniform(0, 6.3)))
    region = np.s_[y0:y1, x0:x1]
    np.maximum(gland[region], edge - rho, out=gland[region])
    np.maximum(lumen[region], edge - np.float32(wall) - fold - rho, out=lumen[region])


def _immune(rng: np.random.Generator, stroma: Mask, step: float) -> Floats32:
    """Lymphocyte aggregates: 0...1, a few per section, in the stroma."""
    field = smooth_noise(rng, stroma.shape, 260 / step)
    field = field + 0.4 * smooth_noise(rng, stroma.shape, 1200 / step)
    return np.where(stroma, np.clip((field - 1.5) / 1.2, 0, 1), 0).astype(np.float32)


def _fibres(
    rng: np.random.Generator, shape: tuple[int, int], step: float
) -> tuple[Floats32, Floats32]:
    """Wavy coordinate across the fibres of the stroma (cells), and their texture (mean 0, sd 1)."""
    angle = rng.uniform(0, np.pi)
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    across = (-np.sin(angle) * x + np.cos(angle) * y).astype(np.float32)
    along = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
    across += np.float32(70 / step) * smooth_noise(rng, shape, 420 / step)
    across += np.float32(9 / step) * smooth_noise(rng, shape, 110 / step)
    size = 256
    tile = rng.standard_normal((size, size), dtype=np.float32)
    tile = ndimage.gaussian_filter(tile, 0.8, mode="wrap")
    tile /= tile.std()
    coordinates = np.stack([across * np.float32(step / 5.0), along * np.float32(step / 45.0)])
    texture = ndimage.map_coordinates(tile, coordinates, order=1, mode="grid-wrap")
    return across, np.asarray(texture, dtype=np.float32)


def _nuclei(rng: np.random.Generator, layout: _Layout, cellularity: Floats32) -> Nuclei:
    """Nuclei by compartment: rows at the rim of benign glands, crowded and large in the tumour."""
    step, tissue, cancer, _, gland, lumen, immune, flow = layout
    parts = []
    kinds = ("stroma", "benign", "tumour", "lymphocyte")
    for kind, spacing in zip(kinds, (11.0, 7.2, 7.6, 6.5), strict=True):
        y, x = _lattice(rng, tissue.shape, spacing / step, 0.33)
        at = y.astype(int), x.astype(int)
        depth, hollow, bad, many = gland[at], lumen[at], cancer[at], cellularity[at]
        stroma = tissue[at] & (depth < -2)
        if kind == "stroma":
            chance = np.where(stroma, np.where(bad, 0.26, 0.17) * many, 0)
        elif kind == "benign":
            inside = tissue[at] & ~bad & (hollow < -3)
            rim = (depth > 2) & (depth < 7)
            second = (depth >= 10) & (depth < 17)
            chance = np.where(inside & (rim | second), 0.9, 0)
            chance = chance + np.where(inside & (depth >= 20), 0.1, 0)
        elif kind == "tumour":
            chance = np.where(tissue[at] & bad & (depth > 2) & (hollow < -2), 0.66 * many**0.5, 0)
        else:
            chance = np.where(stroma, 0.9 * immune[at], 0)
        keep = rng.random(len(y)) < chance
        parts.append(_shapes(rng, kind, y[keep], x[keep], flow, step))
    columns = (np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True))
    return Nuclei(*columns)


# semi-axes in µm, spread of their logarithm, stain (optical density of haematoxylin)
_NUCLEI = {
    "stroma": (6.0, 1.9, 0.2, 0.95),
    "benign": (3.6, 2.7, 0.12, 1.0),
    "tumour": (4.4, 3.6, 0.2, 1.0),
    "lymphocyte": (2.9, 2.7, 0.08, 1.4),
}


def _shapes(
    rng: np.random.Generator, kind: str, y: Floats32, x: Floats32, flow: Floats32, step: float
) -> tuple[NDArray[Any], ...]:
    major, minor, spread, stain = _NUCLEI[kind]
    n = len(y)
    angle = rng.uniform(0, np.pi, n)
    if kind == "stroma":  # along the fibres, which run where `flow` stays the same
        row = np.clip(y.astype(int), 1, flow.shape[0] - 2)
        column = np.clip(x.astype(int), 1, flow.shape[1] - 2)
        dy = flow[row + 1, column] - flow[row - 1, column]
        dx = flow[row, column + 1] - flow[row, column - 1]
        angle = np.arctan2(-dx, dy) + 0.2 * rng.standard_normal(n)
    size = np.exp(spread * rng.standard_normal((2, n)))
    depth = stain * np.exp(0.18 * rng.standard_normal(n))
    centre_x, centre_y = (x + 0.5) * step, (y + 0.5) * step
    return centre_x, centre_y, major * size[0], minor * size[1], angle, depth


def _nuclear_density(nuclei: Nuclei, shape: tuple[int, int], step: float) -> Floats32:
    """Area of the nuclei whose centre is in a cell, over the area of the cell."""
    row = np.minimum((nuclei.y / step).astype(np.int64), shape[0] - 1)
    column = np.minimum((nuclei.x / step).astype(np.int64), shape[1] - 1)
    area = np.pi * nuclei.major * nuclei.minor / step**2
    total = np.bincount(row * shape[1] + column, weights=area, minlength=shape[0] * shape[1])
    return total.reshape(shape).astype(np.float32)


def _stain(rng: np.random.Generator, layout: _Layout, fibres: Floats32, nuclei: Nuclei) -> Stain:
    step, tissue, growth, outline, gland, lumen, _, _ = layout
    shape = tissue.shape

    def soft(distance: Floats32) -> Floats32:
        return np.asarray(np.clip(distance / np.float32(step) + np.float32(0.5), 0, 1))

    inside = soft(outline) * ndimage.uniform_filter(tissue.astype(np.float32), 3)
    in_gland, in_lumen = soft(gland), soft(lumen)
    bad = ndimage.gaussian_filter(growth.astype(np.float32), 10 / step)
    mottle = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 3 / step)
    mottle /= mottle.std()
    broad = smooth_noise(rng, shape, 700 / step)
    # gaps between the bundles of the stroma let light through
    weave = np.clip(1 + 0.22 * fibres, 0.15, 1.8)
    stroma = (0.44 + 0.05 * broad) * weave * (1 - 0.15 * bad)
    cell = 0.30 + 0.03 * mottle
    eosin = (1 - in_gland) * stroma + (in_gland - in_lumen) * cell
    cytoplasm = 0.17 + 0.06 * bad + 0.03 * mottle
    haematoxylin = (1 - in_gland) * (0.06 + 0.02 * bad) + (in_gland - in_lumen) * cytoplasm
    secretion = 0.03 + 0.02 * np.clip(smooth_noise(rng, shape, 200 / step), -1, 3)
    eosin += in_lumen * secretion
    return Stain(
        (inside * haematoxylin).astype(np.float32), (inside * eosin).astype(np.float32), nuclei
    )
