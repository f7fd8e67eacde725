"""Margins of predictions: quantiles of errors in which patients count, not pixels."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.models.margins import (
    BINS,
    LEVEL,
    bounds,
    count_errors,
    local_scale,
    margins,
)


def test_errors_are_counted_in_multiples_of_reference_and_scale() -> None:
    rng = np.random.default_rng(0)
    error = rng.normal(size=(500, 3)).astype(np.float32)
    scale = rng.uniform(0.5, 2, 500).astype(np.float32)
    counts = count_errors(error, scale, np.array([1.0, 0.0, 10.0]))
    assert counts.shape == (3, BINS) and counts.sum(axis=1).tolist() == [500, 0, 500]
    both = count_errors(error[:200], scale[:200], np.ones(3))
    both += count_errors(error[200:], scale[200:], np.ones(3))
    np.testing.assert_array_equal(both, count_errors(error, scale, np.ones(3)))
    np.testing.assert_array_equal(
        count_errors(2 * error, 2 * scale, np.ones(3)), count_errors(error, scale, np.ones(3))
    )


def test_of_patients_who_are_alike_the_margin_is_the_quantile_of_all() -> None:
    error = np.random.default_rng(1).normal(size=(8, 20_000, 2))
    scale = np.ones(20_000, np.float32)
    found = margins(np.stack([count_errors(e, scale, np.ones(2)) for e in error]))
    np.testing.assert_allclose(found, 1.645, rtol=0.02)


def test_a_patient_of_many_pixels_counts_no_more_than_another() -> None:
    rng = np.random.default_rng(2)
    sizes = [100_000, 4000, 4000, 4000]
    errors = [rng.normal(size=(n, 1)) * (4 if n > 4000 else 1) for n in sizes]
    counts = [count_errors(e, np.ones(len(e), np.float32), np.ones(1)) for e in errors]
    few = margins(np.stack(counts))
    counts[0] = count_errors(errors[0][:4000], np.ones(4000, np.float32), np.ones(1))
    np.testing.assert_allclose(few, margins(np.stack(counts)), rtol=0.1)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_pixels_of_new_patients_are_covered_where_patients_differ(n: int) -> None:
    rng = np.random.default_rng(n)
    k, pixels = 400, 500
    spread = np.exp(0.5 * rng.normal(size=(n + 6, 1, k)))
    error = spread * rng.normal(size=(n + 6, pixels, k)) + 0.5 * rng.normal(size=(n + 6, 1, k))
    one = np.ones(pixels, np.float32)
    found = margins(np.stack([count_errors(e, one, np.ones(k)) for e in error[:n]]))
    covered = (np.abs(error[n:]) <= found).mean()
    assert covered == pytest.approx(LEVEL, abs=0.02)


def test_without_a_second_patient_nothing_is_known() -> None:
    one = count_errors(np.ones((5, 1)), np.ones(5, np.float32), np.ones(1))
    none = np.zeros_like(one)
    assert np.isnan(margins(one[None])).all() and np.isnan(margins(np.stack([one, none]))).all()
    far = count_errors(np.full((5, 1), 1e9), np.ones(5, np.float32), np.ones(1))
    assert np.isposinf(margins(np.stack([far, far]))).all()


def test_bounds_are_wider_away_from_the_training_and_stay_inside() -> None:
    scale = local_scale(np.array([1.0, 3.0, np.nan]))
    assert scale[0] == 1 and scale[1] == pytest.approx(np.sqrt(5)) and np.isnan(scale[2])
    lower, upper = bounds(np.array([0.5, 0.5, 0.5]), 0.2, scale, lowest=0, highest=1)
    np.testing.assert_allclose(lower, [0.3, 0.5 - 0.2 * np.sqrt(5), np.nan], rtol=1e-6)
    np.testing.assert_allclose(upper, [0.7, 0.5 + 0.2 * np.sqrt(5), np.nan], rtol=1e-6)
    lower, _ = bounds(np.ones((3, 2)), np.array([0.5, 2]), scale, lowest=0)
    np.testing.assert_allclose(lower[0], [0.5, 0])


def test_a_size_too_small_for_float32_is_not_counted() -> None:
    counts = count_errors(np.ones((5, 2), np.float32), np.ones(5, np.float32), np.array([1e-60, 1]))
    assert counts.sum(axis=1).tolist() == [0, 5]


@pytest.mark.parametrize("patients", [2, 3, 7])
def test_sums_that_round_give_margins_all_the_same(patients: int) -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.05, (patients, 300, BINS)) * rng.integers(1, 4, (patients, 300, 1))
    found = margins(counts)
    assert (found[(counts.sum(axis=2) > 0).sum(axis=0) > 1] >= 0).all()
