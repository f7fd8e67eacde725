"""Classifiers of a cohort of 13 patients: every fold, inner fold and C, by the number of pixels.

Features, spectra and colours of 14 specimens are fabricated and stored as a run stores them; two
processes read them, each on one core. Features share a spectrum that decays, patients differ, and
the labels follow some of the features, so that the folds disagree about C as real ones do.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.measure import table, variables
from benchmarks.common.progress import Progress
from msiscale.models import Fold, Moments, fit_classifiers, moments_of_blocks
from msiscale.models.joint import LinearMap
from msiscale.pipeline.classify import SEEN
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import create_array, open_group, put

PATIENTS, SPECIMENS, SIDE = 13, 14, 64
COLUMNS = {"features": 1280, "intensity": 1000, "colour": 12}
MODES = 100
CORES = 2
ROOM = 3 << 30  # bytes of rows that a worker of 12 GiB keeps


def measure(folder: Path, pixels: Sequence[int], progress: Progress) -> dict[str, float]:
    """A row for each number of pixels; keys end in thousands of them."""
    rows: list[dict[str, Any]] = []
    found: dict[str, float] = {}
    for count in pixels:
        progress(f"classifiers of {count:,} pixels")
        cost = _measured(folder, count)
        name = f"pixels{count // 1000}k"
        found |= {f"classifiers.{key}.{name}": value for key, value in cost.items()}
        rows.append({"": f"{count:,} pixels", **cost})
    print(table(rows), end="\n\n", flush=True)
    return found


def _measured(folder: Path, count: int) -> dict[str, float]:
    tables = _stored(folder, count)
    specimens = list(tables)
    patients = {name: f"P{i % PATIENTS}" for i, name in enumerate(specimens)}
    sums = {name: _sums(table) for name, table in tables.items()}
    folds = [Fold("all", tuple(specimens), ())]
    for patient in dict.fromkeys(patients.values()):
        out = tuple(s for s in specimens if patients[s] == patient)
        folds.append(Fold(patient, tuple(s for s in specimens if s not in out), out))
    maps = {
        m: {f.name: _map(m, f, sums, name) for f in folds}
        for name, models in SEEN.items()
        for m in models
    }
    before, began = _cpu_s(), time.perf_counter()
    passes = 0

    def heard(number: int, left: int, gradient: float) -> None:
        nonlocal passes
        passes += 1

    os.environ |= variables()
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:

        def run(tasks: Sequence[Any]) -> Iterator[Any]:
            return pool.map(_call, tasks)

        for name, models in SEEN.items():
            blocks = [b for s, table in tables.items() for b in table.labelled(name, s, ROOM)]
            mine = {m: maps[m] for m in models}
            fit_classifiers(blocks, mine, folds, patients, run=run, heard=heard)
    wall = time.perf_counter() - began
    return {"cpu_s": _cpu_s() - before, "wall_s": wall, "passes": float(passes)}


def _call(task: Any) -> Any:
    return task()


def _cpu_s() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _map(model: str, fold: Fold, sums: dict[str, dict[str, Moments]], rows: str) -> LinearMap:
    """What a model sees of rows: all of them, or their leading modes."""
    training = Moments.merge(sums[s][rows] for s in fold.train)
    if model not in ("cancer_from_he_modes", "cancer_from_predicted_msi"):
        return LinearMap.standardised(training)
    _, vectors = np.linalg.eigh(training.sxx)
    leading = vectors[:, ::-1][:, :MODES]
    if model == "cancer_from_he_modes":
        return LinearMap.standardised(training, leading)
    mixed = leading @ np.random.default_rng(1).normal(size=(MODES, MODES))
    deviation = np.sqrt(np.diag(mixed.T @ training.sxx @ mixed) / training.n)
    return LinearMap.standardised(training, mixed, scale=deviation * np.linspace(1, 20, MODES))


def _sums(table: PixelRows) -> dict[str, Moments]:
    found = {}
    for name in COLUMNS:
        rows = (table.rows(name, cell) for cell in table.cells)
        found[name] = moments_of_blocks((x, x[:, :0]) for x in rows)
    return found


def _stored(folder: Path, count: int) -> dict[str, PixelRows]:
    """Specimens of blocks of 64 x 64 pixels, `count` pixels in all."""
    blocks = max(1, round(count / SPECIMENS / SIDE**2))
    shape = (blocks * SIDE, SIDE)
    found = {}
    for i in range(SPECIMENS):
        url = str(folder / f"{count}.zarr" / f"S{i:02d}")
        group = open_group(url, "a")
        rng = np.random.default_rng(i % PATIENTS)
        bias = rng.normal()
        shifts = {n: rng.normal(size=c) * 0.5 for n, c in COLUMNS.items()}
        arrays = {
            name: create_array(
                group,
                name,
                (*shape, columns),
                ("y", "x", name[:3]),
                chunks=(16, 16, min(256, columns)),
                shards=(SIDE, SIDE, columns) if columns > 256 else None,
            )
            for name, columns in COLUMNS.items()
        }
        cancer = np.empty(shape, np.float32)
        for block in range(blocks):
            at = slice(block * SIDE, (block + 1) * SIDE)
            eta = np.full(SIDE * SIDE, bias)
            for name, columns in COLUMNS.items():
                hidden = rng.standard_normal((SIDE * SIDE, columns), np.float32)
                hidden += (shifts[name] * _decay(columns, 6)).astype(np.float32)
                eta += 0.5 * hidden @ _effect(columns)
                rows = hidden @ _mix(columns)
                arrays[name][at] = rows.reshape(SIDE, SIDE, columns)
            chance = 1 / (1 + np.exp(-eta))
            cancer[at] = (rng.random(len(eta)) < chance).reshape(SIDE, SIDE)
        put(group, "cancer", cancer, ("y", "x"))
        found[f"S{i:02d}"] = PixelRows(url, f"{count}", np.ones(shape, bool))
    return found


def _decay(columns: int, share: int) -> np.ndarray:
    return np.exp(-np.arange(columns) * share / columns)


def _effect(columns: int) -> np.ndarray:
    rng = np.random.default_rng(columns)
    return (rng.normal(size=columns) * _decay(columns, 10)).astype(np.float32)


_MIXES: dict[int, np.ndarray] = {}


def _mix(columns: int) -> np.ndarray:
    if columns not in _MIXES:
        rng = np.random.default_rng(columns + 1)
        mix = rng.normal(size=(columns, columns)) / np.sqrt(columns)
        _MIXES[columns] = (mix * _decay(columns, 6)[:, None]).astype(np.float32)
    return _MIXES[columns]
