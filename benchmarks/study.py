"""The published study's steps beside msiscale's on one phantom: time, memory, bytes on disk."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._measure import Measured, measured, table
from benchmarks.features import slide
from benchmarks.ingest import phantom

SIDES = "benchmarks._study_sides"
TESTED = 50


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--side", type=int, default=100, help="pixels on a side [100]")
    parser.add_argument("--data", metavar="DIR", help="where files are made and kept")


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a table; all figures together."""
    with tempfile.TemporaryDirectory(prefix="msiscale-study-") as scratch:
        folder = Path(words.data or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path, axis = phantom(folder, words.side)
        return compared(path, axis, folder, words.side**2)


def compared(path: str, axis: str, folder: Path, pixels: int) -> dict[str, float]:
    """The study's steps on a sample, in proportion to all pixels, and msiscale on all of them."""
    sample = 200 + TESTED
    rows: list[tuple[str, Measured, dict[str, Any]]] = []

    def run(name: str, function: str, **arguments: Any) -> Measured:
        found = measured(f"{SIDES}:{function}", **arguments)
        rows.append((name, found, {k: float(v) for k, v in found.result.items()}))
        return found

    long = str(folder / "interpolated.h5")
    grid = run(
        f"study: {sample} pixels onto 900,000 m/z",
        "interpolate",
        path=path,
        out=long,
        pixels=sample,
    )
    fit = run(
        "study: one partial_fit of 200, 50 restored",
        "incremental",
        path=path,
        out=long,
        axis=axis,
        tested=TESTED,
    )
    mine = run(
        f"msiscale: {pixels} pixels to modes",
        "ours",
        path=path,
        out=str(folder / "study.zarr"),
        pixels=pixels,
        tested=TESTED,
    )
    patch = run("study: one patch of 2,048 px", "patches", path=slide(folder, 2048), patch=2048)
    Path(long).unlink()
    folds = run("study: five folds of 20,000 pixels", "pooled_folds", pixels=20_000)
    joint = run("msiscale: the same folds together", "our_folds", pixels=20_000)
    points = run("study: 32 x 32 cells, bilinear", "bilinear", cells=32, side=100)
    areas = run("msiscale: the same cells by area", "by_area", cells=32, side=100)
    print(table(rows), end="\n\n")
    a_pixel = grid.cpu_s / sample
    # a quarter of the pixels is trained on, by 200; all are transformed
    cpu = pixels * (
        a_pixel + float(fit.result["fit_s"]) / 200 / 4 + float(fit.result["transform_s"]) / TESTED
    )
    disk = pixels * float(grid.result["bytes"]) / sample
    return {
        "study.interpolation_ms_a_pixel": 1000 * a_pixel,
        "study.partial_fit_s": float(fit.result["fit_s"]),
        "study.cpu_s": cpu,
        "study.cpu_ratio": cpu / mine.cpu_s,
        "study.disk_ratio": disk / float(mine.result["bytes"]),
        "study.peak_ratio": fit.peak_mib / mine.peak_mib,
        "study.r2_of_200_spectra": float(fit.result["r2"]),
        "study.ours_r2_of_200_spectra": float(mine.result["r2_of_200_spectra"]),
        "study.ours_r2": float(mine.result["r2"]),
        "study.patch_mpix_s": float(patch.result["mpix_s"]),
        "study.folds_cpu_ratio": folds.cpu_s / joint.cpu_s,
        "study.folds_auc_as_scripted": float(folds.result["auc_as_scripted"]),
        "study.folds_auc": float(folds.result["auc"]),
        "study.our_folds_auc": float(joint.result["auc"]),
        "study.regrid_cpu_ratio": points.cpu_s / areas.cpu_s,
    }
