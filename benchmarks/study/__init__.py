"""The published study's steps beside msiscale's on one phantom: time, memory, bytes on disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common.measure import measured, table
from benchmarks.common.places import folder_of
from benchmarks.common.progress import Progress

TAKES = "4 minutes"
FULL: dict[str, Any] = {}
TESTED = 50
SAMPLE = 200 + TESTED  # pixels of the study's steps, in proportion to all


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--side", type=int, default=100, help="pixels on a side [100]")
    parser.add_argument("--data", metavar="DIR", help="where files are made and kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a table; all figures together."""
    with folder_of(words.data) as folder:
        return _compared(folder, words.side, progress)


def _compared(folder: Path, side: int, progress: Progress) -> dict[str, float]:
    from benchmarks.common.phantoms import imzml, slide

    progress.total = 1 + 8
    progress("an imzML and a slide")
    path, axis = imzml(folder, side)
    tile, pixels = slide(folder, 2048), side**2

    def step(function: str, **arguments: Any) -> Callable[[], Any]:
        return partial(measured, f"benchmarks.study.sides:{function}", **arguments)

    to: dict[str, Any] = {"path": path, "out": str(folder / "interpolated.h5")}
    ours = {**to, "out": str(folder / "study.zarr"), "pixels": pixels, "tested": TESTED}
    got = progress.run({
        f"study: {SAMPLE} pixels onto 900,000 m/z": step("interpolate", **to, pixels=SAMPLE),
        "study: one partial_fit of 200, 50 restored":
            step("incremental", **to, axis=axis, tested=TESTED),
        f"msiscale: {pixels} pixels to modes": step("ours", **ours),
        "study: one patch of 2,048 px": step("patches", path=tile, patch=2048),
        "study: five folds of 20,000 pixels": step("pooled_folds", pixels=20_000),
        "msiscale: the same folds together": step("our_folds", pixels=20_000),
        "study: 32 x 32 cells, bilinear": step("bilinear", cells=32, side=100),
        "msiscale: the same cells by area": step("by_area", cells=32, side=100),
    })  # fmt: skip
    Path(to["out"]).unlink()
    grid, fit, mine, patch, folds, joint, points, areas = got.values()
    rows = [c.row(name, **{k: float(v) for k, v in c.result.items()}) for name, c in got.items()]
    print(table(rows), end="\n\n")
    a_pixel = grid.cpu_s / SAMPLE
    # a quarter of the pixels is trained on, by 200; all are transformed
    cpu = pixels * (
        a_pixel + float(fit.result["fit_s"]) / 200 / 4 + float(fit.result["transform_s"]) / TESTED
    )
    disk = pixels * float(grid.result["bytes"]) / SAMPLE
    return {
        "study.spectra": float(pixels),
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
