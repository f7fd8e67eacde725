"""Real imzML files through axis and cube; with snr 0, as some hold only a handful of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale import msi
from msiscale.grid import Block

FILES = (
    "example_continuous/Example_Continuous.imzML",
    "example_processed/Example_Processed.imzML",
    "galaxy_112_auto_combined/112_auto_combined.imzml",
    "galaxy_combat_40pixel/Combat_40pixel.imzML",
    "galaxy_spatial_dgmm_input/spatial_DGMM_input.imzML",
    "imzy_simple/simple_imzml.imzML",
    "matrixtests_n2/MatrixTests_N2.imzML",
    "metaspace_untreated_tiny/Untreated_3_434_tiny.imzML",
    "test_m2aia/test.imzML",
)


@pytest.mark.parametrize("name", FILES)
def test_axis_and_cube(shared_data: Path, name: str) -> None:
    path = shared_data / "imzml" / name
    source = msi.open_source(str(path), pixel_um=100.0)
    sums = msi.peak_sums(source)
    axis = msi.find_axis({"s": sums}, snr=0.0)["mz"].values
    assert axis.size and (np.diff(axis) > 0).all()
    whole = Block(0, source.shape[0], 0, source.shape[1])
    cube, norm = msi.cube_block(source, axis, whole, normalise="tic")
    y, x = source.positions.T
    measured = np.zeros(source.shape, bool)
    measured[y, x] = True
    assert np.isnan(cube[~measured]).all() and np.isnan(norm[~measured]).all()
    blank = np.array([source.read(np.array([i])).intensity.sum() == 0 for i in range(len(y))])
    assert np.isfinite(cube[y[~blank], x[~blank]]).all()
    # shares of the ion current: whatever the axis takes, never more than all of it
    assert 0 < np.nanmax(cube.sum(axis=2)) <= 1 + 1e-5
