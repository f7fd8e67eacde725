"""Many logistic regressions on one reading of the data, against scikit-learn one by one."""

from __future__ import annotations

import pickle
from functools import partial

import dask
import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression as Reference

from msiscale.errors import MsiscaleWarning
from msiscale.models import PCA, LinearMap, Moments, Problem, RowBlock, fit_many, moments
from msiscale.models.joint import heldout_losses

SPECIMENS = ("s0", "s1", "s2", "s3")


def cohort(seed=0, n=300, p=15, dtype=np.float64):
    """Rows of four specimens: X, annotated fraction of cancer, weight."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(p, p)) * np.logspace(0, -1.5, p)
    slopes = rng.normal(size=p)
    found = {}
    for s in SPECIMENS:
        z = rng.normal(size=(n, p))
        odds = z @ slopes - 2 + rng.normal()
        y = np.clip(1 / (1 + np.exp(-odds)) + rng.normal(size=n) * 0.1, 0, 1)
        found[s] = ((z @ mix + 3).astype(dtype), y.round(2), rng.uniform(0.5, 2, n))
    return found


def as_blocks(data, size=128):
    return [
        RowBlock(s, (x[i : i + size], y[i : i + size], w[i : i + size]))
        for s, (x, y, w) in data.items()
        for i in range(0, len(x), size)
    ]


def standard_map(data, names=SPECIMENS):
    return LinearMap.standardised(Moments.merge([moments(data[s][0], dtype="f8") for s in names]))


def stacked(data, names):
    return (np.concatenate([data[s][i] for s in names]) for i in range(3))


def reference(data, problem, names, class_weight):
    """scikit-learn on every row twice: as a positive with weight f, as a negative with 1 - f."""
    x, y, w = stacked(data, names)
    z = x @ problem.map.matrix + problem.map.offset
    weights = np.concatenate([w * y * class_weight[1], w * (1 - y) * class_weight[0]])
    model = Reference(C=problem.C, solver="newton-cholesky", tol=1e-12, max_iter=100)
    labels = np.repeat([1, 0], len(x))
    model.fit(np.concatenate([z, z]), labels, sample_weight=weights)
    beta, a = model.coef_[0], model.intercept_[0]
    eta = z @ beta + a
    loss = weights[: len(x)] @ np.logaddexp(0, -eta) + weights[len(x) :] @ np.logaddexp(0, eta)
    return beta, a, (loss + beta @ beta / (2 * problem.C)) / weights.sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_fold_and_penalty_together_is_each_one_alone(dtype):
    data = cohort(dtype=dtype)
    folds = [[s for s in SPECIMENS if s != out] for out in SPECIMENS]
    cases = [(f, standard_map(data, f), c) for f in folds for c in (1e-3, 1e-1, 10.0)]
    problems = [Problem(m, frozenset(f), c) for f, m, c in cases]
    fit = fit_many(as_blocks(data), problems, tol=1e-8, dtype=dtype)
    assert fit.n_passes < 25
    exact = dtype == np.float64
    for (names, _, _), problem, found in zip(cases, problems, fit.solutions, strict=True):
        _, y, w = stacked(data, names)
        expected_weights = w.sum() / (2 * np.array([w @ (1 - y), w @ y]))
        np.testing.assert_allclose(found.class_weight, expected_weights, rtol=1e-12)
        beta, a, objective = reference(data, problem, names, found.class_weight)
        assert found.converged
        np.testing.assert_allclose(found.objective, objective, rtol=1e-12 if exact else 1e-7)
        scale = np.abs(beta).max()
        tolerance = 1e-6 if exact else 1e-3
        np.testing.assert_allclose(found.theta[:-1, 0], beta, atol=tolerance * scale)
        np.testing.assert_allclose(found.theta[-1, 0], a, atol=tolerance * max(scale, 1))
        alone = fit_many(as_blocks(data), [problem], tol=1e-8, dtype=dtype).solutions[0]
        np.testing.assert_allclose(alone.coef, found.coef, atol=tolerance * scale)


def test_collinear_variables_and_rare_positives():
    rng = np.random.default_rng(1)
    data = {}
    factors, slopes = rng.normal(size=(5, 60)) * rng.lognormal(size=60), rng.normal(size=5)
    for s in SPECIMENS:
        z = rng.normal(size=(400, 5))
        x = np.maximum(z @ factors + rng.normal(size=(400, 60)) * 0.3, 0)
        odds = 2 * (z @ slopes) - 6
        data[s] = (x.astype(np.float32), (odds > rng.logistic(size=400)) * 1.0, np.ones(400))
    problems = [
        Problem(standard_map(data), frozenset(SPECIMENS) - {s}, 1.0, balanced=False)
        for s in SPECIMENS
    ]
    fit = fit_many(as_blocks(data), problems, tol=1e-7)
    assert fit.n_passes < 45
    for problem, found in zip(problems, fit.solutions, strict=True):
        names = [s for s in SPECIMENS if s in problem.groups]
        _, _, objective = reference(data, problem, names, (1.0, 1.0))
        np.testing.assert_allclose(found.objective, objective, rtol=1e-9)


def test_a_map_to_fewer_dimensions():
    data = cohort()
    sums = Moments.merge([moments(d[0], dtype="f8") for d in data.values()])
    pca = PCA.from_moments(sums, "x", 4)
    mapped = LinearMap.standardised(sums, pca.components_.T)
    np.testing.assert_allclose(mapped.variance, 1, rtol=1e-9)
    problem = Problem(mapped, frozenset(SPECIMENS), 0.1)
    found = fit_many(as_blocks(data), [problem], tol=1e-9).solutions[0]
    beta, a, _ = reference(data, problem, SPECIMENS, found.class_weight)
    np.testing.assert_allclose(found.theta[:-1, 0], beta, atol=1e-7)
    x = data["s0"][0]
    eta = (x @ mapped.matrix + mapped.offset) @ beta + a
    np.testing.assert_allclose(x @ found.coef[:, 0] + found.intercept[0], eta, atol=1e-5)


def test_scale_given_and_variables_left_out():
    data = cohort()
    sums = Moments.merge([moments(d[0], dtype="f8") for d in data.values()])
    scale = sums.scale("x") * np.where(np.arange(15) < 5, 1, 0)
    mapped = LinearMap.standardised(sums, scale=scale)
    found = fit_many(as_blocks(data), [Problem(mapped, frozenset(SPECIMENS))]).solutions[0]
    assert np.abs(found.coef[:5]).min() > 0 and not found.coef[5:].any()


def test_held_out_rows_do_not_matter():
    data = cohort()
    names = SPECIMENS[:3]
    problem = Problem(standard_map(data, names), frozenset(names), 0.1)
    before = fit_many(as_blocks(data), [problem], tol=1e-9).solutions[0]
    x, y, w = data["s3"]
    data["s3"] = (x * 1e3 - 7, 1 - y, w * 9)
    after = fit_many(as_blocks(data), [problem], tol=1e-9).solutions[0]
    np.testing.assert_array_equal(before.coef, after.coef)


def test_callables_delayed_and_sparse_rows_are_read_alike():
    data = cohort()
    problem = Problem(standard_map(data), frozenset(SPECIMENS), 0.1)
    plain = as_blocks(data)
    expected = fit_many(plain, [problem], tol=1e-8)
    reads = []

    def load(i):
        reads.append(i)
        return plain[i].rows

    lazy = [RowBlock(b.group, partial(load, i)) for i, b in enumerate(plain)]
    called = fit_many(lazy, [problem], tol=1e-8)
    assert len(reads) == len(plain) * called.n_passes == len(plain) * expected.n_passes
    delayed = [RowBlock(b.group, dask.delayed(tuple)(b.rows)) for b in plain]
    thin = [RowBlock(b.group, (sparse.csr_array(b.rows[0]), *b.rows[1:])) for b in plain]
    by_run = fit_many(plain, [problem], tol=1e-8, run=_through_pickle)
    np.testing.assert_array_equal(called.solutions[0].coef, expected.solutions[0].coef)
    np.testing.assert_array_equal(by_run.solutions[0].coef, expected.solutions[0].coef)
    for other in (delayed, thin):
        found = fit_many(other, [problem], tol=1e-8).solutions[0]
        np.testing.assert_allclose(found.coef, expected.solutions[0].coef, atol=1e-6)


def _through_pickle(tasks):
    return [pickle.loads(pickle.dumps(task))() for task in tasks]


def test_a_start_near_the_end_saves_passes():
    data = cohort()
    mapped = standard_map(data)
    cold = fit_many(as_blocks(data), [Problem(mapped, frozenset(SPECIMENS), 0.1)])
    start = cold.solutions[0].theta
    warm = fit_many(as_blocks(data), [Problem(mapped, frozenset(SPECIMENS), 0.1, start=start)])
    assert warm.n_passes == 2
    np.testing.assert_array_equal(warm.solutions[0].theta, start)


def test_one_class_only_has_no_solution():
    data = cohort()
    data["s0"] = (data["s0"][0], np.zeros(300), data["s0"][2])
    mapped = standard_map(data)
    problems = [Problem(mapped, frozenset(["s0"])), Problem(mapped, frozenset(["s0", "s1"]))]
    none, some = fit_many(as_blocks(data), problems).solutions
    assert np.isnan(none.coef).all() and not none.converged
    assert np.isfinite(some.coef).all()
    loss, weight = heldout_losses(as_blocks(data), [none, some], [frozenset(["s2"])] * 2)
    assert np.isnan(loss[0]) and weight[0] == 0 and loss[1] > 0


def test_log_loss_of_rows_left_out():
    data = cohort()
    names = SPECIMENS[:3]
    problem = Problem(standard_map(data, names), frozenset(names), 0.1)
    found = fit_many(as_blocks(data), [problem]).solutions[0]
    loss, weight = heldout_losses(as_blocks(data), [found], [frozenset(["s3"])])
    x, y, w = data["s3"]
    p = 1 / (1 + np.exp(-(x @ found.coef[:, 0] + found.intercept[0])))
    a, b = w * y * found.class_weight[1], w * (1 - y) * found.class_weight[0]
    np.testing.assert_allclose(loss[0], -(a @ np.log(p) + b @ np.log(1 - p)), rtol=1e-9)
    np.testing.assert_allclose(weight[0], (a + b).sum(), rtol=1e-12)


def test_too_few_steps_are_told():
    data = cohort()
    problem = Problem(standard_map(data), frozenset(SPECIMENS), 10.0)
    with pytest.warns(MsiscaleWarning, match="stopped at 3 evaluations"):
        fit_many(as_blocks(data), [problem], max_iter=3)


@pytest.mark.parametrize("y", [[0.5, 1.5], [0.5, np.nan], [-0.1, 0.2]])
def test_labels_that_are_no_fractions_are_refused(y):
    block = RowBlock("s", (np.eye(2), np.array(y), None))
    with pytest.raises(ValueError, match="fractions"):
        fit_many([block], [Problem(LinearMap(np.eye(2), np.zeros(2), np.ones(2)), frozenset("s"))])
