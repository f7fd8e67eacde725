"""Groups of variables have equal energy, and weights that held-out rows ask for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from msiscale.features.layers import Group
from msiscale.models import Moments, RidgePath
from msiscale.models.groups import choose_weights, scales, slices
from msiscale.models.ridge import refined

GROUPS = (Group("near", 4), Group("stains", 3, own_scale=True), Group("far", 9))
P = sum(group.channels for group in GROUPS)


def sums(n: int, seed: int, noise: int = 0) -> Moments:
    """Only the first group says anything of the targets, of which there are two."""
    random = np.random.default_rng(99)
    beta = random.normal(size=(4, 2))
    x = np.random.default_rng(seed).normal(size=(n, P)) * np.geomspace(1, 1e3, P)
    m = x[:, :4] @ beta + np.random.default_rng(seed + 1).normal(size=(n, 2)) * noise
    return Moments.of(x, m, dtype=np.float64)


def test_groups_have_equal_energy_whatever_their_units() -> None:
    deviations = np.abs(np.random.default_rng(0).normal(size=P)) * np.geomspace(1, 1e6, P)
    found = scales(deviations, GROUPS, 0.5)
    energies = [((deviations[s] / found[s]) ** 2).sum() for s in slices(GROUPS)]
    np.testing.assert_allclose(energies, P / len(GROUPS))
    stains = slices(GROUPS)[1]
    ratio = deviations[stains] / found[stains]
    np.testing.assert_allclose(ratio, ratio[0])  # each by its own deviation
    other = scales(7 * deviations, GROUPS, 0.5)
    np.testing.assert_allclose(other, 7 * found)


def test_one_group_is_as_without_groups_and_a_dead_variable_stays_out() -> None:
    deviations = np.array([0.0, 1.0, 3.0, 1e-9])
    one = scales(deviations, [Group("all", 4)], 0.5)
    np.testing.assert_array_equal(one, scales(deviations, (), 0.5))
    assert one[0] == 0 and one[3] == pytest.approx(0.5 * np.sqrt(np.mean(deviations**2)))


def test_a_weight_is_a_penalty_of_its_own() -> None:
    part, weights, alpha = sums(200, 1, noise=3), (2.0, 1.0, 0.5), 0.3
    divisor = scales(part.scale("x"), GROUPS, 0.5, weights)
    coef, intercept = RidgePath.of(part, scale=divisor).coefficients(alpha)
    x = np.random.default_rng(1).normal(size=(200, P)) * np.geomspace(1, 1e3, P)
    m = x[:, :4] @ np.random.default_rng(99).normal(size=(4, 2))
    m += 3 * np.random.default_rng(2).normal(size=(200, 2))
    known = Ridge(alpha=200 * alpha).fit(x / divisor, m)
    np.testing.assert_allclose(coef, known.coef_ / divisor, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(intercept, known.intercept_, rtol=1e-6)


def test_weights_favour_the_group_that_predicts() -> None:
    inner = [(sums(60, seed, noise=8), sums(60, seed + 50, noise=8)) for seed in (1, 3, 5, 7)]
    weights = choose_weights(inner, GROUPS, 0.5, 0.3)
    assert weights[0] > max(weights[1:])


def test_weights_stay_where_nothing_is_gained() -> None:
    inner = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        a, b = (
            Moments.of(random.normal(size=(90, P)), random.normal(size=(90, 2))) for _ in range(2)
        )
        inner.append((a, b))
    assert choose_weights(inner, GROUPS, 0.5, 100.0) == (1.0, 1.0, 1.0)


def test_a_penalty_is_found_between_those_of_the_grid_and_its_end_is_told() -> None:
    pairs = [(sums(30, seed, noise=30), sums(500, seed + 50, noise=30)) for seed in (1, 3, 5)]
    curves = [RidgePath.of(a, least_scale=0.5).against(b) for a, b in pairs]
    fine = np.logspace(-4, 3, 141)
    total = np.sum([curve.losses(fine).sum(axis=1) for curve in curves], axis=0)
    best = fine[np.argmin(total)]
    found, edge = refined(curves, [1e-4, 1e-2, 1.0, 100.0])
    assert edge == "" and abs(np.log10(found / best)) < 0.3
    assert refined(curves, [best / 1e5, best / 1e4, best / 1e3])[1] == "largest"
    assert refined(curves, [best * 1e3, best * 1e4])[1] == "smallest"
