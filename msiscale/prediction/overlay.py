"""The picture of a prediction: probability over the slide, and where not to believe it."""

from __future__ import annotations

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from msiscale.features.preview import preview
from msiscale.grid import Floats, apply, scaling
from msiscale.prediction.regions import Found
from msiscale.report.drawing import INK, VERMILION, finish_map, plain, png
from msiscale.slide.reader import Slide
from msiscale.slide.working import working

SIDE = 1600  # pixels of the slide in the picture, at most
GREY = "#8c8c8c"


def draw_overlay(
    slide: Slide,
    title: str,
    probability: NDArray[np.float32],
    extrapolated: NDArray[np.bool_],
    found: list[Found],
    matrix: Floats,
    pixel_um: float,
) -> bytes:
    """Draw a slide with the probability of cancer over its tissue.

    Parameters
    ----------
    slide : Slide
        The slide.
    title : str
        Above the picture.
    probability : (y, x) float32
        NaN where nothing was predicted.
    extrapolated : (y, x) bool
        Grey and hatched, in place of the probability.
    found : list of Found
        Regions to outline.
    matrix : (3, 3) float64
        Pixel index to level-0 pixels.
    pixel_um : float
        Side of a pixel of the grid, µm.

    Returns
    -------
    bytes
        The PNG file.
    """
    step = max(1, -(-max(probability.shape) // SIDE))  # of pixels, where there are too many
    values, unlike = probability[::step, ::step], extrapolated[::step, ::step]
    shape = (values.shape[0], values.shape[1])
    coarse = matrix @ scaling(step)  # of the pixels that are shown
    coarse[:2, 2] = apply(matrix, [(step - 1) / 2] * 2)
    per_pixel = max(1, min(32, SIDE // max(shape)))
    pixel = pixel_um * step
    image = working(slide, max(pixel / per_pixel, *slide.mpp))
    picture = preview(image, coarse, shape, per_pixel)

    height, width = shape[0] * pixel, shape[1] * pixel
    extent = (0.0, width, height, 0.0)
    figure = Figure(figsize=(8, min(6.4 * height / width, 14) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, extent=extent)
    believed = np.ma.masked_where(unlike | ~np.isfinite(values), values)
    painted = axes.imshow(
        believed, extent=extent, cmap="viridis", vmin=0, vmax=1, alpha=0.5, interpolation="nearest"
    )
    _hatch(axes, unlike, extent)
    to_um = scaling(*slide.mpp[::-1])
    for region in found:
        for part in shapely.get_parts(region.polygon):
            for ring in (part.exterior, *part.interiors):
                x, y = apply(to_um, shapely.get_coordinates(ring)).T
                axes.plot(x, y, color=VERMILION, linewidth=1.5)
    bar = figure.colorbar(painted, ax=axes, shrink=0.7)
    bar.set_label("probability of cancer, mean of the predictors")
    finish_map(axes, extent)
    tissue = np.isfinite(values)
    share = unlike.sum() / max(tissue.sum(), 1)
    handles = [
        Line2D([], [], color=VERMILION, linewidth=1.5, label="predicted cancer"),
        Patch(
            facecolor=GREY,
            edgecolor=INK,
            hatch="////",
            label=f"unlike the training, do not trust ({share:.0%} of the tissue)",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    axes.set_title(plain(title))
    return png(figure)


def _hatch(
    axes: Axes, unlike: NDArray[np.bool_], extent: tuple[float, float, float, float]
) -> None:
    """Grey, with lines, over the pixels that are not to be believed."""
    if not unlike.any():
        return
    axes.imshow(
        np.ma.masked_where(~unlike, np.ones(unlike.shape)),
        extent=extent,
        cmap=ListedColormap([GREY]),
        alpha=0.75,
        interpolation="nearest",
    )
    padded = np.pad(unlike.astype(float), 1)
    dy, dx = extent[2] / unlike.shape[0], extent[1] / unlike.shape[1]
    y, x = ((np.arange(n) - 0.5) * d for n, d in zip(padded.shape, (dy, dx), strict=True))
    axes.contourf(x, y, padded, levels=[0.5, 1.5], colors="none", hatches=["////"])
    axes.contour(x, y, padded, levels=[0.5], colors=[INK], linewidths=0.5)
