"""Corrections between specimens: against known offsets and gains, and a library's ComBat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.models import Moments, Spread
from msiscale.models.corrections import (
    LEAST_BACKGROUND,
    Affine,
    Quantiles,
    background_ratio,
    combat,
    load_correction,
    quantile_table,
    reference_quantiles,
)

rng = np.random.default_rng(5)


def specimens(n: int = 4, rows: int = 60, q: int = 12) -> list[np.ndarray]:
    """Rows of specimens that differ in gain and offset of each m/z alone."""
    base = rng.gamma(2.0, 1.0, (n, rows, q)) * np.linspace(0.5, 3, q)
    return list(base * rng.lognormal(0, 0.3, (n, 1, q)) + rng.normal(0, 0.5, (n, 1, q)))


def test_combat_is_that_of_the_library() -> None:
    library = pytest.importorskip("neuroCombat", reason="of the extra `test`")
    import pandas as pd

    rows = specimens(rows=25)  # few enough for the prior to matter
    batch = np.repeat(np.arange(len(rows)), len(rows[0]))
    known = library.neuroCombat(
        np.concatenate(rows).T, pd.DataFrame({"batch": batch}), "batch", eb=True, parametric=True
    )["data"].T
    parts = [Spread.of(r) for r in rows]
    found = [combat(parts, of).apply(r) for of, r in zip(parts, rows, strict=True)]
    np.testing.assert_allclose(np.concatenate(found), known, rtol=2e-3, atol=2e-3)
    # the prior does something: without it each mean would be the grand one
    assert np.abs(np.array([f.mean(axis=0) for f in found]).std(axis=0)).max() > 1e-3


def test_combat_brings_a_batch_that_was_not_in_the_training_to_its_mean_and_spread() -> None:
    rows = specimens(rows=4000)
    parts = [Spread.of(r) for r in rows]
    held_out = combat(parts[:-1], parts[-1]).apply(rows[-1])
    grand = np.mean([p.mean for p in parts[:-1]], axis=0)
    scale = np.sqrt(np.mean([p.scatter / p.n for p in parts[:-1]], axis=0))
    np.testing.assert_allclose(held_out.mean(axis=0), grand, atol=0.05 * scale.max())
    np.testing.assert_allclose(held_out.std(axis=0), scale, rtol=0.05)


def test_what_does_not_vary_is_left_as_it_is() -> None:
    rows = [r.copy() for r in specimens()]
    for r in rows:
        r[:, 3] = 7.0
    rows[0][:, 5] = 0.0  # in this batch alone
    parts = [Spread.of(r) for r in rows]
    found = combat(parts[1:], parts[0]).apply(rows[0])
    np.testing.assert_array_equal(found[:, [3, 5]], rows[0][:, [3, 5]].astype(np.float32))
    assert np.isfinite(found).all()


def test_sums_of_corrected_rows_are_the_corrected_sums() -> None:
    rows, x = specimens()[0], rng.normal(size=(60, 3))
    by = Affine(rng.lognormal(size=12), rng.normal(size=12))
    exact = Moments.of(x, rows * by.gain + by.offset, dtype=np.float64)
    found = by.of_moments(Moments.of(x, rows, dtype=np.float64))
    for name in ("mean_x", "mean_m", "sxx", "sxm", "smm"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-10)


def test_a_gain_of_the_instrument_cancels_against_the_background() -> None:
    tissue, off = rng.gamma(2.0, 1.0, (50, 8)), rng.gamma(2.0, 1.0, (200, 8))
    plain = background_ratio(Spread.of(off)).apply(tissue)
    np.testing.assert_allclose(
        background_ratio(Spread.of(3.5 * off)).apply(3.5 * tissue), plain, rtol=1e-5
    )
    logs = background_ratio(Spread.of(np.log(off)), logarithms=True).apply(np.log(tissue))
    gain = np.log(rng.lognormal(size=8))
    again = background_ratio(Spread.of(np.log(off) + gain), logarithms=True)
    np.testing.assert_allclose(again.apply(np.log(tissue) + gain), logs, atol=1e-5)


@pytest.mark.parametrize(
    ("off", "why"),
    [
        (np.ones((LEAST_BACKGROUND - 1, 3)), "99 measured pixels off the tissue, and 100"),
        (np.zeros((LEAST_BACKGROUND, 3)), "no intensity"),
    ],
)
def test_too_little_background_is_refused(off: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        background_ratio(Spread.of(off))


def test_quantiles_undo_any_monotone_distortion() -> None:
    truth = rng.gamma(2.0, 1.0, (5000, 3))
    distorted = np.sqrt(truth) * 4 + 1
    found = Quantiles(quantile_table(distorted), quantile_table(truth)).apply(distorted)
    middle = (truth > np.quantile(truth, 0.02, axis=0)) & (truth < np.quantile(truth, 0.98, axis=0))
    np.testing.assert_allclose(found[middle], truth[middle], rtol=0.01, atol=0.01)


def test_values_that_are_one_stay_one() -> None:
    rows = np.concatenate([np.zeros((30, 1)), np.linspace(1, 2, 70)[:, None]])
    reference = np.linspace(0, 10, 101)[:, None]
    found = Quantiles(quantile_table(rows), reference).apply(rows)
    assert len(np.unique(found[:30])) == 1 and found[0] == pytest.approx(1.5, abs=0.1)
    assert (np.diff(found[29:, 0]) > 0).all() and found[-1] == pytest.approx(10)


def test_each_patient_of_the_reference_counts_once() -> None:
    a, b = np.zeros((101, 2)), np.ones((101, 2))
    np.testing.assert_allclose(reference_quantiles([[a, a, a], [b]]), 0.5)


def test_corrections_come_back_from_the_store(tmp_path: Path) -> None:
    rows = specimens()[0]
    table = quantile_table(rows)
    for i, made in enumerate((Affine(rows[0], rows[1]), Quantiles(table, table + 1))):
        made.save(str(tmp_path / f"{i}.zarr"))
        back = load_correction(str(tmp_path / f"{i}.zarr"))
        assert type(back) is type(made)
        np.testing.assert_array_equal(back.apply(rows), made.apply(rows))
