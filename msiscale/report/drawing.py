"""Parts that the figures share: maps in µm, outlines, scale bars, PNG bytes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart with any colour vision
ORANGE, BLUE, VERMILION, GREEN, INK = "#E69F00", "#0072B2", "#D55E00", "#009E73", "#333333"
_TISSUE = ListedColormap(["#d9d9d9"])
_DPI = 120

Extent = tuple[float, float, float, float]


def extent_um(shape: tuple[int, ...], pixel: tuple[float, float]) -> Extent:
    """matplotlib's extent (left, right, bottom, top) of a map in µm, y downwards."""
    return 0.0, shape[1] * pixel[1], shape[0] * pixel[0], 0.0


def plain(text: str) -> str:
    """`text` as it is: no mathematics in a specimen's name."""
    return text.replace("$", r"\$")


def panels(
    n: int, shape: tuple[int, ...], pixel: tuple[float, float], *, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of `n` maps of this shape, in one row unless the maps are wide."""
    ratio = shape[0] * pixel[0] / (shape[1] * pixel[1])
    if columns is None:
        columns = n if ratio > 0.55 else math.ceil(n / 2)
    rows = math.ceil(n / columns)
    width = min(3.4, 14.0 / columns)
    height = min(max(width * ratio, 1.2), 6.0)
    figure = Figure(figsize=(width * columns + 0.9, (height + 0.85) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[n:]:
        axes.set_axis_off()
    return figure, list(grid[:n])


def draw_map(
    axes: Axes,
    values: NDArray[Any],
    tissue: NDArray[np.bool_],
    extent: Extent,
    *,
    cmap: str,
    limits: tuple[float, float],
) -> AxesImage:
    """Values over the tissue in grey with its outline.

    Parameters
    ----------
    axes
        To draw on.
    values, tissue
        (y, x) each; where a value is NaN the tissue shows.
    extent
        Of `extent_um`.
    cmap, limits
        Colours, and the values of the first and the last.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar.
    """
    off_tissue = np.ma.masked_where(~tissue, np.zeros(tissue.shape))
    axes.imshow(off_tissue, cmap=_TISSUE, extent=extent, interpolation="nearest")
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        extent=extent,
        interpolation="nearest",
    )
    draw_outline(axes, tissue, extent, "#7f7f7f", 0.6)
    finish_map(axes, extent)
    return image


def draw_outline(
    axes: Axes,
    mask: NDArray[np.bool_],
    extent: Extent,
    colour: str,
    width: float,
    style: str = "solid",
) -> None:
    """Draw the border of a mask, closed at the edge of the map.

    Parameters
    ----------
    axes
        Where to.
    mask
        (y, x) bool; nothing is drawn where none is true.
    extent
        Of the map in µm, as of `extent_um`.
    colour
        Of the line.
    width
        Of the line, in points.
    style
        Of the line, as matplotlib names it.
    """
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    dy, dx = extent[2] / mask.shape[0], extent[1] / mask.shape[1]
    y = (np.arange(padded.shape[0]) - 0.5) * dy
    x = (np.arange(padded.shape[1]) - 0.5) * dx
    axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width, linestyles=style)


def finish_map(axes: Axes, extent: Extent) -> None:
    """Equal aspect, µm on the axes, a scale bar."""
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)
    axes.set_xlabel("x (µm)", fontsize=8)
    axes.set_ylabel("y (µm)", fontsize=8)
    draw_scale(axes, extent)


def draw_scale(axes: Axes, extent: Extent) -> None:
    """A bar of a round length in a corner of a map."""
    length = nice_length(0.25 * extent[1])
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar = AnchoredSizeBar(
        axes.transData,
        length,
        label,
        "lower left",
        pad=0.25,
        sep=2,
        frameon=True,
        size_vertical=0.008 * extent[2],
        color="black",
        fontproperties={"size": 7},
    )
    bar.patch.set(alpha=0.75, linewidth=0)
    axes.add_artist(bar)


def side_bar(axes: Axes, image: AxesImage) -> None:
    """A colour bar as high as the map it belongs to."""
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.045, 1)))
    bar.ax.tick_params(labelsize=6)


def nice_length(um: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is not above `um`."""
    power = 10.0 ** math.floor(math.log10(um))
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= um)


def spread(*maps: NDArray[Any], low: float = 1, high: float = 99) -> tuple[float, float]:
    """Colour limits of `maps` (any shapes): percentiles of finite values, never an empty range."""
    values = np.concatenate([m[np.isfinite(m)].ravel() for m in maps])
    if not values.size:
        return 0.0, 1.0
    bottom, top = (float(v) for v in np.percentile(values, [low, high]))
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def png(figure: Figure) -> bytes:
    """The figure as PNG, with nothing in it that changes from run to run."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round marks of an axis, the last of them at or above `high`."""
    step = nice_length((high - low) / most)
    while low + step * most < high:
        step = nice_length(step * 2.6)
    n = math.ceil((high - low) / step - 1e-9)
    return [round(low + i * step, 10) for i in range(n + 1)]
