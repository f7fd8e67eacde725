"""A larger specimen, the same memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from exported import build

from msiscale.export import export

MZ = np.linspace(400, 900, 150)


# a shard of an OME-Zarr is 128 MSI pixels on a side, and they lie at an angle
@pytest.mark.parametrize(
    ("form", "sides"),
    [
        ("parquet", (96, 192)),
        pytest.param(
            "imzml", (128, 192), marks=pytest.mark.slow(reason="a large specimen written twice")
        ),
        pytest.param(
            "ome-zarr", (192, 288), marks=pytest.mark.slow(reason="a large specimen written twice")
        ),
    ],
)
def test_memory_does_not_grow_with_the_specimen(
    tmp_path: Path, form: str, sides: tuple[int, int]
) -> None:
    words = {"slides": False} if form == "ome-zarr" else {}
    peaks = {}
    for side in (20, *sides):  # the first for imports and caches
        run = str(tmp_path / str(side) / "run")
        build(run, (side, side), MZ, "A")
        tracemalloc.start()
        export(run, str(tmp_path / str(side) / "out"), form, **words)
        peaks[side] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    small, large = sides
    # maps of the whole specimen: which pixels are known, and their rank
    allowed = 24 * (large**2 - small**2)
    assert peaks[large] < 1.1 * peaks[small] + allowed, peaks
    assert allowed < 0.1 * (large**2 - small**2) * 4 * len(MZ)  # far less than their spectra
