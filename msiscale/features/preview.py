"""The H&E laid onto the MSI grid, a whole number of preview pixels to every MSI pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msiscale import grid
from msiscale.features.extract import Image, to_cells
from msiscale.grid import Block, Floats
from msiscale.regridding import overlap

# Slide pixels read at once, about; bounds the memory of a block.
_READ = 1 << 20


def preview(
    image: Image, matrix: Floats, shape: tuple[int, int], per_pixel: int
) -> NDArray[np.uint8]:
    """The slide resampled into the frame of the MSI by exact area overlap.

    Parameters
    ----------
    image : Image
        The slide, best at about ``pixel_um / per_pixel`` micrometres a pixel; finer is slower and
        no better, coarser is blocky.
    matrix : (3, 3) float64
        MSI index to level-0 pixels.
    shape : (ny, nx)
        The MSI grid.
    per_pixel : int
        Preview pixels to an MSI pixel, each way.

    Returns
    -------
    uint8 (ny * per_pixel, nx * per_pixel, 3)
        White where there is no slide.
    """
    to_index = np.eye(3)
    to_index[:2] /= per_pixel
    to_index[:2, 2] = 0.5 / per_pixel - 0.5
    to_image = to_cells(grid.as_matrix(matrix) @ to_index, image, 1)
    out = np.full((shape[0] * per_pixel, shape[1] * per_pixel, 3), 255, np.uint8)
    pixel_area = abs(np.linalg.det(to_image[:2, :2]))
    side = int(np.clip(np.sqrt(_READ / pixel_area), 8, 512))
    for block in grid.blocks((out.shape[0], out.shape[1]), (side, side)):
        out[block.slices] = _resampled(image, to_image, block)
    return out


def _resampled(image: Image, to_image: Floats, block: Block) -> NDArray[np.uint8]:
    shared = overlap(to_image, block, image.shape)
    region = shared.bounds()
    if region is None:
        return np.full((*block.shape, 3), 255, np.uint8)
    pixels = image.read(region.y0, region.x0, *region.shape)
    white = 255 * (1 - shared.coverage().reshape(-1, 1)).repeat(3, axis=1)
    white[shared.touched()] += shared.weighted_sum(pixels, region) / shared.pixel_area
    return np.rint(white).clip(0, 255).astype(np.uint8).reshape(*block.shape, 3)
