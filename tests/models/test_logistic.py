"""The estimator against scikit-learn's."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from msiscale.models import LogisticRegression


@parametrize_with_checks([LogisticRegression(), LogisticRegression(class_weight=None)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def data(classes=2, seed=0, n=800, p=8):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 4
    odds = (x - 4) @ rng.normal(size=(p, classes)) * 0.4 + np.arange(classes) * 0.5
    return x, (odds + rng.gumbel(size=odds.shape)).argmax(axis=1), rng.uniform(0.2, 2, n)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("class_weight", ["balanced", None, {0: 2.0, 1: 0.5}])
def test_equals_scikit_learn_on_standardised_x(classes, intercept, class_weight):
    x, y, w = data(classes)
    ours = LogisticRegression(
        0.3, class_weight=class_weight, fit_intercept=intercept, tol=1e-9
    ).fit(x, y, sample_weight=w)
    if class_weight == "balanced":
        # scikit-learn counts rows here; a row counts by its weight in ours
        class_weight = {c: w.sum() / (classes * w[y == c].sum()) for c in range(classes)}
    scaler = StandardScaler(with_mean=intercept).fit(x, sample_weight=w)
    theirs = Reference(
        C=0.3,
        class_weight=class_weight,
        fit_intercept=intercept,
        tol=1e-11,
        max_iter=1000,
        solver="newton-cg",
    ).fit(scaler.transform(x), y, sample_weight=w)
    np.testing.assert_allclose(ours.coef_ * ours.scale_, theirs.coef_, atol=1e-6)
    z = scaler.transform(x)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(z), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(z))
    assert ours.grad_norm_ < 1e-7 and ours.n_passes_ < 50


@pytest.mark.parametrize("classes", [2, 3])
def test_fractions_count_by_their_part(classes):
    x, y, w = data(classes)
    rng = np.random.default_rng(3)
    fractions = rng.dirichlet(np.full(classes, 0.3), len(x)) * 0.3 + 0.7 * np.eye(classes)[y]
    ours = LogisticRegression(0.5, class_weight=None, tol=1e-9).fit(x, fractions, sample_weight=w)
    repeated = np.concatenate([x] * classes)
    labels = np.repeat(np.arange(classes), len(x))
    weights = (fractions * w[:, None]).T.ravel()
    theirs = LogisticRegression(0.5, class_weight=None, tol=1e-9).fit(
        repeated, labels, sample_weight=weights
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-7)


@pytest.mark.parametrize("labelled", [False, True])
def test_lazy_arrays(labelled):
    x, y, _ = data(3, n=600)
    names = np.array(["benign", "high", "low"])[y].reshape(20, 30)
    cube = da.from_array(x.reshape(20, 30, 8), chunks=(7, 30, 3))
    if labelled:
        cube = xr.DataArray(cube, dims=("y", "x", "channel"), coords={"y": np.arange(20.0)})
        names = xr.DataArray(names, dims=("y", "x"))
    found = LogisticRegression(0.3).fit(cube, names)
    expected = LogisticRegression(0.3).fit(x, np.asarray(names).ravel())
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)
    predicted, probability = found.predict(cube), found.predict_proba(cube)
    assert probability.shape == (20, 30, 3)
    if labelled:
        assert predicted.dims == ("y", "x") and probability.dims == ("y", "x", "class")
    else:
        assert isinstance(predicted, da.Array)
    np.testing.assert_array_equal(np.asarray(predicted).ravel(), expected.predict(x))


def test_pixels_without_a_label_or_a_measurement_are_left_out():
    x, y, _ = data(n=600)
    labels = y.astype(np.float64)
    labels[::3] = np.nan
    x[1] = np.nan
    known = np.isfinite(labels) & np.isfinite(x).all(axis=1)
    cube = xr.DataArray(x.reshape(20, 30, 8), dims=("y", "x", "channel"))
    found = LogisticRegression(0.3).fit(cube, xr.DataArray(labels.reshape(20, 30)))
    expected = LogisticRegression(0.3).fit(x[known], labels[known])
    np.testing.assert_array_equal(found.classes_, [0, 1])
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_c_is_chosen_by_leaving_out_groups(classes, lazy):
    rng = np.random.default_rng(5)
    x, y, _ = data(classes, n=300, p=12)
    patients = rng.integers(0, 4, 300)  # mixed within every block
    x[:, 4:] = rng.normal(size=(300, 8))  # noise, for which a strong penalty is right
    costs = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    scaler = StandardScaler().fit(x)
    losses = {}
    for cost in costs:
        losses[cost] = 0.0
        for patient in range(4):
            train, test = patients != patient, patients == patient
            fit = Reference(C=cost, tol=1e-9, max_iter=2000)
            fit.fit(scaler.transform(x[train]), y[train])
            p = fit.predict_proba(scaler.transform(x[test]))
            losses[cost] -= np.log(p[np.arange(test.sum()), y[test]]).sum()
    held = da.from_array(x, chunks=(90, 5)) if lazy else x
    found = LogisticRegression(costs, class_weight=None).fit(held, y, groups=patients)
    assert min(losses, key=losses.__getitem__) == found.C_
    alone = LogisticRegression(found.C_, class_weight=None).fit(x, y)
    np.testing.assert_allclose(found.coef_, alone.coef_, atol=1e-5)
    assert alone.C_ == found.C_


def test_a_block_of_several_groups_is_read_once_a_pass():
    x, y, _ = data(n=240)
    reads = []

    def read(block):
        reads.append(len(block))
        return block

    lazy = da.from_array(x, chunks=(80, -1)).map_blocks(read, dtype=x.dtype, meta=x[:0])
    groups = np.arange(240) % 4
    LogisticRegression([0.1, 1.0], tol=1e-5).fit(lazy, y, groups=groups)
    assert len(reads) / 3 < 30  # scale, class sums and passes; four folds by two C would be 8-fold


def test_score_of_cubes():
    x, y, _ = data(3, n=600)
    fit = LogisticRegression(0.3).fit(x, y)
    cube = xr.DataArray(
        da.from_array(x.reshape(20, 30, 8), chunks=(7, 30, 8)), dims=("y", "x", "c")
    )
    labels = y.reshape(20, 30).astype(float)
    assert fit.score(cube, labels) == pytest.approx(fit.score(x, y))
    labels[3:5] = np.nan
    cube = cube.where(xr.DataArray(np.arange(30) > 2, dims="x"))
    known = (np.isfinite(labels) & (np.arange(30) > 2)).ravel()
    assert fit.score(cube, labels) == pytest.approx(fit.score(x[known], y[known]))


def test_bad_parameters():
    x, y, w = data()
    with pytest.raises(ValueError, match="needs groups"):
        LogisticRegression([0.1, 1.0]).fit(x, y)
    with pytest.raises(ValueError, match="one label only"):
        LogisticRegression([0.1, 1.0]).fit(x, y, groups=np.zeros(len(y), int))
    with pytest.raises(ValueError, match="C="):
        LogisticRegression(0).fit(x, y)
    with pytest.raises(ValueError, match="class_weight"):
        LogisticRegression(class_weight="equal").fit(x, y)
    with pytest.raises(ValueError, match="one class"):
        LogisticRegression().fit(x, np.zeros(len(x)))
    with pytest.raises(ValueError, match="one class"):
        LogisticRegression().fit(x, y, sample_weight=w * (y == 1))
