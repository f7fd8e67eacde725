"""Tissue of a real slide, so that a mass-spectrometry image can be simulated on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_holes

from msiscale.errors import InputError
from msiscale.grid import Floats, apply, scaling, translation
from msiscale.simulate.tissue import Mask, Section, raster_step, tumour_regions
from msiscale.slide.reader import Slide
from msiscale.slide.tissue import tissue_pixels
from msiscale.slide.working import working

_MPP = 4.0  # µm a pixel at which the slide is looked at, coarser on large slides
_MOST_PIXELS = 24_000_000
_LEAST_UM2 = 40_000.0  # of tissue: two of the study's MSI pixels on a side


def overview(slide: Slide) -> tuple[NDArray[np.uint8], Mask, tuple[float, float]]:
    """The slide at low resolution: RGB (h, w, 3), tissue (h, w), level-0 px a pixel (y, x)."""
    area = slide.shape[0] * slide.mpp.y * slide.shape[1] * slide.mpp.x
    image = working(slide, max(_MPP, *slide.mpp, float(np.sqrt(area / _MOST_PIXELS))))
    rgb = image.read(0, 0, *image.shape)
    mask = ndimage.binary_closing(tissue_pixels(rgb), iterations=3)
    cell = image.mpp.area
    mask = remove_small_holes(mask, max_size=int(_LEAST_UM2 / cell))
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.sum() * cell < _LEAST_UM2:
        raise InputError(f"{slide.path}: no tissue found on the slide; choose another one")
    return rgb, (sizes >= 0.05 * sizes.max())[labels] & mask, image.downsample


def fit_grid(
    tissue: Mask, downsample: tuple[float, float], linear: Floats, pixels: tuple[int, int] | None
) -> tuple[Floats, tuple[int, int]]:
    """Place an MSI grid over the tissue.

    Parameters
    ----------
    tissue
        (h, w) bool, true where there is tissue.
    downsample
        Level-0 pixels a pixel of `tissue`, (y, x).
    linear
        (2, 2) float64, from MSI pixels to level-0 pixels, acting on (x, y).
    pixels
        Rows and columns of the grid; None for as many as cover the tissue.

    Returns
    -------
    matrix
        (3, 3) float64, MSI index to level-0 pixel, with the grid's middle on that of the tissue.
    pixels
        Rows and columns of the grid.
    """
    row, column = np.nonzero(tissue)
    xy = np.column_stack([(column + 0.5) * downsample[1], (row + 0.5) * downsample[0]])
    own = xy @ np.linalg.inv(linear).T
    low, high = own.min(axis=0), own.max(axis=0)
    if pixels is None:
        width, height = np.ceil(high - low + 2).astype(int)
        pixels = int(height), int(width)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    middle = np.array([(pixels[1] - 1) / 2, (pixels[0] - 1) / 2])
    matrix[:2, 2] = linear @ ((low + high) / 2 - middle)
    return matrix, pixels


def section_of(
    rng: np.random.Generator,
    view: tuple[NDArray[np.uint8], Mask, tuple[float, float]],
    matrix: Floats,
    pixels: tuple[int, int],
    pixel_um: float,
) -> Section:
    """Compartments under an MSI grid, judged by the colours of the slide.

    Parameters
    ----------
    rng
        Draws the tumour.
    view
        From `overview`: (h, w, 3) uint8 RGB, (h, w) bool tissue, level-0 pixels a pixel (y, x).
    matrix
        (3, 3) float64, MSI index to level-0 pixel.
    pixels
        Rows and columns of the grid.
    pixel_um
        Size of an MSI pixel, µm.

    Returns
    -------
    Section
        Its rasters cover the grid; no lymphocytes are placed.
    """
    # haematoxylin stands for nuclei and, smoothed, for epithelium; white inside the tissue for
    # lumina; the tumour is drawn at random, to places rich in haematoxylin
    from skimage.color import rgb2hed

    rgb, mask, downsample = view
    step = raster_step(pixels, pixel_um)
    cells = round(pixel_um / step)
    shape = pixels[0] * cells, pixels[1] * cells
    # raster cell -> MSI index -> level-0 -> overview pixel; indices are of centres
    to_view = (
        translation(-0.5, -0.5)
        @ scaling(1 / downsample[1], 1 / downsample[0])
        @ matrix
        @ translation(-0.5, -0.5)
        @ scaling(1 / cells)
        @ translation(0.5, 0.5)
    )

    def sample(layer: NDArray[Any]) -> NDArray[np.float32]:
        offset = apply(to_view, (0.0, 0.0))[::-1]
        return np.asarray(
            ndimage.affine_transform(
                layer.astype(np.float32), to_view[1::-1, 1::-1], offset, shape, order=1
            )
        )

    blue = sample(np.where(mask, rgb2hed(rgb)[..., 0], 0.0))
    white = sample(ndimage.uniform_filter(rgb.min(axis=-1).astype(np.float32), 3))
    tissue = sample(mask) > 0.5
    low, high = np.quantile(blue[tissue], [0.05, 0.98])
    nuclei = np.where(tissue, np.clip((blue - low) / max(high - low, 1e-6), 0, 1), 0)
    lumen = tissue & (white > 215)
    dense = _blur(nuclei, tissue, 15 / step)
    epithelium = tissue & ~lumen & (dense > np.quantile(dense[tissue], 0.6))
    broad = _blur(nuclei, tissue, 0.05 * float(np.sqrt(tissue.sum())))
    likely = (broad - broad[tissue].mean()) / max(float(broad[tissue].std()), 1e-6)
    cancer = tumour_regions(rng, tissue, tissue, np.where(tissue, likely, 0).astype(np.float32))
    density, immune = (0.6 * nuclei).astype(np.float32), np.zeros(shape, dtype=np.float32)
    return Section(step, tissue, cancer, epithelium, lumen, density, immune)


def _blur(values: NDArray[Any], mask: Mask, sigma: float) -> NDArray[np.float32]:
    """Gaussian mean of `values` over the part of the neighbourhood that is in `mask`."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(mask, values, 0).astype(np.float32), sigma)
    return np.asarray(np.where(mask, total / np.maximum(weight, 1e-6), 0), dtype=np.float32)
