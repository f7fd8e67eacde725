"""Real pairs of one section, known references: placed right, the same twice, wrong ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from msiscale.grid import PixelSize, apply
from msiscale.pipeline import run
from msiscale.pipeline.pictures import msi_picture, slide_picture
from msiscale.registration import Picture, register_pictures
from msiscale.slide.reader import open_reader

pytestmark = [
    pytest.mark.slow(reason="reads real cubes and registers them, a minute"),
    pytest.mark.usefixtures("shared_cluster"),
]
MSIGHT, ROEMPP = "msight_mouse_bladder", "roempp_mouse_bladder"


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> Path:
    folder = shared_data / "paired"
    if not folder.is_dir():
        pytest.skip("shared/data/paired is not here")
    return folder


@pytest.fixture(scope="module")
def placed(
    pairs: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """All of them registered by their images, those refused with the reason."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [
        ("msight", MSIGHT, "msi_421peaks.h5", "prostate_he_example.tif", "2.413", "25"),
        ("unscaled", MSIGHT, "msi_421peaks.h5", "prostate_he_example.tif", "", "25"),
        ("plain", ROEMPP, "msi_79ions.h5", "optical.tif", "2.74", "10"),
        ("turned", ROEMPP, "msi_79ions.h5", "optical_turned.png", "3.043", "10"),
    ]
    table = [
        (n, pairs / f / msi, pairs / f / slide, mpp, um, f) for n, f, msi, slide, mpp, um in rows
    ]
    columns = ["specimen", "msi", "slide", "mpp", "pixel_um", "patient"]
    pd.DataFrame(table, columns=columns).to_csv(folder / "manifest.csv", index=False)
    stages = ("ingest", "register")
    result = run(str(folder / "manifest.csv"), str(folder / "run"), stages=stages)
    return folder / "run", result.failed


def found(out: Path, name: str) -> np.ndarray:
    return np.array(zarr.open_group(out / "cohort.zarr" / name).attrs["matrix"])


def pixels(out: Path, name: str) -> np.ndarray:
    norm = zarr.open_group(out / "cohort.zarr" / name)["norm"][:]
    return np.argwhere(np.isfinite(norm))[:, ::-1].astype(float)


def apart(one: np.ndarray, other: np.ndarray, at: np.ndarray, px: float) -> float:
    """Root mean square distance in MSI pixels, one of which is `px` slide pixels."""
    return float(np.sqrt(((apply(one, at) - apply(other, at)) ** 2).sum(axis=1).mean()) / px)


@pytest.mark.parametrize(
    ("name", "reference", "px", "most"),
    [
        ("msight", f"{MSIGHT}/matrix.json", 10.36, 0.5),
        ("plain", f"{ROEMPP}/matrix.json", 3.65, 2.0),
        ("turned", f"{ROEMPP}/matrix_turned.json", 3.286, 2.0),
    ],
)
def test_a_real_pair_is_placed(pairs, placed, name, reference, px, most) -> None:
    out, failed = placed
    assert name not in failed, failed
    right = np.array(json.loads((pairs / reference).read_text()))
    assert apart(found(out, name), right, pixels(out, name), px) < most
    row = pd.read_csv(out / "registration.csv").set_index("specimen").loc[name]
    assert row["mirrored"] == 0 and row["refused"] == 0


def test_the_same_picture_turned_on_a_canvas_gives_the_same_place(pairs, placed) -> None:
    out, _ = placed
    one, other = (
        np.array(json.loads((pairs / ROEMPP / f"{n}.json").read_text()))
        for n in ("matrix", "matrix_turned")
    )
    turning = other @ np.linalg.inv(one)
    both = turning @ found(out, "plain"), found(out, "turned")
    assert apart(*both, pixels(out, "plain"), 3.286) < 0.5


def test_sections_whose_tissue_is_everywhere_are_placed_and_the_dice_is_told(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "cases" / "slides" / "registration_refused_though_right"
    if not folder.is_dir():
        pytest.skip("shared/data/cases is not here")
    rows = [("Cc10_on_Cc10", "Cc10-5.jpg"), ("proSPC_on_He", "He.jpg")]
    table = [(n, folder / f"{n}.imzML", folder / s, folder / f"{n}.csv", 3.48) for n, s in rows]
    columns = ["specimen", "msi", "slide", "landmarks", "mpp"]
    pd.DataFrame(table, columns=columns).to_csv(tmp_path / "manifest.csv", index=False)
    words = {"registration": "auto", "stages": ("ingest", "register")}
    assert not run(str(tmp_path / "manifest.csv"), str(tmp_path / "run"), **words).failed
    found = pd.read_csv(tmp_path / "run" / "registration.csv").set_index("specimen")
    assert found.loc["Cc10_on_Cc10", "error_px"] < 0.1
    assert found.loc["proSPC_on_He", "error_px"] < 0.81 + 0.3  # the best affine map leaves 0.81
    said = pd.read_csv(tmp_path / "run" / "notices.csv")
    odd = said[said["seen"].str.contains("the tissue does not match")]
    assert {*odd["specimen"]} == {n for n, _ in rows}


def test_the_wrong_size_in_the_file_is_refused_with_what_would_fit(placed) -> None:
    said = placed[1]["unscaled"]
    assert "0.17 µm a slide pixel are stated, the MSI would need about 2.38 or more" in said
    assert said.endswith("give the right one in the manifest column mpp")


def test_the_slide_of_another_is_refused(pairs, placed) -> None:
    out, _ = placed
    msis = {
        name: msi_picture(zarr.open_group(out / "cohort.zarr" / name), PixelSize(um, um))
        for name, um in (("msight", 25.0), ("plain", 10.0))
    }
    for name, file in (
        ("msight", f"{ROEMPP}/optical.tif"),
        ("msight", f"{ROEMPP}/optical_turned.png"),
        ("plain", f"{MSIGHT}/prostate_he_example.tif"),
    ):
        msi = msis[name]
        slide = open_reader(pairs / file, mpp=1.0)
        for times in (1.1, 1.5):  # as long as that beside the MSI
            slide = open_reader(pairs / file, mpp=times * msi.longest_um / max(slide.shape))
            wrong = register_pictures(msi, slide_picture(slide, msi.pixel_um)[0])
            assert not wrong.accepted and not wrong.clear, wrong.why


def test_one_half_of_a_section_is_not_laid_on_the_other(pairs, placed) -> None:
    """The same tissue, stain and scale, but nothing in common."""
    out, _ = placed
    whole = msi_picture(zarr.open_group(out / "cohort.zarr" / "plain"), PixelSize(10.0, 10.0))
    picture = slide_picture(
        open_reader(pairs / ROEMPP / "optical.tif", mpp=2.74), PixelSize(10.0, 10.0)
    )[0]
    left, right = whole.values[:, :120], picture.values[:, picture.shape[1] // 2 :]
    cut = register_pictures(Picture(left, whole.pixel_um), Picture(right, picture.pixel_um))
    assert not cut.accepted, (cut.confidence, cut.z)
