"""A run and a prediction to export, and a Python that has the other tools."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from exported import MODES, MZ, build, other_environment

from msiscale.store import Ledger, join, open_group, put


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A and B finished, C failed."""
    out = str(tmp_path_factory.mktemp("exported") / "run")
    build(out)
    return out


@pytest.fixture(scope="session")
def slide_run(run: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of `msiscale predict`: one slide, N."""
    out = str(tmp_path_factory.mktemp("predicted") / "out")
    rng, shape = np.random.default_rng(4), (30, 40)
    open_group(join(out, "predictions.zarr"), "a")
    group = open_group(join(out, "predictions.zarr", "N"), "a")
    scores = rng.normal(0, 2, (*shape, MODES)).astype(np.float32)
    scores[:4] = np.nan
    put(group, "predicted_scores", scores, ("y", "x", "component"))
    components = rng.normal(size=(MODES, len(MZ))).astype(np.float32)
    put(group, "components", components, ("component", "mz_axis"))
    put(group, "mean", rng.gamma(2, 3, len(MZ)).astype(np.float32), ("mz_axis",))
    put(group, "mz_axis", MZ, ("mz_axis",))
    put(group, "cancer_from_he", rng.random(shape).astype(np.float32), ("y", "x"))
    matrix = np.array([[25.0, 0, 12.5], [0, 25, 12.5], [0, 0, 1]])
    model = join(run, "model.zarr")
    facts = {"matrix": matrix.tolist(), "pixel_um": 50.0, "slide": "gone.svs", "model": model}
    group.attrs.update(facts)
    for stage in ("predict", "outline"):
        Ledger(out).write(stage, "N", "d", "done")
    return out


@pytest.fixture(scope="session")
def other_python() -> str:
    """A Python with anndata, spatialdata and ome-zarr, which need older dask and pandas."""
    if all(find_spec(name) for name in ("anndata", "spatialdata", "ome_zarr")):
        return sys.executable
    try:
        return other_environment(Path(__file__).parents[2] / "build" / "export-venv")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no environment with spatialdata can be made: {error.stderr[-300:]}")
