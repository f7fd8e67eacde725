"""Interactive plots of the whole cohort (Bokeh): drawn in the browser, from the tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Span, Whisker
from bokeh.plotting import figure as new_figure

from msiscale.report.data import BIOMARKERS, METRICS, MODELS, Results, identification
from msiscale.report.drawing import BLUE, GREEN, INK, ORANGE, VERMILION
from msiscale.report.evidence import (
    COMPARED,
    PROTOCOLS,
    RELIABILITY,
    jitter_means,
    left_out,
    present,
    words_of,
)
from msiscale.report.headline import Estimates
from msiscale.report.ion_gallery import scored
from msiscale.report.sections import mode_table, specimen_r2

Figure = Any  # mypy does not follow bokeh
STYLES = {
    "cancer_from_msi": ("circle", BLUE, "solid"),
    "cancer_from_he": ("square", ORANGE, "dashed"),
    "cancer_from_predicted_msi": ("diamond", GREEN, "dotdash"),
    "cancer_from_he_modes": ("triangle", VERMILION, "dotted"),
}
_MARKS = (("circle", BLUE), ("square", ORANGE), ("diamond", GREEN), ("triangle", VERMILION))
_ROWS = 40  # specimens with a row of their own
_POINTS = 30  # specimens whose R² is a point of its own
_GREY = "#8c8c8c"
_SURE = 0.05  # false-discovery rate
_AUC = ("cancer", "auc")


def cohort_plots(results: Results) -> dict[str, Figure]:
    """Plots by name; one whose table is missing is left out."""
    made = {name: draw(results) for name, draw in PLOTS.items()}
    return {name: plot for name, plot in made.items() if plot is not None}


def _figure(height: int, **words: Any) -> Figure:
    plot = new_figure(
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        active_scroll=None,  # the page scrolls
        toolbar_location="above",
        **words,
    )
    plot.toolbar.logo = None
    # no ground of its own: the page has two
    plot.update(outline_line_color=None, border_fill_color=None, background_fill_color=None)
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
    return plot


def _points(plot: Figure, x: Any, y: Any, tips: list[tuple[str, str]], **style: Any) -> None:
    """Points that say what they are to who points at them."""
    drawn = plot.scatter(x, y, **style)
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))


def _legend(plot: Figure) -> None:
    """Above the plot, so that it hides nothing; a click hides what it names."""
    if plot.legend:
        legend = plot.legend[0]
        plot.add_layout(legend, "above")
        legend.update(orientation="horizontal", border_line_color=None, padding=2, spacing=8)
        legend.update(click_policy="hide", label_text_font_size="12px", ncols="auto")


def auc_by_specimen(results: Results) -> Figure | None:
    """Out-of-fold AUC of the three models: a row a specimen, or all of them in order of H&E's."""
    table = results.table(METRICS)
    rows = table[
        (table["protocol"] == results.protocol)
        & (table["target"] == "cancer")
        & (table["metric"] == "auc")
        & table["model"].isin(list(MODELS))
        & (table["specimen"] != "all")
    ]
    if rows.empty:
        return None
    wide = rows.pivot_table(index="specimen", columns="model", values="value", dropna=False)
    order = [n for n in results.specimens if n in wide.index]
    wide = wide.loc[order]
    label = f"AUC, {left_out(results)} (0.5: chance)"
    few = len(order) <= _ROWS
    if few:
        height = 120 + 22 * len(order)
        plot = _figure(height, y_range=FactorRange(*map(str, order[::-1])))
        plot.xaxis.axis_label = label
        plot.ygrid.grid_line_color = "#eeeeee"
    else:
        first = str(next(iter(wide.columns)))
        wide = wide.sort_values(first, kind="stable")
        plot = _figure(320)
        plot.yaxis.axis_label = label
        plot.xaxis.axis_label = f"specimens in order of the AUC {MODELS[first]}"
    for model in [m for m in MODELS if m in wide]:
        marker, colour, _ = STYLES[model]
        auc = wide[model].to_numpy(float)
        place = list(map(str, wide.index)) if few else np.arange(1, len(wide) + 1)
        data = {"auc": auc, "place": place, "name": list(map(str, wide.index))}
        tips = [("specimen", "@name"), ("AUC", "@auc{0.000}"), ("predicted", MODELS[model])]
        style = {"marker": marker, "color": colour, "size": 9 if few else 5, "alpha": 0.85}
        style |= {"source": ColumnDataSource(data), "legend_label": MODELS[model]}
        _points(plot, *(("auc", "place") if few else ("place", "auc")), tips, **style)
    chance = Span(location=0.5, dimension="height" if few else "width", line_color=INK)
    chance.line_dash = "dashed"
    plot.add_layout(chance)
    _legend(plot)
    return plot


def by_protocol(results: Results) -> Figure | None:
    """AUC of every model under each protocol, mean over patients with intervals to be trusted."""
    names, estimates = present(results), Estimates(results)
    values = {(p, m): estimates.value((p, m, *_AUC)) for p in names for m in COMPARED}
    shown = [m for m in COMPARED if any(not math.isnan(values[p, m]) for p in names)]
    if not shown:
        return None
    found = {key: estimates.mean((*key, *_AUC)) for key in values}
    bounds = {k: (e.low, e.high) for k, e in found.items() if e is not None and e.trusted}
    factors = [(COMPARED[m], PROTOCOLS.get(p, p)) for m in shown for p in names]
    ends = [v for v in values.values() if not math.isnan(v)]
    ends += [end for both in bounds.values() for end in both]
    low, high = np.nanmin(ends), np.nanmax(ends)
    room = 0.04 * (high - low) or 0.01
    span = (float(low - room), float(high + room))  # a range of its own forgets the whiskers
    plot = _figure(80 + 34 * len(factors), x_range=span, y_range=FactorRange(*factors[::-1]))
    for (marker, colour), protocol in zip(_MARKS, names, strict=False):
        lines = [bounds.get((protocol, m), (math.nan, math.nan)) for m in shown]
        data = {
            "what": [(COMPARED[m], PROTOCOLS.get(protocol, protocol)) for m in shown],
            "value": [values[protocol, m] for m in shown],
            "low": [line[0] for line in lines],
            "high": [line[1] for line in lines],
        }
        source = ColumnDataSource(data)
        whisker = Whisker(base="what", lower="low", upper="high", source=source, dimension="width")
        whisker.update(line_color=colour, line_width=2)
        plot.add_layout(whisker)
        tips = [("AUC", "@value{0.000}"), ("95 %", "@low{0.000} to @high{0.000}")]
        style = {"source": source, "marker": marker, "color": colour, "size": 10}
        _points(plot, "value", "what", tips, **style)
    plot.xaxis.axis_label = "AUC"
    plot.yaxis.group_label_orientation = "horizontal"
    return plot


def by_jitter(results: Results) -> Figure | None:
    """What a slide that lies so many MSI pixels away would cost."""
    means = jitter_means(results)
    keys = [(m, "cancer", "auc") for m in MODELS] + [("msi_from_he", "weighted", "r2")]
    levels = sorted({level for level, *_ in means})
    if len(levels) < 2:
        return None
    plot = _figure(300)
    styles = [*(STYLES[m] for m in MODELS), ("triangle", VERMILION, "dotted")]
    for key, (marker, colour, dash) in zip(keys, styles, strict=True):
        y = [means.get((level, *key), math.nan) for level in levels]
        if any(not math.isnan(v) for v in y):
            label = ", ".join(words_of(*key))
            plot.line(levels, y, color=colour, line_dash=dash, width=2, legend_label=label)
            tips = [("away", "@x px"), (label, "@y{0.000}")]
            style = {"color": colour, "marker": marker, "size": 9, "legend_label": label}
            _points(plot, levels, y, tips, **style)
    plot.xaxis.axis_label = "slide away from its place (MSI pixels)"
    plot.yaxis.axis_label = "score"
    _legend(plot)
    return plot


def reliability(results: Results) -> Figure | None:
    """Share of cancer among pixels of like probability, patients left out."""
    table = results.table(RELIABILITY)
    rows = table[table["protocol"] == results.protocol]
    if rows.empty:
        return None
    plot = _figure(340, x_range=(-0.02, 1.02), y_range=(-0.02, 1.02))
    plot.line([0, 1], [0, 1], color=INK, line_dash="dashed")
    for model, part in rows.groupby("model", sort=False):
        if str(model) not in MODELS:
            continue
        marker, colour, dash = STYLES[str(model)]
        source = _source(part[["predicted", "observed", "n"]])
        label = MODELS[str(model)]
        style = {"source": source, "color": colour, "legend_label": label}
        plot.line("predicted", "observed", line_dash=dash, width=2, **style)
        tips = [("said", "@predicted{0.00}"), ("was", "@observed{0.00}"), ("pixels", "@n")]
        _points(plot, "predicted", "observed", tips, marker=marker, size=8, **style)
    plot.xaxis.axis_label = "predicted probability"
    plot.yaxis.axis_label = "share that is cancer"
    _legend(plot)
    return plot


def r2_by_mode(results: Results) -> Figure | None:
    """R² of every mode of the MSI as predicted from H&E, with what else is known of the mode."""
    wide = mode_table(results)
    if wide.empty or "r2" not in wide:
        return None
    others = specimen_r2(results).reindex(wide.index)
    low = np.nanmin([wide["r2"].min(), others.min().min() if others.size else 0.0, 0.0])
    # a mode of next to no variance can have any R²: below -1 it says nothing more
    plot = _figure(360, y_range=(max(-1.0, float(low) - 0.05), 1.02))
    mode = np.arange(1, len(wide) + 1)
    if "explained_variance_ratio" in wide:
        variance = wide["explained_variance_ratio"].to_numpy(float)
        words = {"color": "#56B4E9", "alpha": 0.35, "legend_label": "share of variance"}
        plot.vbar(mode, top=variance, bottom=0, width=0.8, **words)
    if 0 < others.shape[1] <= _POINTS:
        names = [str(n) for n in others.columns for _ in mode]
        y = others.to_numpy(float).T.ravel()
        source = ColumnDataSource({"x": np.tile(mode, others.shape[1]), "y": y, "name": names})
        tips = [("specimen", "@name"), ("mode", "@x"), ("R²", "@y{0.000}")]
        style = {"color": _GREY, "size": 4, "alpha": 0.7, "legend_label": "one specimen"}
        _points(plot, "x", "y", tips, source=source, **style)
    elif others.shape[1]:
        cut = np.nanpercentile(others.to_numpy(float), (10, 90), axis=1)
        source = ColumnDataSource({"x": mode, "low": cut[0], "high": cut[1]})
        words = {"color": _GREY, "alpha": 0.3, "legend_label": "80 % of the specimens"}
        plot.varea("x", "low", "high", source=source, **words)
    source = ColumnDataSource({"x": mode, "y": wide["r2"].to_numpy(float)})
    style = {"source": source, "color": BLUE, "legend_label": "all specimens"}
    plot.line("x", "y", **style)
    _points(plot, "x", "y", [("mode", "@x"), ("R²", "@y{0.000}")], size=6, **style)
    baselines = [c for c in map(str, wide.columns) if c != "r2" and "r2" in c]
    for column, colour in zip(baselines, (ORANGE, GREEN, VERMILION), strict=False):
        label = column.replace("_", " ").replace("r2", "R²")
        y = wide[column].to_numpy(float)
        plot.line(mode, y, color=colour, line_dash="dashed", legend_label=label)
    plot.add_layout(Span(location=0, dimension="width", line_color=INK, line_width=1))
    plot.xaxis.axis_label = "mode of the MSI"
    plot.yaxis.axis_label = f"R² from H&E, {left_out(results)}"
    _legend(plot)
    return plot


def ion_r(results: Results) -> Figure | None:
    """How many m/z have which correlation of their measured and predicted images."""
    table = scored(results)
    if table.empty:
        return None
    drawn = {"pearson": ("from H&E", BLUE), "colour_pearson": ("from colour alone", ORANGE)}
    known = {c: table[c].dropna().to_numpy(float) for c in drawn if c in table}
    low = min(float(r.min()) for r in known.values() if len(r))
    edges = np.linspace(-1, 1, 41)
    plot = _figure(300, x_range=(max(min(low, 0.0) - 0.05, -1.0), 1.0))
    for column, r in known.items():
        if not len(r):
            continue
        counts, _ = np.histogram(r, edges)
        words, colour = drawn[column]
        label = f"{words}: median {np.median(r):.2f}"
        if column == "pearson":
            data = {"left": edges[:-1], "right": edges[1:], "n": counts}
            source = ColumnDataSource(data)
            style = {"source": source, "fill_color": colour, "line_color": "white", "alpha": 0.75}
            bars = plot.quad("left", "right", "n", 0, legend_label=label, **style)
            tips = [("r", "@left{0.00} to @right{0.00}"), ("m/z", "@n")]
            plot.add_tools(HoverTool(renderers=[bars], tooltips=tips))
        else:
            style = {"color": colour, "line_width": 2, "legend_label": label}
            plot.step(edges, [*counts, counts[-1]], mode="after", **style)
    plot.xaxis.axis_label = f"r of measured and predicted image, {left_out(results)}"
    plot.yaxis.axis_label = "m/z"
    _legend(plot)
    return plot


def volcano(results: Results) -> Figure | None:
    """Every m/z by its effect, and by its p where patients are enough for one, else its AUC."""
    table = results.table(BIOMARKERS)
    if table.empty or "effect" not in table:
        return None
    table = table.dropna(subset=["auc", "effect"])
    p = table["p"].to_numpy(float) if "p" in table else np.full(len(table), np.nan)
    tested = bool(len(table)) and bool(np.isfinite(p).mean() > 0.5)
    with np.errstate(divide="ignore"):
        height = -np.log10(np.maximum(p, 1e-300)) if tested else table["auc"].to_numpy(float)
    q = table["q"].to_numpy(float) if "q" in table else np.full(len(table), np.nan)
    data = table[["mz", "effect", "auc"]].astype(float)
    names = [identification(row) for row in table.to_dict("records")]
    data = data.assign(height=height, q=q, name=names)
    plot = _figure(380)
    sure = data["q"] <= _SURE
    for part, colour, marker, label in (
        (data[~sure], _GREY, "circle", "not significant"),
        (data[sure], VERMILION, "triangle", f"q at most {_SURE:g}"),
    ):
        if len(part):
            tips = [("m/z", "@mz{0.0000}"), ("name", "@name"), ("effect", "@effect{0.00}")]
            tips += [("AUC", "@auc{0.000}"), ("q", "@q{0.000}")]
            style = {"source": _source(part), "color": colour, "marker": marker, "size": 7}
            _points(plot, "effect", "height", tips, alpha=0.8, legend_label=label, **style)
    plot.add_layout(Span(location=0, dimension="height", line_color=INK, line_dash="dashed"))
    plot.xaxis.axis_label = "log2 of mean intensity, cancer over other"
    plot.yaxis.axis_label = "−log10 p over patients" if tested else "AUC, mean over patients"
    _legend(plot)
    return plot


def _source(table: pd.DataFrame) -> ColumnDataSource:
    return ColumnDataSource({str(name): table[name].to_numpy() for name in table})


# what the sections may show
PLOTS: dict[str, Callable[[Results], Figure | None]] = {
    "auc": auc_by_specimen,
    "protocols": by_protocol,
    "jitter": by_jitter,
    "reliability": reliability,
    "r2": r2_by_mode,
    "ion_r": ion_r,
    "volcano": volcano,
}
