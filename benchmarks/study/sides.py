"""The published study's steps, written anew from their description, and msiscale's, one a process.

Interpolation of every pixel's spectrum onto 900,000 m/z (0.001 apart), IncrementalPCA of 200 modes
by 200 spectra, 2,048 px patches in float32 without halo pooled to 256 px cells, bilinear onto the
MSI grid.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.ingest.sides import write_cube
from msiscale import PCA, msi

LIBRARIES = ("sklearn.decomposition", "msiscale.pipeline.ingest")
GRID = np.arange(900_000) * 0.001 + 100.0
MODES = BATCH = 200
Figures = dict[str, Any]


def interpolate(path: str, out: str, pixels: int) -> Figures:
    """The first pixels of an image on the long axis, each written as it comes."""
    source = msi.open_source(path)
    with h5py.File(out, "w") as file:
        data = file.create_dataset("spectra", (pixels, len(GRID)), "f4", chunks=(1, len(GRID)))
        for i in range(pixels):
            ((mz, intensity),) = source.read(np.array([i]))
            data[i] = np.interp(GRID, mz, intensity, left=0, right=0).astype(np.float32)
    return {"bytes": np.array(Path(out).stat().st_size)}


def incremental(path: str, out: str, axis: str, tested: int) -> Figures:
    """One `partial_fit` of 200 spectra, and how it restores the peaks of others."""
    from sklearn.decomposition import IncrementalPCA

    with h5py.File(out) as file:
        train, test = file["spectra"][:BATCH], file["spectra"][BATCH : BATCH + tested]
    began = time.process_time()
    fit = IncrementalPCA(MODES, batch_size=100)
    fit.partial_fit(train)
    fitted = time.process_time() - began
    began = time.process_time()
    scores = fit.transform(test)
    transformed = time.process_time() - began
    restored = fit.inverse_transform(scores)
    ions = np.load(axis)
    at = np.rint((ions - GRID[0]) / 0.001).astype(int)
    pixels = np.arange(BATCH, BATCH + tested)
    actual = msi.bin_spectra(msi.open_source(path).read(pixels), ions, 5.0)
    return {
        "fit_s": np.array(fitted),
        "transform_s": np.array(transformed),
        "r2": np.array(r2(actual, restored[:, at])),
    }


def ours(path: str, out: str, pixels: int, tested: int) -> Figures:
    """An axis from the peaks, the cube, 200 modes of all pixels but the tested, and scores."""
    source = msi.open_source(path)
    mz = msi.find_axis({"one": msi.peak_sums(source)})["mz"].values
    cube = np.asarray(write_cube(source, mz, out)[...]).reshape(-1, len(mz))
    rng = np.random.default_rng(0)
    test = rng.permutation(len(cube))[:tested]
    fit = PCA(MODES).fit(np.delete(cube, test, axis=0))
    fit.transform(cube)
    # as the study counts: the first pixels of the file, of as many spectra
    few = PCA(MODES).fit(cube[:BATCH])
    others = cube[BATCH : BATCH + tested]
    size = sum(f.stat().st_size for f in Path(out).rglob("*") if f.is_file())
    return {
        "bytes": np.array(size),
        "r2": np.array(r2(cube[test], fit.inverse_transform(fit.transform(cube[test])))),
        "r2_of_200_spectra": np.array(r2(others, few.inverse_transform(few.transform(others)))),
        "mz": np.array(len(mz)),
    }


def r2(actual: np.ndarray, restored: np.ndarray) -> float:
    """Share of the variance of all peaks over pixels that is restored."""
    residual = ((actual - restored) ** 2).sum()
    return float(1 - residual / ((actual - actual.mean(0)) ** 2).sum())


def patches(path: str, patch: int) -> Figures:
    """Float32 patches without halo, pooled to 256 px cells, with batch statistics, as published."""
    import torch
    from torch.nn.functional import avg_pool2d

    from benchmarks.features.sides import untrained
    from msiscale.slide.reader import open_reader

    torch.set_num_threads(1)
    network = untrained()  # never put into evaluation mode there
    slide = open_reader(path)
    pixels = slide.read(0, 0, 0, patch, patch)
    with torch.no_grad():
        network(torch.from_numpy(pixels[:256, :256]).permute(2, 0, 1)[None].float())
        began = time.perf_counter()
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        cells = avg_pool2d(network(batch), 16)
    seconds = time.perf_counter() - began
    return {"mpix_s": np.array(patch * patch / 1e6 / seconds), "cells": np.array(cells.shape[-1])}


def _labelled(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (pixels, 200), falling in variance as modes do, and labels of a fifth."""
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(pixels, MODES)) / np.sqrt(np.arange(1, MODES + 1))).astype(
        np.float32
    )
    log_odds = scores[:, :20] @ rng.normal(size=20) + rng.normal(size=pixels)
    return scores, (log_odds > np.quantile(log_odds, 0.8)).astype(np.float64)


def pooled_folds(pixels: int) -> Figures:
    """Logistic regression over five folds of shuffled pixels, as scripted, and its "AUC"."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import StandardScaler

    x, y = _labelled(pixels)
    found, proper = [], []
    for train, test in KFold(n_splits=5, shuffle=True, random_state=21).split(x):
        fit = LogisticRegression(class_weight="balanced", max_iter=5000, random_state=21)
        fit.fit(StandardScaler().fit_transform(x[train]), y[train])
        seen = StandardScaler().fit_transform(x[test])  # by itself, as there
        found.append(roc_auc_score(fit.predict(seen), y[test]))  # arguments swapped, as there
        proper.append(roc_auc_score(y[test], fit.decision_function(seen)))
    return {"auc_as_scripted": np.array(np.mean(found)), "auc": np.array(np.mean(proper))}


def our_folds(pixels: int) -> Figures:
    """The same folds together, from one set of sums and shared passes."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import KFold

    from msiscale.models import LinearMap, Moments, Problem, RowBlock, fit_many, moments

    x, y = _labelled(pixels)
    tests = [test for _, test in KFold(n_splits=5, shuffle=True, random_state=21).split(x)]
    sums = [moments(x[test]) for test in tests]
    blocks = [RowBlock(k, (x[test], y[test], None)) for k, test in enumerate(tests)]
    problems = []
    for k in range(5):
        training = Moments.merge(s for i, s in enumerate(sums) if i != k)
        groups = frozenset(i for i in range(5) if i != k)
        problems.append(Problem(LinearMap.standardised(training), groups))
    fit = fit_many(blocks, problems, dtype=np.float32)
    auc = [
        roc_auc_score(y[test], x[test] @ solution.coef[:, 0])
        for test, solution in zip(tests, fit.solutions, strict=True)
    ]
    return {"auc": np.array(np.mean(auc))}


def bilinear(cells: int, side: int) -> Figures:
    """Cells (cells, cells, 1024) sampled at the MSI pixels, as published."""
    import torch
    from torch.nn.functional import grid_sample

    torch.set_num_threads(1)
    array = torch.rand(1, 1024, cells, cells, generator=torch.Generator().manual_seed(0))
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)[None]
    found = grid_sample(array, grid, mode="bilinear", align_corners=False)
    return {"mean": np.array(float(found.mean()))}


def by_area(cells: int, side: int) -> Figures:
    """The same cells by exact overlap."""
    from msiscale.grid import scaling, translation
    from msiscale.regridding import regrid

    array = np.random.default_rng(0).random((cells, cells, 1024), dtype=np.float32)
    matrix = scaling(cells / side) @ translation(0.5, 0.5)
    found = regrid(array, matrix, (side, side))
    return {"mean": np.array(float(np.nanmean(found["values"].values)))}
