"""Figures of the whole cohort: AUC by specimen, R² by mode, m/z by effect and AUC."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msiscale.report.data import MODELS, PROTOCOL, Results
from msiscale.report.drawing import BLUE, GREEN, INK, ORANGE, VERMILION, plain

_STYLES = {
    "cancer_from_msi": ("o", BLUE),
    "cancer_from_he": ("s", ORANGE),
    "cancer_from_predicted_msi": ("D", GREEN),
}
_LABELLED = 6


def auc_by_specimen(results: Results) -> Figure | None:
    """Out-of-fold AUC of the three models, a row a specimen, and the pooled value."""
    table = results.metrics
    rows = table[
        (table["protocol"] == PROTOCOL)
        & (table["target"] == "cancer")
        & (table["metric"] == "auc")
        & table["model"].isin(list(MODELS))
    ]
    if rows.empty:
        return None
    wide = rows.pivot_table(index="specimen", columns="model", values="value", dropna=False)
    order = [name for name in results.specimens if name in wide.index]
    order += [name for name in wide.index if name not in order and name != "all"]
    order += ["all"] if "all" in wide.index else []
    figure = Figure(figsize=(7, 1.3 + 0.28 * len(order)), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(order))[::-1]
    for model, words in MODELS.items():
        if model in wide:
            marker, colour = _STYLES[model]
            values = wide.loc[order, model]
            axes.plot(values, y, marker, color=colour, label=words, ms=6, alpha=0.85)
    axes.axvline(0.5, color=INK, lw=0.8, ls="dashed")
    labels = ["all, pooled" if name == "all" else plain(name) for name in order]
    axes.set_yticks(y, labels, fontsize=8)
    axes.set_xlim(right=1.01)
    axes.set_xlabel("AUC, patient left out (0.5: chance)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", lw=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def r2_by_mode(results: Results) -> Figure | None:
    """R² of every mode of the MSI as predicted from H&E, with what else is known of the mode."""
    wide = mode_table(results)
    if wide.empty or "r2" not in wide:
        return None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    mode = np.arange(1, len(wide) + 1)
    others = specimen_r2(results).reindex(wide.index)
    for i, column in enumerate(others):
        label = "one specimen" if i == 0 else None
        axes.plot(mode, others[column], ".", color="#999999", ms=4, alpha=0.6, label=label)
    axes.plot(mode, wide["r2"], "o-", color=BLUE, ms=3.5, lw=1, label="all specimens")
    colours = (ORANGE, GREEN, VERMILION)
    baselines = [c for c in map(str, wide.columns) if c != "r2" and "r2" in c]
    for column, colour in zip(baselines, colours, strict=False):
        axes.plot(mode, wide[column], lw=1, ls="dashed", color=colour, label=_words(column))
    axes.axhline(0, color=INK, lw=0.6)
    # a mode of next to no variance can have any R²: below -1 it says nothing more
    low = np.nanmin([wide["r2"].min(), others.min().min() if others.size else 0.0, 0.0])
    axes.set_ylim(max(-1.0, low - 0.05), 1.02)
    axes.set_xlabel("mode of the MSI (PCA of the training specimens)", fontsize=8)
    axes.set_ylabel("R² from H&E, patient left out", fontsize=8)
    axes.tick_params(labelsize=8)
    if "explained_variance" in wide:
        right = axes.twinx()
        bottom, top = axes.get_ylim()
        highest = 1.05 * (float(np.nanmax(wide["explained_variance"])) or 1.0)
        right.set_ylim(highest * bottom / top, highest)  # zero at one height
        right.bar(mode, wide["explained_variance"], color="#56B4E9", alpha=0.35, width=0.8)
        right.set_ylabel("explained variance (bars)", fontsize=8)
        right.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def mode_table(results: Results) -> pd.DataFrame:
    """Pooled metrics of `msi_from_he`: a row a mode, a column a metric."""
    rows = _mode_rows(results)
    rows = rows[rows["specimen"] == "all"]
    return rows.pivot_table(index="target", columns="metric", values="value", dropna=False)


def specimen_r2(results: Results) -> pd.DataFrame:
    """R² of every mode (rows) in every specimen (columns)."""
    rows = _mode_rows(results)
    rows = rows[(rows["specimen"] != "all") & (rows["metric"] == "r2")]
    return rows.pivot_table(index="target", columns="specimen", values="value", dropna=False)


def _mode_rows(results: Results) -> pd.DataFrame:
    table = results.metrics
    return table[
        (table["protocol"] == PROTOCOL)
        & (table["model"] == "msi_from_he")
        & table["target"].str.startswith("mode_").fillna(False).astype(bool)
    ]


def volcano(results: Results) -> Figure | None:
    """Every m/z by its effect and its AUC over patients; the strongest are labelled."""
    table = results.biomarkers
    if table.empty or "effect" not in table:
        return None
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(table["effect"], table["auc"], ".", color="#999999", ms=4)
    strong = table.head(_LABELLED)
    axes.plot(strong["effect"], strong["auc"], "o", color=VERMILION, ms=5)
    _label(axes, strong)
    axes.axhline(0.5, color=INK, lw=0.6, ls="dashed")
    axes.axvline(0, color=INK, lw=0.6, ls="dashed")
    axes.set_xlabel("effect: log2 of mean intensity in cancer over other tissue", fontsize=8)
    axes.set_ylabel("AUC, mean over patients", fontsize=8)
    axes.tick_params(labelsize=8)
    return figure


def _label(axes: Axes, strong: pd.DataFrame) -> None:
    """m/z and name beside each point, towards the middle, moved up where two would overlap."""
    gap = 0.045 * float(np.ptp(axes.get_ylim()))
    middle = float(np.mean(axes.get_xlim()))
    last = {True: -np.inf, False: -np.inf}
    for row in strong.dropna(subset=["auc", "effect"]).sort_values("auc").to_dict("records"):
        right = row["effect"] > middle
        last[right] = max(row["auc"], last[right] + gap)
        axes.annotate(
            plain(f"{row['mz']:.4f} {row.get('annotation') or ''}".strip()),
            (row["effect"], row["auc"]),
            xytext=(
                row["effect"] + (-1 if right else 1) * 0.02 * np.ptp(axes.get_xlim()),
                last[right],
            ),
            ha="right" if right else "left",
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": INK, "shrinkA": 0, "shrinkB": 2},
        )
    axes.set_ylim(top=max(axes.get_ylim()[1], *(height + gap for height in last.values())))


def _words(column: str) -> str:
    return column.replace("_", " ").replace("r2", "R²")
