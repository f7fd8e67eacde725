"""The tables of a fit: of folds and specimens, patients, intervals, comparisons, calibration."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msiscale.errors import MsiscaleWarning
from msiscale.models.metrics import POOLED, reliability
from msiscale.pipeline.context import Run
from msiscale.pipeline.fold_means import with_fold_means
from msiscale.pipeline.metrics import Evaluation, classification, regression
from msiscale.pipeline.over_patients import COMPARISONS, INTERVALS, SCORES, over_patients
from msiscale.store import join, write_csv

METRICS = ["protocol", "fold", "specimen", "model", "target", "metric", "value", "why"]
RELIABILITY = ["protocol", "model", "predicted", "observed", "n"]
Rows = list[dict[str, Any]]


def write_metrics(run: Run, found: Sequence[Evaluation], patients: Mapping[str, str]) -> None:
    """All protocols in one tidy table; means over patients and pooled values with intervals;
    differences of models; how far probabilities are what they say."""
    parts: list[Iterable[dict[str, Any]]] = []
    estimates: Rows = []
    compared: Rows = []
    scores: Rows = []
    bins: Rows = []
    for one in found:
        rows = regression(one)
        if one.truth:
            rows += classification(one)
            _warn(one)
            for model, maps in one.maps.items():
                curve = reliability(list(one.truth.values()), list(maps.values()))
                bins += [{"protocol": one.protocol, "model": model, **row} for row in curve]
        pooled = {
            (row["model"], row["target"], row["metric"]): row["value"]
            for row in rows
            if row["specimen"] == POOLED
        }
        more, pairs, own = over_patients(one, patients, pooled)
        if run.config.average == "folds" and one.truth:
            rows = with_fold_means(rows, one.truth, one.maps, one.holds, one.thresholds)
        parts += [one.records, rows]
        estimates += more
        compared += pairs
        scores += own

    def write(name: str, content: Iterable[dict[str, Any]], columns: list[str]) -> None:
        write_csv(join(run.out, name), content, columns, digits=12)

    write("metrics.csv", itertools.chain.from_iterable(parts), METRICS)
    write("intervals.csv", estimates, INTERVALS)
    write("comparisons.csv", compared, COMPARISONS)
    write("patients.csv", scores, SCORES)
    write("reliability.csv", bins, RELIABILITY)


def _warn(one: Evaluation) -> None:
    """Say which folds could not be trained: of a cohort, not of its patients, is that a fact."""
    for why in sorted({why for folds in one.untrained.values() for why in folds.values()}):
        text = (
            f"fit: {one.protocol}: {why}; cancer has no score over what that fold held out, nor "
            "over all pixels"
        )
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
