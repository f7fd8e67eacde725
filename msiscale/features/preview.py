"""The H&E laid onto the MSI grid, a whole number of preview pixels to every MSI pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msiscale import grid
from msiscale.features.extract import Image, to_cells
from msiscale.grid import Block, Floats
from msiscale.placing import Placing, affine_of, finer
from msiscale.regridding import overlap

# Slide pixels read at once, about; bounds the memory of a block.
_READ = 1 << 20


def preview(
    image: Image, placing: Placing, shape: tuple[int, int], per_pixel: int
) -> NDArray[np.uint8]:
    """The slide resampled into the frame of the MSI by exact area overlap.

    Parameters
    ----------
    image : Image
        The slide, best at about ``pixel_um / per_pixel`` micrometres a pixel; finer is slower and
        no better, coarser is blocky.
    placing : (3, 3) float64, or GridMap
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
    to_image = to_cells(finer(placing, per_pixel), image, 1)
    out = np.full((shape[0] * per_pixel, shape[1] * per_pixel, 3), 255, np.uint8)
    pixel_area = abs(np.linalg.det(affine_of(to_image)[:2, :2]))
    side = int(np.clip(np.sqrt(_READ / pixel_area), 8, 512))
    for block in grid.blocks((out.shape[0], out.shape[1]), (side, side)):
        out[block.slices] = np.rint(on_white_ground(image, to_image, block)).clip(0, 255)
    return out


def on_white_ground(image: Image, to_image: Placing, block: Block) -> Floats:
    """RGB of a block of pixels by exact area overlap, white where there is no slide.

    Parameters
    ----------
    image : Image
        The slide.
    to_image : (3, 3) float64, or GridMap
        Pixel index to pixels of `image`.
    block : Block
        It may lie beyond the image. A pixel does not depend on it.

    Returns
    -------
    float64 (h, w, 3)
        0..255, give or take rounding.
    """
    shared = overlap(to_image, block, image.shape)
    region = shared.bounds()
    if region is None:
        return np.full((*block.shape, 3), 255.0)
    pixels = image.read(region.y0, region.x0, *region.shape)
    rgb = 255 * (1 - shared.coverage().reshape(-1, 1)).repeat(3, axis=1)
    touched = shared.touched()
    whole = np.broadcast_to(shared.pixel_area, block.shape).reshape(-1, 1)[touched]
    rgb[touched] += shared.weighted_sum(pixels, region) / whole
    return rgb.reshape(*block.shape, 3)
