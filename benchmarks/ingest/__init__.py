"""imzML onto a given m/z axis, and to an axis, beside pyimzML in a loop and other converters."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.measure import measured, repeated, table
from benchmarks.common.places import environment, folder_of
from benchmarks.common.progress import Progress

TAKES = "4 minutes; --peers 12"
FULL: dict[str, Any] = {}
#: Peer, what it needs, and the functions that run it. massflow needs Python 3.12.
NEEDS = {
    "imzy": (("imzy", "zarr<3", "rechunker", "h5py", "hdf5plugin"), ("imzy_zarr", "imzy_hdf5")),
    "thyra": (("thyra",), ("thyra",)),
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--side", type=int, default=100, help="pixels on a side [100]")
    parser.add_argument("--repeat", type=int, default=5, help="medians of so many runs")
    parser.add_argument(
        "--peers", action="store_true", help="install other converters, each apart, and time them"
    )
    parser.add_argument("--data", metavar="DIR", help="where files and environments are kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a table; all figures together."""
    with folder_of(words.data) as folder:
        return _compared(words, folder, progress)


def _compared(words: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, float]:
    from benchmarks.common.phantoms import imzml

    peers = [f for _, functions in NEEDS.values() for f in functions] if words.peers else []
    progress.total = 2 + 6 + 2 + len(peers)
    progress("an imzML")
    path, axis = imzml(folder, words.side)
    progress("one of four times the pixels")
    large, _ = imzml(folder, 2 * words.side)

    def side(function: str, times: int = words.repeat, **arguments: Any) -> Callable[[], Any]:
        return partial(repeated, f"benchmarks.ingest.{function}", times, **arguments)

    to: dict[str, Any] = {"path": path, "axis": axis, "out": str(folder / "out.npy")}
    store: dict[str, Any] = {"path": path, "axis": axis, "out": str(folder / "out.zarr")}
    got = progress.run({
        "pyimzML in a loop, bare array": side("sides:script", **to),
        "one regular expression, bare array": side("sides:vectorised", **to),
        "msiscale, shards and checksums": side("sides:cube", **store),
        "msiscale, finding an axis": side("sides:peaks", path=path),
        "msiscale, four times the file": side("sides:cube", 1, **{**store, "path": large}),
        "a process that imports msiscale": side("sides:imports"),
    })  # fmt: skip
    loop, least, ours, found_axis, four, start = got.values()
    progress("comparing the stores")
    same(folder, store)
    progress("importing")
    figures = {
        "ingest.spectra": float(words.side**2),
        "ingest.cpu_ratio_vs_pyimzml_loop": loop.cpu_s / ours.cpu_s,
        "ingest.cpu_ratio_vs_vectorised": least.cpu_s / ours.cpu_s,
        "ingest.axis_cpu_ratio_vs_pyimzml_loop": loop.cpu_s / found_axis.cpu_s,
        "ingest.spectra_s_core": words.side**2 / ours.cpu_s,
        "ingest.peak_mib": ours.peak_mib,
        "ingest.peak_mib_4x": four.peak_mib,
        "ingest.import_peak_mib": start.peak_mib,
        "ingest.import_s": import_s(words.repeat),
    }
    if peers:
        pythons = {
            f: environment(folder / name, needs)
            for name, (needs, functions) in NEEDS.items() for f in functions
        }  # fmt: skip
        writers = progress.run({
            f: side(f"peers:{f}", python=pythons[f], **{**store, "out": str(folder / f"out-{f}")})
            for f in peers
        })  # fmt: skip
        ratios = {f"cpu_ratio_vs_{f}": cost.cpu_s / ours.cpu_s for f, cost in writers.items()}
        ratios["cpu_ratio_vs_best_zarr_writer"] = min(ratios.values())
        figures |= {f"ingest.{name}": value for name, value in ratios.items()}
        got |= writers
    print(table([cost.row(name) for name, cost in got.items()]), end="\n\n")
    return figures


def same(folder: Path, store: dict[str, str]) -> None:
    """RuntimeError unless the store holds what the loop wrote."""
    stored = measured("benchmarks.ingest.sides:cube", **store, checked=True).result["cube"]
    if not np.allclose(stored, np.load(folder / "out.npy"), rtol=1e-6):
        raise RuntimeError("the store does not hold what the loop wrote")


def import_s(times: int) -> float:
    """Median seconds of an interpreter that imports what ingest needs."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import msiscale, msiscale.msi"], check=True)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))
