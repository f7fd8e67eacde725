from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msiscale.biomarkers.decoys import (
    ELEMENTS,
    cohort_score,
    draw,
    false_discovery_rate,
    match_ratio,
)
from msiscale.biomarkers.masses import element_mass, formula_mass, hill, ion_counts

SCORES = hnp.arrays(
    np.float64, st.integers(1, 40), elements=st.floats(0, 1).map(lambda v: v // 0.1)
)


def test_decoys_are_drawn_once_each_and_the_same_in_any_order() -> None:
    first = draw("C42H82NO8P", 1)
    assert len(ELEMENTS) == 80 == len(set(ELEMENTS))
    assert len({a.name for a in first}) == 20
    draw("C39H79N2O6P", 1)
    assert draw("C42H82NO8P", 1) == first
    assert draw("C39H79N2O6P", 1) != first
    assert draw("C42H82NO8P", 1, seed=1) != first
    assert {a.name[-1] for a in draw("C42H82NO8P", -1)} == {"-"}


def test_a_decoy_weighs_as_much_as_its_atoms_less_the_electron() -> None:
    for adduct in draw("C42H82NO8P", 1, 80):
        element = adduct.added
        assert adduct.shift == pytest.approx(element_mass(element) - 0.00054858, abs=1e-7)


def test_what_is_looked_for_is_no_decoy() -> None:
    # a triglyceride and nitrogen is another and ammonium
    real = {hill(ion_counts("C55H102O6", a) or {}) for a in draw("C55H102O6", 1, 80)}
    nitrogen = hill({"C": 55, "H": 102, "N": 1, "O": 6})
    assert nitrogen in real
    kept = draw("C55H102O6", 1, 80, real={nitrogen})
    assert len(kept) == 79
    assert "[M+N]+" not in {a.name for a in kept}
    assert formula_mass(nitrogen) == pytest.approx(formula_mass("C55H98O6") + 18.034374, abs=1e-5)


def _plainly(targets: np.ndarray, decoys: np.ndarray, count: int, ratio: float) -> list[float]:
    def rate(s: float) -> float:
        worse, better = (decoys >= s).sum(), (targets >= s).sum()
        return min(1.0, (ratio * worse + 1) / count / (better + 1)) if s > 0 else 1.0

    return [min(rate(t) for t in targets if t <= s) for s in targets]


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES, st.integers(1, 20), st.floats(1, 5))
def test_the_rate_is_as_described(
    targets: np.ndarray, decoys: np.ndarray, count: int, ratio: float
) -> None:
    found = false_discovery_rate(targets, decoys, count, ratio=ratio)
    np.testing.assert_allclose(found, _plainly(targets, decoys, count, ratio))
    order = np.argsort(targets)
    assert (np.diff(found[order]) <= 0).all()
    assert ((found > 0) & (found <= 1)).all()


def test_the_rate_tells_the_share_of_false_ones() -> None:
    rng = np.random.default_rng(0)
    true = rng.beta(8, 2, 300)
    false, decoys = rng.beta(2, 4, 700), rng.beta(2, 4, 700 * 20)
    rates = false_discovery_rate(np.concatenate([true, false]), decoys, 20)
    for bound in (0.05, 0.1, 0.2):
        taken = rates <= bound
        assert taken[300:].sum() / taken.sum() == pytest.approx(bound, abs=0.03)
    # decoys that are at a peak three times as rarely
    rare = decoys[::3]
    ratio = match_ratio(np.concatenate([true, false]), rare, 20)
    assert ratio == pytest.approx(3, abs=0.3)
    again = false_discovery_rate(np.concatenate([true, false]), rare, 20, ratio=ratio)
    taken = again <= 0.1
    assert taken[300:].sum() / taken.sum() == pytest.approx(0.1, abs=0.03)


def test_without_decoys_the_ratio_is_one() -> None:
    assert match_ratio([0.5, 0.2], []) == 1
    assert match_ratio([0.9], [0.1, 0.2]) == 1


def test_a_lipid_of_many_specimens_scores_above_a_coincidence() -> None:
    scores = [np.array([0.5, 0.9]), np.array([0.6, 0.0]), np.array([0.4, 0.0])]
    np.testing.assert_allclose(cohort_score(scores), [0.5, 0.3])
