"""What is known of patients: means over them with intervals, and differences of models.

The mean over patients, by t, is the headline. Beside it stand the values of all pixels pooled, with
intervals that resample patients, under their own name: they rank scores of different folds
together, and can lie outside of what any patient has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from msiscale.models import R2, classification_metrics, intervals
from msiscale.models.fold_records import MSI_FROM_COLOUR, MSI_FROM_HE
from msiscale.models.metrics import POOLED
from msiscale.models.patient_means import (
    ALL_PIXELS,
    OVER_PATIENTS,
    PatientMean,
    holm,
    patient_mean,
)
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import COLOUR, HE, HE_MODES, MSI, PREDICTED

INTERVALS = [
    *("protocol", "model", "target", "metric", "value", "low", "high"),
    *("estimand", "patients", "of", "trusted", "why"),
]
SCORES = ["protocol", "patient", "model", "target", "metric", "value"]  # of `patients.csv`
COMPARISONS = [
    *("protocol", "model", "against", "metric", "difference", "low", "high"),
    *("unit", "units", "patients", "trusted", "p", "p_holm"),
    *("pooled_difference", "pooled_low", "pooled_high"),
]
PAIRS = (
    (PREDICTED, HE_MODES),
    (PREDICTED, HE),
    (MSI, PREDICTED),
    (MSI, HE),
    (HE, COLOUR),
    (PREDICTED, COLOUR),
    (MSI, COLOUR),
)
PATIENTS, BLOCKS = "patients", "blocks"
BOOTSTRAP_TRUSTED = 10  # patients from which a bootstrap is not far too narrow
NAMED = 3  # patients whose names are said
Rows = list[dict[str, Any]]
Pooled = Mapping[tuple[str, str, str], float]


def over_patients(
    one: Evaluation, patients: Mapping[str, str], pooled: Pooled
) -> tuple[Rows, Rows, Rows]:
    """Rows of ``intervals.csv``, of ``comparisons.csv`` and of ``patients.csv``.

    Parameters
    ----------
    one : Evaluation
        Of a protocol.
    patients : mapping of specimen to patient
        The pixels of a patient's specimens are taken together.
    pooled : mapping of (model, target, metric) to float
        The values of all pixels.

    Returns
    -------
    intervals, comparisons, scores : lists of dict
        Without intervals and scores of patients where there is one patient; differences are over
        the blocks that were held out then.
    """
    scores: Rows = []
    found, compared = _of_modes(one, patients, pooled, scores)
    if one.truth:
        more, pairs = _of_cancer(one, patients, pooled, scores)
        found, compared = found + more, compared + pairs
    for metric in {row["metric"] for row in compared}:
        family = [row for row in compared if row["metric"] == metric]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    return found, compared, scores


def _of_modes(
    one: Evaluation, patients: Mapping[str, str], pooled: Pooled, own: Rows
) -> tuple[Rows, Rows]:
    found: Rows = []
    each, samples, unit = {}, {}, ""
    for model, scores in ((MSI_FROM_HE, one.scores), (MSI_FROM_COLOUR, one.colour)):
        unit, units = _squares(scores, patients)
        if len(units) < 2:
            continue
        of_modes, weighted = intervals.r2_values(units, intervals.draws(len(units)))
        each[model] = np.array([part.weighted for part in units.values()])
        samples[model] = weighted
        k = of_modes.shape[1]
        targets = {"weighted": (each[model], weighted)}
        by_mode = np.stack([part.per_target[:k] for part in units.values()])
        targets |= {f"mode_{i:03d}": (by_mode[:, i], of_modes[:, i]) for i in range(k)}
        for target, (values, sample) in targets.items() if unit == PATIENTS else ():
            key = {"protocol": one.protocol, "model": model, "target": target, "metric": "r2"}
            mean, left = patient_mean(values), _named(units, values, "nothing varies in it")
            found.append(key | _mean(mean, len(units), left))
            found.append(key | _resampled(pooled[model, target, "r2"], sample, len(units)))
            own += _each(key, units, values)
    compared = []
    if len(each) == 2:
        pair = (MSI_FROM_HE, MSI_FROM_COLOUR)
        ends = [pooled[model, "weighted", "r2"] for model in pair]
        compared.append(_compared(one.protocol, pair, "r2", each, samples, ends, unit))
    return found, compared


def _squares(
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


Parts = dict[str, list[tuple[str, np.ndarray]]]


def _masks(one: Evaluation, patients: Mapping[str, str]) -> tuple[str, Parts]:
    """Annotated pixels of patients; where there is one, of the blocks that were held out."""
    members: Parts = {}
    for name, truth in one.truth.items():
        known = np.isfinite(truth)
        if known.any():
            members.setdefault(patients[name], []).append((name, known))
    if len(members) > 1 or not one.blocks:
        return PATIENTS, members
    blocks = {int(k) for fold in one.blocks.values() for k in np.unique(fold[fold >= 0])}
    parts = {str(k): [(n, fold == k) for n, fold in one.blocks.items()] for k in sorted(blocks)}
    return BLOCKS, parts


def _of_cancer(
    one: Evaluation, patients: Mapping[str, str], pooled: Pooled, own: Rows
) -> tuple[Rows, Rows]:
    unit, parts = _masks(one, patients)
    if len(parts) < (1 if unit == PATIENTS else 2):
        return [], []
    found: Rows = []
    weights = intervals.draws(len(parts))
    each: dict[str, dict[str, np.ndarray]] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    for model, maps in one.maps.items():
        truths, guesses = (
            [np.concatenate([of[name][mask] for name, mask in part]) for part in parts.values()]
            for of in (one.truth, maps)
        )
        # a fold that could not be trained leaves patients of the other class alone
        why = one.why(model, POOLED)
        cuts = [_thresholds(one, model, part) for part in parts.values()]
        alone = [classification_metrics(*of) for of in zip(truths, guesses, cuts, strict=True)]
        each[model] = {
            m: np.array([np.nan if why else a[m] for a in alone]) for m in alone[0] if m != "n"
        }
        if np.isfinite(pooled[model, "cancer", "brier"]):
            samples[model] = intervals.values(intervals.tally(truths, guesses), weights)
        else:
            samples[model] = dict.fromkeys(intervals.METRICS, np.full(len(weights), np.nan))
        for metric, values in each[model].items() if unit == PATIENTS else ():
            key = {"protocol": one.protocol, "model": model, "target": "cancer", "metric": metric}
            left = why or _named(parts, values, "annotated pixels of one class only")
            mean = patient_mean(values, shares=metric != "log_loss")
            found.append(key | _mean(mean, len(parts), left))
            own += _each(key, parts, values)
            sample = samples[model].get(metric)
            if sample is not None:
                value = pooled[model, "cancer", metric]
                found.append(key | _resampled(value, sample, len(parts), why))
    compared = []
    for pair in PAIRS:
        for metric in ("auc", "average_precision"):
            drawn = {model: samples[model][metric] for model in pair}
            by_unit = {model: each[model][metric] for model in pair}
            ends = [pooled[model, "cancer", metric] for model in pair]
            compared.append(_compared(one.protocol, pair, metric, by_unit, drawn, ends, unit))
    return found, compared


def _thresholds(one: Evaluation, model: str, part: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """The probability from which on each pixel of a part is called."""
    known = one.thresholds.get(model, {})
    return np.concatenate(
        [np.broadcast_to(known.get(name, 0.5), mask.shape)[mask] for name, mask in part]
    )


def _named(names: Iterable[str], values: np.ndarray, why: str) -> str:
    """Who has no value, and why; "" where all have one."""
    left = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
    if not left:
        return ""
    more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return f"{', '.join(left[:NAMED])}{more}: {why}"


def _each(key: Mapping[str, Any], patients: Iterable[str], values: np.ndarray) -> Rows:
    """What each patient has, NaN for none."""
    return [
        {**key, "patient": name, "value": value}
        for name, value in zip(patients, values, strict=True)
    ]


def _mean(mean: PatientMean, of: int, why: str) -> dict[str, Any]:
    return {
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "estimand": OVER_PATIENTS,
        "patients": mean.n,
        "of": of,
        "trusted": mean.trusted,
        "why": why,
    }


def _resampled(value: float, sample: np.ndarray, n: int, why: str = "") -> dict[str, Any]:
    low, high = intervals.interval(sample) if n > 1 else (np.nan, np.nan)
    trusted = n >= BOOTSTRAP_TRUSTED and np.isfinite(low)
    ends = {"value": value, "low": low, "high": high, "estimand": ALL_PIXELS}
    return ends | {"patients": n, "of": n, "trusted": trusted, "why": why}


def _compared(
    protocol: str,
    pair: tuple[str, str],
    metric: str,
    each: Mapping[str, np.ndarray],
    samples: Mapping[str, np.ndarray],
    pooled: Sequence[float],
    unit: str,
) -> dict[str, Any]:
    """A row of ``comparisons.csv``: the units' mean difference, interval and, of patients, p."""
    a, b = pair
    mean = patient_mean(each[a] - each[b])
    difference = pooled[0] - pooled[1]
    low, high = (np.nan, np.nan)
    if len(each[a]) > 1:
        low, high = intervals.interval(samples[a] - samples[b])
    return {
        "protocol": protocol,
        "model": a,
        "against": b,
        "metric": metric,
        "difference": mean.value,
        "low": mean.low,
        "high": mean.high,
        "unit": unit,
        "units": mean.n,
        "patients": mean.n if unit == PATIENTS else 1,
        "trusted": mean.trusted and unit == PATIENTS,
        "p": mean.p if unit == PATIENTS else np.nan,
        "pooled_difference": difference,
        "pooled_low": low,
        "pooled_high": high,
    }
