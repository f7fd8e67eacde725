"""The ions that H&E predicts best, middling and worst: measured beside predicted, of a specimen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msiscale.biomarkers.classes import class_of
from msiscale.report.data import IONS, Results
from msiscale.report.drawing import BLUE, INK, ORANGE, draw_scale, extent_um, plain, spread
from msiscale.report.tables import HtmlTable, number
from msiscale.store import HeldOut, StoredSpecimen, nearest_column

GROUPS = ("best", "median", "worst")
EACH = 2  #: ions of a group
CLASS = "class of lipid"
_PANEL, _HIGHEST = 2.7, 2.6  # inches
_OFF = "#ececec"
_NAME = 34  # letters of a name, at most
_FEW = 0.01  # of the pixels
_MEDIANS = {
    "pearson": "median r",
    "patient_r2": "median R² within patients",
    "excess": "median r over moved",
    "moran": "median Moran's I",
}
_NONE = HtmlTable([], [])


def scored(results: Results) -> pd.DataFrame:
    """Rows of ``ions.csv`` of the protocol that the page is about, the best correlation first."""
    table = results.table(IONS)
    here = table[(table["protocol"] == results.protocol) & table["pearson"].notna()]
    return here.sort_values("pearson", ascending=False, kind="stable")


def shown(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """`EACH` ions of each group, of which none is shown twice."""
    n, middle = len(table), max(len(table) // 2 - EACH // 2, 0)
    places = (range(EACH), range(middle, middle + EACH), range(n - EACH, n))
    taken: set[int] = set()
    found = []
    for name, group in zip(GROUPS, places, strict=True):
        kept = [i for i in group if 0 <= i < n and i not in taken]
        taken |= {*kept}
        if kept:
            found.append((name, table.iloc[kept]))
    return found


def ion_tiers(results: Results) -> HtmlTable:
    """How many ions are read from H&E, partly, and not, with the medians of each tier."""
    return _summed(_tiered(results), "tier")


def ion_classes(results: Results) -> HtmlTable:
    """The same of identified ions by class of lipid, with how many of each are of which tier."""
    return _summed(identified(_tiered(results)), CLASS, ("A", "B", "C"))


def identified(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``ions.csv`` that have a name, with a column `CLASS` beside them."""
    if "identification" not in table:
        return table.iloc[:0]
    named = table["identification"].fillna("").map(class_of)
    return table.assign(**{CLASS: named})[named != ""]


def _tiered(results: Results) -> pd.DataFrame:
    table = scored(results)
    return table[table["tier"].fillna("") != ""] if "tier" in table else table.iloc[:0]


def _summed(table: pd.DataFrame, by: str, tiers: tuple[str, ...] = ()) -> HtmlTable:
    """A row a group: ions, how many of each tier, medians of scores, the best."""
    if table.empty:
        return _NONE
    rows = []
    for name, some in table.groupby(by, sort=True):
        counts = [str(int((some["tier"] == tier).sum())) for tier in tiers]
        medians = [number(float(some[c].median())) for c in _MEDIANS if c in some]
        best = some.iloc[0]
        word = f"m/z {best['mz']:.4f} {best.get('identification') or ''}".strip()
        rows.append([str(name), str(len(some)), *counts, *medians, word])
    words = [word for column, word in _MEDIANS.items() if column in table]
    return HtmlTable([by, "ions", *tiers, *words, "highest r"], rows)


def gallery(results: Results, specimen: str) -> Figure | None:
    """H&E, the correlations of all ions, and images of some, measured and predicted held out."""
    data, held = results.cohort(specimen), results.held_out(specimen)
    table = scored(results)
    if data is None or held is None or table.empty:
        return None
    groups = shown(table)
    pixel = data.pixel_um
    extent = extent_um(held.shape, pixel)
    wide, high = panel_size(extent)
    rows = max(len(groups), 2)
    size = ((wide + 0.45) * (1 + 2 * EACH), (high + 0.5) * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(rows, 1 + 2 * EACH)
    first = figure.add_subplot(grid[0, 0])
    _slide(first, data, extent)
    _histogram(figure.add_subplot(grid[1:, 0]), table)
    for i, (name, some) in enumerate(groups):
        for j, row in enumerate(some.to_dict("records")):
            pair = [figure.add_subplot(grid[i, 1 + 2 * j + k]) for k in range(2)]
            draw_ion(pair, held, row, extent, f"{name}: " if j == 0 else "")
    words = f"{specimen}: ions measured | predicted from H&E with {results.left_out}"
    figure.suptitle(plain(words), fontsize=11)
    return figure


def panel_size(extent: Any) -> tuple[float, float]:
    """Inches of an image, wide and high."""
    high = min(_PANEL * extent[2] / extent[1], _HIGHEST)
    return high * extent[1] / extent[2], high


def _slide(axes: Axes, data: StoredSpecimen, extent: Any) -> None:
    """The slide on the grid of the MSI, with a scale."""
    axes.set_title("H&E", fontsize=9, loc="left")
    if "preview" in data:
        axes.imshow(data.read("preview"), extent=extent, interpolation="nearest")
    _bare(axes, extent)
    draw_scale(axes, extent)


def draw_ion(pair: list[Axes], held: HeldOut, row: dict[Any, Any], extent: Any, group: str) -> None:
    """Both images of an ion, on the scale of what was measured; `group` begins their title."""
    i = nearest_column(held.mz, row["mz"])
    measured, predicted = held.measured(slice(i, i + 1)), held.predicted(slice(i, i + 1))
    limits = spread(measured)
    if not (measured > limits[0]).mean() > _FEW:  # signal in a few pixels only
        limits = spread(measured, low=0, high=100)
    for axes, rows in zip(pair, (measured, predicted), strict=True):
        drawn = axes.imshow(
            np.ma.masked_invalid(held.image(rows)[..., 0]),
            cmap="viridis",
            vmin=limits[0],
            vmax=limits[1],
            extent=extent,
            interpolation="nearest",
        )
        _bare(axes, extent)
    tier = str(row.get("tier") or "")
    tier = f", tier {tier}" if tier else ""
    name = str(row.get("identification") or "")
    name = f"\n{name[:_NAME]}" if name else ""  # below, where two would run into each other
    pair[0].set_title(plain(f"{group}m/z {row['mz']:.4f}{tier}{name}"), fontsize=9, loc="left")
    r = _pearson(measured[:, 0], predicted[:, 0], held.fold[held.held])
    words = [f"r {round(r, 2) + 0.0:.2f}" if math.isfinite(r) else "no r"]
    if row.get("specimens", 1) > 1:
        words.append(f"of all {row['pearson']:.2f}, R² of all {row['r2']:.2f}")
    else:
        words.append(f"R² {row['r2']:.2f}")
    colour = row.get("colour_pearson", math.nan)
    if math.isfinite(colour):
        words[-1] += f"\ncolour alone: r {colour:.2f}"
    pair[1].set_title(", ".join(words), fontsize=9, loc="left")
    assert pair[1].figure is not None
    bar = pair[1].figure.colorbar(drawn, cax=pair[1].inset_axes((1.02, 0, 0.04, 1)))
    bar.ax.tick_params(labelsize=6)


def _pearson(a: NDArray[Any], b: NDArray[Any], fold: NDArray[Any]) -> float:
    """Within what each fold held out, as ``ions.csv`` has it."""
    sums = np.zeros(3)
    for k in np.unique(fold):
        u, v = (x[fold == k].astype(np.float64) for x in (a, b))
        u, v = u - u.mean(), v - v.mean()
        sums += u @ v, u @ u, v @ v
    norm = float(np.sqrt(sums[1] * sums[2]))
    return float(sums[0]) / norm if norm else math.nan


def _histogram(axes: Axes, table: pd.DataFrame) -> None:
    """How many ions have which correlation, by the features and by colour alone."""
    bins = np.linspace(-1, 1, 41).tolist()
    r = table["pearson"].to_numpy(float)
    axes.hist(r, bins, color=BLUE, alpha=0.75, label=f"from H&E, median {np.median(r):.2f}")
    if "colour_pearson" in table and table["colour_pearson"].notna().any():
        other = table["colour_pearson"].dropna().to_numpy(float)
        label = f"colour alone, {np.median(other):.2f}"
        axes.hist(other, bins, color=ORANGE, histtype="step", lw=1.4, label=label)
    axes.axvline(0, color=INK, lw=0.8)
    lowest = min(float(r.min()), 0.0)
    axes.set_xlim(max(lowest - 0.05, -1), 1)
    axes.set_xlabel("r, measured and predicted", fontsize=8)
    axes.set_ylabel("ions", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{len(r)} ions", fontsize=9, loc="left")
    axes.legend(fontsize=7, frameon=False, loc="upper right")


def _bare(axes: Axes, extent: Any) -> None:
    axes.set_facecolor(_OFF)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
