"""PCA of a Zarr array beside scikit-learn's IncrementalPCA and dask-ml."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from benchmarks._data import ROWS, Counted, cache, low_rank, opened
from benchmarks._measure import Measured, measured, repeated
from msiscale.models.rowblocks import PER_TASK

Floats = NDArray[np.float64]
Line = tuple[str, Measured, dict[str, Any]]


def ours(path: str, components: int) -> dict[str, Any]:
    """`msiscale.PCA` of the Dask array, in this process."""
    from msiscale import PCA

    x = Counted(opened(path))
    with dask.config.set(scheduler="synchronous"):
        fit = PCA(components).fit(x.lazy())
    return _result(fit, x)


def speedup(path: str, components: int) -> dict[str, Any]:
    """Wall seconds of the fit on one and on two worker processes, warm, thrice each in turn."""
    import dask.array as da

    from msiscale import PCA
    from msiscale.cluster import connect

    found: dict[int, list[float]] = {1: [], 2: []}
    for workers in (1, 2, 1, 2, 1, 2):
        with connect(workers=workers) as client:
            client.run(_imported)
            x = da.from_zarr(path, component="x")
            PCA(components).fit(x[: 2 * PER_TASK * ROWS])  # imports and fresh memory, apart
            began = time.perf_counter()
            PCA(components).fit(x)
            found[workers].append(time.perf_counter() - began)
    return {"one": np.median(found[1]), "two": np.median(found[2])}


def _imported() -> None:
    import msiscale.models.pca  # noqa: F401


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


def run(words: argparse.Namespace) -> tuple[list[Line], dict[str, float]]:
    """Rows of the table and the figures."""
    rows, columns, k = words.rows or 200_000, words.columns or 2_000, words.components
    k = min(k, columns)
    folder = cache(words.data)
    path = str(folder / f"pca-{rows}-{columns}")
    big = str(folder / f"pca-{4 * rows}-{columns}")
    low_rank(path, rows, columns)
    module = "benchmarks.models_pca"
    truth = measured(f"{module}:reference", path=path, components=k).result

    def line(name: str, cost: Measured) -> Line:
        error = subspace_error(cost.result["components"], truth["components"])
        variance = np.abs(cost.result["variance"] / truth["variance"] - 1).max()
        facts = {"passes": float(cost.result["passes"]), "subspace error": error}
        return name, cost, {**facts, "variance error": float(variance)}

    one = repeated(f"{module}:ours", words.repeat, path=path, components=k)
    walls = measured(f"{module}:speedup", path=path, components=k).result
    lines = [line("PCA msiscale", one)]
    found = {
        "pca.cpu_s": one.cpu_s,
        "pca.subspace_error": lines[0][2]["subspace error"],
        "pca.passes": lines[0][2]["passes"],
        "pca.peak_mib": one.peak_mib,
        "pca.one_worker_s": float(walls["one"]),
        "pca.two_workers_s": float(walls["two"]),
        "pca.two_workers_speedup": float(walls["one"] / walls["two"]),
    }
    if not words.quick:
        low_rank(big, 4 * rows, columns)
        four = measured(f"{module}:ours", path=big, components=k)
        lines.append(("PCA msiscale, 4 x rows", four, {"passes": float(four.result["passes"])}))
        found["pca.peak_mib_4x"] = four.peak_mib
    peers: dict[str, tuple[str, dict[str, Any]]] = {}
    peers["PCA scikit-learn incremental"] = ("sklearn_incremental", {})
    for solver in ("randomized", "incremental_randomized", *(() if words.quick else ("tsqr",))):
        peers[f"PCA dask-ml {solver}"] = ("daskml", {"solver": solver})
    costs = {}
    for name, (function, extra) in peers.items():
        cost = measured(f"{module}:{function}", path=path, components=k, **extra)
        lines.append(line(name, cost))
        costs[name] = cost.cpu_s
    incremental = costs.pop("PCA scikit-learn incremental")
    found["pca.cpu_ratio_vs_sklearn_incremental"] = incremental / one.cpu_s
    if not words.quick:
        # the best of its solvers: the others miss the subspace (see the table)
        found["pca.cpu_ratio_vs_daskml"] = costs["PCA dask-ml tsqr"] / one.cpu_s
    found["pca.cpu_ratio_vs_daskml_randomized"] = costs["PCA dask-ml randomized"] / one.cpu_s
    return lines, found
