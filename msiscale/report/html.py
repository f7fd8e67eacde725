"""The report: one HTML file that needs neither network nor scripts."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from msiscale.report.cohort_figures import auc_by_specimen, mode_table, r2_by_mode, volcano
from msiscale.report.data import MODELS, PROTOCOL, Results, State
from msiscale.report.drawing import png
from msiscale.report.figures import FIGURES, figure_path
from msiscale.store import exists, join, read_bytes, write_bytes

_METRICS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "prevalence": "prevalence",
    "accuracy": "accuracy",
    "majority_accuracy": "accuracy of the majority class",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice",
}
_CAPTIONS = {
    "figure1": "Cancer as annotated (A) and as predicted with this patient left out (B-D). "
    "Grey is tissue without a value; the white line is the annotation.",
    "figure2": "The mode of the MSI that H&E predicts best in this specimen (A measured, B "
    "predicted, one scale), and the spectra of one pixel (C; predictions below zero are clipped).",
    "ions": "Measured ion images of the strongest m/z; the white line is the annotation.",
    "registration": "The slide resampled onto the MSI grid.",
}
_BIOMARKERS = {
    "mz": "m/z",
    "auc": "AUC",
    "effect": "effect (log2)",
    "standardized_difference": "standardized difference",
    "p": "p",
    "q": "q",
    "n_patients": "patients",
    "annotation": "annotation",
    "adduct": "adduct",
    "formula": "formula",
    "ppm_error": "error (ppm)",
    "alternatives": "other candidates",
    "isotope_of": "isotope of m/z",
}
_LISTED = 30
_MODES = 20

Table = dict[str, Any]


def write_report(out_url: str) -> str:
    """Write ``report.html`` from what is in the store and in ``figures/``; returns its path.

    Missing parts are said to be missing. Figures of specimens are those that
    `msiscale.report.write_figures` has written; those of the cohort are drawn here.
    """
    page = join(out_url, "report.html")
    write_bytes(page, render(Results(out_url)).encode())
    return page


def render(results: Results) -> str:
    """The page as text. Every value from outside is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("msiscale.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    states = results.states()
    return template.render(
        run=results.run,
        states=states,
        counts={s: sum(x.state == s for x in states) for s in ("done", "failed", "incomplete")},
        headline=headline(results),
        others=[p for p in results.metrics["protocol"].unique() if p != PROTOCOL],
        protocols=protocols(results),
        per_specimen=per_specimen(results),
        modes=modes(results),
        weighted=weighted(results),
        auc_figure=_picture(auc_by_specimen(results)),
        r2_figure=_picture(r2_by_mode(results)),
        volcano=_picture(volcano(results)),
        registration=_frame(results.registration),
        biomarkers=biomarkers(results),
        n_biomarkers=len(results.biomarkers),
        stages=stages(results.run),
        facts=facts(results.run),
        specimens=[_specimen(results, state) for state in states],
    )


def headline(results: Results) -> Table:
    """Pooled leave-one-patient-out metrics, a row a model."""
    rows = []
    for model, words in MODELS.items():
        values = [results.metric("all", model, "cancer", metric) for metric in _METRICS]
        rows.append([words, *map(number, values)])
    return _table(["cancer predicted", *_METRICS.values()], rows)


def protocols(results: Results) -> Table:
    """Pooled AUC and average precision of each protocol side by side."""
    names = list(results.metrics["protocol"].unique())
    rows = [
        [words, metric_words]
        + [number(results.metric("all", model, "cancer", metric, p)) for p in names]
        for model, words in MODELS.items()
        for metric, metric_words in list(_METRICS.items())[:2]
    ]
    return _table(["cancer predicted", "metric", *[_words(p) for p in names]], rows)


def per_specimen(results: Results) -> Table:
    """Leave-one-patient-out metrics, a row a specimen and model."""
    table = results.metrics
    here = table[(table["protocol"] == PROTOCOL) & (table["target"] == "cancer")]
    names = [n for n in results.specimens if n in set(here["specimen"])]
    rows = []
    for name in names:
        for model, words in MODELS.items():
            values = [results.metric(name, model, "cancer", metric) for metric in _METRICS]
            if not all(math.isnan(v) for v in values):
                rows.append([name, words, *map(number, values)])
    return _table(["specimen", "cancer predicted", *_METRICS.values()], rows)


def modes(results: Results) -> Table:
    """The first modes with everything that metrics.csv says of them."""
    return _frame(mode_table(results).head(_MODES).reset_index())


def weighted(results: Results) -> Table:
    """Variance-weighted metrics of the MSI predicted from H&E, a row a specimen."""
    table = results.metrics
    rows = table[
        (table["protocol"] == PROTOCOL)
        & (table["model"] == "msi_from_he")
        & (table["target"] == "weighted")
    ]
    wide = rows.pivot_table(index="specimen", columns="metric", values="value", dropna=False)
    order = [n for n in ["all", *results.specimens] if n in wide.index]
    return _frame(wide.loc[order].reset_index())


def biomarkers(results: Results) -> Table:
    """The strongest m/z."""
    table = results.biomarkers.head(_LISTED)
    columns = [c for c in _BIOMARKERS if c in table]
    shown = table[columns].copy()
    for column in {"mz", "isotope_of"} & set(columns):
        shown[column] = [f"{v:.4f}" if math.isfinite(v) else "" for v in shown[column]]
    return _frame(shown.rename(columns=_BIOMARKERS))


def stages(run: Mapping[str, Any]) -> Table:
    """Time and memory of every stage."""
    found = {name: entry for name, entry in run.get("stages", {}).items() if _is_map(entry)}
    columns = list(dict.fromkeys(key for entry in found.values() for key in entry))
    words = {"wall_s": "wall (s)", "cpu_s": "CPU (s)", "peak_mib": "peak memory (MiB)"}
    rows = [[name, *(number(entry.get(c)) for c in columns)] for name, entry in found.items()]
    return _table(["stage", *(words.get(c, _words(c)) for c in columns)], rows)


def facts(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance: everything else in run.json, by heading."""
    groups = [("run", [(_words(k), number(v)) for k, v in run.items() if not _is_map(v)])]
    for name, value in run.items():
        if _is_map(value) and name not in ("stages", "specimens", "failed"):
            groups.append((_words(name), [(str(k), number(v)) for k, v in value.items()]))
    return [(name, rows) for name, rows in groups if rows]


def number(value: Any) -> str:
    """A value as a reader wants it: three or four digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def _specimen(results: Results, state: State) -> dict[str, Any]:
    pictures = []
    for kind in FIGURES:
        path = figure_path(results.out, kind, state.specimen)
        if exists(path):
            pictures.append((_CAPTIONS[kind], _data_uri(read_bytes(path))))
    return {"name": state.specimen, "patient": state.patient, "pictures": pictures}


def _picture(figure: Figure | None) -> str:
    return "" if figure is None else _data_uri(png(figure))


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _frame(table: pd.DataFrame) -> Table:
    rows = [[number(_python(v)) for v in row] for row in table.itertuples(index=False, name=None)]
    return _table([_words(str(c)) for c in table.columns], rows)


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    """Columns, rows, and which columns are of words (they stand left, numbers right)."""
    text = [not all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    return {"columns": columns, "rows": rows, "text": text}


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value in ("", "–")
    return True


def _python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _words(name: str) -> str:
    for ending, unit in (("_um", " (µm)"), ("_px", " (MSI pixels)")):
        name = name.removesuffix(ending) + unit * name.endswith(ending)
    return name.replace("_", " ")
