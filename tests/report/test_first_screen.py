"""The first screen: what it counts, says and draws, against the store and the tables."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from msiscale.models.novelty import Limits
from msiscale.report import Results
from msiscale.report.box_plots import BOXED, box_plots, drawn
from msiscale.report.data import State
from msiscale.report.first import cohort_line, progress, sentences
from msiscale.report.ion_gallery import scored
from msiscale.report.ion_pairs import best_pairs
from msiscale.report.thumbnails import (
    LEVELS,
    PALETTES,
    SIDE,
    Map,
    map_of,
    shrunk,
    thumbnail,
)

from .test_headline import run


def values(one: Map) -> np.ndarray:
    """What the page reads back from the colours of a map."""
    with Image.open(io.BytesIO(base64.b64decode(one.picture.split(",", 1)[1]))) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(int)
    colours = [int(c[1:], 16) for c in PALETTES[one.palette]]
    flat = (rgba[..., 0] << 16) | (rgba[..., 1] << 8) | rgba[..., 2]
    levels = {c: float(i) for i, c in enumerate(colours)}
    level = np.vectorize(lambda c: levels.get(c, np.nan))(flat)
    found = one.low + level / LEVELS * (one.high - one.low)
    return np.where(rgba[..., 3] == 255, found, np.nan)


def test_a_map_can_be_read_back_from_its_colours() -> None:
    assert all(len({*colours}) == LEVELS + 1 for colours in PALETTES.values())
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(17, 23))
    truth[3, 4] = np.nan
    seen = values(map_of(truth, -1.0, 1.0, "viridis"))
    np.testing.assert_allclose(seen, np.clip(truth, -1, 1), atol=1 / LEVELS + 1e-9)
    assert map_of(truth, 0, 1, "cividis") == map_of(truth, 0, 1, "cividis")


def test_a_large_map_is_shown_by_means() -> None:
    truth = np.arange(35.0).reshape(5, 7)
    truth[0, 0] = np.nan
    small = shrunk(truth, 2)
    assert small.shape == (3, 4)
    assert small[0, 0] == np.mean([1, 7, 8]) and small[1, 1] == np.mean([16, 17, 23, 24])
    assert small[2, 3] == 34  # a corner of one pixel
    assert np.isnan(shrunk(np.full((2, 2), np.nan), 2)).all()


def test_thumbnails_count_and_show_what_is_in_the_store(results_folder: Path) -> None:
    results = Results(str(results_folder))
    seen = thumbnail(results, "s1", SIDE)
    assert seen is not None
    cohort = zarr.open_group(results_folder / "cohort.zarr" / "s1", mode="r")
    tissue = np.asarray(cohort["tissue"])
    assert (seen.height, seen.width, seen.step) == (*tissue.shape, 1)
    assert seen.pixels == np.isfinite(np.asarray(cohort["norm"])).sum()
    assert seen.tissue_mm2 == pytest.approx(tissue.sum() * 0.12**2, abs=1e-4)
    truth = np.asarray(
        zarr.open_group(results_folder / "predictions.zarr" / "s1")["cancer_from_he"]
    )
    np.testing.assert_allclose(values(seen.maps["cancer_from_he"]), truth, atol=0.5 / LEVELS + 1e-6)
    corners = np.array(re.findall(r"([\d.]+) ([\d.]+)", seen.outline), float)
    inside = np.argwhere(np.asarray(cohort["cancer"]) >= 0.5)
    np.testing.assert_allclose(corners.min(axis=0)[::-1], inside.min(axis=0), atol=0.6)
    np.testing.assert_allclose(corners.max(axis=0)[::-1], inside.max(axis=0) + 1, atol=0.6)
    other = thumbnail(results, "s3", SIDE)  # without an annotation
    assert other is not None and other.outline == "" and len(other.maps) == 3
    assert thumbnail(results, "broken", SIDE) is None
    tiny = thumbnail(results, "s1", 20)
    assert tiny is not None and max(tiny.height, tiny.width) <= 20 and tiny.pixels == seen.pixels


def test_novelty_is_the_share_beyond_the_limits_of_the_model(
    results_folder: Path, tmp_path: Path
) -> None:
    import shutil

    for name in ("cohort.zarr", "predictions.zarr"):
        shutil.copytree(results_folder / name / "s1", tmp_path / name / "s1")
    group = zarr.open_group(tmp_path / "predictions.zarr" / "s1")
    far = np.ones((44, 56), np.float32)
    far[:22] = 9
    group.create_array("feature_distance", data=far)
    group.create_array("feature_unexplained", data=np.full_like(far, 0.1))
    assert thumbnail(Results(str(tmp_path)), "s1", SIDE).beyond is None  # type: ignore[union-attr]
    limit = {"0.99": 2.0}
    Limits(limit, limit, "leave_one_patient_out").save(str(tmp_path / "model.zarr" / "novelty"))
    assert thumbnail(Results(str(tmp_path)), "s1", SIDE).beyond == 0.5  # type: ignore[union-attr]


def test_without_cancer_the_best_ion_is_shown(alone_folder: Path) -> None:
    results = Results(str(alone_folder))
    seen = thumbnail(results, "s3", SIDE)
    assert seen is not None and list(seen.maps) == ["measured", "predicted"]
    assert seen.ion == scored(results)["mz"].iloc[0]


def test_the_best_ions_stand_first_and_pairs_share_a_scale(results_folder: Path) -> None:
    results = Results(str(results_folder))
    found = best_pairs(results)
    assert found is not None and found.specimen == "s1"
    shown, every = [p.mz for p in found.pairs], list(scored(results)["mz"])
    assert shown[0] == every[0] and len(shown) == 6
    isotopes = [a for a in shown for b in shown if abs(abs(a - b) - 1.00335) < 0.01]
    assert isotopes == [] and shown == [mz for mz in every if mz in shown]
    for pair in found.pairs:
        measured, predicted = pair.maps["measured"], pair.maps["predicted"]
        assert (measured.low, measured.high) == (predicted.low, predicted.high)
        held = results.held_out("s1")
        assert held is not None
        i = int(np.argmin(np.abs(held.mz - pair.mz)))
        truth = held.image(held.predicted(slice(i, i + 1)))[..., 0]
        span = predicted.high - predicted.low
        shown = np.clip(truth, predicted.low, predicted.high)
        np.testing.assert_allclose(values(predicted), shown, atol=span / LEVELS)
    assert best_pairs(Results(str(results_folder / "none"))) is None


def test_box_plots_have_a_point_a_patient(results_folder: Path) -> None:
    plots = box_plots(Results(str(results_folder)))
    table = pd.read_csv(results_folder / "biomarkers_by_specimen.csv")
    best = pd.read_csv(results_folder / "biomarkers.csv").iloc[0]
    assert plots[0].mz == best["mz"]
    mine = table[(table["mz"] == best["mz"])].dropna(subset=["mean_cancer"])
    assert [row[0] for row in plots[0].rows] == sorted(mine["patient"])
    truth = mine.sort_values("patient")[["mean_cancer", "mean_other"]].to_numpy()
    seen = np.array([row[1:] for row in plots[0].rows], float)
    np.testing.assert_allclose(seen, truth, rtol=1e-5)
    assert plots[0].svg.count("<circle") == 2 * len(mine)
    assert "<rect" not in plots[0].svg  # three patients make no box


def test_boxes_are_the_quartiles_of_the_patients() -> None:
    points = np.stack([np.arange(BOXED) + 1.0, np.full(BOXED, 2.0)], axis=1)
    svg = drawn("m/z 1 <x>", [f"P{i}" for i in range(BOXED)], points)
    assert "&lt;x&gt;" in svg and "<x>" not in svg
    boxes = re.findall(r'<rect class="box (\w+)" x="[\d.]+" y="([\d.]+)".*?height="([\d.]+)"', svg)
    assert [name for name, *_ in boxes] == ["cancer", "other"]
    y = [float(v) for v in re.findall(r'<circle class="cancer" cx="[\d.]+" cy="([\d.]+)"', svg)]
    top, height = float(boxes[0][1]), float(boxes[0][2])
    assert (top, top + height) == pytest.approx((y[3], y[1]), abs=0.11)  # of 1 to 5: 4 and 2


def test_the_headline_can_be_repeated(tmp_path: Path) -> None:
    said = [*sentences(run(tmp_path))]
    assert said[0] == (
        "In patients that the models had not seen, H&E alone told cancer from other tissue with "
        "an AUC of 0.900."
    )
    assert said[1] == (
        "This is the mean over 6 patients (95 % interval 0.700 to 1.000). Guessing would give 0.5."
    )
    assert said[2] == "The AUC is 0.900 from MSI and 0.900 from predicted MSI."
    few = [*sentences(run(tmp_path / "few", 3))]
    assert "0.700 to 1.000, not to be trusted)" in few[1]
    for sentence in said:
        assert all(len(part.split()) <= 25 for part in sentence.split(". "))
    assert [*sentences(run(tmp_path / "within", 2, within="spatial_blocks"))] == []


def test_the_headline_without_a_label_is_of_ions(alone_folder: Path) -> None:
    (said,) = sentences(Results(str(alone_folder)))
    r = pd.read_csv(alone_folder / "ions.csv")["pearson"]
    assert said == (
        f"Half of the {r.notna().sum()} ion images predicted from H&E reach a correlation of "
        f"{r.median():.2f} or more with the measured ones."
    )


def test_the_cohort_in_a_line(results_folder: Path) -> None:
    results = Results(str(results_folder))
    states = results.states()
    seen = {n: t for n in ("s1", "wide") if (t := thumbnail(results, n, SIDE)) is not None}
    line = cohort_line(states, seen)
    area = sum(t.tissue_mm2 for t in seen.values())
    pixels = sum(t.pixels for t in seen.values())
    assert line == [
        *("4 patients", "5 specimens", f"{pixels:,} MSI pixels", f"{area:,.0f} mm² of tissue")
    ]
    assert progress(states) == "4 done, 1 failed."
    done = [s for s in states if s.state == "done"]
    assert progress(done) == "Every specimen is done."
    assert progress(done[:1]) == "The specimen is done."
    assert progress([]) == "There is no specimen yet."
    assert cohort_line([State("A", "P", "done", "", "")], {}) == ["1 patient", "1 specimen"]
