"""A slide without MSI: what the model says of it, on any grid, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from commands import msiscale
from PIL import Image

from msiscale.models.metrics import classification_metrics


def test_prediction_of_a_training_slide_finds_its_cancer(
    cohort: Path, finished: Path, tmp_path: Path
) -> None:
    slide, out = cohort.parent / "S01.tiff", tmp_path / "predicted"
    model = finished / "model.zarr"
    said = msiscale("predict", model, slide, "--out", out, "--mz", "788.6164", "--workers", "1")
    assert said.code == 0, said.err
    found = xr.open_zarr(str(out / "predictions.zarr" / "S01"), consolidated=False)
    assert found["cancer_from_he"].dims == ("y", "x")
    assert found["predicted_intensity"].dims == ("y", "x", "mz")
    assert float(found["predicted_intensity"].min()) >= 0
    assert np.diff(found["x"]).round(6).tolist() == [100.0] * (found.sizes["x"] - 1)
    with Image.open(out / "S01.png") as picture:
        assert min(picture.size) > 100
    # the annotation lives on the MSI grid: look the prediction up under each MSI pixel
    specimen = xr.open_zarr(str(finished / "cohort.zarr" / "S01"), consolidated=False)
    cancer = specimen["cancer"].values
    y, x = np.mgrid[: cancer.shape[0], : cancer.shape[1]]
    matrix = np.array(specimen.attrs["matrix"])
    level0 = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    grid = np.linalg.inv(np.array(found.attrs["matrix"])) @ level0
    column, row = (np.rint(v).astype(int).clip(0) for v in grid[:2])
    values = found["cancer_from_he"].values
    inside = (row < values.shape[0]) & (column < values.shape[1])
    at = np.full(x.size, np.nan)
    at[inside] = values[row[inside], column[inside]]
    assert classification_metrics(cancer.ravel(), at)["auc"] > 0.9


def test_other_weights_are_refused(finished: Path, cohort: Path, tmp_path: Path) -> None:
    words = ["--out", tmp_path / "x", "--weights", "random:1"]
    said = msiscale("predict", finished / "model.zarr", cohort.parent / "S01.tiff", *words)
    assert said.code == 1 and "--weights" in said.err


def test_a_bad_slide_does_not_stop_the_others(finished: Path, cohort: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(b"not a slide")
    out = tmp_path / "out"
    said = msiscale(
        "predict", finished / "model.zarr", bad, cohort.parent / "S02.tiff", "--out", out
    )
    assert said.code == 3 and "bad.tiff" in said.err
    assert (out / "S02.png").exists()
