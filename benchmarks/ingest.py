"""imzML onto a given m/z axis, and to an axis, beside pyimzML in a loop and other converters."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from pyimzml.ImzMLWriter import ImzMLWriter

from benchmarks._measure import Measured, repeated, table

SIDES, PEERS = "benchmarks._ingest_sides", "benchmarks._ingest_peers"
IONS = 2500
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


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a table; all figures together."""
    with tempfile.TemporaryDirectory(prefix="msiscale-ingest-") as scratch:
        folder = Path(words.data or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return compared(words, folder)


def compared(words: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The sides, in turn."""
    path, axis = phantom(folder, words.side)
    large, _ = phantom(folder, 2 * words.side)
    rows: list[tuple[str, Measured, dict[str, Any]]] = []

    def run(name: str, target: str, /, **arguments: Any) -> Measured:
        found = repeated(target, **({"times": words.repeat} | arguments))
        rows.append((name, found, {}))
        return found

    to = {"path": path, "axis": axis, "out": str(folder / "out.npy")}
    loop = run("pyimzML in a loop, bare array", f"{SIDES}:script", **to)
    least = run("one regular expression, bare array", f"{SIDES}:vectorised", **to)
    store = {"path": path, "axis": axis, "out": str(folder / "out.zarr")}
    ours = run("msiscale, shards and checksums", f"{SIDES}:cube", **store)
    found_axis = run("msiscale, finding an axis", f"{SIDES}:peaks", path=path)
    four = run(
        "msiscale, four times the file", f"{SIDES}:cube", **store | {"path": large, "times": 1}
    )
    start = run("a process that imports msiscale", f"{SIDES}:imports")
    same(folder, store)
    figures = {
        "ingest.cpu_ratio_vs_pyimzml_loop": loop.cpu_s / ours.cpu_s,
        "ingest.cpu_ratio_vs_vectorised": least.cpu_s / ours.cpu_s,
        "ingest.axis_cpu_ratio_vs_pyimzml_loop": loop.cpu_s / found_axis.cpu_s,
        "ingest.spectra_s_core": words.side**2 / ours.cpu_s,
        "ingest.peak_mib": ours.peak_mib,
        "ingest.peak_mib_4x": four.peak_mib,
        "ingest.import_peak_mib": start.peak_mib,
        "ingest.import_s": import_s(words.repeat),
    }
    if words.peers:
        writers = {}
        for name, (needs, functions) in NEEDS.items():
            python = environment(folder / name, needs)
            for function in functions:
                out = str(folder / f"out-{function}")
                writers[function] = run(
                    function, f"{PEERS}:{function}", python=python, **store | {"out": out}
                )
                figures[f"ingest.cpu_ratio_vs_{function}"] = writers[function].cpu_s / ours.cpu_s
        best = min(w.cpu_s for w in writers.values())
        figures["ingest.cpu_ratio_vs_best_zarr_writer"] = best / ours.cpu_s
    print(table(rows), end="\n\n")
    return figures


def phantom(folder: Path, side: int) -> tuple[str, str]:
    """A processed centroid imzML of some 800 peaks a pixel, and the ions that it was made of."""
    path, axis = folder / f"s{side}.imzML", folder / "axis.npy"
    rng = np.random.default_rng(0)
    ions = np.sort(rng.uniform(100, 1000, IONS))
    y0, x0 = rng.uniform(0, 1, (2, IONS))
    np.save(axis, ions)
    if path.exists():
        return str(path), str(axis)
    with ImzMLWriter(
        str(path), mode="processed", mz_dtype=np.float64, intensity_dtype=np.float32
    ) as writer:
        for y, x in np.ndindex(side, side):
            near = 0.55 * np.exp(-3 * ((y0 - y / side) ** 2 + (x0 - x / side) ** 2))
            real = np.flatnonzero(rng.random(IONS) < near)[:640]
            ppm = rng.normal(0, 0.5) + rng.normal(0, 0.7, len(real))
            noise = rng.uniform(100, 1000, max(len(real) // 4, 800 - len(real)))
            mz = np.sort(np.concatenate([ions[real] * (1 + 1e-6 * ppm), noise]))
            intensity = rng.gamma(2, 100, len(mz)).astype(np.float32)
            writer.addSpectrum(mz, intensity, (x + 1, y + 1, 1))
    return str(path), str(axis)


def same(folder: Path, store: dict[str, str]) -> None:
    """RuntimeError unless the store holds what the loop wrote."""
    arguments: dict[str, Any] = {"checked": True, **store}
    stored = repeated(f"{SIDES}:cube", 1, **arguments).result["cube"]
    expected = np.load(folder / "out.npy")
    if not np.allclose(stored, expected, rtol=1e-6):
        raise RuntimeError("the store does not hold what the loop wrote")


def import_s(times: int) -> float:
    """Median seconds of an interpreter that imports what ingest needs."""
    import time

    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import msiscale, msiscale.msi"], check=True)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def environment(folder: Path, needs: tuple[str, ...]) -> str:
    """The interpreter of an environment that holds `needs`."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *needs], check=True)
    return str(python)
