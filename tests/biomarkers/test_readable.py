"""Patients as witnesses of which ions can be read from H&E."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from msiscale.biomarkers.readable import counted, excess_test, mean_over_patients, tiers


def test_a_mean_over_patients_has_the_interval_of_t() -> None:
    values = np.random.default_rng(0).normal(1, 0.3, (6, 3))
    values[2, 1] = np.nan
    values[:, 2] = np.nan
    found = mean_over_patients(values)
    for k, own in enumerate([values[:, 0], np.delete(values[:, 1], 2)]):
        low, high = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
        assert found["n"][k] == len(own)
        assert found["mean"][k] == pytest.approx(own.mean())
        assert found["sd"][k] == pytest.approx(own.std(ddof=1))
        assert (found["low"][k], found["high"][k]) == pytest.approx((low, high))
    assert found["n"][2] == 0 and np.isnan([found[n][2] for n in ("mean", "sd", "low")]).all()
    one = mean_over_patients(np.array([[0.5]]))
    assert one["mean"] == 0.5 and np.isnan(one["sd"]) and np.isnan(one["low"])


def test_the_test_is_one_sided_over_patients() -> None:
    values = np.random.default_rng(1).normal(0.2, 0.3, (5, 4))
    p, q = excess_test(values)
    t = stats.ttest_1samp(values, 0).statistic / np.sqrt(2 * 4 / 3)
    np.testing.assert_allclose(p, stats.t.sf(t, 4))
    np.testing.assert_allclose(q, stats.false_discovery_control(p))
    for few in (values[:2], values[:0]):
        assert np.isnan(excess_test(few)).all()


@pytest.mark.parametrize("n", [3, 6, 12])
def test_patients_predicted_from_each_other_are_no_independent_witnesses(n: int) -> None:
    # each score is the product of a patient's direction and the mean of the others'
    z = np.random.default_rng(n).normal(size=(n, 20_000, 12))
    scores = (z * (z.sum(axis=0) - z)).sum(axis=2)
    p, _ = excess_test(scores)
    naive = stats.ttest_1samp(scores, 0, alternative="greater").pvalue
    assert (naive <= 0.05).mean() > 0.08
    for level in (0.05, 0.01):
        assert 0.4 * level < (p <= level).mean() < 1.3 * level


def test_the_rules_of_the_tiers() -> None:
    r2 = np.array([[0.5, 0.9, 0.1, 0.5, 0.5, 0.1, np.nan]] * 3)
    r2[0, 1] = -0.9  # 0.3 on the mean, but one patient says nothing of the kind
    pearson = np.array([[0.8, 0.8, 0.3, 0.8, 0.8, 0.1, np.nan]] * 3)
    q = np.array([0.05, 0.01, 0.01, 0.06, np.nan, 0.01, np.nan])
    found = tiers(r2, pearson, q)
    assert found == ["A", "B", "B", "C", "B", "C", ""]
    assert counted(found) == {"A": 1, "B": 3, "C": 2}


def test_without_a_test_nothing_is_a_and_every_patient_must_agree() -> None:
    r2 = np.array([[0.9, 0.9, 0.2], [0.8, 0.1, 0.2]])
    nothing = np.full(3, np.nan)
    assert tiers(r2, np.sqrt(r2), nothing) == ["B", "C", "C"]
