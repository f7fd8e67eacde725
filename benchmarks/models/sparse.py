"""PCA of spectra on the study's 900,000-point axis: sparse rows, 800 peaks a pixel, randomised.

Against a dense float64 reference on a shorter axis of the same ions, and beside what a user would
take instead: scikit-learn's TruncatedSVD of the whole CSR matrix in memory (which does not centre).
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from benchmarks.models.data import Figures, Plan
from benchmarks.models.pca import subspace_error
from msiscale.csr import ROWS, CsrRows
from msiscale.errors import InputError

PEAKS, FACTORS, IONS = 800, 200, 4_000
SHORT = 4_000  # points of the shorter axis
K = 50


def spectra(path: str, rows: int, columns: int, seed: int = 7) -> CsrRows:
    """Peak lists on an axis of `columns` points: ions of `FACTORS` programmes, mass jitter, noise.

    Each pixel has some 800 peaks: three quarters from `IONS` ions, which fall on one to three
    neighbouring points of the axis (the mass error of a pixel), the rest anywhere.
    """
    made = f"{rows}-{columns}-{seed}"
    try:
        found = CsrRows.open(path)
        if found.group.attrs.get("made") == made:
            return found
    except InputError:
        pass
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(np.arange(2, columns - 2), min(IONS, columns // 5), replace=False))
    loadings = rng.gamma(0.5, 1.0, (FACTORS, len(at))) * (
        np.arange(1, FACTORS + 1)[:, None] ** -0.7
    )
    found = CsrRows.create(path, (rows, columns), edges=ROWS)
    for i in range(found.n_blocks):
        n = found.edges[i + 1] - found.edges[i]
        found.write(i, _block(np.random.default_rng([seed, i]), n, columns, at, loadings))
    found.group.attrs["made"] = made
    return found


def _block(
    rng: np.random.Generator, n: int, columns: int, at: NDArray[np.int64], loadings: NDArray[Any]
) -> csr_array:
    signal = rng.gamma(1.0, 1.0, (n, len(loadings))) @ loadings
    seen = rng.random(signal.shape) < 0.75 * PEAKS / len(at)
    row, ion = np.nonzero(seen)
    shift = np.clip(np.rint(rng.normal(0, 0.4, len(row))), -1, 1).astype(np.int64)
    noise = PEAKS // 4 * n
    rows = np.concatenate([row, np.repeat(np.arange(n), PEAKS // 4)])
    places = np.concatenate([at[ion] + shift, rng.integers(0, columns, noise)])
    values = np.concatenate([signal[row, ion], rng.exponential(0.2, noise)])
    return csr_array((values, (rows, places)), shape=(n, columns))


def ours(path: str, components: int, solver: str = "auto") -> dict[str, Any]:
    """`msiscale.PCA` of the rows on disk."""
    from msiscale import PCA

    with dask.config.set(scheduler="synchronous"):
        fit = PCA(components, svd_solver=solver).fit(CsrRows.open(path))
    return {"passes": fit.n_passes_, "residual": fit.residual_, "components": fit.components_}


def sklearn(path: str, components: int) -> dict[str, Any]:
    """scikit-learn's randomised TruncatedSVD of all rows in memory, not centred."""
    from sklearn.decomposition import TruncatedSVD

    rows = CsrRows.open(path)
    x = vstack([rows.read(i) for i in range(rows.n_blocks)], format="csr")
    fit = TruncatedSVD(components, random_state=0).fit(x)
    return {"passes": 1.0, "components": fit.components_}


def reference(path: str, components: int) -> dict[str, Any]:
    """float64 eigenvectors of the centred rows, dense."""
    from scipy.linalg import eigh

    rows = CsrRows.open(path)
    mean = _mean(rows)
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for i in range(rows.n_blocks):
        z = rows.read(i).toarray().astype(np.float64) - mean
        scatter += z.T @ z
    n = len(scatter)
    return {"components": eigh(scatter, subset_by_index=[n - components, n - 1])[1].T[::-1]}


def dual_reference(path: str, components: int) -> dict[str, Any]:
    """The same of a long axis, by way of the n x n products of the rows."""
    from scipy.sparse.linalg import eigsh

    rows = CsrRows.open(path)
    x = vstack([rows.read(i) for i in range(rows.n_blocks)], format="csr").astype(np.float64)
    between = np.asarray((x @ x.T).toarray())
    shift = between.mean(axis=0)
    between -= shift
    between -= shift[:, None] - shift.mean()
    vectors = eigsh(between, components, tol=1e-12)[1]
    found = x.T @ vectors - np.outer(_mean(rows), vectors.sum(axis=0))
    return {"components": np.linalg.qr(found)[0].T}


def _mean(rows: CsrRows) -> NDArray[np.float64]:
    sums = (rows.read(i).sum(axis=0, dtype=float) for i in range(rows.n_blocks))
    return np.asarray(sum(sums) / rows.shape[0])


def plan(words: argparse.Namespace) -> Plan:
    """Ours on both axes, scikit-learn's on the long one; a reference of each."""
    p = Plan.of("sparse", words, 20_000, 900_000, scaled=False)
    short: dict[str, Any] = {"path": f"{p.path(columns=SHORT)}.zarr", "components": K}
    long = {**short, "path": f"{p.path()}.zarr"}
    for columns, at in ((SHORT, short), (p.columns, long)):
        p.steps[f"spectra of {columns:,} m/z"] = partial(spectra, at["path"], p.rows, columns)
    p.step("reference", "reference", **short)
    p.step("reference, long", "dual_reference", **long)
    p.step(f"PCA randomised, {SHORT:,} m/z", "ours", words.repeat, **short, solver="randomized")
    p.step(f"PCA exact, {SHORT:,} m/z", "ours", words.repeat, **short)
    p.step(f"PCA randomised, {p.columns:,} m/z", "ours", **long)
    p.step(f"TruncatedSVD scikit-learn, {p.columns:,} m/z", "sklearn", **long)
    p.figures = _figures
    return p


def _figures(got: dict[str, Any]) -> Figures:
    _, _, short, long, *costs = got.values()
    lines = []
    for name, cost in list(got.items())[4:]:
        mine = cost.result["components"]
        truth = (short if mine.shape[1] == SHORT else long).result["components"]
        facts = {"passes": float(cost.result["passes"])}
        facts["subspace error"] = subspace_error(mine, truth)
        if "residual" in cost.result:
            facts["residual"] = float(cost.result["residual"])
        lines.append(cost.row(name, **facts))
    _, _, big, peer = costs
    small, exact, whole, theirs = (line["subspace error"] for line in lines)
    return lines, {
        "cpu_s": big.cpu_s,
        "passes": lines[2]["passes"],
        "residual": lines[2]["residual"],
        "peak_mib": big.peak_mib,
        "subspace_error": small,
        "subspace_error_exact": exact,
        "subspace_error_long": whole,
        "subspace_error_long_sklearn": theirs,
        "cpu_ratio_vs_sklearn": peer.cpu_s / big.cpu_s,
    }
