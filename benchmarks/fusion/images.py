"""The phantom cohort and the real image, degraded and restored."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter

from msiscale.fusion import DEFAULT, InMemory, Measured, fit, measured_grid, restore, score
from msiscale.models import PCA
from msiscale.pipeline.fuse import COLUMNS, fuse, winners

FACTORS = (2, 4, 8)
MODES = 8  # of the ions held out, as the guide's variables
SCALES = (1.0, 2.0, 4.0)  # of the texture of a guide of one channel, pixels


def phantom(words: argparse.Namespace) -> pd.DataFrame:
    """``fusion.csv`` of a simulated cohort with slides."""
    from msiscale.pipeline import run
    from msiscale.simulate import simulate

    with tempfile.TemporaryDirectory() as folder:
        cohort, out = Path(folder) / "cohort", str(Path(folder) / "run")
        side = (words.pixels, words.pixels)
        simulate(cohort, specimens=words.specimens, seed=words.seed, pixels=side, mpp=2.0)
        manifest = str(cohort / "manifest.csv")
        choices: dict[str, Any] = {"encoder": "efficientnet-lite0", "mpp": 2.0, "window": 512}
        stages = ("ingest", "register", "features")
        run(manifest, out, stages=stages, workers=words.workers, **choices)
        fused = fuse(
            manifest,
            out,
            factors=FACTORS,
            ions=words.ions,
            scores_only=True,
            workers=words.workers,
        )
        if fused.failed:
            raise RuntimeError(str(fused.failed))
        return fused.table


def bladder(file: Path, ions: int, guide: str) -> pd.DataFrame:
    """The real ion image: it has no slide, so half of its ions stand for one.

    Ions are ranked by variance; every second one is held out, and what they show together (their
    first principal modes) is the guide: the first mode alone, with its texture at a few scales,
    or several modes. The others are degraded and restored.
    """
    cube, mz = _cube(file)
    order = np.argsort(-cube.var(axis=(0, 1)), kind="stable")
    held_out, fused = order[::2], order[1::2][:ions]
    standard = (cube[..., held_out] - cube[..., held_out].mean((0, 1))) / (
        cube[..., held_out].std((0, 1)) + 1e-12
    )
    rows = standard.reshape(-1, len(held_out))
    modes = PCA(MODES).fit_transform(rows).reshape(*cube.shape[:2], MODES)
    pan = np.asarray(modes[..., 0], np.float64)
    variables = np.asarray(modes) if guide == "modes" else _texture(pan)
    mask = np.ones(pan.shape, bool)
    data = Measured(mask, cube[..., fused], pan, variables)
    methods = [m for m in DEFAULT if not m.startswith("ours")]  # there are no deep features
    records = []
    for factor in FACTORS:
        images = InMemory((*data.shape, len(fused)))
        possible = restore(fit(data, factor, methods), measured_grid(data, factor), methods, images)
        for method, sums in score(data, images, possible).items():
            for metric, values in sums.values().items():
                records += [
                    ("bladder", method, factor, mz[ion], metric, value)
                    for ion, value in zip(fused, values, strict=True)
                ]
    return pd.DataFrame(records, columns=COLUMNS)


def _cube(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    with np.load(file) as found:
        rows = sparse.csr_array(
            (found["data"], found["indices"], found["indptr"]), shape=tuple(found["shape"])
        ).toarray()
        x, y = found["xy"].astype(int).T - 1
    cube = np.zeros((y.max() + 1, x.max() + 1, rows.shape[1]), np.float32)
    cube[y, x] = rows
    mz = pd.read_csv(file.with_name("features.csv"))["observed_mz"].to_numpy(np.float64)
    return cube, mz


def _texture(pan: NDArray[np.float64]) -> NDArray[np.float64]:
    """A channel, and its mean and spread around each pixel."""
    found = [pan]
    for scale in SCALES:
        mean = gaussian_filter(pan, scale)
        spread = np.sqrt(np.maximum(gaussian_filter(pan * pan, scale) - mean * mean, 0))
        found += [mean, spread]
    return np.stack(found, axis=-1)


def figures(name: str, table: pd.DataFrame) -> dict[str, float]:
    """Means of each method and metric by factor, printed and flat."""
    found: dict[str, float] = {}
    for factor, rows in table[table["factor"] > 1].groupby("factor"):
        means = rows.groupby(["method", "metric"])["value"].mean().unstack()
        means = means.sort_values("correlation", ascending=False)[["correlation", "rmse", "ssim"]]
        best = winners(rows)
        means["best_of_ions"] = [float(best.get(str(method), 0)) for method in means.index]
        ions = rows[["specimen", "mz"]].drop_duplicates().shape[0]
        print(
            f"\n{name}, degraded {factor}x: means over {ions} ion images", means.round(3), sep="\n"
        )
        for method, row in means.iterrows():
            found |= {f"{name}.x{factor}.{method}.{key}": float(v) for key, v in row.items()}
    print(flush=True)
    fits = table[table["factor"] == 1].groupby(["method", "metric"])["value"].mean()
    for key, value in fits.items():
        found[".".join([name, *key])] = float(value)  # type: ignore[misc]
    return found
