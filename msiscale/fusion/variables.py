"""What a linear model may know of an H&E slide: colour, stain, texture, each at a few scales.

Variables are maps on a raster of a few µm, averaged by area onto whatever pixel is asked for, so
that those of an MSI pixel are exactly the mean of those of its parts: a model fitted at MSI
resolution applies to any finer grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hed_from_rgb

from msiscale.features.extract import Image, to_cells
from msiscale.features.preview import on_white_ground
from msiscale.fusion.nested import degrade
from msiscale.grid import Block, Floats
from msiscale.placing import Placing, finer

RASTER_UM = 4.0  # the raster is this fine, up to twice as coarse
TEXTURE = (1.0, 2.0, 4.0)  # raster pixels
NEIGHBOURHOOD = (0.25, 0.5)  # of an MSI pixel
LUMINANCE = (0.2125, 0.7154, 0.0721)  # of red, green and blue (ITU-R BT.709)

NAMES = (
    *("red", "green", "blue", "haematoxylin", "eosin"),
    *(
        f"{what}_{scale:g}"
        for scale in TEXTURE
        for what in ("sd_luminance", "sd_haematoxylin", "gradient", "blobs")
    ),
    *(
        f"{what}_{scale:g}_pixel"
        for scale in NEIGHBOURHOOD
        for what in ("haematoxylin", "eosin", "sd_haematoxylin")
    ),
)


def raster_pixels(pixel_um: float, parts: int = 1) -> int:
    """Raster pixels to an MSI pixel, each way: a power of two, and no fewer than `parts`."""
    return max(parts, 1 << max(0, int(np.floor(np.log2(pixel_um / RASTER_UM)))))


def parts_of(pixel_um: float, wanted_um: float) -> int:
    """Into how many parts to cut an MSI pixel, each way, for at most `wanted_um`: a power of 2."""
    return 1 << max(0, int(np.ceil(np.log2(pixel_um / wanted_um) - 1e-9)))


def halo_of(per_pixel: int) -> int:
    """Raster pixels that a variable reaches beyond its own."""
    return max(_radius(s) for s in (*TEXTURE, *_neighbourhood(per_pixel)))


def slide_on_raster(image: Image, placing: Placing, per_pixel: int, block: Block) -> Floats:
    """RGB of a block of raster pixels by exact area overlap, 0..255; white off the slide.

    Parameters
    ----------
    image : Image
        The slide, best at about the size of a raster pixel.
    placing : (3, 3) float64, or GridMap
        MSI index to level-0 pixels.
    per_pixel : int
        Raster pixels to an MSI pixel, each way.
    block : Block
        In raster pixels; it may lie beyond the MSI's grid. A pixel does not depend on it.

    Returns
    -------
    float64 (h, w, 3)
    """
    to_image = to_cells(finer(placing, per_pixel), image, 1)
    return np.clip(on_white_ground(image, to_image, block), 0, 255)


def slide_variables(rgb: Floats, per_pixel: int, parts: int) -> Floats:
    """Variables of the H&E on pixels of which `parts` make an MSI pixel, each way.

    Parameters
    ----------
    rgb : float64 (h, w, 3)
        0..255 on the raster, with `halo_of(per_pixel)` pixels around what is wanted.
    per_pixel : int
        Raster pixels to an MSI pixel; a multiple of `parts`.
    parts : int
        Pixels of the result to an MSI pixel, each way.

    Returns
    -------
    float64 (h', w', len(NAMES))
        Of whole pixels, without the halo.
    """
    halo = halo_of(per_pixel)
    maps = [m[halo:-halo, halo:-halo] for m in _maps(rgb / 255, per_pixel)]
    return np.stack([degrade(m, per_pixel // parts) for m in maps], axis=-1)


def luminance(variables: NDArray[np.floating]) -> Floats:
    """Luminance from the variables of the H&E.

    Parameters
    ----------
    variables : (h, w, n)
        Red, green and blue are the first three.

    Returns
    -------
    float64 (h, w)
    """
    r, g, b = (variables[..., i].astype(np.float64) for i in range(3))
    return LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b


def _maps(rgb: Floats, per_pixel: int) -> list[Floats]:
    """One map of the raster for each of `NAMES`."""
    light = luminance(rgb)
    absorbed = -np.log10(np.maximum(rgb, 1 / 255))
    haematoxylin, eosin = (_stain(absorbed, k) for k in (0, 1))
    found = [*np.moveaxis(rgb, -1, 0), haematoxylin, eosin]
    for scale in TEXTURE:
        found += [
            _local_sd(light, scale),
            _local_sd(haematoxylin, scale),
            ndimage.gaussian_gradient_magnitude(light, scale),
            np.abs(ndimage.gaussian_laplace(haematoxylin, scale)),
        ]
    for scale in _neighbourhood(per_pixel):
        found += [
            _smooth(haematoxylin, scale),
            _smooth(eosin, scale),
            _local_sd(haematoxylin, scale),
        ]
    return found


def _stain(absorbed: Floats, which: int) -> Floats:
    """Optical density of a stain (Ruifrok, Johnston 2001, Anal. Quant. Cytol. Histol. 23:291)."""
    # element by element: a matrix product may round a pixel otherwise in another block
    r, g, b = hed_from_rgb[:, which]
    return np.asarray(absorbed[..., 0] * r + absorbed[..., 1] * g + absorbed[..., 2] * b)


def _neighbourhood(per_pixel: int) -> tuple[float, ...]:
    return tuple(max(1.0, share * per_pixel) for share in NEIGHBOURHOOD)


def _radius(sigma: float) -> int:
    return int(4 * sigma + 0.5)  # where SciPy cuts its Gaussians off


def _smooth(values: Floats, sigma: float) -> Floats:
    return np.asarray(ndimage.gaussian_filter(values, sigma))


def _local_sd(values: Floats, sigma: float) -> Floats:
    return np.sqrt(np.maximum(_smooth(values * values, sigma) - _smooth(values, sigma) ** 2, 0))
