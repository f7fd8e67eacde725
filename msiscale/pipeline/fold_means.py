"""Figures of the folds, averaged: how the published study, and much else, reports a validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msiscale.models.metrics import METRICS, POOLED, classification_metrics, tidy

MEAN = "mean"  # the fold of what is a mean over folds
Maps = Mapping[str, np.ndarray]


def with_fold_means(
    rows: Sequence[dict[str, Any]],
    truth: Maps,
    maps: Mapping[str, Maps],
    holds: Maps,
    thresholds: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The records with those of cancer in all specimens replaced by means over folds.

    Parameters
    ----------
    rows : sequence of dict
        Of ``metrics.csv``, of one protocol.
    truth, maps : mapping of specimen to map (y, x); the latter by model
        As of `Evaluation`.
    holds : mapping of specimen to int (y, x)
        Which fold held a pixel out; -1: none.
    thresholds : mapping of model to mapping of specimen
        As of `Evaluation`.

    Returns
    -------
    list of dict
        The means have the fold ``mean``.
    """
    kept = [r for r in rows if (r["specimen"], r["target"]) != (POOLED, "cancer")]
    protocols = {r["protocol"] for r in rows if r["specimen"] == POOLED}
    for model, of in maps.items():
        means = fold_means(truth, of, holds, thresholds.get(model, {}))
        records = tidy(MEAN, POOLED, model, "cancer", means)
        kept += [{"protocol": protocol, **r} for protocol in protocols for r in records]
    return kept


def fold_means(
    truth: Maps, probability: Maps, holds: Maps, thresholds: Mapping[str, Any]
) -> dict[str, float]:
    """Metrics of what each fold held out, averaged over the folds that define them.

    Returns
    -------
    dict
        `METRICS`, with ``n`` the pixels of all folds, and ``folds``, how many define the AUC.
    """
    folds = sorted({int(k) for held in holds.values() for k in np.unique(held)} - {-1})
    cuts = {n: np.broadcast_to(thresholds.get(n, 0.5), truth[n].shape) for n in probability}
    found = []
    for k in folds:
        of_fold = (
            np.concatenate([of[n][holds[n] == k] for n in probability])
            for of in (truth, probability, cuts)
        )
        found.append(classification_metrics(*of_fold))
    values = np.array([[one[m] for m in METRICS] for one in found]).reshape(-1, len(METRICS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what no fold defines
        mean = dict(zip(METRICS, np.nanmean(values, axis=0).tolist(), strict=True))
    defined = np.isfinite(values[:, METRICS.index("auc")]).sum()
    return mean | {"n": float(values[:, METRICS.index("n")].sum()), "folds": float(defined)}
