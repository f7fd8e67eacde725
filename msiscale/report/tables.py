"""Tables of the report: columns of words and numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from msiscale.report.data import CsvTable, Results, State

_STAGES = {
    "wall_s": "wall (s)",
    "cpu_s": "CPU (s)",
    "worker_s": "worker time (s)",
    "peak_mib": "peak memory (MiB)",
    "written_gb_s": "written (GB/s)",
    "of": "specimens",
    "mpix": "megapixels",
    "mpix_s": "megapixels/s",
    "spectra_s": "spectra/s",
}
_WORDS = {"r2": "R²", "auc": "AUC", "mz": "m/z", "msi": "MSI", "he": "H&E"}
_NAMES = 90  # letters of a cell, at most


@dataclass(frozen=True)
class HtmlTable:
    """What a table shows."""

    columns: list[str]
    rows: list[list[str]]

    @cached_property
    def text(self) -> list[bool]:
        """For every column whether it holds words, which stand left, numbers right."""
        return [not all(map(_is_number, column)) for column in zip(*self.rows, strict=True)]


@dataclass(frozen=True)
class Section:
    """A section of the cohort's page.

    Attributes
    ----------
    id, nav
        Its anchor, and what the list of sections calls it, as HTML.
    html
        Jinja with the macros of ``macros.html.j2``; `rows_of` has the rows of each table.
    values
        What it names: functions of the results, each by its own name.
    tables
        Those that are read for it alone.
    unless
        Why it does not apply to these results; nothing where it does.
    """

    id: str
    nav: str
    html: str
    values: tuple[Callable[[Results], Any], ...]
    tables: tuple[CsvTable, ...] = ()
    unless: Callable[[Results], str] = lambda _: ""


def chosen(table: pd.DataFrame, words: Mapping[str, str]) -> HtmlTable:
    """The columns of `words` that say something, under these names."""
    columns = [c for c in words if c in table and table[c].notna().any()]
    shown = table[columns].copy()
    for column in {"mz", "isotope_of"} & set(columns):
        shown[column] = [mz(v) for v in shown[column]]
    return frame(shown.rename(columns=dict(words)))


def with_interval(value: float, bounds: tuple[float, float]) -> str:
    """A value with its interval, where both are known."""
    if math.isnan(bounds[0]) or math.isnan(value):
        return number(value)
    return f"{number(value)} ({number(bounds[0])} to {number(bounds[1])})"


def mz(value: Any) -> str:
    """An m/z to four decimals; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if math.isfinite(value) else ""


def filled(table: pd.DataFrame) -> HtmlTable:
    """The columns that say something."""
    kept = [c for c in table.columns if (table[c].notna() & (table[c].astype(str) != "")).any()]
    return frame(table[kept])


def failures(states: list[State]) -> HtmlTable:
    """Specimens that are not done, where they stopped and why."""
    rows = [
        [s.specimen, s.patient, s.state, s.stage, s.reason] for s in states if s.state != "done"
    ]
    return HtmlTable(["specimen", "patient", "status", "stage", "why"], rows)


def stages(run: Mapping[str, Any]) -> HtmlTable:
    """Time and memory of every stage."""
    found = {name: entry for name, entry in run.get("stages", {}).items() if _is_map(entry)}
    columns = list(dict.fromkeys(k for e in found.values() for k, v in e.items() if not _is_map(v)))
    rows = [[name, *(_measure(c, entry.get(c)) for c in columns)] for name, entry in found.items()]
    return HtmlTable(["stage", *(_STAGES.get(c, words(c)) for c in columns)], rows)


def _measure(column: str, value: Any) -> str:
    """A memory of zero is one that was not measured."""
    return number(None if column == "peak_mib" and not value else value)


_SHOWN_ELSEWHERE = ("stages", "specimens", "failed", "patients", "cost", "captured")


def facts(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance: what else is in run.json of the run as a whole, by heading."""
    scalars = [(words(k), number(v)) for k, v in run.items() if not _is_map(v)]
    groups = [("run", [(k, v) for k, v in scalars if k != "specimens"])]
    for name, value in run.items():
        if _is_map(value) and name not in _SHOWN_ELSEWHERE:
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


def frame(table: pd.DataFrame) -> HtmlTable:
    """A table of a data frame."""
    rows = [[cell(v) for v in row] for row in table.itertuples(index=False, name=None)]
    return HtmlTable([words(str(c)) for c in table.columns], rows)


def cell(value: Any) -> str:
    """A value of a data frame; long words are cut."""
    text = number(value.item() if hasattr(value, "item") else value)
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


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
