"""Leave-patients-out of PCA + ridge (20 penalties) beside one fit of the same, and the naive loop.

One fit: the sums, the PCA of the spectra and the coefficients at every penalty. K folds: the same
in every fold, and R² on what it holds out at every penalty. Rows are of 2 K patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from benchmarks._data import ROWS, Counted, cache, low_rank, opened
from benchmarks._measure import Measured, measured, repeated

FEATURES = 1_024  # of the default encoder
ALPHAS = tuple(float(a) for a in np.logspace(-4, 2, 20))
Line = tuple[str, Measured, dict[str, Any]]


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
    from msiscale.models import PCA, R2, Moments, RidgePath
    from msiscale.models.validation import LEAST_SCALE, training_sums

    found = []
    for fold, training in zip(folds, training_sums(sums, folds), strict=True):
        pca = PCA.from_moments(training, "m", components)
        modes = training.project(pca.components_, pca.mean_)
        heldout = Moments.merge(sums[s] for s in fold.test).project(pca.components_, pca.mean_)
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


def run(words: argparse.Namespace) -> tuple[list[Line], dict[str, float]]:
    """Rows of the table and the figures."""
    rows, columns = words.rows or 200_000, words.columns or 2_000
    path = Path(cache(words.data)) / f"crossval-{rows}-{columns}"
    path.mkdir(parents=True, exist_ok=True)
    low_rank(str(path / "x"), rows, min(FEATURES, columns), seed=3)
    low_rank(str(path / "m"), rows, columns, seed=4)
    module = "benchmarks.models_crossval"
    common: dict[str, Any] = {"path": str(path), "components": min(words.components, columns)}
    one = repeated(f"{module}:one_fit", words.repeat, **common)
    ten = repeated(f"{module}:k_folds", words.repeat, **common, folds=words.folds)
    nested = measured(f"{module}:k_folds", **common, folds=words.folds, nested=True)
    only = 1 if words.quick else 2
    loop = measured(f"{module}:naive", **common, folds=words.folds, only=only)
    difference = np.abs(ten.result["r2"][:only] - loop.result["r2"]).max()
    lines: list[Line] = [
        ("one fit", one, {"passes": float(one.result["passes"])}),
        (f"{words.folds} folds", ten, {"passes": float(ten.result["passes"])}),
        (f"{words.folds} folds, nested choice", nested, {"passes": float(nested.result["passes"])}),
        (f"naive loop, {only} of {words.folds} folds", loop, {"passes": float(only)}),
    ]
    found = {
        "crossval.cost_ratio_k_folds_over_one": ten.cpu_s / one.cpu_s,
        "crossval.cost_ratio_nested_over_one": nested.cpu_s / one.cpu_s,
        "crossval.naive_cpu_s_per_fold_over_one": loop.cpu_s / only / one.cpu_s,
        "crossval.max_r2_difference_from_naive": float(difference),
        "crossval.peak_mib": ten.peak_mib,
    }
    return lines, found
