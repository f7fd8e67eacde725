"""Figures as means over folds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from msiscale.pipeline.fold_means import fold_means, with_fold_means


@pytest.fixture
def maps() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Truth, probability and folds of two specimens; one fold has no cancer, one pixel no fold."""
    rng = np.random.default_rng(0)
    truth = {s: rng.integers(0, 2, (20, 30)).astype(float) for s in "ab"}
    guess = {s: np.clip(0.3 * t + rng.uniform(size=t.shape), 0, 1) for s, t in truth.items()}
    holds = {s: rng.integers(0, 4, (20, 30)) for s in "ab"}
    for s in "ab":
        truth[s][holds[s] == 3] = 0
        truth[s][0] = np.nan
        holds[s][1] = -1
    return truth, guess, holds


def test_means_are_those_of_scikit_learns_folds(maps) -> None:  # type: ignore[no-untyped-def]
    truth, guess, holds = maps
    flat = [np.concatenate([of[s].ravel() for s in "ab"]) for of in (truth, guess, holds)]
    auc, accuracy, n = [], [], 0
    for k in range(4):
        t, p = (v[(flat[2] == k) & np.isfinite(flat[0])] for v in flat[:2])
        accuracy.append(accuracy_score(t, p >= 0.5))
        n += len(t)
        if k < 3:
            auc.append(roc_auc_score(t, p))
    found = fold_means(truth, guess, holds, {})
    assert found["auc"] == pytest.approx(np.mean(auc))
    assert found["accuracy"] == pytest.approx(np.mean(accuracy))
    assert (found["folds"], found["n"]) == (3, n)


def test_they_take_the_place_of_pooled_figures_of_cancer_alone(maps) -> None:  # type: ignore[no-untyped-def]
    truth, guess, holds = maps
    of = {"protocol": "pixel_folds", "model": "m", "value": 1.0}
    rows = [
        {**of, "fold": "all", "specimen": "all", "target": "cancer", "metric": "auc", "low": 0.0},
        {**of, "fold": "all", "specimen": "all", "target": "mode_000", "metric": "r2"},
        {**of, "fold": "all", "specimen": "a", "target": "cancer", "metric": "auc"},
    ]
    found = with_fold_means(rows, truth, {"m": guess}, holds, {})
    assert found[:2] == rows[1:]
    assert {(r["fold"], r["specimen"], r["protocol"]) for r in found[2:]} == {
        ("mean", "all", "pixel_folds")
    }
