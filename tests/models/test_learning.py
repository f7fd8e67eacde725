"""Learning curves: the fits are those of the run, and what they say of more patients holds."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.models import Fold, Moments, fit_linear_folds
from msiscale.models.learning import (
    EXPONENTS,
    FEWEST_PATIENTS,
    extrapolated,
    learn,
    orders,
    sizes,
)
from msiscale.models.ridge import ALPHAS
from msiscale.models.validation import Rules


def test_every_patient_is_held_out_once_and_trains_otherwise():
    names = [f"p{i}" for i in range(23)]
    some = orders(names)
    assert len(some) == 10
    assert sorted(p for order in some for p in order.held_out) == sorted(names)
    for order in some:
        assert sorted((*order.held_out, *order.joining)) == sorted(names)
        assert orders(names)[0] == some[0]


def test_sizes_grow_to_the_largest_training_that_all_orders_have():
    assert sizes(orders([f"p{i}" for i in range(3)])) == []
    assert sizes(orders([f"p{i}" for i in range(4)])) == [3]
    assert len(sizes(orders([f"p{i}" for i in range(FEWEST_PATIENTS)]))) == 3
    many = sizes(orders([f"p{i}" for i in range(100)]))
    assert many[0] == 3 and many[-1] == 90 and many == sorted(set(many))


@pytest.fixture(scope="module")
def patients():
    """Sums of eight patients, of whom the second has two specimens; features tell the spectra."""
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((4, 6))
    sums, specimens = {}, {}
    for i in range(8):
        own = weights + 0.3 * rng.standard_normal(weights.shape)
        for j in range(1 + (i == 1)):
            x = rng.standard_normal((60, 4)) + rng.standard_normal(4)
            m = x @ own + rng.standard_normal((60, 6))
            sums[f"s{i}{j}"] = Moments.from_arrays(x, m)
            specimens.setdefault(f"p{i}", []).append(f"s{i}{j}")
    return sums, specimens


def test_the_last_fit_is_that_of_leaving_these_patients_out(patients):
    sums, specimens = patients
    order = orders([*specimens])[1]
    rules = Rules(5, ALPHAS, (), 0, None)
    found = learn(sums, specimens, order, [3, 7], rules)
    train = tuple(s for p in order.joining for s in specimens[p])
    fold = Fold("p1", train, ("s10", "s11"))
    owner = {s: p for p, of in specimens.items() for s in of}
    (model,) = fit_linear_folds(sums, [fold], owner, n_components=5, alphas=ALPHAS)
    expected = [
        r["value"] for r in model.records if (r["target"], r["metric"]) == ("spectrum", "r2")
    ]
    assert [row["patients"] for row in found] == [3, 7]
    assert found[-1]["r2"] == pytest.approx(np.mean(expected), rel=1e-9)


def test_sums_of_training_are_read_once(patients):
    sums, specimens = patients
    read = []

    class Counting(dict):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    order = orders([*specimens])[0]
    learn(Counting(sums), specimens, order, [3, 5, 7], Rules(5, (1.0,), (), 0, None))
    assert all(read.count(s) == 1 for p in order.joining for s in specimens[p])


def test_a_curve_of_its_form_is_read_off_exactly():
    at, c = [3, 4, 6, 9, 12], EXPONENTS[12]
    curve = 0.6 - 0.9 * np.array(at) ** -c
    values = curve + np.array([[-0.1], [0.0], [0.1], [0.05], [-0.05]])
    (found,) = extrapolated(at, values, [24])
    assert found.value == pytest.approx(0.6 - 0.9 * 24**-c, abs=1e-9)
    # patients differ by a shift alone: the interval is that of their mean
    assert found.high - found.value == pytest.approx(
        2.776 * values[:, 0].std(ddof=1) / 5**0.5, rel=1e-3
    )
    assert found.n == 5


def test_a_falling_curve_is_taken_as_flat():
    values = np.tile([0.5, 0.45, 0.4], (4, 1)) + np.arange(4)[:, None] / 100
    (found,) = extrapolated([3, 4, 6], values, [12])
    assert found.value == pytest.approx(values.mean())


def test_few_sizes_or_patients_have_no_curve():
    with pytest.raises(ValueError, match="3 sizes"):
        extrapolated([3, 4], np.ones((5, 2)), [8])
    with pytest.raises(ValueError, match="3 patients"):
        extrapolated([3, 4, 5], np.ones((2, 3)), [8])
