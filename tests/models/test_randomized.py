"""PCA without a p x p matrix: against the exact one, from sparse and dense rows."""

from __future__ import annotations

import warnings
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from msiscale.csr import CsrRows
from msiscale.errors import MsiscaleWarning
from msiscale.models import PCA
from msiscale.models.krylov import leading_eigenpairs

randomized = partial(PCA, svd_solver="randomized", tol=1e-6)


def spectra(n=900, p=700, ions=40, seed=0):
    """Sparse float32 rows: ions of decaying strength with a common part, few values each."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(p, ions, replace=False))
    strength = rng.gamma(2, 1, (n, ions)) * np.arange(1, ions + 1) ** -0.7 * 10
    strength += rng.gamma(2, 1, (n, 1)) * rng.random(ions)
    strength *= rng.random((n, ions)) < 0.6
    x = np.zeros((n, p), np.float32)
    x[:, at] = strength
    x[rng.random((n, p)) < 0.002] += 0.05
    return x


def exact(x, k):
    z = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, s, v = np.linalg.svd(z, full_matrices=False)
    return s[:k], v[:k]


def subspace_error(a, b):
    a, b = np.linalg.qr(a.T)[0], np.linalg.qr(b.T)[0]
    return np.linalg.norm(a - b @ (b.T @ a)) / np.sqrt(a.shape[1])


def contained(x, kind, folder):
    if kind == "csr":
        return CsrRows.save(str(folder / "rows.zarr"), sparse.csr_array(x), edges=128)
    kinds = {"scipy": sparse.csr_array, "dask": lambda v: da.from_array(v, chunks=(130, 200))}
    return kinds.get(kind, np.asarray)(x)


@pytest.mark.parametrize("kind", ["scipy", "csr", "dask", "dense"])
def test_equals_the_svd(kind, tmp_path):
    x = spectra()
    fit = randomized(15).fit(contained(x, kind, tmp_path))
    s, v = exact(x, 15)
    tolerance = 1e-6 if kind in ("scipy", "csr") else 1e-5  # dense products are float32
    np.testing.assert_allclose(fit.singular_values_, s, rtol=1e-5)
    np.testing.assert_allclose(fit.explained_variance_, s**2 / (len(x) - 1), rtol=1e-5)
    assert subspace_error(fit.components_, v) < tolerance
    assert fit.residual_ <= fit.tol and fit.n_passes_ <= 12 and not hasattr(fit, "moments_")
    np.testing.assert_allclose(fit.components_ @ fit.components_.T, np.eye(15), atol=1e-12)
    total = x.var(axis=0, dtype=np.float64).sum() * len(x) / (len(x) - 1)
    np.testing.assert_allclose(fit.explained_variance_ratio_, fit.explained_variance_ / total)


def test_a_mean_far_from_zero_costs_nothing():
    x = spectra().astype(np.float64)
    x[:, :5] += 1e4
    fit = randomized(10).fit(sparse.csr_array(x))
    assert subspace_error(fit.components_, exact(x, 10)[1]) < 1e-6


def test_transforms_and_back():
    x = spectra()
    fit = randomized(20).fit(sparse.csr_array(x))
    scores = fit.transform(sparse.csr_array(x))
    np.testing.assert_allclose(scores, fit.transform(x), atol=1e-3)
    np.testing.assert_allclose(scores.var(axis=0, ddof=1), fit.explained_variance_, rtol=1e-4)
    kept = fit.explained_variance_ratio_.sum()
    lost = ((fit.inverse_transform(scores) - x) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert lost == pytest.approx(1 - kept, abs=1e-4)


def test_the_blocks_and_the_scheduler_do_not_matter(tmp_path):
    rows = CsrRows.save(str(tmp_path / "a.zarr"), sparse.csr_array(spectra()), edges=100)
    results = []
    for scheduler, workers in (("synchronous", 1), ("threads", 2), ("threads", 5)):
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            results.append(randomized(5).fit(rows).components_)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    other = CsrRows.save(str(tmp_path / "b.zarr"), sparse.csr_array(spectra()), edges=333)
    np.testing.assert_allclose(randomized(5).fit(other).components_, results[0], atol=1e-8)


def test_auto_follows_the_written_rule(monkeypatch):
    x = spectra(p=300)
    assert hasattr(PCA(3).fit(x), "moments_")
    monkeypatch.setattr("msiscale.models.pca.MAX_COLUMNS", 299)
    fit = PCA(3).fit(x)
    assert not hasattr(fit, "moments_") and fit.n_passes_ > 1
    with pytest.raises(ValueError, match="svd_solver='randomized'"):
        PCA(3, svd_solver="covariance_eigh").fit(x)
    with pytest.raises(ValueError, match="use fit"):
        PCA(3).partial_fit(x)
    with pytest.raises(ValueError, match="n_components=None"):
        PCA(None).fit(x)


def test_no_more_components_than_the_rank():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(300, 4)) @ rng.normal(size=(4, 500))).astype(np.float32) + 3
    for form in (x, sparse.csr_array(x.astype(np.float64))):
        assert randomized(10).fit(form).n_components_ == 4
    assert randomized(10).fit(spectra(n=5)).n_components_ == 4
    flat = randomized(10).fit(np.full((20, 30), 2.0))
    assert flat.n_components_ == 0 and flat.explained_variance_ratio_.size == 0


def test_rows_that_were_not_measured_are_left_out():
    x = spectra()
    gone = x.copy()
    gone[::7, 3] = np.nan
    kept = randomized(5).fit(np.delete(x, np.s_[::7], axis=0))
    fit = randomized(5).fit(da.from_array(gone, chunks=(200, -1)))
    assert fit.n_samples_ == kept.n_samples_
    np.testing.assert_allclose(fit.components_, kept.components_, atol=1e-5)
    with pytest.raises(ValueError, match="NaN"):
        randomized(5).fit(gone)


def test_says_when_the_passes_do_not_suffice():
    noise = np.random.default_rng(0).normal(size=(400, 350))  # no gap anywhere
    with pytest.warns(MsiscaleWarning, match="3 passes"):
        randomized(20, max_passes=3).fit(noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        randomized(20, max_passes=40).fit(noise)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 10**6), st.floats(0.2, 3))
@settings(max_examples=40, deadline=None)
def test_eigenpairs_of_any_spectrum(p, k, seed, decay):
    rng = np.random.default_rng(seed)
    k = min(k, p)
    vectors = np.linalg.qr(rng.normal(size=(p, p)))[0]
    values = np.arange(1, p + 1.0) ** -decay
    matrix = (vectors * values) @ vectors.T
    found = leading_eigenpairs(
        lambda v: matrix @ v,
        rng.normal(size=(p, min(p, k + 5))),
        k,
        tol=1e-6,
        max_products=90,
        max_blocks=int(rng.integers(3, 9)),
    )
    assert found.converged
    np.testing.assert_allclose(found.values, values[:k], rtol=1e-9)
    error = matrix @ found.vectors.T - found.vectors.T * found.values
    assert (np.linalg.norm(error, axis=0) <= 1e-5 * found.values).all()
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(k), atol=1e-12)
