"""Ridge against scikit-learn's and numpy's, and R² from sums against R² from predictions."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge as Reference
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from msiscale.models import PCA, Moments, Ridge, RidgePath, r2_from_moments
from msiscale.models.ridge import heldout_losses


@parametrize_with_checks([Ridge(), Ridge([0.1, 1.0])])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def data(seed=0, n=500, p=12, t=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + rng.normal(size=p) * 3
    y = x[:, :5] @ rng.normal(size=(5, t)) + rng.normal(size=(n, t)) * 2 + 1
    return x, y, rng.uniform(0.2, 2, n)


def reference(x, y, alpha, weight=None):
    """Coefficients and intercept on x as it comes."""
    w = np.ones(len(x)) if weight is None else weight
    scaler = StandardScaler().fit(x, sample_weight=w)
    model = Reference(alpha * w.sum()).fit(scaler.transform(x), y, sample_weight=w)
    coef = model.coef_ / scaler.scale_
    return coef, model.intercept_ - coef @ scaler.mean_


@pytest.mark.parametrize("alpha", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_on_standardised_x(alpha, weighted):
    x, y, w = data()
    weight = w if weighted else None
    model = Ridge(alpha).fit(x, y, sample_weight=weight)
    coef, intercept = reference(x, y, alpha, weight)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.intercept_, intercept, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_penalty_on_deficient_rank_is_the_pseudo_inverse(dtype):
    x, y, _ = data()
    x = np.concatenate([x, x[:, :3], np.full((500, 1), 0.1)], axis=1).astype(dtype)
    model = Ridge(0.0).fit(x, y.astype(dtype))
    assert model.rank_ == 12
    z = StandardScaler().fit_transform(x.astype(np.float64)) * (np.arange(16) < 15)
    expected = np.linalg.lstsq(z, y - y.mean(axis=0), rcond=1e-10)[0].T
    tolerance = 1e-8 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(model.coef_ * model.scale_, expected, atol=tolerance)
    assert not model.coef_[:, 15].any()


def test_single_target_has_the_shape_that_it_came_with():
    x, y, _ = data()
    model = Ridge(0.1).fit(x, y[:, 0])
    assert model.coef_.shape == (12,) and np.ndim(model.intercept_) == 0
    np.testing.assert_allclose(model.predict(x), Ridge(0.1).fit(x, y).predict(x)[:, 0])


def test_the_path_is_each_alpha_alone():
    x, y, _ = data()
    path = RidgePath.of(Moments.of(x, y, dtype=np.float64))
    for alpha in (0.0, 1e-3, 1.0, 100.0):
        alone = Ridge(alpha).fit(x, y)
        coef, intercept = path.coefficients(alpha)
        np.testing.assert_allclose(coef, alone.coef_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(intercept, alone.intercept_, rtol=1e-9, atol=1e-12)


def test_losses_from_sums_are_those_of_predictions():
    x, y, _ = data()
    train, test = Moments.of(x[:300], y[:300], dtype="f8"), Moments.of(x[300:], y[300:], dtype="f8")
    alphas = (0.0, 0.01, 5.0)
    found = RidgePath.of(train).losses(alphas, test)
    total = RidgePath.of(train).against(test).total(alphas)
    np.testing.assert_allclose(total, found.sum(axis=1), rtol=1e-10)
    for row, alpha in zip(found, alphas, strict=True):
        predicted = Ridge(alpha).fit(x[:300], y[:300]).predict(x[300:])
        np.testing.assert_allclose(row, ((y[300:] - predicted) ** 2).sum(axis=0), rtol=1e-8)


def test_r2_from_sums_is_that_of_predictions():
    x, y, _ = data()
    model = Ridge(0.05).fit(x[:200], y[:200])
    heldout = Moments.of(x[200:], y[200:], dtype=np.float64)
    mean = y[:200].mean(axis=0)
    r2 = r2_from_moments(model.coef_, model.intercept_, heldout, mean)
    truth, predicted = y[200:], model.predict(x[200:])
    np.testing.assert_allclose(
        r2.per_target, r2_score(truth, predicted, multioutput="raw_values"), rtol=1e-9
    )
    np.testing.assert_allclose(
        r2.weighted, r2_score(truth, predicted, multioutput="variance_weighted"), rtol=1e-9
    )
    constant = np.broadcast_to(mean, truth.shape)
    np.testing.assert_allclose(
        r2.baseline_per_target, r2_score(truth, constant, multioutput="raw_values"), rtol=1e-8
    )
    skill = 1 - ((truth - predicted) ** 2).sum() / ((truth - mean) ** 2).sum()
    np.testing.assert_allclose(r2.over_baseline_weighted, skill, rtol=1e-9)
    halves = [Moments.of(x[i], y[i], dtype="f8") for i in (range(200, 300), range(300, 500))]
    pooled = sum_of([r2_from_moments(model.coef_, model.intercept_, h, mean) for h in halves])
    np.testing.assert_allclose(pooled.rss, r2.rss, rtol=1e-9)
    np.testing.assert_allclose(pooled.tss_train, r2.tss_train, rtol=1e-9)


def sum_of(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def test_a_target_that_does_not_vary_has_no_r2():
    x, y, _ = data()
    y[:, 1] = 3.0
    model = Ridge(0.1).fit(x, y)
    r2 = model.r2(Moments.of(x, y, dtype=np.float64))
    assert np.isnan(r2.per_target[1]) and np.isfinite(r2.weighted)


def test_generalised_cross_validation_is_scikit_learns():
    x, y, _ = data(n=60)
    alphas = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    z = StandardScaler().fit_transform(x)
    scores = RidgePath.of(Moments.of(x, y, dtype="f8")).generalised_cross_validation(alphas)
    # leave-one-out of scikit-learn is close to GCV, and here has the same best alpha
    best = RidgeCV([a * 60 for a in alphas]).fit(z, y).alpha_ / 60
    assert alphas[int(scores.sum(axis=1).argmin())] == pytest.approx(best)
    hat = z @ np.linalg.solve(z.T @ z + 60 * 0.1 * np.eye(12), z.T) + 1 / 60
    direct = ((y - hat @ y) ** 2).mean(axis=0) / (1 - np.trace(hat) / 60) ** 2
    np.testing.assert_allclose(scores[2], direct, rtol=1e-9)


def test_alpha_chosen_by_groups_is_the_best_on_the_groups_left_out():
    x, y, _ = data(n=240)
    rng = np.random.default_rng(5)
    groups = np.repeat(["a", "b", "c"], 80)
    y = y + rng.normal(size=(3, 4))[np.repeat([0, 1, 2], 80)] * 3  # an offset a group
    alphas = [1e-3, 1e-1, 1.0, 10.0]
    errors = np.zeros((4, 4))
    for g in "abc":
        for i, alpha in enumerate(alphas):
            model = Ridge(alpha).fit(x[groups != g], y[groups != g])
            errors[i] += ((y[groups == g] - model.predict(x[groups == g])) ** 2).sum(axis=0)
    parts = [Moments.of(x[groups == g], y[groups == g], dtype="f8") for g in "abc"]
    np.testing.assert_allclose(heldout_losses(parts, alphas), errors, rtol=1e-8)
    shared = Ridge(alphas).fit(x, y, groups=groups)
    assert shared.alpha_ == alphas[int(errors.sum(axis=1).argmin())]
    each = Ridge(alphas, alpha_per_target=True).fit(x, y, groups=groups)
    np.testing.assert_array_equal(each.alpha_, np.array(alphas)[errors.argmin(axis=0)])
    for t, alpha in enumerate(each.alpha_):
        np.testing.assert_allclose(each.coef_[t], Ridge(alpha).fit(x, y).coef_[t], rtol=1e-8)


def test_targets_projected_in_the_sums_are_scores():
    x, y, _ = data(t=6)
    sums = Moments.of(x, y, dtype=np.float64)
    pca = PCA.from_moments(sums, "m", 3)
    found = Ridge.from_moments(sums, pca.components_, 0.1)
    expected = Ridge(0.1).fit(x, pca.transform(y))
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-9)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, atol=1e-9)


def test_dask_and_xarray_with_pixels_not_measured():
    x, y, _ = data(n=600)
    y[5] = np.nan
    cube = da.from_array(x.reshape(20, 30, 12), chunks=(7, 30, 5))
    targets = xr.DataArray(y.reshape(20, 30, 4), dims=("y", "x", "mode"))
    model = Ridge(0.1).fit(cube, targets)
    keep = np.arange(600) != 5
    expected = Ridge(0.1).fit(x[keep], y[keep])
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
    predicted = model.predict(cube)
    assert predicted.shape == (20, 30, 4) and isinstance(predicted, da.Array)
    np.testing.assert_allclose(predicted.compute().reshape(600, 4), model.predict(x), rtol=1e-10)


def test_negative_alpha_is_refused():
    x, y, _ = data()
    with pytest.raises(ValueError, match="alpha"):
        Ridge(-1.0).fit(x, y)


def test_score_of_cubes_is_r2_from_their_sums():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 30, 6))
    y = x @ rng.normal(size=(6, 3)) + rng.normal(size=(20, 30, 3)) * [0.1, 1, 5]
    fit = Ridge(0.1).fit(x.reshape(-1, 6), y.reshape(-1, 3))
    expected = fit.score(x.reshape(-1, 6), y.reshape(-1, 3))
    lazy = da.from_array(x, chunks=(7, 11, 6))
    assert fit.score(lazy, y) == pytest.approx(expected, abs=1e-9)
    one = Ridge(0.1).fit(x.reshape(-1, 6), y[..., 1].ravel())
    found = one.score(lazy, da.from_array(y[..., 1], chunks=(7, 11)))
    assert found == pytest.approx(one.score(x.reshape(-1, 6), y[..., 1].ravel()), abs=1e-9)
