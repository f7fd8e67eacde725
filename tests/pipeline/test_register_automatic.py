"""Specimens without landmarks: placed by their images, or set aside with reason and figure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner
from commands import msiscale

from msiscale.cli.options import of_field
from msiscale.config import OPTIONS, RunConfig
from msiscale.errors import InputError
from msiscale.grid import PixelSize, apply
from msiscale.pipeline import run
from msiscale.pipeline.check import check
from msiscale.pipeline.pictures import msi_picture
from msiscale.pipeline.register import COLUMNS

pytestmark = pytest.mark.usefixtures("shared_cluster")
PNG = b"\x89PNG"


def without_landmarks(manifest: Path) -> pd.DataFrame:
    """S01 has nothing, S02 its landmarks, S03 nothing and the slide of S01, whose patient it is."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    table.loc[["S01", "S03"], "landmarks"] = ""
    same = ["slide", "patient"]  # of two patients it would be refused
    table.loc["S03", same] = table.loc["S01", same]
    table.loc["S03", "annotation"] = ""
    table.to_csv(manifest)
    return table


@pytest.fixture(scope="module")
def placed(
    cohort: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Manifest and results of ``register --registration auto --refine bspline``."""
    folder = tmp_path_factory.mktemp("automatic")
    shutil.copytree(cohort.parent, folder / "cohort")
    manifest, out = folder / "cohort" / "manifest.csv", folder / "run"
    without_landmarks(manifest)
    words = {"registration": "auto", "refine": "bspline", "stages": ("ingest", "register")}
    result = run(str(manifest), str(out), **words)
    assert set(result.failed) == {"S03"}, result.failed
    return manifest, out


def test_places_are_found_and_the_error_against_landmarks_is_told(placed) -> None:
    manifest, out = placed
    table = pd.read_csv(out / "registration.csv").set_index("specimen")
    assert list(table.reset_index().columns) == list(COLUMNS)
    assert set(table["method"]) == {"automatic"}
    assert table["refused"].to_dict() == {"S01": 0, "S02": 0, "S03": 1}
    assert table.loc["S02", "error_px"] < 0.5
    assert table.loc["S02", "error_um"] == pytest.approx(100 * table.loc["S02", "error_px"])
    assert np.isnan(table.loc["S01", "error_px"])
    for name in ("S01", "S02"):
        truth = json.loads((manifest.parent / "truth" / f"{name}.json").read_text())["matrix"]
        group = zarr.open_group(out / "cohort.zarr" / name)
        assert table.loc[name, "mirrored"] == int(np.linalg.det(truth) < 0)
        points = np.argwhere(group["tissue"][:])[:, ::-1]
        miss = apply(np.array(group.attrs["matrix"]), points) - apply(np.array(truth), points)
        assert np.hypot(*miss.T).mean() * 4.0 / 100 < 0.5
        assert group.attrs["registration"] == "automatic"


def test_a_refusal_names_why_and_the_remedy_and_is_drawn(placed) -> None:
    _, out = placed
    table = pd.read_csv(out / "registration.csv").set_index("specimen")
    assert isinstance(table.loc["S03", "why"], str) and table.loc["S03", "confidence"] < 1
    for name in ("S01", "S02", "S03"):
        assert (out / "figures" / f"placement_{name}.png").read_bytes().startswith(PNG)


def test_every_place_is_written_refused_or_not(placed) -> None:
    _, out = placed
    table = pd.read_csv(out / "registration.csv").set_index("specimen")
    for name in ("S01", "S02", "S03"):
        group = zarr.open_group(out / "cohort.zarr" / name)
        matrix = json.loads(table.loc[name, "matrix"])
        assert np.shape(matrix) == (3, 3)
        assert group.attrs["placement"]["matrix"] == matrix
        assert group.attrs["placement"]["mirrored"] == int(np.linalg.det(matrix) < 0)


@pytest.mark.parametrize("how", ["option", "manifest"])
def test_a_refused_place_is_taken_by_hand(placed, tmp_path: Path, how: str) -> None:
    manifest, out = placed
    shutil.copytree(out, tmp_path / "run")
    proposed = zarr.open_group(out / "cohort.zarr" / "S03").attrs["placement"]["matrix"]
    words = {"refine": "bspline", "registration": "auto", "stages": ("register",)}
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    if how == "option":
        words["accept"] = ("S03",)
    else:
        table["registration"] = ["", "", "accept"]
    own = manifest.with_name(f"accept_{how}.csv")
    table.to_csv(own, index=False)
    result = run(str(own), str(tmp_path / "run"), **words)
    assert not result.failed
    row = pd.read_csv(tmp_path / "run" / "registration.csv").set_index("specimen").loc["S03"]
    assert row["method"] == "automatic, accepted by hand" and row["refused"] == 0
    group = zarr.open_group(tmp_path / "run" / "cohort.zarr" / "S03")
    assert group.attrs["matrix"] == proposed == json.loads(row["matrix"])
    assert group.attrs["registration"] == row["method"]
    said = pd.read_csv(tmp_path / "run" / "notices.csv").set_index("specimen")
    assert said.loc[["S03"], "seen"].str.startswith("accepted by hand, though").any()
    known = check(str(own), RunConfig(encoder="stains", accept=words.get("accept", ())))
    assert {u.registration for u in known.understood if u.specimen == "S03"} == {
        "by the images, accepted by hand"
    }


def test_a_name_to_accept_that_nobody_has(copied: Path, tmp_path: Path) -> None:
    config = RunConfig(encoder="stains", accept=("S99",))
    assert any("--accept S99" in line for line in check(str(copied), config).problems)
    with pytest.raises(InputError, match=r"--accept S99: .*no such specimen"):
        run(str(copied), str(tmp_path / "run"), accept=("S99",), stages=("register",))


def test_given_landmarks_are_used_and_done_placements_kept(placed, tmp_path: Path) -> None:
    manifest, out = placed
    shutil.copytree(out, tmp_path / "run")
    figure = tmp_path / "run" / "figures" / "placement_S01.png"
    before = figure.stat().st_mtime_ns
    words = {"refine": "bspline", "stages": ("register",)}
    result = run(str(manifest), str(tmp_path / "run"), **words)
    assert "landmarks or matrix" in result.failed["S03"] and "refused" in result.failed["S03"]
    assert figure.stat().st_mtime_ns == before
    table = pd.read_csv(tmp_path / "run" / "registration.csv").set_index("specimen")
    assert table["method"].to_dict() == {"S01": "automatic", "S02": "affine", "S03": "automatic"}
    assert table.loc["S02", "residual_px"] < 0.5


def test_wrong_sizes_are_refused_with_both_scales(copied: Path, tmp_path: Path) -> None:
    table = without_landmarks(copied).drop("S03")
    table["landmarks"], table["mpp"] = "", ["4.48", "0.2"]  # 4.0 in truth
    table.to_csv(copied)
    result = run(str(copied), str(tmp_path / "run"), stages=("ingest", "register"))
    assert set(result.failed) == {"S01", "S02"}
    for name, stated in (("S01", "4.48"), ("S02", "0.2")):
        said = result.failed[name]
        assert f"{stated} µm a slide pixel are stated, the MSI would need about" in said
        assert (
            said.endswith("give the right one in the manifest column mpp") or "see figures" in said
        )
    needed = float(result.failed["S01"].partition("about ")[2].partition(";")[0])
    assert needed == pytest.approx(4.0, rel=0.03)
    assert "too small for the MSI" in result.failed["S02"]
    rows = pd.read_csv(tmp_path / "run" / "registration.csv").set_index("specimen")
    assert rows["refused"].eq(1).all() and rows["why"].str.contains("would need").all()


def test_a_matrix_that_contradicts_the_sizes_is_refused(copied: Path) -> None:
    table = pd.read_csv(copied, dtype=str, keep_default_na=False).set_index("specimen")
    table["mpp"] = "0.4"
    table.to_csv(copied)
    said = check(str(copied), RunConfig(encoder="efficientnet-lite0")).problems
    assert len(said) == len(table)
    for line in said:
        assert "0.4 µm a slide pixel are stated" in line and "manifest column mpp" in line
        needed = float(line.partition("would need about ")[2].partition(";")[0])
        assert needed == pytest.approx(4.0, rel=0.02)


def test_register_alone_asks_for_the_cube(copied: Path, tmp_path: Path) -> None:
    without_landmarks(copied)
    with pytest.raises(InputError, match="ingest is not done"):
        run(str(copied), str(tmp_path / "run"), stages=("register",))


def test_check_takes_a_specimen_without_landmarks(copied: Path) -> None:
    without_landmarks(copied)
    config = RunConfig(encoder="efficientnet-lite0")
    assert not [line for line in check(str(copied), config).problems if "registration" in line]


def test_the_picture_of_an_msi_does_not_depend_on_its_blocks(placed) -> None:
    _, out = placed
    group = zarr.open_group(out / "cohort.zarr" / "S01", mode="r")
    picture = msi_picture(group, PixelSize(100.0, 100.0))
    assert picture.values.shape == (*group["norm"].shape, 7)
    np.testing.assert_array_equal(picture.counts, np.isfinite(group["norm"][:]))
    np.testing.assert_array_equal(
        picture.values, msi_picture(group, PixelSize(100.0, 100.0)).values
    )


def test_options_are_known_to_the_command_line() -> None:
    said = msiscale("register", "--help")
    assert "--registration" in said.out and "--refine" in said.out and "--accept" in said.out


def test_names_to_accept_may_be_given_one_by_one() -> None:
    seen = []
    command = click.command()(of_field(OPTIONS["accept"])(lambda accept: seen.append(accept)))
    for words in ([], ["--accept", "S01"], ["--accept", "S01", "--accept", "S02,S03"]):
        assert CliRunner().invoke(command, words).exit_code == 0
    assert seen == [None, ("S01",), ("S01", "S02", "S03")]
