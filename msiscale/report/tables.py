"""Tables of the report: columns of words and numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from msiscale.report.data import MODELS, PROTOCOL, Results, State

METRICS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "prevalence": "prevalence",
    "accuracy": "accuracy",
    "majority_accuracy": "accuracy of the majority class",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice",
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
    "fdr": "FDR of the name",
    "flags": "flags",
    "alternatives": "other candidates",
    "isotope_of": "isotope of m/z",
}
_ANNOTATIONS = {
    "mz": "m/z",
    "names": "names",
    "formula": "formula",
    "adduct": "adduct",
    "fdr": "FDR",
    "msm": "MSM",
    "chaos": "spatial chaos",
    "spatial": "spatial correlation",
    "spectral": "spectral correlation",
    "n_specimens": "specimens",
    "ppm_error": "error (ppm)",
    "flags": "flags",
    "isobars": "isobars",
}
_STAGES = {
    "wall_s": "wall (s)",
    "cpu_s": "CPU (s)",
    "worker_s": "of workers (s)",
    "peak_mib": "peak memory (MiB)",
    "written_gb_s": "written (GB/s)",
    "of": "specimens",
    "mpix": "megapixels",
    "mpix_s": "megapixels/s",
    "spectra_s": "spectra/s",
}
_WORDS = {"r2": "R²", "auc": "AUC", "mz": "m/z", "msi": "MSI", "he": "H&E"}
LISTED = 30
_MODES = 20
_REGIONS = 50
_NAMES = 90  # letters of a cell, at most


@dataclass(frozen=True)
class Table:
    """What a table shows; `text`: which columns are of words (they stand left, numbers right)."""

    columns: list[str]
    rows: list[list[str]]

    @cached_property
    def text(self) -> list[bool]:
        """For every column whether it holds words."""
        return [not all(map(_is_number, column)) for column in zip(*self.rows, strict=True)]


def headline(results: Results) -> Table:
    """Pooled leave-one-patient-out metrics with their intervals, a row a model."""
    bounds = interval_of(results)
    rows = []
    for model, words in MODELS.items():
        keys = [(PROTOCOL, model, "cancer", metric) for metric in METRICS]
        values = [results.metric("all", m, t, metric, p) for p, m, t, metric in keys]
        cells = [with_interval(v, bounds.get(k)) for v, k in zip(values, keys, strict=True)]
        rows.append([words, *cells])
    return Table(["cancer predicted", *METRICS.values()], rows)


Key = tuple[str, str, str, str]


def interval_of(results: Results) -> dict[Key, tuple[float, float]]:
    """95 % interval over patients by (protocol, model, target, metric)."""
    table = results.table("intervals")
    keys = ["protocol", "model", "target", "metric"]
    columns = [table[k] for k in keys] + [table["low"], table["high"]]
    return {(p, m, t, k): (low, high) for p, m, t, k, low, high in zip(*columns, strict=True)}


def with_interval(value: float, bounds: tuple[float, float] | None) -> str:
    """A value and, where it is known, its interval."""
    if bounds is None or math.isnan(bounds[0]) or math.isnan(value):
        return number(value)
    return f"{number(value)} ({number(bounds[0])} to {number(bounds[1])})"


def per_specimen(results: Results) -> Table:
    """Leave-one-patient-out metrics, a row a specimen and model."""
    table = results.metrics
    here = table[(table["protocol"] == PROTOCOL) & (table["target"] == "cancer")]
    known = set(here["specimen"])
    rows = [row for n in results.specimens if n in known for row in specimen_metrics(results, n)]
    return Table(["specimen", "cancer predicted", *METRICS.values()], rows)


def specimen_metrics(results: Results, name: str) -> list[list[str]]:
    """Leave-one-patient-out metrics of a specimen, a row a model that has any."""
    rows = []
    for model, words in MODELS.items():
        values = [results.metric(name, model, "cancer", metric) for metric in METRICS]
        if not all(math.isnan(v) for v in values):
            rows.append([name, words, *map(number, values)])
    return rows


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


def modes(results: Results) -> Table:
    """The first modes with everything that metrics.csv says of them."""
    return frame(mode_table(results).head(_MODES).reset_index())


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
    return frame(wide.loc[order].reset_index())


def biomarkers(results: Results) -> Table:
    """The strongest m/z."""
    return _chosen(results.biomarkers.head(LISTED), _BIOMARKERS)


def lipids(results: Results) -> Table:
    """The surest lipids of ``msiscale annotate``."""
    return _chosen(results.table("annotations").head(LISTED), _ANNOTATIONS)


def _chosen(table: pd.DataFrame, words: Mapping[str, str]) -> Table:
    columns = [c for c in words if c in table and table[c].notna().any()]
    shown = table[columns].copy()
    for column in {"mz", "isotope_of"} & set(columns):
        shown[column] = [mz(v) for v in shown[column]]
    return frame(shown.rename(columns=dict(words)))


def mz(value: Any) -> str:
    """An m/z to four decimals; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if math.isfinite(value) else ""


def registration(results: Results) -> Table:
    """``registration.csv`` without the columns that say nothing here."""
    return frame(_filled(results.registration))


def registration_of(row: Mapping[Any, Any]) -> Table:
    """A specimen's row of ``registration.csv``, a line a value."""
    pairs = [[words(str(k)), _cell(_python(v))] for k, v in row.items() if k != "specimen"]
    return Table(["registration", "value"], [p for p in pairs if p[1] not in ("", "–")])


def calibration(results: Results) -> Table:
    """``calibration.csv``: mass errors before and after."""
    return frame(_filled(results.table("calibration")))


def secondary(results: Results) -> Table:
    """Predicted cancer outside the annotation, the largest first."""
    table = results.table("secondary_regions")
    if "area_um2" in table:
        table = table.sort_values("area_um2", ascending=False, kind="stable")
    return frame(_filled(table.head(_REGIONS)))


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    kept = [c for c in table.columns if (table[c].notna() & (table[c].astype(str) != "")).any()]
    return table[kept]


def failures(states: list[State]) -> Table:
    """Specimens that are not done, where they stopped and why."""
    rows = [
        [s.specimen, s.patient, s.state, s.stage, s.reason] for s in states if s.state != "done"
    ]
    return Table(["specimen", "patient", "status", "stage", "why"], rows)


def stages(run: Mapping[str, Any]) -> Table:
    """Time and memory of every stage."""
    found = {name: entry for name, entry in run.get("stages", {}).items() if _is_map(entry)}
    columns = list(dict.fromkeys(k for e in found.values() for k, v in e.items() if not _is_map(v)))
    rows = [[name, *(_measure(c, entry.get(c)) for c in columns)] for name, entry in found.items()]
    return Table(["stage", *(_STAGES.get(c, words(c)) for c in columns)], rows)


def _measure(column: str, value: Any) -> str:
    """A memory of zero is one that was not measured."""
    return number(None if column == "peak_mib" and not value else value)


def facts(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance: everything else in run.json, by heading; what is told of each specimen is left
    to the page of the specimen."""
    scalars = [(words(k), number(v)) for k, v in run.items() if not _is_map(v)]
    groups = [("run", [(k, v) for k, v in scalars if k != "specimens"])]
    for name, value in run.items():
        if _is_map(value) and name not in ("stages", "specimens", "failed", "patients", "cost"):
            groups.append((words(name), [(str(k), number(v)) for k, v in value.items()]))
    return [(name, rows) for name, rows in groups if rows]


def number(value: Any) -> str:
    """A value as a reader wants it: three or four digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, str):
        return value if len(value) <= 4 * _NAMES else value[: 4 * _NAMES] + " …"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    if 1000 <= abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def frame(table: pd.DataFrame) -> Table:
    """A table of a data frame; long words are cut."""
    rows = [[_cell(_python(v)) for v in row] for row in table.itertuples(index=False, name=None)]
    return Table([words(str(c)) for c in table.columns], rows)


def _cell(value: Any) -> str:
    text = number(value)
    return text if len(text) <= _NAMES else text[: _NAMES - 2] + " …"


def words(name: str) -> str:
    """A column's name in words, with its unit."""
    for ending, unit in (("_um2", " (µm²)"), ("_um", " (µm)"), ("_px", " (pixels)")):
        if name.endswith(ending):
            name = name.removesuffix(ending) + unit
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def _is_number(value: str) -> bool:
    try:
        float(value.split(" (", 1)[0])
    except ValueError:
        return value in ("", "–")
    return True


def _python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
