"""Runs side by side: what they score, how their patients differ, and how they were made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from msiscale.errors import InputError
from msiscale.models.patient_means import holm, patient_mean
from msiscale.report.data import CsvTable, Results
from msiscale.report.frame import plain_page
from msiscale.report.headline import HEADLINES, SCORED, Estimates, digits, with_interval
from msiscale.report.tables import HtmlTable
from msiscale.store import join, write_bytes, write_csv

PATIENTS = CsvTable(
    "patients",
    "protocol* patient* model* target* metric* value",
    "msiscale fit, on two patients or more",
)
COLUMNS = (
    *("run", "against", "protocol", "model", "target", "metric", "value", "low", "high"),
    *("patients", "difference", "difference_low", "difference_high", "paired", "p", "p_holm"),
)
NAMED = 3  # patients whose names are said
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Side:
    """A run of the comparison."""

    name: str
    out: str

    @cached_property
    def results(self) -> Results:
        """What it left behind."""
        return Results(self.out)

    @cached_property
    def estimates(self) -> Estimates:
        """Its means over patients."""
        return Estimates(self.results)

    @cached_property
    def scores(self) -> dict[Key, dict[str, float]]:
        """What each patient has, by prediction, in the protocol of the headline."""
        table = self.results.table(PATIENTS)
        found: dict[Key, dict[str, float]] = {}
        own = table[table["protocol"] == self.results.protocol] if len(table) else table
        for row in own.to_dict("records"):
            key = (row["model"], row["target"], row["metric"])
            found.setdefault(key, {})[row["patient"]] = float(row["value"])
        return found


def compare_runs(runs: Sequence[str], out: str) -> list[str]:
    """Write ``comparison.html`` and ``comparison.csv`` of some runs.

    Parameters
    ----------
    runs
        The ``--out`` of each, two or more; differences are from the first.
    out
        Folder or URL to write to.

    Returns
    -------
    list of str
        What was written, and before it what must be known.

    Raises
    ------
    InputError
        Fewer than two runs, or one that has no finished fit.
    """
    if len(runs) < 2:
        raise InputError("compare-runs: give two runs or more")
    sides = [Side(name, run) for name, run in zip(_names(runs), runs, strict=True)]
    for side in sides:
        if not side.results.run:
            raise InputError(f"{side.out}: no run there; give the --out of msiscale run")
        if side.results.table(PATIENTS).empty:
            raise InputError(
                f"{side.out}: no scores of patients (patients.csv); run msiscale fit again, on two "
                "patients or more"
            )
    rows = [row for side in sides for row in _rows(side, sides[0])]
    write_csv(join(out, "comparison.csv"), rows, list(COLUMNS), digits=12)
    notes = [*_notes(sides)]
    page = plain_page(
        "comparison.html.j2",
        "Runs side by side – msiscale",
        runs=sides,
        cohorts=_cohorts(sides),
        headline=_headline(sides),
        notes=notes,
        differences=_differences(rows),
        drawn=drawn([{**r, "words": _words(r)} for r in rows if r.get("paired")]),
        settings=_unlike(sides, lambda r: r.get("parameters", {})),
        versions=_unlike(sides, lambda r: r.get("versions", {})),
    )
    write_bytes(join(out, "comparison.html"), page.encode())
    return [*notes, *(join(out, f"comparison.{kind}") for kind in ("csv", "html"))]


def _names(runs: Sequence[str]) -> list[str]:
    """Short names that differ: the ends of the paths."""
    parts = [run.rstrip("/").split("/") for run in runs]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{run} ({i})" for i, run in enumerate(runs, 1)]


def _rows(side: Side, first: Side) -> Iterator[dict[str, Any]]:
    """The rows of ``comparison.csv`` of a run; p is adjusted over its rows of one metric."""
    found: list[dict[str, Any]] = []
    for key in HEADLINES:
        mine, theirs = side.scores.get(key, {}), first.scores.get(key, {})
        estimate = side.estimates.mean((side.results.protocol, *key))
        if estimate is None:
            continue
        row: dict[str, Any] = {
            "run": side.name,
            "against": "" if side is first else first.name,
            "protocol": side.results.protocol,
            **dict(zip(("model", "target", "metric"), key, strict=True)),
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "patients": estimate.patients,
        }
        if side is not first and side.results.protocol == first.results.protocol:
            both = [p for p in theirs if p in mine]
            mean = patient_mean(np.array([mine[p] - theirs[p] for p in both]))
            row |= {"difference": mean.value, "difference_low": mean.low}
            row |= {"difference_high": mean.high, "paired": mean.n, "p": mean.p}
        found.append(row)
    for metric in {row["metric"] for row in found}:
        family = [row for row in found if row["metric"] == metric and "p" in row]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    yield from found


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    """What makes the runs hard to compare."""
    first = sides[0]
    for side in sides[1:]:
        mine, theirs = (set(s.results.run.get("patients", {}).values()) for s in (side, first))
        for who, others, name in ((mine - theirs, first, side), (theirs - mine, side, first)):
            if who:
                yield (
                    f"{_listed(who)} in {name.name} but not in {others.name}: differences are over "
                    f"the {len(mine & theirs)} patients in both, and each headline is over its own."
                )
        if side.results.protocol != first.results.protocol:
            yield (
                f"{side.name} was validated by {side.results.protocol}, {first.name} by "
                f"{first.results.protocol}: no difference is computed."
            )
    for side in sides:
        failed = side.results.run.get("failed", {})
        if failed:
            yield f"{side.name}: {len(failed)} specimens failed ({_listed(failed)})."


def _listed(names: Any) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return f"{', '.join(shown[:NAMED])}{more}"


def _cohorts(sides: Sequence[Side]) -> HtmlTable:
    rows = []
    for side in sides:
        run = side.results.run
        patients = len(set(run.get("patients", {}).values()))
        counts = [
            str(patients),
            str(len(run.get("specimens", []))),
            str(len(run.get("failed", {}))),
        ]
        facts = [str(run.get("manifest", "")), str(run.get("started", ""))[:19]]
        rows.append([side.name, *counts, side.results.protocol, *facts])
    columns = ["run", "patients", "specimens", "failed", "protocol", "manifest", "started"]
    return HtmlTable(columns, rows)


def _headline(sides: Sequence[Side]) -> HtmlTable:
    rows = []
    for key in HEADLINES:
        found = [s.estimates.mean((s.results.protocol, *key)) for s in sides]
        if any(found):
            shown = [with_interval(e, key[2]) if e else "–" for e in found]
            rows.append([_called(key), SCORED[key[2]], *shown])
    return HtmlTable(["predicted", "score", *(s.name for s in sides)], rows)


def _called(key: Key) -> str:
    return key[0] if key[1] == "cancer" else f"{key[0]} {key[1]}"


def _differences(rows: Sequence[Mapping[str, Any]]) -> HtmlTable:
    shown = []
    for row in rows:
        if row.get("paired"):
            key = (row["model"], row["target"], row["metric"])
            ends = f"{digits(row['difference_low'])} to {digits(row['difference_high'])}"
            ps = [_p(row["p"]), _p(row["p_holm"])]
            facts = [digits(row["difference"]), ends, str(row["paired"]), *ps]
            shown.append([row["run"], _called(key), SCORED[row["metric"]], *facts])
    columns = ["run", "predicted", "score", "difference", "95 % interval"]
    return HtmlTable([*columns, "shared patients", "p", "p (Holm)"], shown)


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class Drawn:
    """Where the figure of the differences has its marks, in pixels."""

    width: int
    height: int
    zero: float
    ticks: list[dict[str, Any]]
    marks: list[dict[str, Any]]


def _words(row: Mapping[str, Any]) -> str:
    key = (row["model"], row["target"], row["metric"])
    return f"{row['run']}: {_called(key)}, {SCORED[row['metric']]}"


def drawn(rows: Sequence[Mapping[str, Any]]) -> Drawn | None:
    """A dot and a line a difference, on one scale; None without any.

    Parameters
    ----------
    rows
        With ``difference``, ``difference_low``, ``difference_high``, and ``words`` for its line.

    Returns
    -------
    Drawn or None
    """
    known = [row for row in rows if math.isfinite(row["difference"])]
    ends = [
        abs(row[k]) for row in known for k in ("difference", "difference_low", "difference_high")
    ]
    most = max((v for v in ends if math.isfinite(v)), default=0.0) or 0.01
    if not known:
        return None
    left, right, step = 380, 800, 22

    def at(value: float) -> float:
        return round(left + (right - left) * (value + most) / (2 * most), 1)

    marks = []
    for i, row in enumerate(known):
        low, high = row["difference_low"], row["difference_high"]
        marks.append(
            {
                "y": 14 + step * i,
                "x": at(row["difference"]),
                "ends": (at(low), at(high)) if math.isfinite(low) else None,
                "words": row["words"],
            }
        )
    ticks = [{"x": at(v), "words": f"{v:+.2g}" if v else "0"} for v in (-most, 0.0, most)]
    return Drawn(right + 40, 14 + step * len(known) + 24, at(0.0), ticks, marks)


def _unlike(sides: Sequence[Side], take: Any) -> HtmlTable:
    """What is not the same in all runs, a row a name."""
    found: list[Mapping[str, Any]] = [take(side.results.run) for side in sides]
    names = sorted({name for one in found for name in one})
    rows = []
    for name in names:
        values = [json.dumps(one.get(name), ensure_ascii=False) for one in found]
        if len(set(values)) > 1:
            rows.append([name, *(v.strip('"') for v in values)])
    return HtmlTable(["", *(side.name for side in sides)], rows)
