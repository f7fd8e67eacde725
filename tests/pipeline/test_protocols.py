"""Validation protocols side by side, robustness and the study's switches, as commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import CHOICES, msiscale

from msiscale.store import open_group, read

pytestmark = pytest.mark.usefixtures("shared_cluster")
ALL = [*CHOICES[:-1], "leave_one_patient_out,spatial_blocks,pixel_folds"]
MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi", "cancer_from_he_modes")


@pytest.fixture(scope="module")
def compared(
    cohort: Path, finished: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("protocols") / "run"
    shutil.copytree(finished, out)
    words = ["--jitter", "0,0.5", "--null", "1", *ALL]
    said = msiscale("fit", cohort, "--out", out, *words)
    assert said.code == 0, said.err
    # 4 µm a pixel: the encoder sees 3.5 mm, and a block is 1 mm
    assert "spatial_blocks is left out: the encoder sees too far" in said.err
    said = msiscale("robustness", cohort, "--out", out, *words)
    assert said.code == 0, said.err
    return out


def headline(out: Path) -> pd.Series:
    found = pd.read_csv(out / "metrics.csv")
    found = found[found["specimen"] == "all"]
    return found.set_index(["protocol", "model", "target", "metric"])["value"].sort_index()


def test_what_leakage_is_worth_stands_beside_the_headline(finished: Path, compared: Path) -> None:
    found = headline(compared)
    for model in MODELS:
        for metric in (
            "auc",
            "prevalence",
            "majority_accuracy",
            "calibration_error",
            "auc_swapped",
            "dice_chosen",
            "threshold",
        ):
            for protocol in ("leave_one_patient_out", "pixel_folds"):
                assert 0 <= found[protocol, model, "cancer", metric] <= 1
    r2 = found[:, "msi_from_he", "weighted", "r2"]
    assert r2["pixel_folds"] > r2["leave_one_patient_out"]
    # the headline is what it was without the others beside it
    before = headline(finished)
    pd.testing.assert_series_equal(found.loc[before.index], before)


def test_every_pixel_is_predicted_by_a_fold_that_did_not_train_on_it(compared: Path) -> None:
    for name in ("S01", "S02", "S03"):
        one = open_group(str(compared / "predictions.zarr" / name))
        for model in MODELS:
            both = read(one, model), read(one, f"pixel_folds/{model}")
            np.testing.assert_array_equal(*map(np.isfinite, both))
            assert not np.array_equal(*both, equal_nan=True)
    assert not (compared / "state.zarr" / "protocols").exists()


def test_means_over_patients_stand_beside_pooled_values(compared: Path) -> None:
    found = pd.read_csv(compared / "intervals.csv")
    assert {"auc", "average_precision", "brier", "r2"} <= set(found["metric"])
    assert (found["low"] <= found["high"]).all()
    assert set(found["estimand"]) == {"mean_over_patients", "pooled"}
    assert set(found["patients"]) == set(found["of"]) == {3} and not found["trusted"].any()
    metrics = pd.read_csv(compared / "metrics.csv")
    assert metrics["why"].isna().all()  # every fold was trained
    key = ["protocol", "model", "target", "metric"]
    each = metrics[metrics["specimen"] != "all"].groupby(key)["value"].mean()
    means = found[found["estimand"] == "mean_over_patients"].set_index(key)["value"]
    pd.testing.assert_series_equal(means, each.loc[means.index], rtol=1e-9)
    pooled = found[found["estimand"] == "pooled"].set_index(key)["value"]
    pd.testing.assert_series_equal(pooled, headline(compared).loc[pooled.index])
    pairs = pd.read_csv(compared / "comparisons.csv")
    equal = pairs[pairs["against"] == "cancer_from_he_modes"]
    assert set(equal["model"]) == {"cancer_from_predicted_msi"}
    outside = (pairs["low"] > 0) | (pairs["high"] < 0)
    assert ((pairs["p"] < 0.05) == outside).all() and (pairs["p_holm"] >= pairs["p"]).all()
    curve = pd.read_csv(compared / "reliability.csv")
    assert (np.diff(curve.groupby(["protocol", "model"])["n"].sum()) == 0).all()


def test_a_misplaced_slide_and_chance_are_told_from_the_real_thing(compared: Path) -> None:
    table = pd.read_csv(compared / "robustness.csv")
    value = table.set_index(["test", "level", "draw", "model", "metric", "target"])["value"]
    real = headline(compared)["leave_one_patient_out"]
    for model in MODELS:
        same = value["jitter", 0.0, 0, model, "auc", "cancer"]
        assert same == pytest.approx(real[model, "cancer", "auc"], abs=1e-4)
    mode = ("r2", "mode_000")
    assert (
        value["jitter", 0.5, 0, "msi_from_he", *mode]
        < value["jitter", 0.0, 0, "msi_from_he", *mode]
    )
    assert (
        value["null_labels", 0.0, 0, "cancer_from_msi", "auc", "cancer"]
        < real["cancer_from_msi", "cancer", "auc"]
    )
    assert set(table.loc[table["test"] == "null_registration", "draw"]) == {0, 1, 2}
    again = (compared / "robustness.csv").stat().st_mtime_ns
    assert again  # kept until a fit changes


@pytest.mark.slow(reason="a dozen fits of the whole cohort")
def test_the_switches_of_the_study_one_at_a_time(cohort: Path, compared: Path) -> None:
    said = msiscale("ablate", cohort, "--out", compared, *ALL)
    assert said.code == 0, said.err
    table = pd.read_csv(compared / "switches.csv")
    assert set(table["switch"]) == {
        "raw_intensities",
        "background_kept",
        "tiles_without_context",
        "pca_of_all",
        "pca_incremental",
        "pca_of_a_quarter",
        "standard_scaler",
        "test_rows_scaled_by_themselves",
        "no_penalty",
        "scores_not_calibrated",
        "c_of_one",
        "hard_labels",
        "mean_over_folds",
        "published",
    }
    assert np.allclose(table["change"], table["value"] - table["base"], atol=1e-5)
    changed = table[table["change"].abs() > 1e-6].groupby("switch").size()
    assert set(changed.index) == set(table["switch"])  # each does something
    kept = {p.suffix for p in (compared / "switches").iterdir()}
    assert kept == {".csv"}
    when = {p: p.stat().st_mtime_ns for p in (compared / "switches").iterdir()}
    assert msiscale("ablate", cohort, "--out", compared, *ALL).code == 0
    assert {p: p.stat().st_mtime_ns for p in (compared / "switches").iterdir()} == when


def test_blocks_choose_the_penalties_where_two_patients_are_left(
    cohort: Path, finished: Path, tmp_path: Path
) -> None:
    folds = open_group(str(finished / "state.zarr" / "folds"))
    assert {dict(group.attrs)["alpha_by"] for _, group in folds.groups()} == {"blocks"}
    shutil.copytree(finished, tmp_path / "run")
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    alone = cohort.parent / "alone.csv"
    rows[:1].to_csv(alone, index=False)
    words = [*CHOICES[:-1], "spatial_blocks"]
    said = msiscale("fit", alone, "--out", tmp_path / "run", *words)
    alone.unlink()
    assert said.code == 0, said.err
    assert "one patient only, so blocks of the specimens are held out" in said.err
    assert "penalties are chosen on blocks that touch" in said.err  # it sees 3.5 mm
    model = open_group(str(tmp_path / "run" / "model.zarr"))
    assert np.isfinite(read(model, "cancer_from_he_coef")).all()


def test_colour_stands_beside_every_model(compared: Path) -> None:
    found = headline(compared)
    for protocol in ("leave_one_patient_out", "pixel_folds"):
        assert 0.5 < found[protocol, "cancer_from_colour", "cancer", "auc"] <= 1
        assert found[protocol, "msi_from_colour", "weighted", "r2"] < 1
    pairs = pd.read_csv(compared / "comparisons.csv").set_index(["protocol", "model", "against"])
    row = pairs.loc[("leave_one_patient_out", "msi_from_he", "msi_from_colour")]
    one, other = (
        found["leave_one_patient_out", model, "weighted", "r2"]
        for model in ("msi_from_he", "msi_from_colour")
    )
    assert row["pooled_difference"] == pytest.approx(one - other, abs=1e-9)
    assert row["low"] <= row["difference"] <= row["high"]
    assert (row["unit"], row["units"], row["patients"]) == ("patients", 3, 3)
