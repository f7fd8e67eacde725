"""Intervals with patients as the unit: counts give what the pixels give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from msiscale.models import R2, classification_metrics, intervals


def patients(n, effect=1.0, spread=0.0, seed=0, pixels=400):
    rng = np.random.default_rng(seed)
    truth, guess = [], []
    for _ in range(n):
        t = (rng.random(pixels) < 0.3).astype(float)
        logit = effect * t + rng.normal(size=pixels) + spread * rng.normal()
        truth.append(t)
        guess.append(1 / (1 + np.exp(-logit)))
    return truth, guess


def test_counts_give_the_metrics_of_the_pixels():
    truth, guess = patients(5)
    truth[0][:7] = np.nan
    found = intervals.values(intervals.tally(truth, guess), np.ones((1, 5)))
    want = classification_metrics(np.concatenate(truth), np.concatenate(guess))
    for name in intervals.METRICS:
        assert found[name][0] == pytest.approx(want[name], abs=2e-4), name


def test_a_patient_drawn_twice_counts_twice():
    truth, guess = patients(3)
    found = intervals.values(intervals.tally(truth, guess), np.array([[2.0, 0.0, 1.0]]))
    picked = [0, 0, 2]
    want = classification_metrics(
        np.concatenate([truth[i] for i in picked]), np.concatenate([guess[i] for i in picked])
    )
    for name in intervals.METRICS:
        assert found[name][0] == pytest.approx(want[name], abs=5e-4), name


def test_a_patient_of_one_class_has_no_value():
    truth, guess = patients(4)
    truth[1][:], truth[2][:] = 0.0, 1.0
    alone = intervals.values(intervals.tally(truth, guess), np.eye(4))
    for name in ("auc", "average_precision", "balanced_accuracy"):
        np.testing.assert_array_equal(np.isnan(alone[name]), [False, True, True, False])


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth_auc, held = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(60):
        counts = intervals.tally(*patients(25, seed=seed, pixels=120))
        sample = intervals.values(counts, intervals.draws(25, 200))["auc"]
        low, high = intervals.interval(sample)
        held += low <= truth_auc <= high
    assert held >= 50  # of 60; 57 expected


def test_r2_of_a_resample_is_that_of_its_patients():
    rng = np.random.default_rng(1)
    parts = {str(i): R2(10, *rng.random((3, 4))) for i in range(3)}
    each, weighted = intervals.r2_values(parts, np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]]))
    total = R2.total(parts.values())
    np.testing.assert_allclose(each[0], total.per_target)
    assert weighted[0] == pytest.approx(total.weighted)
    np.testing.assert_allclose(each[1], parts["1"].per_target)


def test_one_class_gives_no_interval():
    assert np.isnan(intervals.interval([np.nan, np.nan, 0.5])).all()
