"""Intensity-hue-saturation fusion: the intensity of a colour image is that of the slide.

Up to three ion images are the colours. In the linear IHS transform, intensity is the mean of the
three and replacing it is adding the difference to each of them, so nothing need be transformed
(Tu et al. 2001, Information Fusion 2:177). The slide is first given the mean and the spread of the
intensity (histogram matching as in Vivone et al. 2015, IEEE Trans. Geosci. Remote Sens. 53:2565),
and its sign: an ion may be strong where the slide is dark.

The generalised form takes each ion by itself and adds only what the slide has beyond its own
coarse image, by the ion's slope on the slide.
"""

from __future__ import annotations

import numpy as np

from msiscale.fusion.nested import degrade, filled, upsample
from msiscale.grid import Floats
from msiscale.models.moments import Moments, reciprocal

COLOURS = 3


def slopes(sums: Moments) -> tuple[Floats, float]:
    """Slope (t,) of each ion on the guide and the guide's variance, from sums of guide and ions."""
    variance = float(sums.sxx[0, 0] / max(sums.n, 1e-300))
    if not sums.scale("x")[0]:
        return np.zeros(sums.q), 0.0
    return sums.sxm[0] / sums.sxx[0, 0], variance


def generalised_ihs(coarse: Floats, pan: Floats, factor: int, slope: Floats) -> Floats:
    """``ion + slope * (pan - pan on the coarse grid)``; arguments as in `laplacian`."""
    low = upsample(filled(degrade(pan, factor)[..., None]), factor, "bicubic")
    detail = np.nan_to_num(pan[..., None] - low)
    return upsample(filled(coarse), factor, "bicubic") + slope * detail


def ihs(coarse: Floats, pan: Floats, factor: int, sums: Moments) -> Floats:
    """Ions three by three, in units of their standard deviations; arguments as in `laplacian`."""
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
