from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import roc_auc_score

from msiscale.biomarkers.association import (
    biomarker_table,
    combine,
    rank_auc,
    specimen_association,
    tidy,
)
from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.masses import ion_mz


def _specimen(seed: int = 0, n_mz: int = 130, raised: int = 7) -> tuple:
    """A specimen whose m/z `raised` is higher in cancer; some pixels unmeasured or unknown."""
    rng = np.random.default_rng(seed)
    intensity = rng.poisson(3, (20, 24, n_mz)).astype(np.float32)
    cancer = np.zeros((20, 24), np.float32)
    cancer[5:12, 6:14] = rng.uniform(0.5, 1, (7, 8))
    intensity[5:12, 6:14, raised] += 6
    tissue = np.zeros((20, 24), bool)
    tissue[2:18, 2:22] = True
    intensity[3, 3] = np.nan
    cancer[4, :] = np.nan
    mz = np.linspace(600, 900, n_mz)
    return intensity, cancer, tissue, mz


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 12), elements=st.integers(0, 4).map(float)),
    st.integers(1, 11),
)
def test_auc_equals_scikit_learns_with_ties(values: np.ndarray, n_positive: int) -> None:
    positive = np.arange(12) < n_positive
    expected = [roc_auc_score(positive, row) for row in values]
    np.testing.assert_allclose(rank_auc(values, positive), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rank_auc(-values, positive), 1 - np.array(expected), atol=1e-12)


def test_auc_leaves_nan_out_and_needs_two_classes() -> None:
    values = np.array([[1, 2, np.nan, 3], [1, 2, 9, 3], [np.nan] * 4])
    positive = np.array([False, True, True, True])
    np.testing.assert_array_equal(rank_auc(values, positive), [1, 1, np.nan])
    assert np.isnan(rank_auc(values[1:2], np.ones(4, bool))).all()


def test_a_raised_ion_is_found_and_measured() -> None:
    intensity, cancer, tissue, mz = _specimen()
    table = specimen_association(intensity, cancer, tissue, mz=mz)
    known = tissue & np.isfinite(cancer) & np.isfinite(intensity[..., 0])
    ones = intensity[known & (cancer >= 0.5)][:, 7].astype(float)
    zeros = intensity[known & (cancer < 0.5)][:, 7].astype(float)
    row = table.iloc[7]
    assert (row["n_cancer"], row["n_other"]) == (ones.size, zeros.size)
    labels = np.r_[np.ones(ones.size), np.zeros(zeros.size)]
    assert row["auc"] == pytest.approx(roc_auc_score(labels, np.r_[ones, zeros]))
    assert row["mean_cancer"] == pytest.approx(ones.mean())
    assert row["effect"] == pytest.approx(np.log2(ones.mean() / zeros.mean()), abs=0.03)
    pooled = np.sqrt((ones.size * ones.var() + zeros.size * zeros.var()) / (known.sum() - 2))
    assert row["standardized_difference"] == pytest.approx((ones.mean() - zeros.mean()) / pooled)
    assert table["auc"].drop(7).between(0.3, 0.7).all()


def test_the_answer_does_not_depend_on_slabs_or_container() -> None:
    intensity, cancer, tissue, mz = _specimen()
    whole = specimen_association(intensity, cancer, tissue, mz=mz)
    lazy = xr.DataArray(
        da.from_array(intensity, chunks=(7, 9, 50)), dims=("y", "x", "mz"), coords={"mz": mz}
    )
    for data, memory in ((intensity, 1), (lazy, 1), (lazy, 1 << 20), (lazy.transpose(), 1 << 16)):
        axis = None if isinstance(data, xr.DataArray) else mz
        if isinstance(data, xr.DataArray):
            data = data.transpose("y", "x", "mz")
        part = specimen_association(data, cancer, tissue, mz=axis, memory=memory)
        pd.testing.assert_frame_equal(part, whole, check_exact=True)


def test_absent_and_one_sided_ions() -> None:
    intensity, cancer, tissue, mz = _specimen()
    intensity[..., 0] = 0
    intensity[..., 1] = np.where(cancer >= 0.5, 5, 0)
    table = specimen_association(intensity, cancer, tissue, mz=mz)
    assert table.loc[0, ["auc", "effect", "standardized_difference"]].tolist() == [0.5, 0, 0]
    assert table["auc"][1] == 1
    assert np.isfinite(table["effect"][1])


def test_a_specimen_without_cancer_has_no_auc() -> None:
    intensity, cancer, tissue, mz = _specimen()
    table = specimen_association(intensity, np.minimum(cancer, 0.4), tissue, mz=mz)
    assert table["auc"].isna().all()
    assert table["effect"].isna().all()
    assert (table["n_cancer"] == 0).all()


def _tables(n: int) -> dict[str, pd.DataFrame]:
    tables = {}
    for i in range(n):
        intensity, cancer, tissue, mz = _specimen(seed=i)
        tables[f"s{i}"] = specimen_association(intensity, cancer, tissue, mz=mz)
    return tables


def test_the_patient_is_the_unit() -> None:
    tables = _tables(4)
    patients = {"s0": "A", "s1": "A", "s2": "B", "s3": "C"}
    combined = combine(tables, patients).set_index("mz").sort_index()
    a = [tables[s]["auc"].to_numpy() for s in tables]
    by_patient = np.stack([(a[0] + a[1]) / 2, a[2], a[3]])
    np.testing.assert_allclose(combined["auc"], by_patient.mean(axis=0))
    np.testing.assert_allclose(combined["p"], stats.ttest_1samp(by_patient, 0.5, axis=0).pvalue)
    np.testing.assert_allclose(combined["q"], stats.false_discovery_control(combined["p"]))
    assert (combined["n_patients"] == 3).all()


def test_two_patients_give_no_p_value() -> None:
    combined = combine(_tables(3), {"s0": "A", "s1": "A", "s2": "B"})
    assert combined[["p", "q"]].isna().all(axis=None)
    assert (combined["n_patients"] == 2).all()


def test_strongest_first_and_missing_last() -> None:
    tables = _tables(3)
    for table in tables.values():
        table.loc[3, "auc"] = np.nan
        table.loc[5, "auc"] = 0.0  # lower in cancer is as strong as higher
    combined = combine(tables, {})
    strength = (combined["auc"] - 0.5).abs()
    assert combined["mz"][0] == tables["s0"]["mz"][5]
    assert combined["mz"][1] == tables["s0"]["mz"][7]
    assert strength.dropna().is_monotonic_decreasing
    assert np.isnan(combined["auc"].iloc[-1])


def test_patients_who_agree_exactly_fall_back_on_the_sign_test() -> None:
    tables = _tables(3)
    for table in tables.values():
        table.loc[0, "auc"], table.loc[1, "auc"] = 0.5, 1.0
    combined = combine(tables, {}).set_index("mz")
    axis = tables["s0"]["mz"]
    assert combined["p"][axis[0]] == 1
    assert combined["p"][axis[1]] == 0.25


def test_null_p_values_are_calibrated() -> None:
    rng = np.random.default_rng(5)
    axis = np.linspace(500, 900, 4000)
    tables = {
        f"s{i}": pd.DataFrame(
            {"mz": axis, "auc": rng.normal(0.5, 0.05, axis.size)}
            | dict.fromkeys(["effect", "standardized_difference", "mean_cancer", "mean_other"], 0.0)
        )
        for i in range(5)
    }
    combined = combine(tables, {})
    assert (combined["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (combined["q"] < 0.05).sum() <= 2


def test_different_axes_are_refused() -> None:
    tables = _tables(2)
    tables["s1"] = tables["s1"].iloc[:-1]
    with pytest.raises(ValueError, match="s1 has another m/z axis"):
        combine(tables, {})


def test_the_whole_table_names_the_planted_lipid() -> None:
    tables = {}
    for i in range(3):
        intensity, cancer, tissue, mz = _specimen(seed=i)
        mz[7] = ion_mz("C42H82NO8P", "[M+H]+") * (1 + 0.8e-6)
        order = np.argsort(mz)
        tables[f"s{i}"] = specimen_association(intensity[..., order], cancer, tissue, mz=mz[order])
    table = biomarker_table(tables, {}, builtin_lipids(), polarity="+")
    assert (table["annotation"][0], table["adduct"][0]) == ("PC 34:1", "[M+H]+")
    assert table["ppm_error"][0] == pytest.approx(0.8, abs=0.01)
    wanted = {"mz", "auc", "effect", "p", "q", "n_patients", "annotation", "adduct", "formula"}
    assert wanted | {"ppm_error", "alternatives", "isotope_of"} <= set(table.columns)
    per_specimen = tidy(tables, {"s0": "A"})
    assert per_specimen["patient"].unique().tolist() == ["A", "s1", "s2"]
    assert len(per_specimen) == 3 * 130
