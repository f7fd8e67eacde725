"""Laplacian pyramid: the low levels of the ion image, the high ones of the slide.

The pyramid of Burt and Adelson (1983, IEEE Trans. Commun. 31:532) on nested grids, with the area
mean as the reduction, which is what a coarser MSI would measure. What of the slide's detail goes
into an ion image is its local slope on the slide, found where both are known: on the MSI's own
grid (context-based injection; Alparone et al. 2007, IEEE Trans. Geosci. Remote Sens. 45:3012).
"""

from __future__ import annotations

import numpy as np

from msiscale.fusion.nested import degrade, filled, prime_factors, upsample, window_sums
from msiscale.grid import Floats

GAIN_RADIUS = 3  # coarse pixels around one that its slope is found from
PRIOR = 0.1  # of the slide's variance: how far a local slope leans on that of the whole specimen


def laplacian(coarse: Floats, pan: Floats, factor: int, slope: Floats, variance: float) -> Floats:
    """Ion images on the fine grid.

    Parameters
    ----------
    coarse : float64 (h, w, t)
        Ion images, NaN where not measured.
    pan : float64 (h * factor, w * factor)
        The guide (the slide's luminance), NaN where it does not count.
    factor : int
        Fine pixels to a coarse one, each way.
    slope : float64 (t,)
        Of the ions on the guide over the whole specimen.
    variance : float
        Of the guide on the coarse grid, over the whole specimen.

    Returns
    -------
    float64 (h * factor, w * factor, t)
    """
    guides, steps = [pan], prime_factors(factor)
    for step in steps:
        guides.append(degrade(guides[-1], step))
    image = filled(coarse)
    gain = local_slope(coarse, degrade(pan, factor), slope, variance)
    for step, fine, low in zip(steps[::-1], guides[-2::-1], guides[:0:-1], strict=True):
        smooth = upsample(filled(low[..., None]), step, "bicubic")
        detail = np.nan_to_num(fine[..., None] - smooth)
        gain = upsample(gain, step, "bilinear")
        image = upsample(image, step, "bicubic") + gain * detail
    return image


def local_slope(coarse: Floats, pan: Floats, slope: Floats, variance: float) -> Floats:
    """Slope (h, w, t) of each ion on the guide around every pixel of the coarse grid."""
    # where there is little to go by (few pixels, or a guide that hardly varies) it is the whole's
    known = np.isfinite(pan) & np.isfinite(coarse).all(axis=-1)
    p = np.where(known, pan, 0.0)[..., None]
    m = np.where(known[..., None], coarse, 0.0)
    n = np.maximum(window_sums(known[..., None].astype(np.float64), GAIN_RADIUS), 1.0)
    mean_p, mean_m = (window_sums(a, GAIN_RADIUS) / n for a in (p, m))
    covariance = window_sums(p * m, GAIN_RADIUS) / n - mean_p * mean_m
    spread = np.maximum(window_sums(p * p, GAIN_RADIUS) / n - mean_p**2, 0)
    weight = PRIOR * variance
    total = spread + weight
    lean = covariance + weight * slope
    return np.divide(lean, total, out=np.zeros(lean.shape), where=total > 0)
