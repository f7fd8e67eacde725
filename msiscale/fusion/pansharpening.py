"""Pansharpening: what of the detail of the slide goes into ion images of coarser pixels.

*Intensity-hue-saturation.* Up to three ion images are the colours. In the linear IHS transform,
intensity is the mean of the three and replacing it is adding the difference to each of them, so
nothing need be transformed (Tu et al. 2001, Information Fusion 2:177). The slide is first given the
mean and the spread of the intensity (histogram matching as in Vivone et al. 2015, IEEE Trans.
Geosci. Remote Sens. 53:2565), and its sign: an ion may be strong where the slide is dark. The
generalised form takes each ion by itself and adds only what the slide has beyond its own coarse
image, by the ion's slope on the slide.

*Laplacian pyramid.* The low levels of the ion image, the high ones of the slide: the pyramid of
Burt and Adelson (1983, IEEE Trans. Commun. 31:532) on nested grids, with the area mean as the
reduction, which is what a coarser MSI would measure. What of the slide's detail goes into an ion
image is its local slope on the slide, found where both are known: on the MSI's own grid
(context-based injection; Alparone et al. 2007, IEEE Trans. Geosci. Remote Sens. 45:3012).
"""

from __future__ import annotations

import numpy as np

from msiscale.fusion.nested import degrade, filled, prime_factors, upsample, window_sums
from msiscale.grid import Floats
from msiscale.models.moments import Moments, reciprocal

COLOURS = 3  # of intensity, hue and saturation
GAIN_RADIUS = 3  # coarse pixels around one that its slope is found from
PRIOR = 0.1  # of the slide's variance: how far a local slope leans on that of the whole specimen


def slopes(sums: Moments) -> tuple[Floats, float]:
    """Slope (t,) of each ion on the guide and the guide's variance, from sums of guide and ions."""
    variance = float(sums.sxx[0, 0] / max(sums.n, 1e-300))
    if not sums.scale("x")[0]:
        return np.zeros(sums.q), 0.0
    return sums.sxm[0] / sums.sxx[0, 0], variance


def generalised_ihs(coarse: Floats, pan: Floats, factor: int, slope: Floats) -> Floats:
    """Sharpen each ion by itself: ``ion + slope * (pan - pan on the coarse grid)``.

    Parameters
    ----------
    coarse
        (h, w, t) float64 ion images, NaN where not measured.
    pan
        (h * factor, w * factor) float64, the guide (the slide's luminance); NaN where it does not
        count.
    factor
        Fine pixels to a coarse one, each way.
    slope
        (t,) float64, of the ions on the guide over the whole specimen.

    Returns
    -------
    numpy.ndarray
        (h * factor, w * factor, t) float64, in the units of `coarse`.
    """
    low = upsample(filled(degrade(pan, factor)[..., None]), factor, "bicubic")
    detail = np.nan_to_num(pan[..., None] - low)
    return upsample(filled(coarse), factor, "bicubic") + slope * detail


def ihs(coarse: Floats, pan: Floats, factor: int, sums: Moments) -> Floats:
    """Sharpen the ions three by three, in units of their standard deviations.

    Parameters
    ----------
    coarse
        (h, w, t) float64 ion images, NaN where not measured.
    pan
        (h * factor, w * factor) float64, the guide (the slide's luminance); NaN where it does not
        count.
    factor
        Fine pixels to a coarse one, each way.
    sums
        Of the guide (x) and the ions (m) over the whole specimen.

    Returns
    -------
    numpy.ndarray
        (h * factor, w * factor, t) float64, in the units of `coarse`.
    """
    image = upsample(filled(coarse), factor, "bicubic")
    known = np.isfinite(pan)
    for start in range(0, sums.q, COLOURS):
        chosen = slice(start, min(start + COLOURS, sums.q))
        mean, tilt = matching(sums, chosen)
        inverse = reciprocal(sums.scale("m")[chosen])
        intensity = (image[..., chosen] * inverse).mean(axis=-1)
        matched = mean + tilt * (pan - sums.mean_x[0])
        change = np.where(known, matched - intensity, 0.0)
        image[..., chosen] += change[..., None] * sums.scale("m")[chosen]
    return image


def matching(sums: Moments, chosen: slice) -> tuple[float, float]:
    """Mean and tilt that give the guide the mean, spread and sign of these ions' intensity."""
    inverse = reciprocal(sums.scale("m")[chosen])
    weight = inverse / len(inverse)
    mean = float(weight @ sums.mean_m[chosen])
    spread = float(weight @ sums.smm[chosen, chosen] @ weight)
    sign = float(np.sign(sums.sxm[0, chosen] @ weight))
    if not sums.scale("x")[0]:
        return mean, 0.0
    return mean, sign * float(np.sqrt(spread / sums.sxx[0, 0]))


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
    """Find the slope of each ion on the guide around every pixel of the coarse grid.

    Parameters
    ----------
    coarse
        (h, w, t) float64 ion images, NaN where not measured.
    pan
        (h, w) float64, the guide on the coarse grid; NaN where it does not count.
    slope
        (t,) float64, of the ions on the guide over the whole specimen.
    variance
        Of the guide on the coarse grid, over the whole specimen.

    Returns
    -------
    numpy.ndarray
        (h, w, t) float64, in intensity per unit of the guide.
    """
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
