"""Images of ions absent from training, inferred from a prediction, against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import msiscale
from PIL import Image

from msiscale.biomarkers.absent import Chemistry, absent_image
from msiscale.errors import InputError
from msiscale.prediction import write_absent_images
from msiscale.prediction.absent import ARRAY, Inferred, trained_ions
from msiscale.prediction.virtual import opened
from msiscale.store import create_array, open_group, put, read

NAMES = [
    *("PC 32:1 [M+H]+", "PC 34:1 [M+H]+", "PC 34:2; PE 37:2 [M+H]+", "PC 36:2 [M+Na]+"),
    *("SM 34:1;O2 [M+H]+", "Cholesterol [M+H-H2O]+", "PC 38:4 [M+H]+", "PE 34:1 [M+H]+", ""),
]
TIERS = ["A", "B", "A", "B", "A", "A", "C", "C", "A"]  # of PC 38:4 and PE nothing is read
PEARSON = np.array([0.8, 0.5, 0.7, 0.4, 0.6, 0.9, 0.0, 0.0, 0.9], np.float32)
PC = [0, 1, 2, 3]
NEW = "PC 34:0 [M+H]+"


@pytest.fixture
def predicted(tmp_path: Path) -> str:
    """As `msiscale predict` leaves a slide; images of PC share a part."""
    rng = np.random.default_rng(3)
    url = str(tmp_path / "predictions.zarr" / "A")
    open_group(str(tmp_path / "predictions.zarr"), "a")
    group = open_group(url, "a")
    scores = (rng.normal(size=(20, 34, 5)) * [3, 1, 1, 1, 1] + 0.5).astype(np.float32)
    scores[3:5] = np.nan
    words = {"chunks": (16, 16, 5), "shards": (16, 16, 5)}
    array = create_array(group, "predicted_scores", scores.shape, ("y", "x", "component"), **words)
    array[...] = scores
    put(group, "components", rng.normal(size=(5, 9)).astype(np.float32), ("component", "mz_axis"))
    put(group, "mean", np.full(9, 9, np.float32), ("mz_axis",))
    put(group, "mz_axis", 700 + np.arange(9.0), ("mz_axis",))
    put(group, "tier", np.array(TIERS), ("mz_axis",))
    put(group, "tier_pearson", PEARSON, ("mz_axis",))
    put(group, "identification", np.array(NAMES), ("mz_axis",))
    put(group, "y", 8 * np.arange(20) + 4.0, ("y",))
    put(group, "x", 8 * np.arange(34) + 4.0, ("x",))
    return url


def images(url: str) -> np.ndarray:
    """(y, x, PC) as predicted, none of them below zero by much."""
    group = open_group(url)
    cube = read(group, "predicted_scores").astype(float) @ read(group, "components").astype(float)
    return np.asarray(cube[..., PC] + 9)


def inferred(url: str, name: str = NEW) -> Inferred:
    return trained_ions(*opened(url)).infer(name)


def test_the_image_is_that_of_the_chemistry(predicted: str, tmp_path: Path) -> None:
    ions = [Chemistry.of(NAMES[i]) for i in PC]
    truth = absent_image(Chemistry.of(NEW), ions, images(predicted))
    out = str(tmp_path / "absent.zarr")
    (line,) = write_absent_images(predicted, [NEW], out)
    found = read(open_group(out), ARRAY)[..., 0]
    np.testing.assert_allclose(found, truth, atol=1e-4)
    assert np.isnan(found[3:5]).all() and np.nanmean(found) == pytest.approx(0, abs=1e-5)
    facts = dict(open_group(out)[ARRAY].attrs)
    assert facts["ion"] == [NEW] and facts["neighbours"] == [[NAMES[i] for i in PC]]
    assert (
        "absent from training; its image is inferred from the chemistry of 4 trained ions" in line
    )
    assert f"expected r {facts['expected_r'][0]:.2f}" in line


def test_the_expected_r_is_that_of_leaving_each_ion_of_the_class_out(predicted: str) -> None:
    ions, cube, found = [Chemistry.of(NAMES[i]) for i in PC], images(predicted), []
    known = np.isfinite(cube[..., 0])
    for i in PC:
        others = [j for j in PC if j != i]
        guess = absent_image(ions[i], [ions[j] for j in others], cube[..., others])
        r = np.corrcoef(guess[known], cube[..., i][known])[0, 1]
        found.append(r * PEARSON[i])
    assert inferred(predicted).expected_r == pytest.approx(np.mean(found), abs=1e-6)


def test_of_a_class_with_one_ion_nothing_is_expected(predicted: str) -> None:
    found = inferred(predicted, "SM 36:1;O2 [M+H]+")
    assert np.isnan(found.expected_r) and found.neighbours == ("SM 34:1;O2 [M+H]+",)
    assert found.sentence.endswith("expected r not known")
    assert "1 trained ion of its class" in found.sentence


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "PE 36:1 [M+H]+",
            "no trained ion is of this class; the trained classes are PC, SM ;O2",
        ),
        ("PC 34:1 [M+H]+", "it was in training and is predicted; draw it with --mz"),
        ("PC 38:4 [M+H]+", "H&E did not predict it \\(tier C\\)"),
        ("Cholesterol", "carbons and double bonds"),
    ],
)
def test_what_cannot_be_inferred_is_refused(predicted: str, name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        inferred(predicted, name)


def test_without_names_or_species_nothing_is_inferred(predicted: str) -> None:
    group = open_group(predicted, "a")
    del group["identification"]
    put(group, "identification", np.array(["Cholesterol", *[""] * 8]), ("mz_axis",))
    with pytest.raises(InputError, match="no ion of tier A or B has a species name"):
        inferred(predicted)
    del group["identification"]
    with pytest.raises(InputError, match="its ions have no lipid names"):
        inferred(predicted)


def test_the_command_draws_them_and_says_what_they_are(predicted: str, tmp_path: Path) -> None:
    out = tmp_path / "absent.png"
    said = msiscale("ion-image", predicted, "--absent", f"{NEW},PC 36:1 [M+H]+", "--out", out)
    assert said.code == 0 and said.out.strip() == str(out), said.err
    assert said.err.count("inferred from the chemistry of 4") == 2
    with Image.open(out) as picture:
        assert min(picture.size) > 100
    words = ("--absent", "PE 36:1 [M-H]-", "--out", out)
    said = msiscale("ion-image", predicted, *words)
    assert said.code == 1 and len(said.err.strip().splitlines()) == 1
    assert "PE 36:1: no trained ion is of this class" in said.err
    said = msiscale("ion-image", predicted, "--mz", "700", *words)
    assert said.code == 1 and "give one of them" in said.err
