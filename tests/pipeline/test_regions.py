"""Predicted cancer of a cohort as regions: out of fold, and outside the annotation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from commands import CHOICES, msiscale

from msiscale.models.novelty import Limits
from msiscale.pipeline.novelty import extrapolated
from msiscale.pipeline.withdraw import withdraw
from msiscale.prediction.secondary import COLUMNS
from msiscale.store import open_group


def test_the_table_is_what_the_maps_say(finished: Path) -> None:
    table = pd.read_csv(finished / "secondary_regions.csv")
    assert tuple(table.columns) == COLUMNS and len(table)
    limits = Limits.load(open_group(str(finished / "model.zarr" / "novelty")))
    assert limits.by == "leave_one_patient_out"
    for name in ("S01", "S02", "S03"):
        maps = xr.open_zarr(str(finished / "predictions.zarr" / name), consolidated=False)
        source = xr.open_zarr(str(finished / "cohort.zarr" / name), consolidated=False)
        models = [maps[f"cancer_from_{m}"].values for m in ("msi", "he", "predicted_msi")]
        together = np.mean(models, axis=0)
        cuts = [
            maps.attrs["thresholds"][f"cancer_from_{m}"] for m in ("msi", "he", "predicted_msi")
        ]
        about = [
            p * (1 - t) / (p * (1 - t) + (1 - p) * t) for p, t in zip(models, cuts, strict=True)
        ]
        outside = (np.nan_to_num(np.mean(about, axis=0)) >= 0.5) & (source["cancer"].values < 0.5)
        own = table[table["specimen"] == name]
        assert own["area_um2"].sum() <= outside.sum() * 1e4
        assert (own["area_um2"] >= 20_000).all() and (own["mean_probability"] > min(cuts) / 2).all()
        matrix = np.linalg.inv(np.array(source.attrs["matrix"]))
        for row in own.itertuples():  # its centroid is on the grid, near pixels of its kind
            x, y, _ = matrix @ [row.x_px, row.y_px, 1]
            yy, xx = np.nonzero(outside)
            assert np.hypot(yy - y, xx - x).min() < 2
        unlike = extrapolated(str(finished / "predictions.zarr" / name), limits)
        distance = maps["feature_distance"].values
        assert (np.isfinite(distance) == np.isfinite(together)).all()
        assert 0 <= unlike.mean() < 0.2  # one in a hundred, or a place
        found = json.loads((finished / "regions" / f"{name}.geojson").read_text())["features"]
        kinds = [f["properties"]["classification"]["name"] for f in found]
        assert kinds.count("Tumor: Secondary") == len(own) and kinds.count("Tumor: Predicted")


def test_the_limits_are_those_of_patients_left_out(finished: Path) -> None:
    limits = Limits.load(open_group(str(finished / "model.zarr" / "novelty")))
    quantiles = []
    for name in ("S01", "S02", "S03"):  # a patient each, and of nearly as many pixels
        group = xr.open_zarr(str(finished / "predictions.zarr" / name), consolidated=False)
        values = group["feature_distance"].values
        quantiles.append(values[np.isfinite(values)])
    expected = np.quantile(np.concatenate(quantiles), [0.5, 0.9])
    np.testing.assert_allclose(
        [limits.distance["0.5"], limits.distance["0.9"]], expected, rtol=0.02
    )
    assert limits.distance["0.5"] > 1.05  # not seen in training: farther than its own 1


def test_another_area_makes_regions_anew_and_nothing_else(
    cohort: Path, finished: Path, shared_cluster: None, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    stamp = (out / "metrics.csv").stat().st_mtime_ns
    words = ["--out", out, "--region-um2", "60000", *CHOICES]
    said = msiscale("regions", cohort, *words)
    assert said.code == 0, said.err
    before, after = (pd.read_csv(d / "secondary_regions.csv") for d in (finished, out))
    assert (after["area_um2"] >= 60_000).all() and len(after) < len(before)
    assert (out / "metrics.csv").stat().st_mtime_ns == stamp
    withdraw(str(out), ["S02"])
    left = [p.name for p in out.iterdir()]
    assert "regions" not in left and "secondary_regions.csv" not in left
    assert not (out / "state.zarr" / "novelty").exists()
