from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from msiscale.biomarkers.patients import alike, false_discovery, random_effects, t_test


def _by_hand(effect: list[float], sd: list[float]) -> dict[str, float]:
    """The t-test, and the formulas of DerSimonian and Laird, a patient at a time."""
    n = len(sd)
    w = [1 / s**2 for s in sd]
    fixed = sum(a * b for a, b in zip(w, effect, strict=True)) / sum(w)
    q = sum(a * (b - fixed) ** 2 for a, b in zip(w, effect, strict=True))
    tau2 = max(0.0, (q - n + 1) / (sum(w) - sum(a * a for a in w) / sum(w)))
    v = [1 / (s**2 + tau2) for s in sd]
    weighted = sum(a * b for a, b in zip(v, effect, strict=True)) / sum(v)
    mean = sum(effect) / n
    by_t = (sum((b - mean) ** 2 for b in effect) / (n - 1) / n) ** 0.5
    chance = sum(s**2 + tau2 for s in sd) ** 0.5 / n
    normal_by_t = float(stats.norm.isf(0.025) / stats.t.isf(0.025, n - 1))
    by_chance = 2 * float(stats.norm.sf(abs(mean) / chance))
    return {
        "mean": mean,
        "between": tau2**0.5,
        "error": max(by_t, chance * normal_by_t),
        "p": max(2 * float(stats.t.sf(abs(mean) / by_t, n - 1)), by_chance),
        "p_dl": 2 * float(stats.norm.sf(abs(weighted) * sum(v) ** 0.5)),
        "p_least": 2 * float(stats.norm.sf(0.5 * n / sum(s**2 for s in sd) ** 0.5)),
    }


@pytest.mark.parametrize(
    ("effect", "sd", "by_t"),
    [
        ([0.3, 0.28, 0.31, 0.3], [0.1, 0.1, 0.1, 0.1], True),  # few degrees of freedom
        ([0.4, -0.3, 0.35, 0.1], [0.05, 0.05, 0.1, 0.2], False),  # chance is large in one
        ([0.1, 0.11, -0.4, 0.35], [0.02, 0.02, 0.2, 0.15], True),  # they differ
        ([0.2, 0.1, 0.15], [0.1, 0.2, 0.05], False),  # agree more than chance allows
    ],
)
def test_random_effects_are_those_of_the_formulas(
    effect: list[float], sd: list[float], by_t: bool
) -> None:
    values = np.array(effect)[:, None]
    found = random_effects(values, np.array(sd)[:, None], most=0.5)
    for name, value in _by_hand(effect, sd).items():
        assert getattr(found, name)[0] == pytest.approx(value, rel=1e-11, abs=1e-12), name
    assert (found.p[0] == pytest.approx(t_test(values)[0])) == by_t


def test_equal_errors_that_patients_exceed_give_the_t_test() -> None:
    effect = np.array([0.4, -0.3, 0.35, 0.1])[:, None]
    found = random_effects(effect, np.full((4, 1), 0.05))
    assert found.p[0] == pytest.approx(t_test(effect)[0])


def test_the_least_p_is_that_of_patients_who_all_have_the_most() -> None:
    sd = np.array([[0.1], [0.2], [0.15]])
    found = random_effects(np.full((3, 1), 0.5), sd, most=0.5)
    assert found.p[0] == pytest.approx(found.p_least[0])


def test_patients_who_say_nothing_are_left_out() -> None:
    effect = np.array([[0.3, 0.3, 0.0], [0.2, np.nan, 0.0], [0.3, 0.3, 0.0], [np.nan, np.nan, 0.0]])
    sd = np.full((4, 3), 0.1)
    sd[:, 2] = 0  # an ion that is nowhere
    found = random_effects(effect, sd)
    assert found.p[0] == pytest.approx(_by_hand([0.3, 0.2, 0.3], [0.1] * 3)["p"])
    assert np.isnan(found.p[1])  # two patients only, who still have a mean
    assert found.mean[1] == pytest.approx(0.3)
    assert found.p[2] == 1
    np.testing.assert_array_equal((found.weight > 0).sum(axis=0), [3, 2, 4])


@pytest.mark.parametrize("between", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("n", [3, 6, 20])
def test_p_holds_its_level_whether_patients_differ_or_not(n: int, between: float) -> None:
    rng = np.random.default_rng(n)
    sd = rng.uniform(0.05, 0.2, (n, 20_000))
    effect = sd * (rng.standard_normal(sd.shape) + between * rng.standard_normal(sd.shape))
    found = random_effects(effect, sd)
    assert (found.p < 0.05).mean() < 0.06
    assert (found.p < 0.001).mean() < 0.002
    if between and n < 20:
        assert (found.p_dl < 0.001).mean() > 0.005  # why it is not the headline


def test_an_effect_alone_has_the_t_test() -> None:
    effect = np.array([[0.1, 0.2], [0.2, 0.1], [0.25, np.nan], [0.3, np.nan]])
    found = alike(effect)
    test = stats.ttest_1samp(effect[:, 0], 0)
    assert found.p[0] == pytest.approx(test.pvalue)
    assert found.mean[0] / found.error[0] == pytest.approx(test.statistic)
    assert found.mean[1] == pytest.approx(0.15)
    assert np.isnan([found.p[1], found.error[1]]).all()


def test_t_test_is_scipys_and_q_leaves_nan_out() -> None:
    rng = np.random.default_rng(1)
    effect = rng.standard_normal((5, 7))
    np.testing.assert_allclose(t_test(effect), stats.ttest_1samp(effect, 0).pvalue)
    effect[0, 0] = effect[:3, 1] = np.nan
    found = t_test(effect)
    assert found[0] == pytest.approx(stats.ttest_1samp(effect[1:, 0], 0).pvalue)
    assert np.isnan(found[1])  # two patients are left
    q = false_discovery(np.array([0.01, np.nan, 0.02]))
    np.testing.assert_allclose(q, [0.02, np.nan, 0.02])
