from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from raised_ion import specimen
from sklearn.metrics import roc_auc_score

from msiscale.biomarkers.association import rank_auc, specimen_association


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
    intensity, cancer, tissue, mz = specimen()
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
    intensity, cancer, tissue, mz = specimen()
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
    intensity, cancer, tissue, mz = specimen()
    intensity[..., 0] = 0
    intensity[..., 1] = np.where(cancer >= 0.5, 5, 0)
    table = specimen_association(intensity, cancer, tissue, mz=mz)
    assert table.loc[0, ["auc", "effect", "standardized_difference"]].tolist() == [0.5, 0, 0]
    assert table["auc"][1] == 1
    assert np.isfinite(table["effect"][1])


def test_a_specimen_without_cancer_has_no_auc() -> None:
    intensity, cancer, tissue, mz = specimen()
    table = specimen_association(intensity, np.minimum(cancer, 0.4), tissue, mz=mz)
    assert table["auc"].isna().all()
    assert table["effect"].isna().all()
    assert (table["n_cancer"] == 0).all()


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
