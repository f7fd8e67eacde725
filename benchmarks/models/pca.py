"""PCA of a Zarr array beside scikit-learn's IncrementalPCA and dask-ml."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.measure import Measured
from benchmarks.models.data import ROWS, Counted, Figures, Plan, opened

Floats = NDArray[np.float64]
WARM = 32 * ROWS  # rows of a first fit: imports and fresh memory of every worker


def ours(path: str, components: int) -> dict[str, Any]:
    """`msiscale.PCA` of the Dask array, in this process."""
    from msiscale import PCA

    x = Counted(opened(path))
    with dask.config.set(scheduler="synchronous"):
        fit = PCA(components).fit(x.lazy())
    return _result(fit, x)


def speedup(path: str, components: int, turns: int) -> dict[str, Any]:
    """Wall seconds of the fit on one and on two worker processes, warm, in turn."""
    import dask.array as da

    from msiscale import PCA
    from msiscale.cluster import connect

    found: dict[int, list[float]] = {1: [], 2: []}
    for workers in turns * (1, 2):
        with connect(workers=workers) as client:
            client.run(_imported)
            x = da.from_zarr(path, component="x")
            PCA(components).fit(x[:WARM])
            began = time.perf_counter()
            PCA(components).fit(x)
            found[workers].append(time.perf_counter() - began)
    return {"one": np.median(found[1]), "two": np.median(found[2])}


def _imported() -> None:
    import msiscale.models  # noqa: F401


def sklearn_incremental(path: str, components: int, batch: int = 8192) -> dict[str, Any]:
    """scikit-learn's IncrementalPCA, block by block."""
    from sklearn.decomposition import IncrementalPCA

    x, fit = Counted(opened(path)), IncrementalPCA(components)
    for start in range(0, x.shape[0], batch):
        rows = x[start : start + batch]
        if len(rows) >= components:
            fit.partial_fit(rows)
    return _result(fit, x)


def daskml(path: str, components: int, solver: str) -> dict[str, Any]:
    """dask-ml's PCA, or its IncrementalPCA with ``incremental_`` before the solver."""
    from dask_ml.decomposition import PCA, IncrementalPCA

    x = Counted(opened(path))
    with dask.config.set(scheduler="threads", num_workers=1):
        if solver.startswith("incremental_"):
            name = solver.removeprefix("incremental_")
            fit = IncrementalPCA(components, svd_solver=name, batch_size=8192, random_state=0)
        else:
            fit = PCA(components, svd_solver=solver, random_state=0)
        fit = fit.fit(x.lazy())
    return _result(fit, x)


def reference(path: str, components: int) -> dict[str, Any]:
    """float64 eigenvectors of the float64 scatter about the mean: two readings."""
    from scipy.linalg import eigh

    x = Counted(opened(path))
    mean = sum(rows.sum(axis=0, dtype=np.float64) for rows in _rows(x)) / x.shape[0]
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for rows in _rows(x):
        z = rows - mean
        scatter += z.T @ z
    n = len(scatter)
    values, vectors = eigh(scatter, subset_by_index=[n - components, n - 1])
    found = {"components": vectors.T[::-1], "variance": values[::-1] / (x.shape[0] - 1)}
    return {**found, "passes": x.passes}


def _rows(x: Counted) -> Iterator[NDArray[np.float32]]:
    return (x[start : start + ROWS] for start in range(0, x.shape[0], ROWS))


def _result(fit: Any, x: Counted) -> dict[str, Any]:
    found = {"components": fit.components_, "variance": fit.explained_variance_}
    return {**{k: np.asarray(v, np.float64) for k, v in found.items()}, "passes": x.passes}


def subspace_error(components: Floats, truth: Floats) -> float:
    """``||P - P*||_F / sqrt(2k)`` of the projectors onto the rows of two orthonormal bases."""
    a, b = (np.linalg.qr(v.T)[0] for v in (components, truth))
    # the part of one that is outside the other: 1 - cos^2 would lose what is below 1e-8
    outside = a - b @ (b.T @ a)
    return float(np.linalg.norm(outside) / np.sqrt(a.shape[1]))


def plan(words: argparse.Namespace) -> Plan:
    """Ours, on one core, on workers and of four times the rows; the peers; a dense reference."""
    p = Plan.of("pca", words, 200_000, 2_000)
    path = p.data()
    common: dict[str, Any] = {"path": path, "components": p.components}
    p.step("reference", "reference", **common)
    p.step("PCA msiscale", "ours", words.repeat, **common)
    big = p.data(4 * p.rows)
    p.step("PCA msiscale, 4 x rows", "ours", **{**common, "path": big})
    p.step(
        "one and two workers, 4 x rows", "speedup", **{**common, "path": big}, turns=words.repeat
    )
    p.step("PCA scikit-learn incremental", "sklearn_incremental", **common)
    for solver in ("tsqr", "randomized", "incremental_randomized"):
        p.step(f"PCA dask-ml {solver}", "daskml", **common, solver=solver)
    p.figures = _figures
    return p


def _figures(got: dict[str, Any]) -> Figures:
    truth, walls = got["reference"].result, got["one and two workers, 4 x rows"].result
    lines = []
    for name, cost in got.items():
        if not name.startswith("PCA"):
            continue
        facts = {"passes": float(cost.result["passes"])}
        if "4 x rows" not in name:
            variance = np.abs(cost.result["variance"] / truth["variance"] - 1).max()
            facts["subspace error"] = subspace_error(cost.result["components"], truth["components"])
            facts["variance error"] = float(variance)
        lines.append(cost.row(name, **facts))
    one: Measured = got["PCA msiscale"]
    return lines, {
        "cpu_s": one.cpu_s,
        "subspace_error": lines[0]["subspace error"],
        "passes": lines[0]["passes"],
        "peak_mib": one.peak_mib,
        "one_worker_s": float(walls["one"]),
        "two_workers_s": float(walls["two"]),
        "two_workers_speedup": float(walls["one"] / walls["two"]),
        "peak_mib_4x": got["PCA msiscale, 4 x rows"].peak_mib,
        "cpu_ratio_vs_sklearn_incremental": got["PCA scikit-learn incremental"].cpu_s / one.cpu_s,
        # the best of its solvers: the others miss the subspace (see the table)
        "cpu_ratio_vs_daskml": got["PCA dask-ml tsqr"].cpu_s / one.cpu_s,
        "cpu_ratio_vs_daskml_randomized": got["PCA dask-ml randomized"].cpu_s / one.cpu_s,
    }
