"""Where a slide has tissue.

Glass is white and without colour; tissue is coloured. Otsu's threshold [1]_ on saturation tells
them apart, but on a slide that is all tissue (or all glass) it would split noise in half, so it
may only choose between two bounds: what is clearly coloured is tissue and what is clearly not is
glass, whatever the histogram says. What has colour or is dark and is no tissue (felt pens, edges of
glass, dust) is told by `pens`.

.. [1] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst. Man
   Cybern. 9 (1979) 62-66.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from msiscale.slide.pens import no_tissue
from msiscale.slide.reader import Slide
from msiscale.slide.working import working

SATURATION = (0.05, 0.12)  # glass is below the first, tissue above the second
BRIGHT = 0.94  # of the glass's own brightness: paler than this is glass
EDGE, LONG = (
    8.0,
    15.0,
)  # pixels of thickness, and times it in length: no strand of tissue is straight
CANVAS = 8  # of 255: a border that is darker is a canvas on which the picture was laid
DARK = 0.12  # brightness (0..1) below which a pixel is a scanner's black filling or ink


def tissue_mask(
    slide: Slide,
    *,
    mpp: float = 8.0,
    min_area_um2: float = 20_000.0,
    max_hole_um2: float = 10_000.0,
) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    """Tissue of a slide at low resolution.

    Parameters
    ----------
    slide : Slide
        All of it decides.
    mpp : float
        µm per mask pixel; the slide's own where it is coarser.
    min_area_um2 : float
        Pieces smaller than this (dust) are dropped.
    max_hole_um2 : float
        Holes smaller than this (lumina, small tears) are filled.

    Returns
    -------
    mask : bool (h, w)
    downsample : (float, float)
        Level-0 pixels per mask pixel (y, x).
    """
    image = working(slide, max(mpp, *slide.mpp))
    mask = tissue_pixels(image.read(0, 0, *image.shape))
    area = image.mpp.area
    mask = ndimage.binary_closing(mask, iterations=1) | mask
    mask = remove_small_objects(mask, max_size=int(min_area_um2 / area))
    mask = remove_small_holes(mask, max_size=int(max_hole_um2 / area))
    return _without_edges(mask), image.downsample


def _without_edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without thin, straight and long pieces: the edge of a coverslip has colours."""
    labels, n = ndimage.label(mask)
    gone = np.zeros(n + 1, bool)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        piece = np.pad(labels[window] == index, 1)
        thick = 2 * float(ndimage.distance_transform_edt(piece).max())
        if thick <= EDGE and np.count_nonzero(piece) > LONG * thick**2:
            across = float(np.linalg.eigvalsh(np.cov(np.argwhere(piece).T))[0])
            gone[index] = np.sqrt(across) < thick
    return np.asarray(mask & ~gone[labels]) if gone.any() else mask


def tissue_pixels(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that are coloured as tissue is.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
        The whole of a slide, or of a part with glass.

    Returns
    -------
    bool (h, w)
    """
    smooth = ndimage.uniform_filter(rgb.astype(np.float32) / 255, size=(3, 3, 1), mode="nearest")
    high, low = smooth.max(axis=-1), smooth.min(axis=-1)
    saturation = (high - low) / np.maximum(high, 1e-3)
    brightness = smooth.mean(axis=-1)
    usable = brightness > DARK
    if not usable.any():
        return np.zeros(usable.shape, bool)
    values = saturation[usable]
    otsu: Any = threshold_otsu  # without types
    middle = float(otsu(values)) if float(np.ptp(values)) > 1e-3 else 0.0
    threshold = min(max(middle, SATURATION[0]), SATURATION[1])
    # The glass of this slide, where it has any, is what is brightest in it.
    glass = max(float(np.percentile(brightness[usable], 99)), 0.8)
    pale = brightness > BRIGHT * glass
    found = usable & (saturation > threshold) & ~(pale & (saturation < SATURATION[1]))
    return np.asarray(found & ~no_tissue(smooth))


def off_slide(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of the black canvas around a picture that was turned or cut out: no slide at all.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
        The whole of a slide.

    Returns
    -------
    bool (h, w)
        Black pixels that hang together with the border, and those that touch them.
    """
    dark = rgb.max(axis=-1) <= CANVAS
    edge = np.ones(dark.shape, bool)
    edge[1:-1, 1:-1] = False
    canvas = ndimage.binary_propagation(dark & edge, mask=dark)
    # what touches it is a mixture of both
    return np.asarray(ndimage.binary_dilation(canvas, np.ones((3, 3), bool)))
