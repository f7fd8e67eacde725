"""A slide without MSI: what the model says of it, on any grid, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from commands import CHOSEN, Said, msiscale
from PIL import Image

import msiscale as ms
from msiscale.models.metrics import classification_metrics
from msiscale.slide.annotations import label_fraction, read_annotation
from msiscale.store import HeldOut, open_group, read

pytestmark = pytest.mark.usefixtures("shared_cluster")
MZ = 788.6164
STAIN = np.array([0.3, 0.8, 1.2])  # brown in the place of violet

OWN = ["--encoder", str(CHOSEN["encoder"])]  # code of a user: named again, or refused


@pytest.fixture(scope="module")
def predicted(
    cohort: Path, finished: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Said, Path]:
    """A training slide, the same in another stain and with its colours inverted."""
    folder, out = tmp_path_factory.mktemp("slides"), tmp_path_factory.mktemp("predicted") / "out"
    pixels = tifffile.imread(cohort.parent / "S01.tiff", key=0)
    brown = 255 - (255 - pixels.mean(axis=-1, keepdims=True)) * STAIN
    Image.fromarray(brown.clip(0, 255).astype(np.uint8)).save(folder / "brown.png")
    Image.fromarray(255 - pixels).save(folder / "inverted.png")
    slides = cohort.parent / "S01.tiff", folder / "brown.png", folder / "inverted.png"
    words = ["--out", out, "--slide-mpp", "4", "--mz", str(MZ), "--region-um2", "10000", *OWN]
    said = msiscale("predict", finished / "model.zarr", *slides, *words)
    assert said.code == 0, said.err
    return said, out


def opened(out: Path, name: str) -> xr.Dataset:
    return xr.open_zarr(str(out / "predictions.zarr" / name), consolidated=False)


def test_prediction_of_a_training_slide_finds_its_cancer(
    predicted: tuple[Said, Path], finished: Path
) -> None:
    found = opened(predicted[1], "S01")
    assert found["cancer_from_he"].dims == ("y", "x")
    assert found["predicted_intensity"].dims == ("y", "x", "mz")
    assert float(found["predicted_intensity"].min()) >= 0
    assert np.diff(found["x"]).round(6).tolist() == [100.0] * (found.sizes["x"] - 1)
    log_odds = found["cancer_from_he_log_odds"].values
    expected = 1 / (1 + np.exp(-log_odds))
    np.testing.assert_allclose(found["cancer_from_he"], expected, atol=1e-6)
    with Image.open(predicted[1] / "S01.png") as picture:
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


def test_another_stain_is_farther_from_the_training(predicted: tuple[Said, Path]) -> None:
    """Whether it is flagged: tests/prediction/test_foreign.py, with enough pixels to tell."""
    medians = {}
    for name in ("S01", "brown", "inverted"):
        found = opened(predicted[1], name)
        assert found["extrapolated"].dtype == bool
        tissue = np.isfinite(found["feature_distance"].values)
        np.testing.assert_array_equal(tissue, np.isfinite(found["cancer_from_he"].values))
        np.testing.assert_array_equal(tissue, np.isfinite(found["feature_unexplained"].values))
        assert not found["extrapolated"].values[~tissue].any()
        assert tissue.sum() > 200
        names = ("feature_distance", "feature_unexplained")
        medians[name] = [float(np.nanmedian(found[n].values)) for n in names]
    for i in range(2):
        assert medians["S01"][i] < 0.8 * min(medians["brown"][i], medians["inverted"][i]), medians


def test_regions_are_the_map_as_qupath_opens_it(predicted: tuple[Said, Path]) -> None:
    found = opened(predicted[1], "S01")
    url = predicted[1] / "regions" / "S01.geojson"
    both = [found[m].values for m in ("cancer_from_he", "cancer_from_predicted_msi")]
    cuts = [found.attrs["thresholds"][m] for m in ("cancer_from_he", "cancer_from_predicted_msi")]
    about = [p * (1 - t) / (p * (1 - t) + (1 - p) * t) for p, t in zip(both, cuts, strict=True)]
    mask = np.nan_to_num(np.mean(about, axis=0)) >= 0.5
    matrix = np.array(found.attrs["matrix"])
    regions = read_annotation(url, (10_000, 10_000))
    fraction = label_fraction(regions, matrix, mask.shape)
    assert mask.sum() > 10
    np.testing.assert_array_equal(fraction >= 0.499, mask)  # of a pixel's area or more
    for feature in json.loads(url.read_text())["features"]:
        said = feature["properties"]["measurements"]
        assert said["Area µm^2"] >= 10_000 and min(cuts) / 2 <= said["mean_probability"] <= 1
        assert 0 <= said["extrapolated_share"] <= 1


def test_a_prevalence_moves_the_probabilities_and_calls_the_same_pixels(
    predicted: tuple[Said, Path], finished: Path, cohort: Path, tmp_path: Path
) -> None:
    out, slide = tmp_path / "rare", cohort.parent / "S01.tiff"
    words = ["--out", out, "--slide-mpp", "4", "--region-um2", "10000", *OWN]
    said = msiscale("predict", finished / "model.zarr", slide, *words, "--prevalence", "0.01")
    assert said.code == 0, said.err
    usual, rare = opened(predicted[1], "S01"), opened(out, "S01")
    for name in ("cancer_from_he", "cancer_from_predicted_msi"):
        held = usual.attrs["prevalence"][name]
        assert 0.01 < held < 0.5 and rare.attrs["prevalence"][name] == 0.01
        shift = np.log(0.01 / 0.99) - np.log(held / (1 - held))
        moved = rare[f"{name}_log_odds"] - usual[f"{name}_log_odds"]
        np.testing.assert_allclose(moved.values[np.isfinite(moved)], shift, atol=1e-4)
        cuts = [one.attrs["thresholds"][name] for one in (usual, rare)]
        odds = [np.log(cut / (1 - cut)) for cut in cuts]
        assert odds[1] - odds[0] == pytest.approx(shift, abs=1e-6)
    places = [
        [f["geometry"] for f in json.loads((d / "regions" / "S01.geojson").read_text())["features"]]
        for d in (predicted[1], out)
    ]
    assert places[0] == places[1] and places[0]


def test_ion_images_come_afterwards_from_the_scores(
    predicted: tuple[Said, Path], tmp_path: Path
) -> None:
    url = predicted[1] / "predictions.zarr" / "S01"
    stored = opened(predicted[1], "S01")["predicted_intensity"]
    images = ms.predicted_intensity(str(url), MZ)
    np.testing.assert_allclose(images, stored, rtol=1e-5, atol=1e-7)
    said = msiscale("ion-image", url, "--mz", f"{MZ}", "--out", tmp_path / "ion.png")
    assert said.code == 0 and (tmp_path / "ion.png").exists(), said.err
    said = msiscale("ion-image", url, "--mz", "111.1", "--out", tmp_path / "no.png")
    assert said.code == 1 and "the nearest is" in said.err and said.err.count("\n") == 1


def test_every_prediction_has_its_bounds(predicted: tuple[Said, Path], finished: Path) -> None:
    found = opened(predicted[1], "S01")
    margins = open_group(str(finished / "model.zarr" / "margins"))
    assert dict(margins.attrs) == {"level": 0.9, "patients": 3}
    scale = np.sqrt((1 + found["feature_distance"].values ** 2) / 2)
    axis = read(open_group(str(finished / "model.zarr")), "mz")
    ion = float(read(margins, "intensity")[np.abs(axis - MZ).argmin()])
    for name, margin, limits in (
        ("cancer_from_he", float(read(margins, "cancer_from_he")), (0, 1)),
        ("cancer_from_predicted_msi", float(read(margins, "cancer_from_predicted_msi")), (0, 1)),
        ("predicted_intensity", ion, (0, np.inf)),
    ):
        values = found[name].values.squeeze()
        for ending, sign in (("lower", -1), ("upper", 1)):
            expected = np.clip(values + sign * margin * scale, *limits)
            bound = found[f"{name}_{ending}"].values.squeeze()
            np.testing.assert_allclose(bound, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["intensity_margin"], read(margins, "intensity"))
    assert found["scores_margin"].sizes == {"component": found.sizes["component"]}


def test_the_margins_hold_for_patients_that_were_held_out(finished: Path) -> None:
    margins = open_group(str(finished / "model.zarr" / "margins"))
    covered = []
    for name in ("S01", "S02", "S03"):
        held = HeldOut(str(finished), name)
        wanted = slice(0, len(held.mz))
        scale = np.sqrt((1 + held.stored.read("feature_distance")[held.held] ** 2) / 2)
        guess = np.maximum(held.predicted(wanted), 0)
        inside = np.abs(held.measured(wanted) - guess)
        inside = inside <= read(margins, "intensity") * scale[:, None]
        covered.append(np.where(held.supported, inside.mean(axis=0), np.nan))
    # as many as of new patients, and somewhat more: the margins know these
    assert 0.87 < np.nanmean(covered) < 0.99


def test_ions_that_h_and_e_does_not_tell_are_drawn_by_name_only(
    predicted: tuple[Said, Path], finished: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(finished / "ions.csv", keep_default_na=False)
    unread = table.loc[table["tier"] == "C", "mz"].iloc[0]
    assert set(table["tier"]) & {"A", "B"}
    for url in (predicted[1] / "predictions.zarr" / "S01", finished / "predictions.zarr" / "S02"):
        out = tmp_path / f"{url.name}.zarr"
        said = msiscale("ion-image", url, "--out", out)
        assert said.code == 0 and "--mz draws the" in said.err, said.err
        drawn = xr.open_zarr(str(out), consolidated=False)
        tiers = table.set_index(table["mz"].round(4))["tier"]
        assert set(tiers.loc[drawn["mz"].values.round(4)]) <= {"A", "B"}
        lower, upper = (drawn[f"predicted_intensity_{w}"].values for w in ("lower", "upper"))
        values = drawn["predicted_intensity"].values
        known = np.isfinite(values)
        assert known.any() and (lower[known] <= values[known]).all()
        assert (upper[known] > values[known]).all() and lower[known].min() >= 0
        said = msiscale("ion-image", url, "--mz", f"{unread}", "--out", tmp_path / "c.png")
        assert said.code == 0 and "is of tier C: H&E did not predict it" in said.err


def test_lipids_that_the_training_lacked_are_inferred_from_their_class(
    predicted: tuple[Said, Path], finished: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(finished / "ions.csv", keep_default_na=False)
    named = table[table["tier"].isin(["A", "B"]) & table["identification"].str.match("PC [0-9]")]
    new = named["identification"].iloc[0].replace("PC ", "PC 1", 1)  # of 134 carbons, say
    for url in (predicted[1] / "predictions.zarr" / "S01", finished / "predictions.zarr" / "S02"):
        said = msiscale("ion-image", url, "--absent", new, "--out", tmp_path / f"{url.name}.zarr")
        assert said.code == 0, said.err
        assert f"the chemistry of {len(named)} trained ion" in said.err
        drawn = xr.open_zarr(str(tmp_path / f"{url.name}.zarr"), consolidated=False)
        assert np.isfinite(drawn["inferred_image"]).any()


def test_the_same_command_again_does_nothing_again(
    predicted: tuple[Said, Path], finished: Path, cohort: Path
) -> None:
    out = predicted[1]
    files = [out / "S01.png", out / "regions" / "S01.geojson"]
    before = [f.stat().st_mtime_ns for f in files]
    words = ["--out", out, "--slide-mpp", "4", "--mz", str(MZ), "--region-um2", "10000", *OWN]
    model = finished / "model.zarr"
    said = msiscale("predict", model, cohort.parent / "S01.tiff", *words)
    assert said.code == 0, said.err
    assert [f.stat().st_mtime_ns for f in files] == before


def test_what_cannot_be_is_refused_in_a_line(finished: Path, cohort: Path, tmp_path: Path) -> None:
    model, slide = finished / "model.zarr", cohort.parent / "S01.tiff"
    older = tmp_path / "older.zarr"
    shutil.copytree(model, older)
    open_group(str(older), "r+").attrs["msiscale_model"] = 2
    for url, words, why in (
        (model, ["--weights", "random:1", *OWN], "--weights"),
        (model, ["--pixel-um", "60", *OWN], "one value every 128 µm (32 px of 4 µm)"),
        (model, ["--mz", "111.1", *OWN], "the nearest is"),
        (model, ["--prevalence", "1.5", *OWN], "--prevalence 1.5: give a share between 0 and 1"),
        (older, OWN, "not a model of this version"),
        (
            model,
            [],
            f"is code that would be run here; if you know it, name it yourself: {' '.join(OWN)}",
        ),
        (model, ["--encoder", "own:other:code"], f"not that of {model}, which is {OWN[1]}"),
    ):
        said = msiscale("predict", url, slide, "--out", tmp_path / "x", *words)
        assert said.code == 1 and why in said.err.splitlines()[-1], said.err


def test_a_bad_slide_does_not_stop_the_others(finished: Path, cohort: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(b"not a slide")
    out = tmp_path / "out"
    said = msiscale(
        "predict", finished / "model.zarr", bad, cohort.parent / "S02.tiff", "--out", out, *OWN
    )
    assert said.code == 3 and "bad.tiff" in said.err
    assert (out / "S02.png").exists()
