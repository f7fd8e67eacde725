"""Logistic regression of every fold together beside scikit-learn's fits in memory, one by one.

Rows are of 2 K patients, of which each fold leaves out two. Both sides standardise in the training
rows of the fold and minimise the same objective (see `msiscale.models.joint`).
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.common.measure import Measured, measured
from benchmarks.models.data import ROWS, Figures, Plan, opened
from msiscale.store import create_array, open_group

C = 1e-2
Floats = NDArray[np.float64]


def labels(path: str, seed: int = 2) -> zarr.Array[Any]:
    """``(rows,)`` 0 or 1 beside `low_rank`'s x, from a logistic model with an offset a patient."""
    x, group = opened(path), open_group(path, "a")
    if "label" in group:
        return group["label"]  # type: ignore[return-value]
    rng = np.random.default_rng(seed)
    first = np.asarray(x[:ROWS])
    coef = rng.standard_normal(x.shape[1]) / np.sqrt(x.shape[1]) / first.std(axis=0)
    offset = -1.0 - first.mean(axis=0) @ coef
    y = np.empty(x.shape[0], np.float32)
    for start in range(0, len(y), ROWS):
        rows = np.asarray(x[start : start + ROWS], np.float64)
        eta = 2 * (rows @ coef + offset) + 0.5 * rng.standard_normal()
        y[start : start + ROWS] = rng.random(len(rows)) < expit(eta)
    array = create_array(group, "label", y.shape, ("row",))
    array[...] = y
    return array


def patient_of(rows: int, folds: int) -> NDArray[np.int64]:
    """The patient of each row; patients are stretches of rows."""
    return np.arange(rows) * 2 * folds // rows


def _read(path: str, start: int, stop: int) -> tuple[NDArray[np.float32], Floats, None]:
    y = np.asarray(open_group(path)["label"][start:stop], np.float64)  # type: ignore[index]
    return np.asarray(opened(path)[start:stop]), y, None


def ours(path: str, folds: int) -> dict[str, Any]:
    """Sums a patient in one pass, then every fold together."""
    from msiscale.models import LinearMap, Moments, Problem, RowBlock, fit_many
    from msiscale.models.cache import Cached

    rows = opened(path).shape[0]
    patient = patient_of(rows, folds)
    edges = np.flatnonzero(np.diff(patient, prepend=-1, append=-1))
    blocks, sums = [], {}
    for start, stop in itertools.pairwise(edges.tolist()):
        name = int(patient[start])
        cuts = [start, *range((start // ROWS + 1) * ROWS, stop, ROWS), stop]
        parts = []
        for a, b in itertools.pairwise(cuts):
            block = Cached((path, a), partial(_read, path, a, b))
            parts.append(Moments.of(block()[0]))
            blocks.append(RowBlock(name, block))
        sums[name] = Moments.merge(parts)
    problems = []
    for fold in range(folds):
        train = [p for p in sums if p % folds != fold]
        scaled = LinearMap.standardised(Moments.merge(sums[p] for p in train))
        problems.append(Problem(scaled, frozenset(train), C=C, balanced=False))
    fit = fit_many(blocks, problems, dtype=np.float32)
    return {
        "objective": [s.objective for s in fit.solutions],
        "grad_norm": [s.grad_norm for s in fit.solutions],
        "coef": [s.coef[:, 0] for s in fit.solutions],
        "intercept": [s.intercept[0] for s in fit.solutions],
        "passes": fit.n_passes + 1,
    }


def sklearn(path: str, folds: int, tol: float = 1e-4) -> dict[str, Any]:
    """Fits of all folds in memory, float32; x is read once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = np.asarray(opened(path)[...]), np.asarray(labels(path)[...])
    patient, coefs, intercepts, steps = patient_of(len(x), folds), [], [], []
    for fold in range(folds):
        train = patient % folds != fold
        scaler = StandardScaler()
        z = scaler.fit_transform(x[train])
        fit = LogisticRegression(C=C, tol=tol, max_iter=1000).fit(z, y[train])
        coefs.append(fit.coef_[0] / scaler.scale_)
        intercepts.append(fit.intercept_[0] - coefs[-1] @ scaler.mean_)
        steps.append(fit.n_iter_[0])
    return {"coef": coefs, "intercept": intercepts, "passes": max(steps)}


def daskml(path: str, folds: int) -> dict[str, Any]:
    """dask-ml's L-BFGS on the first fold, standardised beforehand."""
    import dask
    import dask.array as da
    from dask.base import compute
    from dask_ml.linear_model import LogisticRegression

    x, y = da.from_zarr(path, component="x"), da.from_zarr(path, component="label")
    patient = patient_of(x.shape[0], folds)
    train = patient % folds != 0
    with dask.config.set(scheduler="synchronous"):
        x, y = x[train], y[train].rechunk(-1)
        mean, scale = compute(x.mean(axis=0), x.std(axis=0))
        x = ((x - mean) / scale).rechunk((ROWS, -1))
        x.compute_chunk_sizes()
        y = y.rechunk((x.chunks[0],))
        fit = LogisticRegression(C=C, solver="lbfgs", max_iter=100).fit(x, y)
    coef = fit.coef_ / scale
    return {"coef": [coef], "intercept": [fit.intercept_ - coef @ mean], "passes": np.nan}


def objectives(path: str, folds: int, coef: list[list[float]], intercept: list[float]) -> Any:
    """float64 objective of given solutions, fold by fold, in memory."""
    x, y = np.asarray(opened(path)[...]), np.asarray(labels(path)[...], np.float64)
    patient, found = patient_of(len(x), folds), []
    for fold, (b, a) in enumerate(zip(coef, intercept, strict=True)):
        train = patient % folds != fold
        found.append(_objective(x[train], y[train], np.asarray(b), a))
    return {"objective": found}


def _objective(x: NDArray[Any], y: Floats, coef: Floats, intercept: float) -> float:
    scale = x.std(axis=0, dtype=np.float64)
    eta = np.concatenate([x[i : i + ROWS] @ coef for i in range(0, len(x), ROWS)]) + intercept
    loss = np.logaddexp(0, eta) - y * eta
    return float(loss.mean() + ((coef * scale) ** 2).sum() / (2 * C * len(x)))


def optimum(path: str, folds: int) -> dict[str, Any]:
    """The optimum of each fold by float64 Newton steps in memory."""
    x, y = np.asarray(opened(path)[...]), np.asarray(labels(path)[...], np.float64)
    patient, found = patient_of(len(x), folds), []
    for fold in range(folds):
        train = patient % folds != fold
        z = x[train].astype(np.float64)
        z -= z.mean(axis=0)
        z /= z.std(axis=0)
        found.append(_newton(np.c_[z, np.ones(len(z))], y[train]))
    return {"objective": found}


def _newton(z: Floats, y: Floats) -> float:
    n, theta = len(z), np.zeros(z.shape[1])
    penalty = np.full(len(theta), 1 / (C * n))
    penalty[-1] = 0
    value = np.inf
    while True:
        eta = z @ theta
        new = float((np.logaddexp(0, eta) - y * eta).mean() + (penalty * theta**2).sum() / 2)
        if value - new <= 1e-14 * new:
            return min(value, new)
        value, p = new, expit(eta)
        gradient = z.T @ (p - y) / n + penalty * theta
        hessian = z.T @ (z * (p * (1 - p))[:, None]) / n + np.diag(penalty)
        theta = theta - np.linalg.solve(hessian, gradient)


def plan(words: argparse.Namespace) -> Plan:
    """Ours, of four times the rows too; the peers; the optimum."""
    p = Plan.of("logistic", words, 100_000, 1_024)
    common: dict[str, Any] = {"path": p.data(seed=5), "folds": words.folds}
    p.steps["labels"] = partial(labels, p.path())
    p.step("optimum", "optimum", **common)
    p.step(f"logistic msiscale, {words.folds} folds", "ours", words.repeat, **common)
    p.step(f"logistic scikit-learn, {words.folds} folds", "sklearn", **common)
    p.step("logistic dask-ml lbfgs, 1 fold", "daskml", **common)
    big = p.data(4 * p.rows, seed=5)
    p.steps["labels of 4 x rows"] = partial(labels, big)
    p.step("logistic msiscale, 4 x rows", "ours", **{**common, "path": big})
    p.figures = partial(_figures, common)
    return p


def _figures(common: dict[str, Any], got: dict[str, Any]) -> Figures:
    best = got["optimum"].result["objective"]

    def gap(cost: Measured) -> float:
        found = {n: cost.result[n].tolist() for n in ("coef", "intercept")}
        cost = measured("benchmarks.models.logistic:objectives", **common, **found)
        values = cost.result["objective"]
        return float(np.max(values / best[: len(values)] - 1))

    lines = []
    for name, cost in got.items():
        if name.startswith("logistic"):
            facts = {} if "4 x rows" in name else {"objective gap": gap(cost)}
            lines.append(cost.row(name, passes=float(np.max(cost.result["passes"])), **facts))
    mine, theirs, peer, four = (c for n, c in got.items() if n.startswith("logistic"))
    return lines, {
        "cpu_s": mine.cpu_s,
        "passes": lines[0]["passes"],
        "objective_gap": lines[0]["objective gap"],
        "cpu_ratio_vs_sklearn": theirs.cpu_s / mine.cpu_s,
        "cpu_ratio_vs_daskml": peer.cpu_s * common["folds"] / mine.cpu_s,
        "peak_mib": mine.peak_mib,
        "peak_mib_4x": four.peak_mib,
    }
