"""Sparse rows give what the same rows give dense, in every fit and from every container."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression as Reference

from msiscale.csr import CsrRows
from msiscale.models import PCA, LogisticRegression, Moments, Ridge, moments, moments_of_blocks
from msiscale.models.sparse import cheapest_form, density
from msiscale.models.spread import Spread, spread
from msiscale.store import open_group

FIELDS = ("rows", "n", "mean_x", "mean_m", "sxx", "sxm", "smm")


def peaks(n=400, p=60, share=0.015, seed=0):
    """Dense float32 rows of which few values are not zero, some columns frequent."""
    rng = np.random.default_rng(seed)
    hit = rng.random((n, p)) < np.full(p, share) * np.linspace(0, 2, p)
    return (hit * rng.gamma(2, 3, (n, p))).astype(np.float32)


def assert_equal_sums(found, expected, rtol=1e-5):
    for name in FIELDS:
        a, b = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        scale = np.abs(b).max(initial=1e-30)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale, err_msg=name)


def exact(x, m=None, weight=None):
    """Sums by float64 arithmetic."""
    w = np.ones(len(x)) if weight is None else weight
    x, m = x.astype(float), np.zeros((len(x), 0)) if m is None else m.astype(float)
    n, mx, mm = w.sum(), w @ x / w.sum(), w @ m / w.sum()
    dx, dm = x - mx, m - mm
    rows = int((w > 0).sum())
    return Moments(rows, n, mx, mm, dx.T * w @ dx, dx.T * w @ dm, dm.T * w @ dm, 1e-7)


@pytest.mark.parametrize("sides", ["xm", "x", "m"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_sparse_blocks(sides, weighted):
    x, m = peaks(), peaks(seed=1, p=30)
    w = np.random.default_rng(2).uniform(0, 2, len(x)).clip(0.3) - 0.3 if weighted else None
    a = sparse.csr_array(x) if "x" in sides else x + 1
    b = sparse.csc_array(m) if "m" in sides else m + 1
    dense = [v.toarray() if sparse.issparse(v) else v for v in (a, b)]
    assert_equal_sums(Moments.of(a, b, weight=w), exact(*dense, w))


@given(st.integers(0, 1000), st.floats(0, 0.05), st.sampled_from([0.0, 0.5]))
@settings(max_examples=40, deadline=None)
def test_any_density_gives_the_same_sums(seed, share, offset):
    x = peaks(50, 20, share, seed) + np.float32(offset)
    for form in (x, sparse.csr_array(x), np.where(x == x, x, 0)):
        assert_equal_sums(Moments.of(form), exact(x))


def test_the_cheaper_product_is_chosen():
    thin, thick = peaks(share=0.004), peaks(share=0.2)
    assert density(thin) < 0.01 < 0.02 < density(thick)
    assert sparse.issparse(cheapest_form(thin))
    assert sparse.issparse(cheapest_form(sparse.csr_array(thin)))
    assert not sparse.issparse(cheapest_form(thick))
    assert not sparse.issparse(cheapest_form(sparse.csr_array(thick)))
    assert cheapest_form(None) is None


def test_a_value_that_is_not_finite_is_refused_unless_it_has_no_weight():
    x = sparse.csr_array(peaks())
    x.data[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Moments.of(x)
    row = np.repeat(np.arange(400), np.diff(x.indptr))[3]
    w = np.ones(400)
    w[row] = 0
    assert Moments.of(x, weight=w).rows == 399


@pytest.fixture(params=["scipy", "csr", "dask", "dense"])
def container(request, tmp_path):
    """Function that puts dense rows into a container."""

    def build(x):
        if request.param == "scipy":
            return sparse.csr_array(x)
        if request.param == "csr":
            return CsrRows.save(str(tmp_path / "rows.zarr"), sparse.csr_array(x), edges=70)
        return da.from_array(x, chunks=(90, -1)) if request.param == "dask" else x

    return build


def test_every_fit_takes_either(container):
    x = peaks(share=0.2, p=20)
    rng = np.random.default_rng(3)
    targets = x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(400, 2))
    labels = (targets[:, 0] > np.median(targets[:, 0])).astype(int)
    groups = np.arange(400) // 100
    held = container(x)
    sums = moments(held, targets, groups=groups)
    assert list(sums) == [0, 1, 2, 3]
    assert_equal_sums(sums[2], exact(x[groups == 2], targets[groups == 2]))
    pca = PCA(4).fit(held)
    reference = PCA(4).fit(x.astype(np.float64))
    np.testing.assert_allclose(pca.components_, reference.components_, atol=1e-5)
    scores = np.asarray(pca.transform(held))
    np.testing.assert_allclose(scores, reference.transform(x), atol=1e-3)
    ridge = Ridge(0.1).fit(held, targets)
    np.testing.assert_allclose(ridge.coef_, Ridge(0.1).fit(x, targets).coef_, atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(ridge.predict(held)), ridge.predict(x.astype(np.float64)), atol=1e-4
    )
    logistic = LogisticRegression(0.1).fit(held, labels)
    expected = LogisticRegression(0.1).fit(x, labels)
    np.testing.assert_allclose(logistic.coef_, expected.coef_, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(logistic.predict(held)), expected.predict(x))


def test_logistic_regression_of_a_long_axis(monkeypatch, container):
    x = peaks(share=0.2, p=20)
    labels = np.array(["a", "b", "c"])[(x[:, 12:] @ np.arange(8) > 30) * 1 + (x[:, 3] > 0)]
    expected = LogisticRegression(0.1, tol=1e-8).fit(x, labels)
    monkeypatch.setattr("msiscale.models.logistic.MAX_COLUMNS", 10)
    found = LogisticRegression(0.1, tol=1e-8).fit(container(x), labels)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(found.scale_, expected.scale_, rtol=1e-5)
    sd = np.where(x.std(axis=0) > 0, x.std(axis=0, dtype=np.float64), 1)
    balanced = {c: len(labels) / (3 * (labels == c).sum()) for c in "abc"}
    theirs = Reference(C=0.1, fit_intercept=False, class_weight=balanced, tol=1e-9, max_iter=2000)
    bare = LogisticRegression(0.1, fit_intercept=False, tol=1e-8).fit(container(x), labels)
    np.testing.assert_allclose(bare.coef_, theirs.fit(x / sd, labels).coef_ / sd, atol=1e-4)


def test_ridge_says_what_to_do_with_a_long_axis():
    x = sparse.csr_array((4, 20_000), dtype=np.float32)
    with pytest.raises(ValueError, match=r"X has 20000 variables.*PCA"):
        Ridge().fit(x, np.zeros(4))


@given(st.integers(2, 60), st.integers(0, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_spread_is_the_diagonal_of_the_moments(n, seed, thin):
    x = peaks(n, 12, 0.1, seed) + np.float32(0 if thin else 100)
    w = np.random.default_rng(seed).uniform(0.1, 2, n)
    whole = Spread.of_moments(Moments.of(x, weight=w, dtype=np.float64), "x")
    form = sparse.csr_array(x) if thin else x
    parts = Spread.of(form[: n // 2], w[: n // 2]) + Spread.of(form[n // 2 :], w[n // 2 :])
    for found in (parts, spread(form, weight=w)):
        assert found.rows == n
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-9)
        np.testing.assert_allclose(found.scatter, whole.scatter, rtol=1e-6, atol=1e-6)


def test_spread_goes_to_a_store_and_back(tmp_path):
    group = open_group(str(tmp_path / "s.zarr"), "a")
    whole = Spread.of(peaks())
    whole.save(group)
    found = Spread.load(group)
    assert (found.rows, found.n, found.eps) == (whole.rows, whole.n, whole.eps)
    np.testing.assert_array_equal(found.mean, whole.mean)
    np.testing.assert_array_equal(found.scale, whole.scale)
    with pytest.raises(ValueError, match="no spread"):
        Spread.load(open_group(str(tmp_path / "t.zarr"), "a"))


def test_blocks_one_at_a_time_sum_to_the_whole():
    x, m = peaks(share=0.3), peaks(seed=1, p=30)
    parts = [(x[i : i + 90], m[i : i + 90]) for i in range(0, 400, 90)]
    assert_equal_sums(moments_of_blocks(iter(parts)), exact(x, m))
    with pytest.raises(ValueError, match="no blocks"):
        moments_of_blocks([])
