"""``metrics.csv`` and, beside it, intervals, comparisons and reliability of the held-out maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msiscale.models import R2, FoldModel, classification_records, intervals
from msiscale.models.metrics import POOLED, reliability
from msiscale.models.validation import r2_records
from msiscale.pipeline.context import Run
from msiscale.pipeline.model import COMPARED, HE, HE_MODES, MSI, PREDICTED
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import at_once, join, open_group, read, write_csv

PROTOCOL = "leave_one_patient_out"
COLUMNS = [
    "protocol",
    "fold",
    "specimen",
    "model",
    "target",
    "metric",
    "value",
]
INTERVALS = ["protocol", "model", "target", "metric", "value", "low", "high"]
PAIRS = ((PREDICTED, HE_MODES), (PREDICTED, HE), (MSI, PREDICTED), (MSI, HE))
Maps = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The held-out results of one protocol.

    Attributes
    ----------
    protocol : str
    folds : mapping of specimen to the name of the fold that held it out (``all``: several did)
    truth : mapping of specimen to annotated fraction (y, x), NaN where it is not used
    maps : mapping of model to mapping of specimen to probability (y, x)
    scores : mapping of specimen to the squares of its modes
    ratio : (k,) explained variance ratio of the modes, mean over folds
    records : further records, as they are
    """

    protocol: str
    folds: Mapping[str, str]
    truth: Maps
    maps: dict[str, Maps]
    scores: Mapping[str, R2]
    ratio: np.ndarray
    records: Sequence[dict[str, Any]] = ()

    @classmethod
    def of(
        cls,
        protocol: str,
        place: Callable[[str], str],
        tables: Mapping[str, PixelRows],
        scores: Mapping[str, R2],
        models: Sequence[FoldModel],
        labelled: bool,
        *,
        within: bool = False,
    ) -> Evaluation:
        """Read the written maps of each specimen at its `place`.

        With `within`, every fold held out a part of each specimen. Memory: four values a pixel of
        the cohort.

        Returns
        -------
        Evaluation
            Without maps where nothing is `labelled`.
        """
        folds = dict.fromkeys(tables, POOLED)
        if not within:
            folds |= {name: m.fold.name for m in models for name in m.fold.test}
        k = min((len(m.explained_variance_ratio) for m in models), default=0)
        ratio = np.array([m.explained_variance_ratio[:k] for m in models])

        def maps(name: str) -> Maps:
            group = open_group(place(name))
            return {model: read(group, model) for model in COMPARED}

        names = list(tables) if labelled and models else []
        read_maps = at_once(maps, names)
        return cls(
            protocol,
            folds,
            dict(zip(names, at_once(lambda name: tables[name].cancer(), names), strict=True)),
            {m: {n: r[m] for n, r in zip(names, read_maps, strict=True)} for m in COMPARED},
            scores,
            ratio.mean(axis=0) if len(ratio) else np.zeros(0),
            # a specimen's own records know its spectra and background too
            () if within else [r for m in models for r in m.records],
        )


def write_metrics(run: Run, found: Sequence[Evaluation], patients: Mapping[str, str]) -> None:
    """All protocols in one tidy table; ``intervals.csv``, over patients, of its pooled values;
    ``comparisons.csv`` of models; ``reliability.csv``."""
    rows: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    for one in found:
        rows += regression(one, patients)
        if one.truth:
            rows += classification(one, patients, compared)
            for model, maps in one.maps.items():
                curve = reliability(list(one.truth.values()), list(maps.values()))
                bins += [{"protocol": one.protocol, "model": model, **row} for row in curve]

    def write(name: str, content: list[dict[str, Any]], columns: list[str]) -> None:
        write_csv(join(run.out, name), content, columns, digits=12)

    write("metrics.csv", rows, COLUMNS)
    write("intervals.csv", [row for row in rows if "low" in row], INTERVALS)
    write("comparisons.csv", compared, COMPARISON)
    write("reliability.csv", bins, RELIABILITY)


COMPARISON = [
    "protocol",
    "model",
    "against",
    "metric",
    "difference",
    "low",
    "high",
    "patients",
    "p",
]
RELIABILITY = ["protocol", "model", "predicted", "observed", "n"]


def regression(one: Evaluation, patients: Mapping[str, str]) -> list[dict[str, Any]]:
    """Records of the modes; pooled ones with intervals over patients."""
    rows = [{"protocol": one.protocol, **r} for r in one.records]
    if not one.scores:
        return rows
    if not one.records:
        for name, r2 in one.scores.items():
            found = r2_records(one.folds[name], name, r2, one.ratio)
            rows += [{"protocol": one.protocol, **r} for r in found]
    parts = _by_patient(one.scores, patients)
    total = R2.total(parts.values())
    pooled = r2_records(POOLED, POOLED, total, one.ratio[: len(total.rss)])
    if len(parts) > 1:
        each, weighted = intervals.r2_values(parts, intervals.draws(len(parts)))
        for record in pooled:
            if record["metric"] == "r2":
                target = record["target"]
                sample = weighted if target == "weighted" else each[:, int(target[5:])]
                record["low"], record["high"] = intervals.interval(sample)
    return rows + [{"protocol": one.protocol, **r} for r in pooled]


def _by_patient(scores: Mapping[str, R2], patients: Mapping[str, str]) -> dict[str, R2]:
    found: dict[str, list[R2]] = {}
    for name, r2 in scores.items():
        found.setdefault(patients[name], []).append(r2)
    return {patient: R2.total(parts) for patient, parts in found.items()}


def classification(
    one: Evaluation, patients: Mapping[str, str], compared: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Records of the maps, pooled ones with intervals; `compared` gets the pairs of models."""
    rows = []
    members: dict[str, list[str]] = {}
    for name in one.truth:
        members.setdefault(patients[name], []).append(name)
    samples: dict[str, dict[str, np.ndarray]] = {}
    each: dict[str, dict[str, np.ndarray]] = {}  # patient by itself
    weights = intervals.draws(len(members))
    values: dict[str, dict[str, float]] = {}
    for model, maps in one.maps.items():
        records = classification_records(one.truth, maps, model=model, folds=one.folds)
        if len(members) > 1:
            truths = [np.concatenate([one.truth[n].ravel() for n in m]) for m in members.values()]
            guesses = [np.concatenate([maps[n].ravel() for n in m]) for m in members.values()]
            counts = intervals.tally(truths, guesses)
            samples[model] = intervals.values(counts, weights)
            each[model] = intervals.values(counts, np.eye(len(members)))
        for record in records:
            if record["specimen"] == POOLED:
                values.setdefault(model, {})[record["metric"]] = record["value"]
                sample = samples.get(model, {}).get(record["metric"])
                if sample is not None:
                    record["low"], record["high"] = intervals.interval(sample)
            rows.append({"protocol": one.protocol, **record})
    for a, b in PAIRS if samples else ():
        for metric in ("auc", "average_precision"):
            low, high = intervals.interval(samples[a][metric] - samples[b][metric])
            by_patient = each[a][metric] - each[b][metric]
            compared.append(
                {
                    "protocol": one.protocol,
                    "model": a,
                    "against": b,
                    "metric": metric,
                    "difference": values[a][metric] - values[b][metric],
                    "low": low,
                    "high": high,
                    "patients": int(np.isfinite(by_patient).sum()),
                    "p": intervals.sign_flip(by_patient),
                }
            )
    return rows
