"""PCA against scikit-learn's, and what it promises beyond it."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA as Reference
from sklearn.utils.estimator_checks import parametrize_with_checks

from msiscale.models import PCA, Moments


@parametrize_with_checks([PCA()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def data(seed=0, n=600, p=20, dtype=np.float64):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, p)) * np.logspace(0, -2, p)
    return (factors @ np.linalg.qr(rng.normal(size=(p, p)))[0] + 5).astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_equals_the_full_svd(dtype, tolerance):
    x = data(dtype=dtype)
    ours, theirs = PCA(12).fit(x), Reference(12, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=tolerance)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=tolerance
    )
    np.testing.assert_allclose(ours.singular_values_, theirs.singular_values_, rtol=tolerance)
    assert np.abs((ours.components_ * theirs.components_).sum(axis=1)).min() > 1 - tolerance
    gap = ours.components_.T @ ours.components_ - theirs.components_.T @ theirs.components_
    assert np.linalg.norm(gap) / np.sqrt(24) < tolerance


def test_sign_of_the_largest_loading_is_positive():
    components = PCA().fit(data()).components_
    assert (components[np.arange(20), np.abs(components).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_more_components_than_the_rank(dtype):
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 30)) + 2).astype(dtype)
    model = PCA(10).fit(x)
    assert model.n_components_ == 4
    assert model.components_.shape == (4, 30)
    few = PCA(10).fit(data(n=5))
    assert few.n_components_ == 4  # five rows about their mean


def test_partial_fit_in_any_pieces_is_fit():
    x = data()
    whole, parts = PCA(5).fit(x), PCA(5)
    for piece in np.split(x, [1, 40, 333]):
        parts.partial_fit(piece)
    assert parts.n_samples_ == 600
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-10)


def test_full_rank_round_trip():
    x = data()
    model = PCA(None).fit(x)
    np.testing.assert_allclose(model.inverse_transform(model.transform(x)), x, atol=1e-10)


def test_from_moments_is_fit():
    x = data()
    sums = Moments.of(None, x, dtype=np.float64)
    expected = PCA(3).fit(x)
    for found in (PCA.from_moments(sums, "m", 3), PCA.from_moments(sums.swap(), "x", 3)):
        np.testing.assert_allclose(found.components_, expected.components_, atol=1e-12)


def test_labelled_arrays_stay_lazy_and_labelled():
    x = data(dtype=np.float32)
    x[7] = np.nan  # one pixel was not measured
    cube = xr.DataArray(
        da.from_array(x.reshape(20, 30, 20), chunks=(6, 30, 7)),
        dims=("y", "x", "mz"),
        coords={"y": np.arange(20.0), "mz": np.arange(20.0)},
    )
    model = PCA(3).fit(cube)
    expected = PCA(3).fit(np.delete(x, 7, axis=0))
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-5)
    scores = model.transform(cube)
    assert scores.dims == ("y", "x", "component") and "mz" not in scores.coords
    assert scores.chunks is not None and scores.dtype == np.float32
    values = scores.values.reshape(600, 3)
    assert np.isnan(values[7]).all() and np.isnan(values).any(axis=1).sum() == 1
    back = model.inverse_transform(scores.data)
    assert back.shape == (20, 30, 20)
    with pytest.raises(ValueError, match="features"):
        model.transform(cube[..., :5])


@pytest.mark.parametrize("bad", [{"n_components": 0}, {"svd_solver": "randomised"}])
def test_bad_parameters(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        PCA(**bad).fit(data())
