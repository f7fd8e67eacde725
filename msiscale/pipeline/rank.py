"""Encoders ranked on the user's own cohort: the same folds and the same scores for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.models.patient_means import holm, patient_mean
from msiscale.pipeline.context import say
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.subrun import sub_run
from msiscale.report.frame import plain_page
from msiscale.report.headline import digits
from msiscale.report.side_by_side import Drawn, Side, drawn
from msiscale.report.tables import HtmlTable
from msiscale.store import (
    Ledger,
    digest,
    exists,
    is_url,
    join,
    listing,
    read_bytes,
    remove,
    write_bytes,
    write_csv,
    written,
)
from msiscale.store.written import recording

BASELINE = "stains"
MODES = ("dense", "centred")
SCORES = {
    "R² of MSI": ("msi_from_he", "weighted", "r2"),
    "AUC of cancer": ("cancer_from_he", "cancer", "auc"),
}
COLOUR = {
    "R² of MSI": ("msi_from_colour", "weighted", "r2"),
    "AUC of cancer": ("cancer_from_colour", "cancer", "auc"),
}
COLUMNS = (
    *("encoder", "mode", "score", "value", "low", "high", "patients", "mpp"),
    *("against", "difference", "difference_low", "difference_high", "p", "p_holm"),
    *("cpu_s", "mpix", "cpu_s_a_mpix"),
)
# of each run; the last is written last
KEPT = ("metrics.csv", "intervals.csv", "patients.csv", "run.json")
ENCODED = ("features", "group", "colour", "coverage")  # arrays that each encoder makes anew


@dataclass(frozen=True)
class Entry:
    """An encoder in a mode, and where its figures are."""

    encoder: str
    mode: str
    weights: str | None
    folder: str

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.encoder}, {self.mode}"


def rank(
    manifest: str,
    out: str,
    config: RunConfig,
    encoders: Sequence[str],
    modes: Sequence[str] = ("dense",),
    weights: Sequence[str] = (),
    **where: Any,
) -> list[str]:
    """Fit the cohort with each encoder, and compare them patient by patient.

    Each is a run of its own in ``out/rank``, which begins with a copy of the finished work (where
    `out` is a folder; elsewhere with nothing) and leaves only its figures. The stains stand in
    every table, and six colour numbers beside them. A call that was stopped is continued by the
    same call.

    Parameters
    ----------
    manifest, out, config
        As of `msiscale.run`; the encoder of the config is not used.
    encoders
        Names.
    modes
        Among `MODES`.
    weights
        One for each encoder, "" for its default; or none.
    **where
        As of `msiscale.run`.

    Returns
    -------
    list of str
        Lines, best first, and what was written.

    Raises
    ------
    InputError
        Nothing is registered at `out`, a mode is unknown, weights are not as many as encoders, or
        a specimen failed in a run.
    """
    entries = _entries(out, config, encoders, modes, weights)
    if not is_url(out) and not exists(join(out, "registration.csv")):
        raise InputError(
            f"{out}: nothing is registered there; msiscale run {manifest} --out {out} first"
        )
    for entry in entries:
        if not exists(join(entry.folder, KEPT[-1])):
            say(f"rank: {entry.name}")
            _once(manifest, out, config, entry, where)
    sides = [Side(entry.name, entry.folder) for entry in entries]
    rows = [row for pair in zip(entries, sides, strict=True) for row in _rows(*pair, sides)]
    _adjust(rows)
    kept = {entry.folder for entry in entries}
    for file in listing(join(out, "rank")):
        if join(out, "rank", file) not in kept:
            remove(join(out, "rank", file))  # of an earlier fit
    with recording(out) as noted:
        for entry in entries:
            for name in KEPT:
                written.file(join(entry.folder, name), read_bytes(join(entry.folder, name)))
        write_csv(join(out, "rank.csv"), rows, list(COLUMNS), digits=12)
        page = plain_page("rank.html.j2", "Encoders ranked – msiscale", **_shown(rows))
        write_bytes(join(out, "rank.html"), page.encode())
    Ledger(out).write("rank", COHORT, digest(sorted(kept)), "done", written=noted.parts)
    return [*_lines(rows), join(out, "rank.csv"), join(out, "rank.html")]


def _entries(
    out: str,
    config: RunConfig,
    encoders: Sequence[str],
    modes: Sequence[str],
    weights: Sequence[str],
) -> list[Entry]:
    unknown = set(modes) - set(MODES)
    if unknown or not modes:
        raise InputError(f"--modes {', '.join(sorted(unknown))}: give {' or '.join(MODES)}")
    if weights and len(weights) != len(encoders):
        raise InputError(
            f"--encoder-weights: {len(weights)} given for {len(encoders)} encoders; give one for"
            " each, and leave a place empty for the default weights"
        )
    files = dict(zip(encoders, weights, strict=True)) if weights else {}
    names = list(dict.fromkeys([*encoders, BASELINE]))
    start = Ledger(out).read_all("registration").get(COHORT) or {}
    found = []
    for mode in modes:
        for name in names:
            own = replace(config, encoder=name, weights=files.get(name) or None, feature_mode=mode)  # type: ignore[arg-type]
            key = digest([start.get("digest"), repr(own)])[:12]
            folder = join(out, "rank", f"{_safe(name)}-{mode}-{key}")
            found.append(Entry(name, mode, files.get(name) or None, folder))
    return found


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:60]


def _once(manifest: str, out: str, config: RunConfig, entry: Entry, where: dict[str, Any]) -> None:
    own = replace(
        config,
        encoder=entry.encoder,
        weights=entry.weights,
        feature_mode=entry.mode,  # type: ignore[arg-type]
        jitter=(),
        null=0,
    )
    keep = {name: join(entry.folder, name) for name in KEPT}
    place, what = f"{entry.folder}.run", f"rank: {entry.name}"
    sub_run(manifest, out, place, own, what, keep, where, without=ENCODED)


def _rows(entry: Entry, side: Side, sides: Sequence[Side]) -> Iterator[dict[str, Any]]:
    """A row a score of an encoder: its mean over patients, and how far it is from the baselines."""
    document = side.results.run
    stage = document["stages"].get("features", {})
    cpu, mpix = float(stage.get("cpu_s", np.nan)), float(stage.get("mpix", np.nan))
    base = next(s for s in sides if s.name == f"{BASELINE}, {entry.mode}")
    for score, key in SCORES.items():
        estimate = side.estimates.mean((side.results.protocol, *key))
        whole = side.results.metric("all", *key)
        if estimate is None and np.isnan(whole):
            continue
        known = {
            "encoder": entry.encoder,
            "mode": entry.mode,
            "score": score,
            "value": whole if estimate is None else estimate.value,
            "low": np.nan if estimate is None else estimate.low,
            "high": np.nan if estimate is None else estimate.high,
            "patients": 1 if estimate is None else estimate.patients,
            "mpp": document["parameters"]["mpp"],
            "cpu_s": cpu,
            "mpix": mpix,
            "cpu_s_a_mpix": cpu / mpix if mpix else np.nan,
        }
        mine = side.scores.get(key, {})
        others = {BASELINE: base.scores.get(key, {}), "colour": side.scores.get(COLOUR[score], {})}
        for against, theirs in others.items():
            both = [p for p in mine if p in theirs]
            if against == BASELINE and side is base:
                both = []
            mean = patient_mean(np.array([mine[p] - theirs[p] for p in both]))
            ends = {"difference": mean.value, "difference_low": mean.low}
            yield {**known, "against": against, **ends, "difference_high": mean.high, "p": mean.p}


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Holm's correction over all encoders and modes, for each score and baseline."""
    for family in {(row["score"], row["against"]) for row in rows}:
        mine = [row for row in rows if (row["score"], row["against"]) == family]
        for row, p in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = p


def _best_first(rows: Sequence[dict[str, Any]], score: str) -> list[dict[str, Any]]:
    mine = [r for r in rows if r["score"] == score and r["against"] == "colour"]
    return sorted(mine, key=lambda r: -np.nan_to_num(r["value"], nan=-np.inf))


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for score in SCORES:
        mine = _best_first(rows, score)
        if mine:
            yield f"{score}, held out, best first (mean over patients, 95 % interval):"
        for row in mine:
            ends = f" ({digits(row['low'])} to {digits(row['high'])})"
            name = f"{row['encoder']}, {row['mode']}"
            yield f"  {name:<44} {digits(row['value'])}{'' if np.isnan(row['low']) else ends}"


def _shown(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page shows: a table and a figure a score."""
    parts = []
    for score in SCORES:
        table = [_cells(row, rows) for row in _best_first(rows, score)]
        if table:
            columns = ["encoder", "mode", "mean over patients (95 %)", "patients"]
            columns += ["from stains (95 %)", "p (Holm)", "from colour alone (95 %)", "p (Holm)"]
            columns += ["µm/px", "CPU s per megapixel"]
            marks: Drawn | None = drawn(
                [
                    {**row, "words": f"{row['encoder']}, {row['mode']}"}
                    for row in rows
                    if row["score"] == score and row["against"] == BASELINE
                ]
            )
            parts.append({"score": score, "table": HtmlTable(columns, table), "drawn": marks})
    return {"parts": parts}


def _cells(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    same = ("encoder", "mode", "score")
    pair = {r["against"]: r for r in rows if all(r[k] == row[k] for k in same)}
    cells = [row["encoder"], row["mode"], _range(row, "value", "low", "high"), str(row["patients"])]
    for against in (BASELINE, "colour"):
        one = pair[against]
        cells.append(_range(one, "difference", "difference_low", "difference_high"))
        cells.append("–" if np.isnan(one["p_holm"]) else f"{one['p_holm']:.3f}")
    cost = row["cpu_s_a_mpix"]
    return [*cells, f"{row['mpp']:g}", "–" if np.isnan(cost) else f"{cost:.2f}"]


def _range(row: dict[str, Any], *keys: str) -> str:
    value, low, high = (row[key] for key in keys)
    ends = "" if np.isnan(low) else f" ({digits(low)} to {digits(high)})"
    return f"{digits(value)}{ends}"
