"""The figures of one specimen: the study's Figures 1 and 2, ion images, the registration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from msiscale.report.class_gallery import class_gallery
from msiscale.report.data import (
    BIOMARKERS,
    MODELS,
    PROTOCOL,
    CsvTable,
    Results,
    identification,
)
from msiscale.report.drawing import (
    BLUE,
    INK,
    ORANGE,
    VERMILION,
    draw_map,
    draw_outline,
    extent_um,
    finish_map,
    panels,
    plain,
    png,
    side_bar,
    spread,
)
from msiscale.report.ion_gallery import gallery
from msiscale.store import HeldOut, StoredSpecimen, join, write_bytes

IONS = 6
_TITLE = 9
Map = NDArray[np.float32]


def write_figures(out_url: str, specimen: str, results: Results | None = None) -> list[str]:
    """Draw those of `FIGURES` for which the store has the data of a specimen; their paths."""
    results = results or Results(out_url)
    written = []
    for kind, draw in FIGURES.items():
        figure = draw(results, specimen)
        if figure is not None:
            written.append(figure_path(out_url, kind, specimen))
            write_bytes(written[-1], png(figure))
    return written


def figure_path(out_url: str, kind: str, specimen: str) -> str:
    """Where a figure of a specimen lies."""
    return join(out_url, "figures", f"{kind}_{specimen}.png")


def figure1(results: Results, specimen: str) -> Figure | None:
    """Annotation, and cancer predicted out of fold from MSI, from H&E and from predicted MSI."""
    data, predicted = results.cohort(specimen), results.predictions(specimen)
    if data is None or predicted is None or not data.has("cancer", "tissue"):
        return None
    tissue, pixel = data.tissue, data.pixel_um
    extent = extent_um(tissue.shape, pixel)
    figure, grid = panels(1 + len(MODELS), tissue.shape, pixel)
    annotation = np.where(tissue, data.cancer, np.nan)
    known = np.isfinite(annotation)
    if not known.any() and not any(model in predicted for model in MODELS):
        return None  # four grey maps
    share = float((annotation[known] >= 0.5).mean()) if known.any() else math.nan
    words = f"{share:.1%} of labelled tissue" if known.any() else "none given"
    maps = [(annotation, f"annotation\n{words}")]
    for model, words in MODELS.items():
        values = predicted.read(model) if model in predicted else np.full(tissue.shape, np.nan)
        auc = results.metric(specimen, model, "cancer", "auc")
        score = "no AUC" if math.isnan(auc) else f"out-of-fold AUC {auc:.3f}"
        maps.append((values, f"{words}\n{score}"))
    for letter, axes, (values, title) in zip("ABCD", grid, maps, strict=True):
        image = draw_map(axes, values, tissue, extent, cmap="cividis", limits=(0, 1))
        axes.set_title(f"{letter}  {title}", fontsize=_TITLE, loc="left")
        if letter != "A" and known.any():
            draw_outline(axes, annotation >= 0.5, extent, "white", 0.8)
    bar = figure.colorbar(image, ax=grid, shrink=0.85, aspect=30)
    bar.set_label("cancer: fraction annotated (A), probability (B-D)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(plain(specimen), fontsize=11)
    return figure


def figure2(results: Results, specimen: str) -> Figure | None:
    """The best predicted mode of the MSI, its prediction, and two spectra of a cancer pixel."""
    data, predicted = results.cohort(specimen), results.predictions(specimen)
    needed = ("scores", "predicted_scores", "components", "mean")
    if data is None or predicted is None or not predicted.has(*needed):
        return None
    mode, r2 = best_mode(results, specimen, predicted)
    held = results.held_out(specimen)
    tissue, pixel = data.tissue, data.pixel_um
    extent = extent_um(tissue.shape, pixel)
    measured = np.asarray(predicted.array("scores")[..., mode])
    from_he = np.asarray(predicted.array("predicted_scores")[..., mode])
    limits = spread(measured)
    ratio = extent[2] / extent[1]
    height = min(max(4.4 * ratio, 1.8), 6.5)
    figure = Figure(figsize=(10, height + 3.9), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=[height + 0.6, 3.3])
    above, below = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    grid = list(above.subplots(1, 2))
    at, words = cancer_pixel(data, from_he)
    titles = (
        f"A  measured MSI, mode {mode + 1} (mode_{mode:03d})",
        f"B  predicted from H&E, out of fold, R² {r2:.3f}",
    )
    for axes, values, title in zip(grid, (measured, from_he), titles, strict=True):
        image = draw_map(axes, values, tissue, extent, cmap="viridis", limits=limits)
        x, y = (at[1] + 0.5) * pixel[1], (at[0] + 0.5) * pixel[0]
        axes.plot(x, y, "o", ms=9, mfc="none", mec="white", mew=3)
        axes.plot(x, y, "o", ms=9, mfc="none", mec=VERMILION, mew=1.6)
        axes.set_title(title, fontsize=_TITLE, loc="left")
    bar = above.colorbar(image, ax=grid, shrink=0.85, aspect=30)
    bar.set_label("score", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    assert held is not None  # as there are scores
    _mirror(below.subplots(), data, held, at, words)
    figure.suptitle(plain(specimen), fontsize=11)
    return figure


def best_mode(results: Results, specimen: str, predicted: StoredSpecimen) -> tuple[int, float]:
    """The mode with the highest out-of-fold R² in this specimen, counted from 0, and its R²."""
    n = predicted.array("components").shape[0]
    found = [results.metric(specimen, "msi_from_he", f"mode_{k:03d}", "r2") for k in range(n)]
    r2 = np.array(found)
    # without metrics.csv, or where its modes are those of several folds: from the maps themselves
    if np.isnan(r2).all() or results.protocol != PROTOCOL:
        truth = predicted.read("scores").reshape(-1, n).astype(float)
        guess = predicted.read("predicted_scores").reshape(-1, n).astype(float)
        seen = np.isfinite(truth).all(axis=1) & np.isfinite(guess).all(axis=1)
        spare = ((truth[seen] - guess[seen]) ** 2).sum(axis=0)
        total = ((truth[seen] - truth[seen].mean(axis=0)) ** 2).sum(axis=0)
        r2 = 1 - spare / np.maximum(total, np.finfo(float).tiny)
    mode = int(np.nanargmax(r2))
    return mode, float(r2[mode])


def cancer_pixel(data: StoredSpecimen, predicted: Map) -> tuple[tuple[int, int], str]:
    """The pixel of the highest cancer fraction that is nearest the tumour's centroid.

    Parameters
    ----------
    data
        What is stored of a specimen; without annotated cancer it is the tissue's centroid.
    predicted
        (y, x) float32, NaN where nothing is predicted.

    Returns
    -------
    at, words
        (y, x) of a pixel with a prediction, and what it is.
    """
    usable = np.isfinite(predicted)
    cancer = np.nan_to_num(data.cancer) if "cancer" in data else np.zeros(usable.shape)
    cancer = np.where(usable, cancer, 0)
    if (cancer > 0).any():
        region, candidates = cancer >= min(0.5, cancer.max()), cancer == cancer.max()
        words = f"cancer pixel (fraction {cancer.max():.2f})"
    else:
        region, candidates, words = usable, usable, "tissue pixel (no annotated cancer)"
    centre = np.argwhere(region).mean(axis=0)
    places = np.argwhere(candidates)
    y, x = places[np.argmin(((places - centre) ** 2).sum(axis=1))]
    return (int(y), int(x)), words


def spectra_at(
    data: StoredSpecimen, held: HeldOut, at: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spectra of a pixel.

    Parameters
    ----------
    data, held
        What was measured of a specimen, and what was predicted.
    at
        (y, x) of the pixel, which was held out.

    Returns
    -------
    mz, measured, guess
        (k,) float64 each: the m/z of the fold, which are some of the cohort's, and intensities;
        predicted ones below zero are clipped.
    """
    spectrum = np.asarray(data.intensity[at[0], at[1]])
    measured = spectrum[held.columns].astype(np.float64)
    guess = held.spectrum(*at).astype(np.float64)
    return held.mz, np.nan_to_num(measured), np.maximum(guess, 0)


def _mirror(
    axes: Axes, data: StoredSpecimen, held: HeldOut, at: tuple[int, int], words: str
) -> None:
    mz, measured, guess = spectra_at(data, held, at)
    axes.vlines(mz, 0, measured, color=BLUE, lw=0.9, label="measured")
    axes.vlines(mz, 0, -guess, color=ORANGE, lw=0.9, label="predicted from H&E (mirrored)")
    axes.axhline(0, color=INK, lw=0.6)
    top = max(float(measured.max(initial=0)), float(guess.max(initial=0))) or 1.0
    axes.set_ylim(-1.12 * top, 1.22 * top)
    _label_peaks(axes, mz, measured, top)
    norm = np.linalg.norm(measured) * np.linalg.norm(guess)
    cosine = float(measured @ guess / norm) if norm else math.nan
    axes.set_title(
        f"C  {words}, y {at[0]}, x {at[1]} (circle): cosine similarity {cosine:.3f}",
        fontsize=_TITLE,
        loc="left",
    )
    how = str(data.intensity.attrs.get("normalisation", "")) or "as stored"
    axes.set_ylabel(f"intensity (normalisation: {how})", fontsize=8)
    axes.set_xlabel("m/z", fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, loc="lower right", frameon=False, ncols=2)


def _label_peaks(axes: Axes, mz: NDArray[Any], heights: NDArray[Any], top: float) -> None:
    """m/z above the highest peaks, where two labels would not run into each other."""
    taken: list[float] = []
    width = 0.05 * float(np.ptp(mz)) if mz.size > 1 else 1.0
    for i in np.argsort(heights)[::-1][:40]:
        if heights[i] <= 0 or len(taken) == 6:
            break
        if all(abs(mz[i] - other) > width for other in taken):
            taken.append(float(mz[i]))
            y = heights[i] + 0.02 * top
            axes.text(mz[i], y, f"{mz[i]:.4f}", ha="center", va="bottom", fontsize=6.5)


def ion_images(results: Results, specimen: str) -> Figure | None:
    """Measured ion images of the strongest biomarkers, with the annotation outlined."""
    data, table = results.cohort(specimen), results.table(BIOMARKERS).head(IONS)
    if data is None or table.empty or not data.has("intensity", "tissue"):
        return None
    tissue, pixel = data.tissue, data.pixel_um
    extent = extent_um(tissue.shape, pixel)
    figure, grid = panels(len(table), tissue.shape, pixel, columns=min(3, len(table)))
    cancer = np.nan_to_num(data.cancer) >= 0.5 if "cancer" in data else ~tissue & tissue
    for axes, row in zip(grid, table.to_dict("records"), strict=True):
        image = np.asarray(data.intensity[..., data.column(row["mz"], math.inf)])
        image = np.where(tissue, image, np.nan)
        drawn = draw_map(
            axes, image, tissue, extent, cmap="viridis", limits=(0.0, spread(image)[1] or 1.0)
        )
        draw_outline(axes, cancer, extent, "white", 1.0)
        auc = _specimen_auc(results, specimen, row["mz"])
        here = f", here {auc:.2f}" if math.isfinite(auc) else ""
        title = (
            f"m/z {row['mz']:.4f}  {identification(row)}\nAUC over patients {row['auc']:.2f}{here}"
        )
        axes.set_title(plain(title), fontsize=8, loc="left")
        side_bar(axes, drawn)
    figure.suptitle(plain(f"{specimen}: measured ion images"), fontsize=11)
    return figure


def _specimen_auc(results: Results, specimen: str, mz: float) -> float:
    # its own table: that of all specimens grows with the cohort
    table = results.table(CsvTable(f"association/{specimen}", "mz auc"))
    rows = table[np.abs(table["mz"] - mz) < 1e-6]
    return float(rows["auc"].iloc[0]) if len(rows) else math.nan


def registration_overlay(results: Results, specimen: str) -> Figure | None:
    """The slide resampled onto the MSI grid, with annotation, tissue and measured pixels."""
    data = results.cohort(specimen)
    if data is None or not data.has("preview", "tissue"):
        return None
    tissue, pixel = data.tissue, data.pixel_um
    extent = extent_um(tissue.shape, pixel)
    ratio = extent[2] / extent[1]
    width = 7.0 if ratio < 1.2 else 5.0
    figure = Figure(figsize=(width, min(width * ratio, 9.0) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(data.read("preview"), extent=extent, interpolation="nearest")
    lines = []
    masks = {"tissue (slide)": (tissue, BLUE, "solid")}
    if "norm" in data:
        masks["measured MSI pixels"] = (data.measured, INK, "dashed")
    if "cancer" in data:
        cancer = np.nan_to_num(data.cancer) >= 0.5
        masks["annotated cancer"] = (cancer, ORANGE, "solid")
    for label, (mask, colour, style) in masks.items():
        draw_outline(axes, mask, extent, colour, 1.6, style)
        lines.append(Line2D([], [], color=colour, ls=style, lw=1.6, label=label))
    finish_map(axes, extent)
    axes.set_title(plain(_residual_words(results, specimen)), fontsize=_TITLE, loc="left")
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _residual_words(results: Results, specimen: str) -> str:
    row = results.registered(specimen)
    if not row:
        return f"{specimen}: registration"
    words = f"{specimen}: registration by {row.get('method') or 'unknown means'}"
    residual = [
        f"{float(row[column]):.3g} {unit}"
        for column, unit in (("residual_um", "µm"), ("residual_px", "MSI pixels"))
        if column in row and np.isfinite(row[column])
    ]
    return f"{words}, residual {' = '.join(residual)}" if residual else f"{words}, no residual"


FIGURES = {
    "figure1": figure1,
    "figure2": figure2,
    "ions": gallery,
    "ion_classes": class_gallery,
    "biomarkers": ion_images,
    "registration": registration_overlay,
}
