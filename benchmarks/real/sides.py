"""A run of one real pair, and how near it comes to its reference."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import msiscale as ms
from msiscale.store import StoredSpecimen

MZ = 881.26  # of the ion that a smooth muscle shows best, msight
TURNED = "matrix_turned.json"
PROTOCOL = "spatial_blocks"


def pair(folder: str, name: str, encoder: str = "") -> dict[str, Any]:
    """Run the pair as a user would, its registration found; with an `encoder` as it is given."""
    with tempfile.TemporaryDirectory() as out:
        rows = pd.read_csv(Path(folder) / "manifest.csv", dtype=str)
        for column in ("msi", "slide", "matrix"):
            rows[column] = [str(Path(folder).resolve() / file) for file in rows[column]]
        choices: dict[str, Any] = {"encoder": encoder} if encoder else {}
        given = rows if encoder else rows.drop(columns="matrix")
        manifest = f"{out}/manifest.csv"
        given[:1].to_csv(manifest, index=False)
        result = ms.run(manifest, f"{out}/run", **choices)
        if result.failed:
            raise SystemExit(f"{folder}: {result.failed}")
        found = scores(f"{out}/run", name)
        if encoder:
            return found
        found["registration_px"] = _distance(f"{out}/run", rows, 0)
        if len(rows) > 1:
            given[1:].to_csv(manifest, index=False)
            result = ms.run(manifest, f"{out}/turned", stages=("ingest", "register"))
            if result.failed:
                raise SystemExit(f"{folder}: {result.failed}")
            found["turned_px"] = _distance(f"{out}/turned", rows, 1)
            found["turned_agreement_px"] = _agreement(out, folder, rows)
        return found


def scores(run: str, name: str) -> dict[str, Any]:
    """R² and correlations over the blocks that were held out; NaN where none could be."""
    metrics = pd.read_csv(f"{run}/metrics.csv")
    wanted = metrics[
        (metrics.protocol == PROTOCOL)
        & (metrics.specimen == "all")
        & (metrics.target == "weighted")
        & (metrics.metric == "r2")
    ].set_index("model")["value"]
    ions = pd.read_csv(f"{run}/ions.csv")
    ions = ions[ions.protocol == PROTOCOL]
    found = {
        "blocks_r2_weighted": wanted.get("msi_from_he", np.nan),
        "colour_blocks_r2_weighted": wanted.get("msi_from_colour", np.nan),
        "median_r": ions.pearson.median(),
        "colour_median_r": ions.colour_pearson.median(),
    }
    if name == "msight" and len(ions):
        one = ions.iloc[(ions.mz - MZ).abs().argmin()]
        found |= {"r_881": one.pearson, "colour_r_881": one.colour_pearson}
    return found


def _placed(run: str, specimen: str) -> tuple[np.ndarray, np.ndarray]:
    """The matrix that was found, and the indices (x, y, 1) of the pixels of the MSI."""
    stored = StoredSpecimen.of(run, specimen)
    y, x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    return stored.matrix, np.stack([x.ravel(), y.ravel(), np.ones(x.size)])


def _rms(a: np.ndarray, b: np.ndarray, indices: np.ndarray) -> float:
    """Root mean square of where `b` puts a pixel less where `a` does, in MSI pixels of `a`."""
    away = (np.linalg.inv(a) @ (b - a) @ indices)[:2]
    return float(np.sqrt((away**2).sum(axis=0).mean()))


def _distance(run: str, rows: pd.DataFrame, at: int) -> float:
    """From the reference."""
    found, indices = _placed(run, rows.specimen[at])
    return _rms(np.array(json.loads(Path(rows.matrix[at]).read_text())), found, indices)


def _agreement(out: str, folder: str, rows: pd.DataFrame) -> float:
    """Of the two pictures of one section, whose relation is exact."""
    plain, turned = (np.array(json.loads(Path(file).read_text())) for file in rows.matrix[:2])
    first, indices = _placed(f"{out}/run", rows.specimen[0])
    second, _ = _placed(f"{out}/turned", rows.specimen[1])
    return _rms(turned @ np.linalg.inv(plain) @ first, second, indices)
