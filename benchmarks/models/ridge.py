"""Ridge of many targets on a Zarr array beside scikit-learn's, in memory."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import dask
import numpy as np
import zarr
from numpy.typing import NDArray

from benchmarks.models.data import ROWS, Counted, Figures, Plan, opened
from msiscale.store import create_array, open_group

ALPHA = 1e-2  # of msiscale: N times as much in scikit-learn's units


def targets(path: str, count: int, seed: int = 1) -> zarr.Array[Any]:
    """``(rows, count)`` float32 targets beside `low_rank`'s x: linear in it, and noise."""
    x, group = opened(path), open_group(path, "a")
    name = f"y{count}"
    if name in group:
        return group[name]  # type: ignore[return-value]
    rng = np.random.default_rng(seed)
    coef = rng.standard_normal((x.shape[1], count)).astype(np.float32) / np.sqrt(x.shape[1])
    y = np.empty((x.shape[0], count), np.float32)
    for start in range(0, x.shape[0], ROWS):
        rows = np.asarray(x[start : start + ROWS])
        y[start : start + ROWS] = rows @ coef
        y[start : start + ROWS] += rng.standard_normal((len(rows), count), dtype=np.float32)
    array = create_array(group, name, y.shape, ("row", "target"), chunks=(ROWS, count))
    array[...] = y
    return array


def ours(path: str, count: int) -> dict[str, Any]:
    """`msiscale.Ridge` of Dask arrays, one pass."""
    from msiscale import Ridge

    x, y = Counted(opened(path)), Counted(targets(path, count))
    with dask.config.set(scheduler="synchronous"):
        fit = Ridge(ALPHA).fit(x.lazy(), y.lazy())
    return {"coef": fit.coef_, "passes": x.passes}


def sklearn(path: str, count: int, dtype: str, scaled: bool) -> dict[str, Any]:
    """scikit-learn's Ridge after its StandardScaler (the same model), or without."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    x = np.asarray(opened(path)[...], dtype)
    y = np.asarray(targets(path, count)[...], dtype)
    scale = np.ones(x.shape[1])
    if scaled:
        scaler = StandardScaler(copy=False)
        x, scale = scaler.fit_transform(x), scaler.scale_
    fit = Ridge(ALPHA * len(x), copy_X=False).fit(x, y)
    return {"coef": fit.coef_ / scale, "passes": 1.0}


def plan(words: argparse.Namespace) -> Plan:
    """Ours, and scikit-learn's with and without its scaler."""
    p = Plan.of("ridge", words, 100_000, 2_048)
    common: dict[str, Any] = {"path": p.data(), "count": p.components}
    p.steps["targets"] = partial(targets, **common)
    p.step("msiscale", "ours", words.repeat, **common)
    for scaled, dtype in ((True, "float32"), (True, "float64"), (False, "float32")):
        name = f"scikit-learn, {'' if scaled else 'un'}scaled, {dtype}"
        p.step(name, "sklearn", words.repeat, **common, dtype=dtype, scaled=scaled)
    p.figures = _figures
    return p


def _figures(got: dict[str, Any]) -> Figures:
    costs = {n: c for n, c in got.items() if "msiscale" in n or "scikit" in n}
    mine, f32, f64, plain = costs.values()
    truth = f64.result["coef"]

    def error(coef: NDArray[Any]) -> float:
        return float(np.linalg.norm(coef - truth) / np.linalg.norm(truth))

    lines = []
    for name, cost in costs.items():
        facts = {} if cost is plain else {"coef error": error(cost.result["coef"])}
        passes = float(cost.result["passes"])
        lines.append(cost.row(f"Ridge {name}", passes=passes, **facts))
    return lines, {
        "cpu_s": mine.cpu_s,
        "peak_mib": mine.peak_mib,
        "max_relative_error": error(mine.result["coef"]),
        # float64 is what scikit-learn needs for coefficients as good as ours (see the table)
        "cpu_ratio_vs_sklearn": f64.cpu_s / mine.cpu_s,
        "cpu_ratio_vs_sklearn_float32": f32.cpu_s / mine.cpu_s,
        "max_relative_error_sklearn_float32": error(f32.result["coef"]),
        "cpu_ratio_vs_sklearn_unscaled": plain.cpu_s / mine.cpu_s,
    }
