"""The PCA of the study in a run: one for all folds, in batches of 200, as scikit-learn has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import CHOICES, msiscale
from sklearn.decomposition import IncrementalPCA

from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import open_group, read


def test_incremental_pca_is_that_of_scikit_learn(
    finished: Path, cohort: Path, run_copy: Path
) -> None:
    said = msiscale(
        "fit", cohort, "--out", run_copy, "--workers", "1", *CHOICES, "--pca", "incremental"
    )
    assert said.code == 0, said.err
    tables = [
        PixelRows.open(str(run_copy / "cohort.zarr" / name), "", min_coverage=0.5)
        for name in ("S01", "S02", "S03")
    ]
    rows = np.concatenate([t.rows("intensity", c) for t in tables for c in t.cells])
    expected = IncrementalPCA(20, batch_size=200).fit(rows.astype(np.float64))
    model = open_group(str(run_copy / "model.zarr"))
    found = read(model, "pca_components")
    np.testing.assert_allclose(read(model, "pca_mean"), expected.mean_, rtol=1e-4, atol=1e-6)
    leading = np.abs((found[:3] * expected.components_[:3]).sum(axis=1))
    np.testing.assert_allclose(leading, 1, atol=1e-3)
    exact = open_group(str(finished / "model.zarr"))
    assert not np.array_equal(found, read(exact, "pca_components"))
    folds = open_group(str(run_copy / "state.zarr" / "folds"))
    one, other = (read(folds[f"000{i}"], "components") for i in range(2))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, other)


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:

    return Path(shutil.copytree(finished, tmp_path / "run"))
