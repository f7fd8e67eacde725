"""Leave-patients-out of PCA + ridge (20 penalties) beside one fit of the same, and the naive loop.

One fit: the sums, the PCA of the spectra and the coefficients at every penalty. K folds: the same
in every fold, and R² on what it holds out at every penalty. Rows are of 2 K patients.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from benchmarks.models.data import ROWS, Counted, Figures, Plan, low_rank, opened

FEATURES = 1_024  # of the default encoder, beside 2,000 m/z
NAIVE = 2  # folds of the naive loop
ALPHAS = tuple(float(a) for a in np.logspace(-4, 2, 20))


def fold_of(rows: int, folds: int) -> NDArray[np.int64]:
    """The fold of each row; a patient is a stretch of rows, and a fold two patients."""
    return np.arange(rows) * 2 * folds // rows % folds


def _sums(path: str, groups: Any) -> tuple[Any, float]:
    from msiscale.models import moments

    x, m = Counted(opened(f"{path}/x")), Counted(opened(f"{path}/m"))
    with dask.config.set(scheduler="synchronous"):
        sums = moments(x.lazy(), m.lazy(), groups=groups)
    return sums, m.passes


def one_fit(path: str, components: int) -> dict[str, Any]:
    """One pass, a PCA, and ridge at every penalty."""
    from msiscale import PCA
    from msiscale.models import RidgePath

    sums, passes = _sums(path, None)
    pca = PCA.from_moments(sums, "m", components)
    ridge = RidgePath.of(sums.project(pca.components_, pca.mean_))
    coefs = [ridge.coefficients(alpha)[0] for alpha in ALPHAS]
    return {"passes": passes, "last": coefs[-1]}


def k_folds(path: str, components: int, folds: int, nested: bool = False) -> dict[str, Any]:
    """One pass and every fold; `nested`: as `msiscale run`, the penalty by inner folds."""
    from msiscale.models import Fold, fit_linear_folds

    label = da.from_array(fold_of(opened(f"{path}/x").shape[0], folds), chunks=ROWS)
    sums, passes = _sums(path, label)
    sums = {str(k): v for k, v in sums.items()}
    names = list(sums)
    cases = [Fold(n, tuple(o for o in names if o != n), (n,)) for n in names]
    if nested:
        models = fit_linear_folds(
            sums,
            cases,
            {n: n for n in names},
            n_components=components,
            alphas=ALPHAS,
        )
        return {"passes": passes, "alpha": [m.alpha for m in models]}
    paths = _r2_paths(sums, cases, components)
    return {"passes": passes, "r2": [[r.weighted for r in path] for path in paths]}


def _r2_paths(sums: Any, folds: Any, components: int) -> list[list[Any]]:
    """R² on the rows that each fold holds out, for every penalty: all from one pass's sums."""
    from msiscale.models import PCA, R2, RidgePath
    from msiscale.models.moments import leave_one_out
    from msiscale.models.validation import LEAST_SCALE

    found = []
    held = [sums[name] for fold in folds for name in fold.test]
    for part, training in zip(held, leave_one_out(held), strict=True):
        pca = PCA.from_moments(training, "m", components)
        modes = training.project(pca.components_, pca.mean_)
        heldout = part.project(pca.components_, pca.mean_)
        losses = RidgePath.of(modes, least_scale=LEAST_SCALE).losses(ALPHAS, heldout)
        tss = np.diag(heldout.smm)
        mean = tss + heldout.n * (heldout.mean_m - modes.mean_m) ** 2
        found.append([R2(heldout.n, rss, tss, mean) for rss in losses])
    return found


def naive(path: str, components: int, folds: int, only: int) -> dict[str, Any]:
    """scikit-learn in memory, fold by fold: `only` of them (reading counted once)."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    x, m = (np.asarray(opened(f"{path}/{n}")[...]) for n in ("x", "m"))
    fold, found = fold_of(len(x), folds), []
    for k in range(only):
        train, test = fold != k, fold == k
        pca = PCA(components, svd_solver="covariance_eigh").fit(m[train])
        scaler = StandardScaler().fit(x[train])
        z, targets = scaler.transform(x[train]), pca.transform(m[train])
        z_test, truth = scaler.transform(x[test]), pca.transform(m[test])
        tss = ((truth - truth.mean(axis=0)) ** 2).sum()
        row = []
        for alpha in ALPHAS:
            fit = Ridge(alpha * len(z)).fit(z, targets)
            row.append(1 - ((fit.predict(z_test) - truth) ** 2).sum() / tss)
        found.append(row)
    return {"passes": float(only), "r2": found}


def plan(words: argparse.Namespace) -> Plan:
    """One fit, the folds of one reading, and some of the folds in the naive loop."""
    p = Plan.of("crossval", words, 200_000, 2_000)
    path = Path(p.path())
    for name, columns, seed in (("x", p.columns * FEATURES // 2_000, 3), ("m", p.columns, 4)):
        p.steps[f"data {name}"] = partial(low_rank, str(path / name), p.rows, columns, seed=seed)
    common: dict[str, Any] = {"path": str(path), "components": p.components}
    p.step("one fit", "one_fit", words.repeat, **common)
    common["folds"] = words.folds
    p.step(f"{words.folds} folds", "k_folds", words.repeat, **common)
    p.step(f"{words.folds} folds, nested choice", "k_folds", **common, nested=True)
    p.step(f"naive loop, {NAIVE} of {words.folds} folds", "naive", **common, only=NAIVE)
    p.figures = _figures
    return p


def _figures(got: dict[str, Any]) -> Figures:
    costs = {n: c for n, c in got.items() if not n.startswith("data")}
    one, ten, nested, loop = costs.values()
    difference = np.abs(ten.result["r2"][:NAIVE] - loop.result["r2"]).max()
    lines = [cost.row(n, passes=float(cost.result["passes"])) for n, cost in costs.items()]
    return lines, {
        "cost_ratio_k_folds_over_one": ten.cpu_s / one.cpu_s,
        "cost_ratio_nested_over_one": nested.cpu_s / one.cpu_s,
        "naive_cpu_s_per_fold_over_one": loop.cpu_s / NAIVE / one.cpu_s,
        "max_r2_difference_from_naive": float(difference),
        "peak_mib": ten.peak_mib,
    }
