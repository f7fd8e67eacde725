"""``batch.csv``: how well the modes of a run, and its features, tell specimens apart."""

from __future__ import annotations

from collections.abc import Mapping

from msiscale.models import FoldModel, Moments
from msiscale.models.batch import COLUMNS, Record, batch_records
from msiscale.pipeline.context import Run
from msiscale.store import join, remove, write_csv

TABLE = "batch.csv"


def write_batch(
    run: Run, model: FoldModel, sums: Mapping[str, Moments], patients: Mapping[str, str]
) -> list[Record]:
    """Write ``batch.csv`` of two or more specimens, say what it shows, and return its rows."""
    features, _ = model.slide_columns
    rows = batch_records(sums, model.components, model.mean, patients, features)
    if not rows:
        remove(join(run.out, TABLE))  # of an earlier cohort
        return []
    write_csv(join(run.out, TABLE), rows, COLUMNS, digits=6)
    run.say(summary(rows))
    return rows


def summary(rows: list[Record]) -> str:
    """One line for the user."""
    parts = []
    for of, what in (("msi", "MSI modes"), ("features", "H&E features")):
        mine = [r for r in rows if r["of"] == of and r["specimen"] == "all"]
        if not mine:
            continue
        total = {r["metric"]: r["value"] for r in mine if r["target"] == "all"}
        flagged = sum(
            r["value"] > 0 for r in mine if r["metric"] == "mostly_batch" and r["target"] != "all"
        )
        modes = sum(r["metric"] == "mostly_batch" for r in mine) - 1
        parts.append(
            f"{what}: {total['between_specimens']:.0%} of the variance lies between specimens "
            f"(most of it in {flagged} of {modes} modes), and one pixel tells two specimens apart "
            f"with an AUC of {total['pairwise_auc']:.2f}"
        )
    return "fit: " + "; ".join(parts)
