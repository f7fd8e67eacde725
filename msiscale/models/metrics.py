"""Metrics of maps against annotated fractions and of predicted intensities; tidy records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Record = dict[str, Any]

POOLED = "all"


def classification_metrics(truth: ArrayLike, probability: ArrayLike) -> dict[str, float]:
    """Metrics of a probability map, any shape, pixels where both are known.

    Parameters
    ----------
    truth : annotated fraction 0...1; NaN unknown. A pixel of 0.5 or more is positive.
    probability : 0...1; NaN not predicted. Thresholded at 0.5.

    Returns
    -------
    dict
        n, prevalence, majority_accuracy, accuracy, balanced_accuracy, auc, average_precision,
        f1, dice (the same number, under the name it has in segmentation), brier and log_loss (both
        against the fraction itself), calibration_error (mean distance of predicted and observed
        over ten bins of the probability) and auc_swapped: what an AUC becomes when calls and truth
        change places, the mean of both predictive values, as a published study scored. NaN where
        the pixels do not define it (one class only).
    """
    t = np.asarray(truth, dtype=np.float64).ravel()
    p = np.asarray(probability, dtype=np.float64).ravel()
    if t.shape != p.shape:
        raise ValueError(f"truth has {t.size} pixels and probability {p.size}")
    known = np.isfinite(t) & np.isfinite(p)
    t, p = t[known], p[known]
    found = dict.fromkeys(METRICS, np.nan) | {"n": float(t.size)}
    if t.size == 0:
        return found
    positive, called = t >= 0.5, p >= 0.5
    prevalence = float(positive.mean())
    agreed = int((positive & called).sum())
    marked = int(positive.sum()) + int(called.sum())
    dice = 2 * agreed / marked if marked else np.nan
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    found |= {
        "prevalence": prevalence,
        "majority_accuracy": max(prevalence, 1 - prevalence),
        "accuracy": float((positive == called).mean()),
        "f1": dice,
        "dice": dice,
        "brier": float(((p - t) ** 2).mean()),
        "log_loss": float(-(t * np.log(clipped) + (1 - t) * np.log1p(-clipped)).mean()),
        "calibration_error": _calibration_error(t, p),
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


def _calibration_error(truth: NDArray[Any], p: NDArray[Any]) -> float:
    _, predicted, observed = _binned(truth, p)
    return float(np.abs(predicted - observed).sum() / len(p))


def reliability(truth: Sequence[ArrayLike], probability: Sequence[ArrayLike]) -> list[Record]:
    """Mean predicted and observed fraction of cancer in bins of the probability, and pixels.

    Parameters
    ----------
    truth, probability : maps of any shape, in pairs; pixels where both are known count
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
) -> list[Record]:
    """Metrics of each specimen, and of all pixels of all specimens (fold and specimen ``all``).

    Parameters
    ----------
    truth, probability : mapping of specimen to map
    folds : mapping of specimen to the name of the fold that held it out

    Returns
    -------
    list of dict with keys fold, specimen, model, target, metric, value
    """
    records = []
    for specimen, p in probability.items():
        values = classification_metrics(truth[specimen], p)
        records += _records(folds[specimen], specimen, model, target, values)
    if probability:
        pooled = classification_metrics(
            np.concatenate([np.ravel(truth[s]) for s in probability]),
            np.concatenate([np.ravel(p) for p in probability.values()]),
        )
        records += _records(POOLED, POOLED, model, target, pooled)
    return records


def regression_metrics(truth: ArrayLike, prediction: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """R² about the mean, Pearson correlation and root mean squared error of each column.

    Parameters
    ----------
    truth, prediction : (n, t); rows with a NaN in either are left out.

    Returns
    -------
    dict of (t,) arrays r2, pearson, rmse; NaN for a column that does not vary.
    """
    t = np.asarray(truth, dtype=np.float64)
    p = np.asarray(prediction, dtype=np.float64)
    if t.ndim != 2 or t.shape != p.shape:
        raise ValueError(f"truth and prediction are (n, t), not {t.shape} and {p.shape}")
    known = np.isfinite(t).all(axis=1) & np.isfinite(p).all(axis=1)
    t, p = t[known], p[known]
    if len(t) == 0:
        nan = np.full(t.shape[1], np.nan)
        return {"r2": nan, "pearson": nan, "rmse": nan}
    dt, dp = t - t.mean(axis=0), p - p.mean(axis=0)
    tss, pss = (dt**2).sum(axis=0), (dp**2).sum(axis=0)
    rss = ((t - p) ** 2).sum(axis=0)
    return {
        "r2": 1 - _ratio(rss, tss),
        "pearson": _ratio((dt * dp).sum(axis=0), np.sqrt(tss * pss)),
        "rmse": np.sqrt(rss / len(t)),
    }


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0)


def _records(
    fold: str, specimen: str, model: str, target: str, values: Mapping[str, float]
) -> list[Record]:
    return [
        {
            "fold": fold,
            "specimen": specimen,
            "model": model,
            "target": target,
            "metric": metric,
            "value": value,
        }
        for metric, value in values.items()
    ]
