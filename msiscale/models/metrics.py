"""Metrics of maps against annotated fractions and of predicted intensities; tidy records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Record = dict[str, Any]

POOLED = "all"


def classification_metrics(
    truth: ArrayLike, probability: ArrayLike, threshold: ArrayLike = 0.5
) -> dict[str, float]:
    """Metrics of a probability map, any shape, pixels where both are known.

    Parameters
    ----------
    truth : array of any shape
        Annotated fraction 0...1; NaN unknown. A pixel of 0.5 or more is positive.
    probability : array of that shape
        0...1; NaN not predicted. Thresholded at 0.5.
    threshold : float, or array of that shape
        Where else to call a pixel from on, for dice_chosen.

    Returns
    -------
    dict
        n, prevalence, majority_accuracy, accuracy, balanced_accuracy, auc, average_precision,
        f1, dice (the same number, under the name it has in segmentation), dice_chosen (at
        `threshold`), threshold (its mean), brier and log_loss (both against the fraction itself),
        calibration_error (mean distance of predicted and observed over ten bins of the
        probability) and auc_swapped: what an AUC becomes when calls and truth change places, the
        mean of both predictive values, as a published study scored. NaN where the pixels do not
        define it (one class only).

    Raises
    ------
    ValueError
        As many pixels of one as of the other are needed.
    """
    t = np.asarray(truth, dtype=np.float64).ravel()
    p = np.asarray(probability, dtype=np.float64).ravel()
    if t.shape != p.shape:
        raise ValueError(f"truth has {t.size} pixels and probability {p.size}")
    known = np.isfinite(t) & np.isfinite(p)
    cut = np.broadcast_to(np.asarray(threshold, np.float64), np.shape(probability)).ravel()
    t, p, cut = t[known], p[known], cut[known]
    found = dict.fromkeys(METRICS, np.nan) | {"n": float(t.size)}
    if t.size == 0:
        return found
    positive, called = t >= 0.5, p >= 0.5
    prevalence = float(positive.mean())
    agreed, dice = int((positive & called).sum()), _dice(positive, called)
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    _, predicted, observed = _binned(t, p)
    found |= {
        "prevalence": prevalence,
        "majority_accuracy": max(prevalence, 1 - prevalence),
        "accuracy": float((positive == called).mean()),
        "f1": dice,
        "dice": dice,
        "dice_chosen": _dice(positive, p >= cut),
        "threshold": float(cut.mean()),
        "brier": float(((p - t) ** 2).mean()),
        "log_loss": float(-(t * np.log(clipped) + (1 - t) * np.log1p(-clipped)).mean()),
        "calibration_error": float(np.abs(predicted - observed).sum() / len(p)),
    }
    if 0 < called.sum() < t.size:
        right = (agreed / called.sum(), (~positive & ~called).sum() / (~called).sum())
        found["auc_swapped"] = float(sum(right)) / 2
    if 0 < prevalence < 1:
        from sklearn.metrics import average_precision_score, roc_auc_score

        sensitivity = agreed / positive.sum()
        specificity = (~positive & ~called).sum() / (~positive).sum()
        found |= {
            "auc": float(roc_auc_score(positive, p)),
            "average_precision": float(average_precision_score(positive, p)),
            "balanced_accuracy": float(sensitivity + specificity) / 2,
        }
    return found


def _dice(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Twice the pixels of both over the pixels of each; NaN where neither has one."""
    marked = int(truth.sum()) + int(called.sum())
    return 2 * int((truth & called).sum()) / marked if marked else float("nan")


METRICS = (
    "n",
    "prevalence",
    "majority_accuracy",
    "accuracy",
    "balanced_accuracy",
    "auc",
    "average_precision",
    "f1",
    "dice",
    "dice_chosen",
    "threshold",
    "brier",
    "log_loss",
    "calibration_error",
    "auc_swapped",
)
BINS = 10


def _binned(truth: NDArray[Any], p: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Pixels, summed probability and summed fraction in ten bins of the probability."""
    at = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    return tuple(np.bincount(at, w, BINS) for w in (np.ones(len(p)), p, truth))


def reliability(truth: Sequence[ArrayLike], probability: Sequence[ArrayLike]) -> list[Record]:
    """How far probabilities are what they say.

    Parameters
    ----------
    truth, probability : sequences of maps of any shape, in pairs
        Annotated fraction and probability, NaN where not known; pixels where both are known count.

    Returns
    -------
    list of dict, one a bin of the probability that is not empty: mean predicted and observed
    fraction, and n, the pixels
    """
    total = np.zeros((3, BINS))
    for t, p in zip(truth, probability, strict=True):
        a, b = np.ravel(np.asarray(t, float)), np.ravel(np.asarray(p, float))
        known = np.isfinite(a) & np.isfinite(b)
        total += np.stack(_binned(a[known], b[known]))
    n, predicted, observed = total
    return [
        {"predicted": predicted[i] / n[i], "observed": observed[i] / n[i], "n": int(n[i])}
        for i in np.flatnonzero(n)
    ]


def classification_records(
    truth: Mapping[str, ArrayLike],
    probability: Mapping[str, ArrayLike],
    *,
    model: str,
    folds: Mapping[str, str],
    target: str = "cancer",
    thresholds: Mapping[str, ArrayLike] | None = None,
) -> list[Record]:
    """Metrics of each specimen, and of all pixels of all specimens (fold and specimen ``all``).

    Parameters
    ----------
    truth, probability : mapping of specimen to map
        As for `classification_metrics`.
    model, target : str
        For the records.
    folds : mapping of specimen to name
        Of the fold that held it out.
    thresholds : mapping of specimen to float or map, optional
        The probability from which on a pixel is called, chosen in training; default 0.5.

    Returns
    -------
    list of dict with keys fold, specimen, model, target, metric, value
    """
    records, cuts = [], thresholds or {}
    for specimen, p in probability.items():
        values = classification_metrics(truth[specimen], p, cuts.get(specimen, 0.5))
        records += tidy(folds[specimen], specimen, model, target, values)
    if probability:
        pooled = classification_metrics(
            np.concatenate([np.ravel(truth[s]) for s in probability]),
            np.concatenate([np.ravel(p) for p in probability.values()]),
            np.concatenate(
                [
                    np.broadcast_to(cuts.get(s, 0.5), np.shape(p)).ravel()
                    for s, p in probability.items()
                ]
            ),
        )
        records += tidy(POOLED, POOLED, model, target, pooled)
    return records


def tidy(
    fold: str, specimen: str, model: str, target: str, values: Mapping[str, float]
) -> list[Record]:
    """One record a metric, with keys fold, specimen, model, target, metric, value."""
    of = {"fold": fold, "specimen": specimen, "model": model, "target": target}
    return [of | {"metric": metric, "value": float(value)} for metric, value in values.items()]
