from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from msiscale.biomarkers.association import combine, specimen_association
from msiscale.biomarkers.patients import false_discovery, random_effects, t_test


def _by_hand(effect: list[float], sd: list[float]) -> tuple[float, float]:
    """DerSimonian and Laird's formulas, a patient at a time."""
    w = [1 / s**2 for s in sd]
    mean = sum(a * b for a, b in zip(w, effect, strict=True)) / sum(w)
    q = sum(a * (b - mean) ** 2 for a, b in zip(w, effect, strict=True))
    tau2 = max(0.0, (q - len(w) + 1) / (sum(w) - sum(a * a for a in w) / sum(w)))
    v = [1 / (s**2 + tau2) for s in sd]
    z = sum(a * b for a, b in zip(v, effect, strict=True)) / sum(v) ** 0.5
    return 2 * float(stats.norm.sf(abs(z))), tau2**0.5


@pytest.mark.parametrize(
    ("effect", "sd"),
    [
        ([0.3, 0.28, 0.31, 0.3], [0.1, 0.1, 0.1, 0.1]),  # agree: as if of one patient
        ([0.4, -0.3, 0.35, 0.1], [0.05, 0.05, 0.1, 0.2]),  # do not
        ([0.2, 0.1, 0.15], [0.1, 0.2, 0.05]),
    ],
)
def test_random_effects_are_those_of_the_formulas(effect: list[float], sd: list[float]) -> None:
    found = random_effects(np.array(effect)[:, None], np.array(sd)[:, None])
    p, between = _by_hand(effect, sd)
    assert found.p[0] == pytest.approx(p, rel=1e-12)
    assert found.between[0] == pytest.approx(between, abs=1e-12)


def test_patients_who_say_nothing_are_left_out() -> None:
    effect = np.array([[0.3, 0.3, 0.0], [0.2, np.nan, 0.0], [0.3, 0.3, 0.0], [np.nan, np.nan, 0.0]])
    sd = np.full((4, 3), 0.1)
    sd[:, 2] = 0  # an ion that is nowhere
    found = random_effects(effect, sd)
    assert found.p[0] == pytest.approx(_by_hand([0.3, 0.2, 0.3], [0.1] * 3)[0])
    assert np.isnan(found.p[1])  # two patients only
    assert found.p[2] == 1


def test_null_p_values_are_calibrated_and_disagreement_counts() -> None:
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.05, 0.2, (6, 20_000))
    p = random_effects(sd * rng.standard_normal(sd.shape), sd).p
    assert (p < 0.05).mean() < 0.055
    assert (p < 0.001).mean() < 0.0015
    # patients differ by much more than chance, and by nothing on average
    torn = random_effects(0.3 * rng.standard_normal(sd.shape), np.full(sd.shape, 0.02))
    assert (torn.p < 0.05).mean() < 0.15
    alone = 2 * stats.norm.sf(np.abs((0.3 * rng.standard_normal(sd.shape) / 0.02).sum(0)) / 6**0.5)
    assert (alone < 0.05).mean() > 0.8


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


def _tables(shifts: int, n: int = 5) -> dict[str, pd.DataFrame]:
    tables = {}
    for i in range(n):
        rng = np.random.default_rng(i)
        intensity = rng.poisson(3, (20, 24, 40)).astype(np.float32)
        cancer = np.zeros((20, 24), np.float32)
        y, x = rng.integers(0, 12, 2)
        cancer[y : y + 7, x : x + 8] = 1
        intensity[cancer > 0, 7] += 2
        tables[f"s{i}"] = specimen_association(
            intensity,
            cancer,
            np.ones((20, 24), bool),
            mz=np.arange(40) + 500.0,
            shifts=shifts,
            seed=i,
            memory=1 << 18 if i % 2 else 1 << 28,
        )
    return tables


def test_the_table_of_patients_takes_the_spread_by_chance() -> None:
    tables = _tables(200)
    found = combine(tables, {"s0": "A", "s1": "A"}).set_index("mz")
    auc = [t.set_index("mz")["auc"][507.0] for t in tables.values()]
    sd = [t.set_index("mz")["auc_sd"][507.0] for t in tables.values()]
    effect = [(auc[0] + auc[1]) / 2 - 0.5, *(a - 0.5 for a in auc[2:])]
    spread = [np.hypot(sd[0], sd[1]) / 2, *sd[2:]]
    row = found.loc[507.0]
    assert row["p"] == pytest.approx(_by_hand(effect, spread)[0], rel=1e-9)
    assert row["p_t"] == pytest.approx(stats.ttest_1samp(effect, 0).pvalue)
    assert row["q"] < 0.05
    assert (row["n_same_sign"], row["n_patients"]) == (4, 4)
    assert found["q"].drop(507.0).min() > 0.05
    for table in tables.values():
        assert {"auc_sd", "p_shift", "n_places"} <= set(table.columns)
        assert table["p_shift"].between(1 / table["n_places"], 1).all()


def test_without_moved_annotations_the_t_test_decides() -> None:
    found = combine(_tables(0, 3), {})
    pd.testing.assert_series_equal(found["p"], found["p_t"], check_names=False)
    assert "auc_between" not in found


def test_a_transform_is_undone_for_the_effect() -> None:
    rng = np.random.default_rng(0)
    raw = rng.gamma(2, 3, (12, 12, 3)).astype(np.float32)
    cancer = np.zeros((12, 12), np.float32)
    cancer[:5] = 1
    words = {"mz": [1.0, 2.0, 3.0]}
    tissue = np.ones((12, 12), bool)
    plain = specimen_association(raw, cancer, tissue, **words)
    logged = specimen_association(np.log1p(raw), cancer, tissue, restore=np.expm1, **words)
    pd.testing.assert_frame_equal(plain, logged, rtol=1e-5)
