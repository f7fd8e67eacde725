"""One figure for each of the strongest m/z: its images, and box plots of every patient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from msiscale.report.data import identification
from msiscale.report.drawing import (
    BLUE,
    VERMILION,
    draw_map,
    draw_outline,
    extent_um,
    plain,
    side_bar,
    spread,
)

IMAGES = 6  #: specimens whose image is drawn
COLUMNS = 3
BOXES = 30  #: specimens with a box plot
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Seen:
    """An m/z in one specimen.

    Attributes
    ----------
    image
        (y, x) intensity, NaN where not measured.
    cancer, tissue
        (y, x) bool.
    boxes
        (2, 5) `PERCENTILES` of cancer and of other labelled tissue.
    """

    specimen: str
    patient: str
    image: NDArray[np.floating]
    cancer: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    pixel_um: tuple[float, float]
    boxes: NDArray[np.floating]
    auc: float


def percentiles(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute `PERCENTILES`, NaN left out.

    Parameters
    ----------
    values
        (n,) in any unit.

    Returns
    -------
    numpy.ndarray
        (5,) float64 in the same unit; NaN where nothing is left.
    """
    known = values[np.isfinite(values)]
    return np.percentile(known, PERCENTILES) if known.size else np.full(len(PERCENTILES), np.nan)


def biomarker_figure(row: Mapping[Any, Any], seen: list[Seen]) -> Figure:
    """Images of the first specimens on one scale, with the annotation outlined, and box plots.

    Parameters
    ----------
    row
        Of ``biomarkers.csv``.
    seen
        The m/z in every specimen, in the order of the manifest.

    Returns
    -------
    matplotlib.figure.Figure
        Of at most `IMAGES` images and `BOXES` pairs of boxes.
    """
    shown = seen[:IMAGES]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.1 * columns + 0.5, 2.9 * rows + 3.0), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(2.9 * rows, 2.6))
    maps, boxes = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    grid = maps.subplots(rows, columns, squeeze=False).ravel()
    top = spread(*(np.where(s.tissue, s.image, np.nan) for s in shown))[1]
    for axes, one in zip(grid, shown, strict=False):
        extent = extent_um(one.image.shape, one.pixel_um)
        image = np.where(one.tissue, one.image, np.nan)
        drawn = draw_map(axes, image, one.tissue, extent, cmap="viridis", limits=(0.0, top or 1.0))
        draw_outline(axes, one.cancer, extent, "white", 1.0)
        title = f"{one.specimen} ({one.patient})" if one.patient != one.specimen else one.specimen
        axes.set_title(plain(f"{title}  AUC {one.auc:.2f}"), fontsize=8, loc="left")
        side_bar(axes, drawn)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    _boxes(boxes.subplots(), seen[:BOXES])
    words = [f"m/z {row['mz']:.4f}  {identification(row)}", f"AUC over patients {row['auc']:.2f}"]
    if np.isfinite(row.get("q", np.nan)):
        words.append(f"q {row['q']:.2g}")
    figure.suptitle(plain(",  ".join(words)), fontsize=10)
    return figure


def _boxes(axes: Axes, seen: list[Seen]) -> None:
    """Boxes of the quartiles with whiskers to the 5th and 95th percentile, two a specimen."""
    for k, (colour, offset) in enumerate(((VERMILION, -0.18), (BLUE, 0.18))):
        there = [(i, s) for i, s in enumerate(seen) if np.isfinite(s.boxes[k]).all()]
        keys = ("whislo", "q1", "med", "q3", "whishi")
        stats = [dict(zip(keys, map(float, s.boxes[k]), strict=True)) for _, s in there]
        axes.bxp(
            stats,
            positions=[i + offset for i, _ in there],
            widths=0.3,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.6, "linewidth": 0.7},
            medianprops={"color": "black", "linewidth": 1.0},
            whiskerprops={"linewidth": 0.7},
            capprops={"linewidth": 0.7},
            manage_ticks=False,
        )
    names = [s.patient if s.patient == s.specimen else f"{s.patient}\n{s.specimen}" for s in seen]
    axes.set_xticks(range(len(seen)), [plain(n) for n in names], fontsize=7)
    axes.set_xlim(-0.6, len(seen) - 0.4)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylabel("intensity (quartiles, 5 and 95 %)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(facecolor=c, alpha=0.6) for c in (VERMILION, BLUE)]
    labels = ["annotated cancer", "other tissue"]
    style: dict[str, Any] = {"fontsize": 7, "frameon": False, "ncols": 2}
    # above the axes, where it hides nothing
    axes.legend(handles, labels, loc="lower right", bbox_to_anchor=(1, 1), **style)
