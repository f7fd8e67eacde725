"""PLS from sums is scikit-learn's PLS; models are chosen and judged on pixels held out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression

from msiscale.fusion.pls import PLSPath, fewest, pls_losses
from msiscale.fusion.regression import FOLDS, fit_pls, fit_ridge, fold_of, side_of
from msiscale.models import Moments

Arrays = tuple[np.ndarray, np.ndarray]


def correlated(n: int = 300, p: int = 12, t: int = 5, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 4))
    x = latent @ rng.normal(size=(4, p)) + 0.3 * rng.normal(size=(n, p))
    y = latent @ rng.normal(size=(4, t)) + 0.5 * rng.normal(size=(n, t))
    return x * rng.uniform(0.1, 50, p) + 100, y * rng.uniform(0.1, 5, t) - 3


@pytest.mark.parametrize("t", [1, 5, 20])
@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_as_scikit_learn(n_components: int, t: int) -> None:
    x, y = correlated(t=t)
    blocks = [slice(0, 70), slice(70, 71), slice(71, 300)]  # merged, as out of core
    sums = Moments.merge(Moments.of(x[b], y[b], dtype=np.float64) for b in blocks)
    coef, intercept = PLSPath.of(sums, n_components).coefficients(n_components)
    theirs = PLSRegression(n_components, tol=1e-20, max_iter=20000).fit(x, y)
    predicted = theirs.predict(x).reshape(y.shape)
    np.testing.assert_allclose(x @ coef.T + intercept, predicted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(coef, theirs.coef_, rtol=1e-7, atol=1e-10)


def test_all_components_are_least_squares() -> None:
    x, y = correlated()
    coef, _ = PLSPath.of(Moments.of(x, y, dtype=np.float64), 12).coefficients(12)
    best = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0]
    np.testing.assert_allclose(coef, best.T, rtol=1e-6, atol=1e-9)


def test_fewer_rows_than_variables_or_constants() -> None:
    x, y = correlated(n=6, p=12)
    x[:, 3] = 5.0
    path = PLSPath.of(Moments.of(x, y, dtype=np.float64), 20)
    assert path.most <= 5
    coef, intercept = path.coefficients(20)
    assert np.isfinite(coef).all() and (coef[:, 3] == 0).all()
    np.testing.assert_allclose(x @ coef.T + intercept, y, atol=1e-6)


def test_losses_are_those_of_predictions() -> None:
    x, y = correlated()
    halves = slice(0, 200), slice(200, 300)
    train, test = (Moments.of(x[b], y[b], dtype=np.float64) for b in halves)
    path = PLSPath.of(train, 6)
    losses = path.losses(test, 6)
    for a in range(1, 7):
        coef, intercept = path.coefficients(a)
        truth = ((y[200:] - x[200:] @ coef.T - intercept) ** 2).sum(0)
        np.testing.assert_allclose(losses[a - 1], truth, rtol=1e-8)
    assert fewest(np.array([[2.0, 1.0], [1.0, 1.0]])).tolist() == [2, 1]
    assert pls_losses([train, test], 3).shape == (3, 5)


def test_folds_are_squares_apart() -> None:
    y, x = np.mgrid[:40, :40]
    folds = fold_of(y, x, 4)
    assert sorted(np.unique(folds)) == list(range(FOLDS))
    assert (folds[:4, :4] == folds[0, 0]).all()
    assert (folds[:-4] != folds[4:]).all() and (folds[:, :-4] != folds[:, 4:]).all()
    assert 1 <= side_of(5) <= side_of(100_000) <= 8


@pytest.mark.parametrize("fit", [fit_pls, lambda folds: fit_ridge(folds, (1e-3, 1e-1, 10.0))])
def test_what_is_held_out_is_not_seen(fit) -> None:  # type: ignore[no-untyped-def]
    x, y = correlated(n=500)
    y[:, 0] = np.random.default_rng(1).normal(size=500)  # nothing to find in this one
    folds = [Moments.of(x[i::5], y[i::5], dtype=np.float64) for i in range(5)]
    found = fit(folds)
    assert found.correlation[1:].min() > 0.8 and found.r2[1:].min() > 0.6
    assert abs(found.correlation[0]) < 0.3
    spoilt = [Moments.of(x[::5], y[::5] + 50 * x[::5, :1], dtype=np.float64), *folds[1:]]
    assert (fit(spoilt).chosen == found.chosen).all()  # the test fold takes no part in choosing
    assert np.abs(fit(spoilt).r2 - found.r2).max() > 1
