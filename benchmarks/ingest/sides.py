"""What `ingest` measures: each function runs in a process of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pyimzml.ImzMLParser import ImzMLParser

from msiscale import msi
from msiscale.grid import blocks
from msiscale.store import create_array, open_group, write_block
from msiscale.store.written import recording

LIBRARIES = ("msiscale.pipeline.ingest", "scipy.signal")
PPM = 5.0
Figures = dict[str, Any]


def script(path: str, axis: str, out: str) -> None:
    """The loop that everybody writes: pyimzML, searchsorted, bincount, and a bare array."""
    mz = np.load(axis)
    parser = ImzMLParser(path)
    borders = (mz[1:] + mz[:-1]) / 2
    cube = np.zeros((len(parser.coordinates), len(mz)), np.float32)
    for i in range(len(cube)):
        peaks, intensity = parser.getspectrum(i)
        nearest = np.searchsorted(borders, peaks)
        hit = np.abs(peaks - mz[nearest]) <= mz[nearest] * PPM * 1e-6
        cube[i] = np.bincount(nearest[hit], intensity[hit], minlength=len(mz))
    np.save(out, cube)


def vectorised(path: str, axis: str, out: str) -> None:
    """One regular expression over the XML, one read of the .ibd: the least that could be done."""
    mz = np.load(axis)
    text = Path(path).read_bytes()
    found = re.findall(rb'IMS:1000102"[^>]*value="(\d+)"', text)
    lengths = re.findall(rb'IMS:1000103"[^>]*value="(\d+)"', text)
    offset = np.array(found, np.int64).reshape(-1, 2)
    count = np.array(lengths, np.int64).reshape(-1, 2)[:, 0]
    data = np.fromfile(Path(path).with_suffix(".ibd"), np.uint8)
    borders = (mz[1:] + mz[:-1]) / 2
    cube = np.empty((len(count), len(mz)), np.float32)
    for i, ((a, b), n) in enumerate(zip(offset.tolist(), count.tolist(), strict=True)):
        peaks, intensity = data[a : a + 8 * n].view("<f8"), data[b : b + 4 * n].view("<f4")
        nearest = np.searchsorted(borders, peaks)
        hit = np.abs(peaks - mz[nearest]) <= mz[nearest] * PPM * 1e-6
        cube[i] = np.bincount(nearest[hit], intensity[hit], minlength=len(mz))
    np.save(out, cube)


def write_cube(source: Any, mz: np.ndarray, out: str) -> zarr.Array[Any]:
    """A source on an axis, as the pipeline stores it: blocks of 64 pixels, a shard each."""
    shutil.rmtree(out, ignore_errors=True)
    chunks, _ = msi.layout(source.shape, len(mz))
    array = create_array(
        open_group(out, "a"),
        "intensity",
        (*source.shape, len(mz)),
        ("y", "x", "mz"),
        chunks=chunks,
        shards=(64, 64, len(mz)),
    )
    for block in blocks(source.shape, (64, 64)):
        values, _ = msi.cube_block(source, mz, block, tolerance_ppm=PPM)
        write_block(array, block, values)
    return array


def cube(path: str, axis: str, out: str, checked: bool = False) -> Figures:
    """The engine: XML to compressed shards with checksums of chunks and of blocks."""
    source = msi.open_source(path)
    with recording(out):
        array = write_cube(source, np.load(axis), out)
    if not checked:
        return {}
    stored = np.asarray(array[...])
    return {"cube": stored[source.positions[:, 0], source.positions[:, 1]]}


def peaks(path: str) -> Figures:
    """Finding an axis: one pass over the file, and the choice."""
    sums = msi.peak_sums(msi.open_source(path), tolerance_ppm=PPM)
    return {"mz": msi.find_axis({"one": sums}, tolerance_ppm=PPM)["mz"].values}


def imports() -> None:
    """Nothing: what a process costs that only imports the package."""
