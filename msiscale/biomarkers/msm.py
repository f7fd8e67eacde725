"""METASPACE's measure of an identification: chaos, spatial, spectral, and their product, the MSM.

After Palmer et al. 2017, Nat Methods 14:57, as the METASPACE engine computes them (version 1):
is the ion image coherent, are those of its isotopes like it, and are they as strong as theory says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVELS = 30
_CROSS = ndimage.generate_binary_structure(2, 1)
_PLANES = np.stack([np.zeros((3, 3), bool), _CROSS, np.zeros((3, 3), bool)])
_CELLS = 4_000_000  # of level masks labelled at a time


@dataclass(frozen=True)
class Score:
    """Each from 0 to 1; `msm` is their product."""

    chaos: float
    spatial: float
    spectral: float

    @property
    def msm(self) -> float:
        return self.chaos * self.spatial * self.spectral


def score(
    images: NDArray[np.floating],
    theory: NDArray[np.floating],
    sampled: Bools | None = None,
) -> Score:
    """Measures of an ion from its isotope images.

    Parameters
    ----------
    images
        (n, y, x) float, intensities by ascending m/z; 0 where nothing was seen or measured.
    theory
        (n,) float, expected intensities, in any unit.
    sampled
        (y, x) bool, measured pixels; None for all.

    Returns
    -------
    Score
        Its `chaos` is 0 where `spatial` or `spectral` is.
    """
    where = np.ones(images.shape[1:], bool) if sampled is None else sampled
    pixels = np.asarray(images[:, where], np.float64)
    spatial = spatial_correlation(pixels, theory)
    spectral = spectral_match(pixels, theory)
    # the dear one last, and not for nothing
    chaos = spatial_coherence(images[0]) if spatial * spectral > 0 else 0.0
    return Score(chaos, spatial, spectral)


def spatial_coherence(image: NDArray[np.floating]) -> float:
    """Measure of spatial chaos: 1 less the objects per pixel that the levels of an image fall into.

    Parameters
    ----------
    image
        (y, x) float, 0 where nothing was seen or measured.

    Returns
    -------
    float
        At most 1, which is coherent; 0 for an empty image.
    """
    # each level is dilated by a cross and eroded by a square, which closes pinholes, and its
    # 4-connected parts are counted
    filled = int(np.count_nonzero(image > 0))
    if not filled:
        return 0.0
    values = np.asarray(image, np.float64)
    levels = values.max() * np.arange(LEVELS) / LEVELS
    step = max(1, _CELLS // values.size)
    objects = 0
    for start in range(0, LEVELS, step):
        masks = values[None] > levels[start : start + step, None, None]
        objects += int(ndimage.label(_eroded(_dilated(masks)), _PLANES)[1])
    return 1.0 - objects / LEVELS / filled if objects else 0.0


def spatial_correlation(pixels: Floats, theory: NDArray[np.floating]) -> float:
    """Mean correlation of isotope images with the first one, weighted by what theory expects.

    Parameters
    ----------
    pixels
        (n, pixels) float64, intensities of the isotope images.
    theory
        (n,) float, expected intensities, in any unit.

    Returns
    -------
    float
        0..1; 0 where there is nothing to correlate.
    """
    first = pixels[0]
    weight = np.asarray(theory, np.float64)[1:]
    if len(pixels) < 2 or np.count_nonzero(first) < 2 or weight.sum() <= 0:
        return 0.0
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (centred[1:] * centred[0]).sum(axis=1) / (norm[1:] * norm[0])
    correlation[~np.isfinite(correlation)] = 0.0
    return float(np.clip((correlation * weight).sum() / weight.sum(), 0.0, 1.0))


def spectral_match(pixels: Floats, theory: NDArray[np.floating]) -> float:
    """How alike isotope intensities, where the first isotope is seen, and the expected ones are.

    Parameters
    ----------
    pixels
        (n, pixels) float64, intensities of the isotope images.
    theory
        (n,) float, expected intensities, in any unit.

    Returns
    -------
    float
        1 less the mean difference of both at unit length; 0 where that is 1, as for one image.
    """
    total = np.where(pixels[0] > 0, pixels, 0.0).sum(axis=1)
    length = np.sqrt((total**2).sum())
    if not length > 0:
        return 0.0
    expected = np.asarray(theory, np.float64)
    expected = expected / np.sqrt((expected**2).sum())
    match = 1.0 - float(np.abs(expected - total / length).mean())
    return 0.0 if match >= 1.0 else match


def _dilated(masks: Bools) -> Bools:
    """Dilate every plane of (n, y, x) by a 4-neighbour cross."""
    out = masks.copy()
    out[:, 1:] |= masks[:, :-1]
    out[:, :-1] |= masks[:, 1:]
    out[:, :, 1:] |= masks[:, :, :-1]
    out[:, :, :-1] |= masks[:, :, 1:]
    return out


def _eroded(masks: Bools) -> Bools:
    """Erode by a 3x3 square; what lies beyond the border counts as set."""
    rows = masks.copy()
    rows[:, 1:] &= masks[:, :-1]
    rows[:, :-1] &= masks[:, 1:]
    out = rows.copy()
    out[:, :, 1:] &= rows[:, :, :-1]
    out[:, :, :-1] &= rows[:, :, 1:]
    return out
