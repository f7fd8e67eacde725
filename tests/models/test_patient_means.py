"""Means over patients: what SciPy says of the same numbers, and Holm's steps by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from msiscale.models.patient_means import holm, patient_mean


@pytest.mark.parametrize("n", [2, 3, 4, 6, 20])
def test_interval_and_p_are_those_of_one_t_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1.0, n)
    found, want = patient_mean([*values, np.nan]), ttest_1samp(values, 0.0)
    low, high = t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / np.sqrt(n))
    assert (found.value, found.n) == (pytest.approx(values.mean()), n)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(want.pvalue)
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert found.trusted == (n >= 4)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_an_interval_of_shares_is_of_the_log_odds(n: int) -> None:
    values = np.random.default_rng(n).uniform(0.9, 0.999, n)
    found, plain = patient_mean(values, shares=True), patient_mean(values)
    assert found.value == plain.value and np.isnan(found.p)
    assert 0 < found.low < found.value < found.high < 1
    # to the first order of small steps the two are one
    near = 0.9 + (values - values.mean()) * 1e-4
    small, same = patient_mean(near, shares=True), patient_mean(near)
    assert [small.low, small.high] == pytest.approx([same.low, same.high], abs=1e-5)
    always = patient_mean([1.0, 1.0], shares=True)
    assert (always.low, always.high) == (1.0, 1.0)


def test_intervals_of_skewed_shares_hold_their_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    a, b = 3.0, 1.5
    truth = 0.75 + 0.24 * a / (a + b)
    for n in (2, 3, 4, 6, 10, 20):
        cohorts = 0.75 + 0.24 * rng.beta(a, b, (4000, n))
        ends = [patient_mean(values, shares=True) for values in cohorts]
        assert 0.93 < np.mean([one.low <= truth <= one.high for one in ends]) < 0.96


def test_too_few_patients_have_no_interval() -> None:
    one, none = patient_mean([0.8, np.nan]), patient_mean([np.nan, np.nan])
    assert (one.value, one.n, none.n) == (0.8, 1, 0)
    assert np.isnan([one.low, one.high, one.p, none.value, none.low, none.p]).all()


def test_patients_that_do_not_differ() -> None:
    same, zero = patient_mean([0.5, 0.5, 0.5]), patient_mean([0.0, 0.0])
    assert (same.low, same.high, same.p) == (0.5, 0.5, 0.0)
    assert (zero.low, zero.high, zero.p) == (0.0, 0.0, 1.0)


def test_holm_steps_down_and_does_not_count_what_was_not_tested() -> None:
    found = holm([0.01, 0.04, np.nan, 0.03, 0.5])
    np.testing.assert_allclose(found, [0.04, 0.09, np.nan, 0.09, 0.5])
    np.testing.assert_array_equal(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).shape == (0,)
