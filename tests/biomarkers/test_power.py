"""Power over patients, against simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from msiscale.biomarkers.power import needed, power, power_table, spread_of_patients


@pytest.mark.parametrize(("auc", "n"), [(0.6, 10), (0.7, 5), (0.4, 8)])
def test_power_is_how_often_a_t_test_finds_it(auc, n):
    rng = np.random.default_rng(1)
    draws = rng.normal(auc, 0.12, (20_000, n))
    found = (stats.ttest_1samp(draws, 0.5, axis=1).pvalue <= 0.01).mean()
    assert float(power(auc, 0.12, n, 0.01)) == pytest.approx(found, abs=0.012)


def test_no_effect_is_found_as_often_as_the_level_says():
    assert float(power(0.5, 0.1, 6, 0.05)) == pytest.approx(0.05, abs=1e-9)


def test_what_cannot_be_missed_has_a_power_of_one():
    assert power([0.8, 0.95], 0.1, [30, 30], 4e-4) == pytest.approx(1.0)


def test_needed_is_where_power_crosses():
    n = needed(0.65, 0.1, 1e-3)
    assert n is not None
    assert float(power(0.65, 0.1, n, 1e-3)) >= 0.8 > float(power(0.65, 0.1, n - 1, 1e-3))
    assert needed(0.501, 0.2, 1e-3) is None


def test_a_patients_sections_count_once_and_few_patients_not_at_all():
    rows = [
        ("a", 100.0, 0.6), ("a", 100.0, 0.8), ("b", 100.0, 0.5), ("c", 100.0, 0.6),
        ("a", 200.0, 0.6), ("b", 200.0, 0.7), ("c", 200.0, np.nan),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["patient", "mz", "auc"])
    assert spread_of_patients(table) == pytest.approx([np.std([0.7, 0.5, 0.6], ddof=1)])


def test_more_patients_and_stronger_effects_have_more_power():
    table = power_table(np.full(50, 0.1), [0.6, 0.8], [3, 6, 12])
    typical = table[table["between"] == "typical"].pivot(
        index="patients", columns="effect", values="power"
    )
    assert (typical.diff().dropna() > 0).all().all()
    assert (typical[0.8] > typical[0.6]).all()
    assert (table["level"] == 0.001).all()
