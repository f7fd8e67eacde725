"""Metrics against scikit-learn's, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from msiscale.models import classification_metrics, classification_records


def maps(seed=0, n=400):
    rng = np.random.default_rng(seed)
    truth = np.clip(rng.normal(0.2, 0.4, n), 0, 1)
    return truth, np.clip(truth * 0.5 + rng.uniform(0, 0.5, n), 0, 1)


def test_equal_to_scikit_learn():
    truth, p = maps()
    found, t, c = classification_metrics(truth, p, 0.3), truth >= 0.5, p >= 0.5
    expected = {
        "n": 400,
        "prevalence": t.mean(),
        "majority_accuracy": max(t.mean(), 1 - t.mean()),
        "accuracy": reference.accuracy_score(t, c),
        "balanced_accuracy": reference.balanced_accuracy_score(t, c),
        "auc": reference.roc_auc_score(t, p),
        "average_precision": reference.average_precision_score(t, p),
        "f1": reference.f1_score(t, c),
        "dice": reference.f1_score(t, c),
        "dice_chosen": reference.f1_score(t, p >= 0.3),
        "threshold": 0.3,
        "brier": ((truth - p) ** 2).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    hard = classification_metrics(t.astype(float), np.clip(p, 0.01, 0.99))
    assert hard["log_loss"] == pytest.approx(reference.log_loss(t, np.clip(p, 0.01, 0.99)))


def test_unknown_pixels_do_not_count():
    truth, p = maps()
    with_gaps, predicted = np.append(truth, [np.nan, 1.0]), np.append(p, [0.3, np.nan])
    shape = (2, 201)
    found = classification_metrics(with_gaps.reshape(shape), predicted.reshape(shape))
    assert found == classification_metrics(truth, p)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_leaves_ranks_undefined(value):
    found = classification_metrics(np.full(10, value), np.linspace(0, 1, 10))
    assert np.isnan([found[m] for m in ("auc", "average_precision", "balanced_accuracy")]).all()
    assert found["prevalence"] == value and found["majority_accuracy"] == 1
    assert np.isfinite([found["accuracy"], found["log_loss"], found["brier"]]).all()


def test_nothing_known_and_nothing_found():
    empty = classification_metrics(np.full(3, np.nan), np.zeros(3))
    assert empty["n"] == 0 and all(np.isnan(v) for k, v in empty.items() if k != "n")
    assert np.isnan(classification_metrics(np.zeros(3), np.zeros(3))["dice"])


def test_records_of_specimens_and_pooled():
    a, b = maps(1), maps(2, n=100)
    found = classification_records(
        {"a": a[0], "b": b[0]},
        {"a": a[1], "b": b[1]},
        model="cancer_from_msi",
        folds={"a": "p1", "b": "p2"},
    )
    assert {(r["fold"], r["specimen"]) for r in found} == {("p1", "a"), ("p2", "b"), ("all", "all")}
    assert {(r["model"], r["target"]) for r in found} == {("cancer_from_msi", "cancer")}
    pooled = {r["metric"]: r["value"] for r in found if r["specimen"] == "all"}
    both = classification_metrics(np.append(a[0], b[0]), np.append(a[1], b[1]))
    assert pooled == both
