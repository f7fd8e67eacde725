"""What is coloured on a slide and is no tissue: felt pens, and what is dark and has no colour.

Ink is told from a stain by evidence, not by its colour alone: ink is saturated, smooth where tissue
has texture, and is the smaller part of what is coloured like it. A section that is stained blue is
not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

LEAST = 200  # pixels of ink that hang together; smaller spots of colour are in any section
SMOOTH = 0.035  # change of density over 5 pixels that ink has and tissue has not
# hue (degrees) and least saturation of the core of a stroke, and of its pale edges
INKS = {
    "green": ((70.0, 185.0), 0.30, 0.10),
    "blue": ((185.0, 250.0), 0.50, 0.18),
    "red": ((-18.0, 18.0), 0.62, 0.30),
}
BLACK = (0.42, 0.10)  # ink is darker and has less chroma (both of 1)
GREY = (0.60, 0.05)  # edges of glass and of bubbles, dust: as dark, and with as little chroma
SHARE = 0.5  # of all that is coloured, beyond which a colour is the stain


def no_tissue(smooth: Floats) -> Mask:
    """Pixels of ink, and dark ones without colour.

    Parameters
    ----------
    smooth
        (h, w, 3) float32, 0...1, averaged over three pixels; the whole of a slide.

    Returns
    -------
    NDArray
        (h, w) bool.
    """
    high, low = smooth.max(axis=-1), smooth.min(axis=-1)
    chroma = high - low
    saturation = chroma / np.maximum(high, 1e-3)
    grey = (high < GREY[0]) & (chroma < GREY[1])
    hue = _hue(smooth, high, chroma)
    coloured = int(np.count_nonzero((saturation > 0.15) & (chroma > 0.08)))
    found = grey.copy()
    kinds = [
        (
            _between(hue, span) & (saturation > core) & (high > 0.2),
            _between(hue, span) & (saturation > pale),
        )
        for span, core, pale in INKS.values()
    ]
    kinds.append(((high < BLACK[0]) & (chroma < BLACK[1]), high < 1.6 * BLACK[0]))
    rough: Floats | None = None
    for core, pale in kinds:
        if np.count_nonzero(core) < LEAST:
            continue
        if rough is None:
            rough = _roughness(smooth)
        found |= _strokes(core, pale & (chroma < 1), rough, coloured)
    return np.asarray(found)


def _strokes(core: Mask, pale: Mask, rough: Floats, coloured: int) -> Mask:
    """Patches of one colour that are smooth, with their pale edges."""
    if np.count_nonzero(core) > SHARE * max(coloured, 1):
        return np.zeros_like(core)
    smooth = ndimage.binary_opening(core & (rough < SMOOTH), iterations=2)
    labels, n = ndimage.label(smooth)
    large = np.bincount(labels.ravel(), minlength=n + 1) >= LEAST
    large[0] = False
    seeds = large[labels]
    if not seeds.any():
        return np.asarray(seeds)
    near = ndimage.distance_transform_edt(~seeds) <= 6
    return np.asarray(ndimage.binary_propagation(seeds, mask=(core | (pale & near)) | seeds))


def _hue(smooth: Floats, high: Floats, chroma: Floats) -> Floats:
    """Hue, degrees from -60 to 300: red is around 0."""
    r, g, b = np.moveaxis(smooth, -1, 0)
    c = np.maximum(chroma, 1e-6)
    hue = np.where(high == r, (g - b) / c, np.where(high == g, 2 + (b - r) / c, 4 + (r - g) / c))
    return np.asarray(60 * hue, np.float32)


def _between(hue: Floats, span: tuple[float, float]) -> Mask:
    return (hue >= span[0]) & (hue <= span[1])


def _roughness(smooth: Floats) -> Floats:
    """How much the density changes around a pixel beyond a slope (sd of what a blur leaves)."""
    density = -np.log10(np.maximum(smooth.mean(axis=-1), 0.02))
    fine = density - ndimage.uniform_filter(density, 5)
    return np.asarray(np.sqrt(ndimage.uniform_filter(fine**2, 7)), np.float32)
