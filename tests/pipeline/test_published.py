"""The PCA of the study in a run: one for all folds, in batches of 200, as scikit-learn has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import CHOICES, CHOSEN, msiscale
from sklearn.decomposition import IncrementalPCA

from msiscale.config import STUDY
from msiscale.pipeline import run as run_stages
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


def test_background_hard_labels_and_means_over_folds(cohort: Path, run_copy: Path) -> None:
    study = {n: v for n, v in STUDY.items() if n not in ("normalise", "feature_mode", "protocols")}
    choices = {**CHOSEN, **study, "components": 20}
    stages = ("register", "features", "fit")
    result = run_stages(str(cohort), str(run_copy), stages=stages, workers=1, **choices)
    assert not result.failed
    for name in ("S01", "S02", "S03"):
        table = PixelRows.open(str(run_copy / "cohort.zarr" / name), "", min_coverage=0.5)
        group = open_group(str(run_copy / "cohort.zarr" / name))
        assert read(group, "tissue").all()
        on_slide = np.nan_to_num(read(group, "coverage")) >= 0.5
        assert (table.mask == np.isfinite(read(group, "norm")) & on_slide).all()
        fraction = [rows[1] for rows in (b.rows() for b in table.labelled("colour", name))]
        hard = [rows[1] for rows in (b.rows() for b in table.labelled("colour", name, hard=True))]
        assert set(np.concatenate(hard)) <= {0, 1}
        np.testing.assert_array_equal(np.concatenate(hard), np.concatenate(fraction) >= 0.5)
        predicted = read(open_group(str(run_copy / "predictions.zarr" / name)), "cancer_from_he")
        np.testing.assert_array_equal(np.isfinite(predicted), table.mask)
    after = pd.read_csv(run_copy / "metrics.csv")
    pooled = after[(after["specimen"] == "all") & (after["target"] == "cancer")]
    assert set(pooled["fold"]) == {"mean"}
    auc = pooled[pooled["metric"] == "auc"].set_index("model")["value"]
    own = after[(after["specimen"] != "all") & (after["metric"] == "auc")]
    for model, value in auc.items():  # here a fold is a specimen
        assert value == pytest.approx(own.loc[own["model"] == model, "value"].mean())
    folds = open_group(str(run_copy / "state.zarr" / "folds"))
    assert {dict(read_attrs.attrs)["C"] for _, read_attrs in folds["0000"].groups()} == {1.0}  # type: ignore[union-attr]


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:

    return Path(shutil.copytree(finished, tmp_path / "run"))
