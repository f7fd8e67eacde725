"""A test of the tests: with nothing to find, leaving out patients finds nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msiscale.models import (
    Moments,
    RowBlock,
    classification_metrics,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)

SHUFFLES, PIXELS = 20, 400
MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")


def specimens(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, ...]]:
    """Six patients: features, spectra and labels of one tissue state, with patient effects."""
    loading_x, loading_m = rng.normal(size=(3, 24)), rng.normal(size=(3, 40))
    found = {}
    for i in range(6):
        state = rng.normal(size=(PIXELS, 3))
        x = state @ loading_x + rng.normal(size=(PIXELS, 24)) + rng.normal(size=24)
        m = state @ loading_m + rng.normal(size=(PIXELS, 40)) + rng.normal(size=40)
        found[f"s{i}"] = (x.astype("f4"), m.astype("f4"), (state[:, 0] > 0.8).astype(float))
    return found


def pooled_auc(data: dict[str, tuple[np.ndarray, ...]]) -> dict[str, float]:
    """Leave-one-patient-out AUC of the three predictors, as the pipeline computes it."""
    patients = {s: s for s in data}
    folds = leave_one_group_out(patients)
    sums = {s: Moments.of(x, m) for s, (x, m, _) in data.items()}
    models = fit_linear_folds(sums, folds, patients, n_components=10, alphas=(0.01, 1.0))
    classifiers = {}
    for which, wanted in ((1, MODELS[:1]), (0, MODELS[1:])):
        blocks = [RowBlock(s, (d[which], d[2], None)) for s, d in data.items()]
        maps = {k: {m.fold.name: m.maps[k] for m in models if m.maps} for k in wanted}
        words: dict[str, Any] = {"costs": (0.001, 0.1), "calibrate": "none"}
        classifiers |= fit_classifiers(blocks, maps, folds, patients, **words)
    truth = np.concatenate([d[2] for d in data.values()])
    found = {}
    for model in MODELS:
        which = 1 if model == MODELS[0] else 0
        maps = [classifiers[model, s].predict(d[which]) for s, d in data.items()]
        found[model] = classification_metrics(truth, np.concatenate(maps))["auc"]
    return found


@pytest.mark.parametrize("shuffled", ["labels", "registration"])
def test_shuffled_cohorts_score_a_half(shuffled: str) -> None:
    rng = np.random.default_rng(0)
    data = specimens(rng)
    honest = pooled_auc(data)
    assert min(honest.values()) > 0.8, honest
    scores: dict[str, list[float]] = {model: [] for model in MODELS}
    for _ in range(SHUFFLES):
        null = {}
        for s, (x, m, y) in data.items():
            order = rng.permutation(PIXELS)
            # registration: the slide lies anywhere on the MSI, and the annotation came with the MSI
            null[s] = (x, m, y[order]) if shuffled == "labels" else (x[order], m, y)
        for model, auc in pooled_auc(null).items():
            scores[model].append(auc)
    tested = MODELS if shuffled == "labels" else MODELS[1:]
    for model in tested:
        assert 0.45 < np.mean(scores[model]) < 0.55, (model, scores[model])
