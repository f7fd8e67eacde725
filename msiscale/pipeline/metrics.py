"""``metrics.csv`` and, beside it, intervals, comparisons and reliability of the held-out maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiscale.models import R2, classification_records, intervals
from msiscale.models.fold_model import Scored
from msiscale.models.fold_records import MSI_FROM_COLOUR, MSI_FROM_HE, r2_records
from msiscale.models.metrics import POOLED, reliability
from msiscale.pipeline.context import Run
from msiscale.pipeline.fold_means import with_fold_means
from msiscale.pipeline.model import COLOUR, COMPARED, HE, HE_MODES, MSI, PREDICTED
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
PAIRS = (
    (PREDICTED, HE_MODES),
    (PREDICTED, HE),
    (MSI, PREDICTED),
    (MSI, HE),
    (HE, COLOUR),
    (PREDICTED, COLOUR),
    (MSI, COLOUR),
)
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
    scores : mapping of specimen to the squares of its modes, of each fold that held some out
    colour : the same of what is predicted from colour alone
    blocks : mapping of specimen to which of several folds held a pixel out (y, x); else empty
    ratio : (k,) explained variance ratio of the modes, mean over folds
    held_out : folds whose own records are taken as they are
    holds : mapping of specimen to the index of the fold that held a pixel out (y, x); -1: none
    """

    protocol: str
    folds: Mapping[str, str]
    truth: Maps
    maps: dict[str, Maps]
    scores: Mapping[str, Sequence[R2]]
    colour: Mapping[str, Sequence[R2]]
    blocks: Maps
    ratio: np.ndarray
    held_out: Sequence[Scored] = ()
    holds: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        """Records of what each fold held out: thousands a fold, so never all in memory."""
        return ({"protocol": self.protocol, **r} for m in self.held_out for r in m.records)

    @classmethod
    def of(
        cls,
        protocol: str,
        place: Callable[[str], str],
        tables: Mapping[str, PixelRows],
        scores: Mapping[str, Sequence[R2]],
        colour: Mapping[str, Sequence[R2]],
        models: Sequence[Scored],
        labelled: bool,
        *,
        within: bool = False,
        holds: Mapping[str, np.ndarray],
    ) -> Evaluation:
        """Read the written maps of each specimen at its `place`.

        Memory: four values a pixel of the cohort.

        Parameters
        ----------
        protocol, scores, colour, holds
            As the attributes.
        place
            Specimen to the URL of its maps.
        tables
            Specimen to its rows.
        models
            What the folds scored.
        labelled
            Whether anything is annotated.
        within
            Whether every fold held out a part of each specimen.

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
            wanted = [*COMPARED, *(["fold"] if within and "fold" in group else [])]
            return {model: read(group, model) for model in wanted}

        names = list(tables) if labelled and models else []
        read_maps = at_once(maps, names)
        return cls(
            protocol,
            folds,
            dict(zip(names, at_once(lambda name: tables[name].cancer(), names), strict=True)),
            {m: {n: r[m] for n, r in zip(names, read_maps, strict=True)} for m in COMPARED},
            scores,
            colour,
            {n: r["fold"] for n, r in zip(names, read_maps, strict=True) if "fold" in r},
            ratio.mean(axis=0) if len(ratio) else np.zeros(0),
            # a specimen's own records know its spectra and background too
            () if within else models,
            holds,
        )


def write_metrics(run: Run, found: Sequence[Evaluation], patients: Mapping[str, str]) -> None:
    """All protocols in one tidy table; ``intervals.csv``, over patients, of its pooled values;
    ``comparisons.csv`` of models; ``reliability.csv``."""
    parts: list[Iterable[dict[str, Any]]] = []
    pooled: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    for one in found:
        rows = regression(one, patients, compared)
        if one.truth:
            rows += classification(one, patients, compared)
            for model, maps in one.maps.items():
                curve = reliability(list(one.truth.values()), list(maps.values()))
                bins += [{"protocol": one.protocol, "model": model, **row} for row in curve]
        pooled += [row for row in rows if "low" in row]
        if run.config.average == "folds":
            rows = with_fold_means(rows, one.truth, one.maps, one.holds)
        parts += [one.records, rows]

    def write(name: str, content: Iterable[dict[str, Any]], columns: list[str]) -> None:
        write_csv(join(run.out, name), content, columns, digits=12)

    write("metrics.csv", itertools.chain.from_iterable(parts), COLUMNS)
    write("intervals.csv", pooled, INTERVALS)
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
    "unit",
    "units",
    "patients",
    "p",
]
RELIABILITY = ["protocol", "model", "predicted", "observed", "n"]


def regression(
    one: Evaluation, patients: Mapping[str, str], compared: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Records of the modes; pooled ones with intervals; `compared` gets network against colour.

    Returns
    -------
    list of dict
        Without those of the evaluation itself (`Evaluation.records`).
    """
    rows: list[dict[str, Any]] = []
    samples, pooled_values, each = {}, {}, {}
    unit = ""
    for model, scores in ((MSI_FROM_HE, one.scores), (MSI_FROM_COLOUR, one.colour)):
        if not scores:
            continue
        if not one.held_out:
            for name, parts in scores.items():
                found = r2_records(one.folds[name], name, R2.total(parts), one.ratio, model)
                rows += [{"protocol": one.protocol, **r} for r in found]
        unit, units = _units(scores, patients)
        total = R2.total(units.values())
        pooled = r2_records(POOLED, POOLED, total, one.ratio[: len(total.rss)], model)
        if len(units) > 1:
            modes, weighted = intervals.r2_values(units, intervals.draws(len(units)))
            samples[model], pooled_values[model] = weighted, total.weighted
            each[model] = np.array([part.weighted for part in units.values()])
            for record in pooled if unit == PATIENTS else ():
                if record["metric"] == "r2":
                    target = record["target"]
                    sample = weighted if target == "weighted" else modes[:, int(target[5:])]
                    record["low"], record["high"] = intervals.interval(sample)
        rows += [{"protocol": one.protocol, **r} for r in pooled]
    if len(samples) == 2:
        pair = (MSI_FROM_HE, MSI_FROM_COLOUR)
        compared.append(_compared(one.protocol, pair, "r2", pooled_values, samples, each, unit))
    return rows


PATIENTS, BLOCKS = "patients", "blocks"


def _units(
    scores: Mapping[str, Sequence[R2]], patients: Mapping[str, str]
) -> tuple[str, dict[str, R2]]:
    """Of patients; where there is one, of the blocks that were held out."""
    found: dict[str, list[R2]] = {}
    for name, parts in scores.items():
        found.setdefault(patients[name], []).extend(parts)
    if len(found) > 1:
        return PATIENTS, {patient: R2.total(parts) for patient, parts in found.items()}
    every = [part for parts in found.values() for part in parts]
    return BLOCKS, {str(i): part for i, part in enumerate(every)}


def _compared(
    protocol: str,
    pair: tuple[str, str],
    metric: str,
    values: Mapping[str, float],
    samples: Mapping[str, np.ndarray],
    each: Mapping[str, np.ndarray],
    unit: str,
) -> dict[str, Any]:
    """A row of ``comparisons.csv``: a difference, its interval over units and, of patients, p."""
    a, b = pair
    low, high = intervals.interval(samples[a] - samples[b])
    differences = each[a] - each[b]
    n = int(np.isfinite(differences).sum())
    return {
        "protocol": protocol,
        "model": a,
        "against": b,
        "metric": metric,
        "difference": values[a] - values[b],
        "low": low,
        "high": high,
        "unit": unit,
        "units": n,
        "patients": n if unit == PATIENTS else 1,
        "p": intervals.sign_flip(differences) if unit == PATIENTS else np.nan,
    }


def classification(
    one: Evaluation, patients: Mapping[str, str], compared: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Records of the maps, pooled ones with intervals; `compared` gets the pairs of models."""
    rows = []
    unit, parts = _masks(one, patients)
    samples: dict[str, dict[str, np.ndarray]] = {}
    each: dict[str, dict[str, np.ndarray]] = {}  # a unit by itself
    weights = intervals.draws(len(parts))
    values: dict[str, dict[str, float]] = {}
    for model, maps in one.maps.items():
        records = classification_records(one.truth, maps, model=model, folds=one.folds)
        if len(parts) > 1:
            truths, guesses = (
                [np.concatenate([of[n][mask] for n, mask in part]) for part in parts]
                for of in (one.truth, maps)
            )
            counts = intervals.tally(truths, guesses)
            samples[model] = intervals.values(counts, weights)
            each[model] = intervals.each(counts)
        for record in records:
            if record["specimen"] == POOLED:
                values.setdefault(model, {})[record["metric"]] = record["value"]
                sample = samples.get(model, {}).get(record["metric"])
                if sample is not None and unit == PATIENTS:
                    record["low"], record["high"] = intervals.interval(sample)
            rows.append({"protocol": one.protocol, **record})
    for pair in PAIRS if samples else ():
        for metric in ("auc", "average_precision"):
            value = {model: values[model][metric] for model in pair}
            sample_of = {model: samples[model][metric] for model in pair}
            by_unit = {model: each[model][metric] for model in pair}
            compared.append(_compared(one.protocol, pair, metric, value, sample_of, by_unit, unit))
    return rows


Parts = list[list[tuple[str, np.ndarray]]]


def _masks(one: Evaluation, patients: Mapping[str, str]) -> tuple[str, Parts]:
    """Pixels of patients; where there is one, of the blocks that were held out."""
    members: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name, truth in one.truth.items():
        members.setdefault(patients[name], []).append((name, np.ones(truth.shape, bool)))
    if len(members) > 1 or not one.blocks:
        return PATIENTS, list(members.values())
    blocks = {int(k) for fold in one.blocks.values() for k in np.unique(fold[fold >= 0])}
    return BLOCKS, [[(n, fold == k) for n, fold in one.blocks.items()] for k in sorted(blocks)]
