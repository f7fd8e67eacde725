"""The sides of the ingest benchmark put the same numbers on the same axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common.phantoms import imzml
from benchmarks.ingest import sides


def test_all_sides_make_the_same_cube(tmp_path: Path) -> None:
    path, axis = imzml(tmp_path, 6)
    one, two = str(tmp_path / "one.npy"), str(tmp_path / "two.npy")
    sides.script(path, axis, one)
    sides.vectorised(path, axis, two)
    ours = sides.cube(path, axis, str(tmp_path / "out.zarr"), checked=True)["cube"]
    expected = np.load(one)
    assert expected.any()
    np.testing.assert_array_equal(np.load(two), expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_the_axis_that_is_found_holds_the_ions(tmp_path: Path) -> None:
    path, axis = imzml(tmp_path, 24)
    found, ions = sides.peaks(path)["mz"], np.load(axis)
    near = np.abs(found[np.abs(found[:, None] - ions).argmin(0)] / ions - 1) < 3e-6
    assert near.mean() > 0.5  # of so few pixels the weak ones are not found
