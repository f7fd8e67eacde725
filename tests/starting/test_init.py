"""A manifest for files that are there: whose they are, and a `check` that takes it as it is."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from commands import msiscale

from msiscale.cohort import read_manifest
from msiscale.config import OPTIONS, load_config
from msiscale.simulate import simulate
from msiscale.starting import Answers, ask, begin
from msiscale.starting.files import files_in
from msiscale.starting.pairing import paired, patients
from msiscale.starting.written import EXAMPLES, options, toml

# of which one is nothing without another
NEEDS = {"reference_mz", "normalise", "feature_mode", "mean", "std"}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def pairs(folder: Path, *names: str) -> dict[str, dict[str, str]]:
    """Specimen -> role -> file."""
    found = paired(files_in(touch(folder, *names)))
    return {
        row.name: {role: file.path.name for role, file in row.files.items()} for row in found.rows
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["P01_A.imzML", "P01_A.svs"], {"P01_A": "P01_A.svs"}, id="equal stems"),
        pytest.param(["a/P1_msi.imzML", "b/P1_he.tif"], {"P1": "P1_he.tif"}, id="words of roles"),
        pytest.param(["P1.imzML", "P1-HE.ndpi", "P2-HE.svs"], {"P1": "P1-HE.ndpi"}, id="dash"),
        pytest.param(["P1_A_neg.imzML", "P1_A.svs"], {"P1_A_neg": "P1_A.svs"}, id="prefix"),
        pytest.param(
            ["P01_A.imzML", "P01_B.imzML", "P01_B HE.svs", "P01_A H&E.svs"],
            {"P01_A": "P01_A H&E.svs", "P01_B": "P01_B HE.svs"},
            id="several",
        ),
        pytest.param(["X7/msi.imzML", "X7/HE.svs"], {"X7": "HE.svs"}, id="named by their folder"),
        pytest.param(["k1/run9.imzML", "k1/scan.svs"], {"run9": "scan.svs"}, id="alone there"),
        pytest.param(["a.imzML", "a.svs", "a.png"], {"a": "a.svs"}, id="a picture beside a slide"),
        pytest.param(["a.imzML", "b.svs", "c.svs"], {}, id="none"),
        pytest.param(["P1_A.imzML", "P1_B.imzML", "P2_A.svs"], {}, id="another patient"),
        pytest.param([".hid/a.imzML", ".hid/a.svs"], {}, id="hidden"),
    ],
)
def test_msi_and_slide_are_paired_by_name(
    tmp_path: Path, names: list[str], expected: dict[str, str]
) -> None:
    assert {name: row["slide"] for name, row in pairs(tmp_path, *names).items()} == expected


def test_of_several_that_fit_none_is_taken_and_that_is_said(tmp_path: Path) -> None:
    found = paired(files_in(touch(tmp_path, "m/P1.imzML", "s/P1_a.svs", "s/P1_b.svs")))
    assert found.rows == [] and len(found.left) == 3
    (doubt,) = found.doubts
    assert "2 files could be its slide" in doubt and "P1_a.svs" in doubt


def test_a_pair_that_only_its_folder_tells_is_said(tmp_path: Path) -> None:
    found = paired(files_in(touch(tmp_path, "k1/run9.imzML", "k1/scan.svs", "k1/photo.png")))
    (doubt,) = found.doubts
    assert "scan.svs is taken as its slide" in doubt
    assert [file.path.name for file in found.left] == ["photo.png"]


def test_outlines_landmarks_and_matrices_are_known_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "A points.csv").write_text("slide_x, slide_y, msi_x, msi_y\n1,2,3,4\n")
    (tmp_path / "A.csv").write_text("x,y,100.1\n1,2,3\n")
    (tmp_path / "B.json").write_text("[[1,0,0],[0,1,0],[0,0,1]]")
    (tmp_path / "C.json").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "D.json").write_text('{"any": "thing"}')
    names = [f"{n}.{kind}" for n in "ABCD" for kind in ("imzML", "svs")]
    found = pairs(tmp_path, *names, "A.geojson", "B_annotated.png", "D.xml")
    assert found["A"]["annotation"] == "A.geojson" and found["A"]["landmarks"] == "A points.csv"
    assert found["B"]["annotation"] == "B_annotated.png" and found["B"]["matrix"] == "B.json"
    assert found["B"]["slide"] == "B.svs" and found["C"]["annotation"] == "C.json"
    assert found["D"] == {"msi": "D.imzML", "slide": "D.svs", "annotation": "D.xml"}


def test_zarr_is_a_slide_or_an_msi_and_runs_are_not_looked_into(tmp_path: Path) -> None:
    touch(tmp_path, "a.zarr/c/0", "run/ledger/x.json", "run/run.json", "run/z.imzML", "run/z.svs")
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr/.zattrs").write_text('{"multiscales": []}')
    found = paired(files_in(tmp_path))
    (row,) = found.rows
    assert (row.files["msi"].path.name, row.files["slide"].path.name) == ("a.zarr", "a.ome.zarr")
    assert found.left == []


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["P01_A", "P01_B", "P02_A"], ["P01", "P01", "P02"]),
        (["15-003_1", "15-004_1"], ["15-003", "15-004"]),
        (["P01_A", "P01_B"], []),  # one patient cannot be what is meant
        (["tumour_1", "normal_1"], []),
        (["20240105_1", "20240106_1"], []),
        (["P01", "P02"], []),
    ],
)
def test_patients_are_guessed_only_where_names_tell(names: list[str], groups: list[str]) -> None:
    assert list(patients(names).values()) == groups


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of three specimens in folders by kind, named as laboratories name them."""
    cohort, mine = (tmp_path_factory.mktemp(name) for name in ("phantom", "mine"))
    simulate(cohort, specimens=3, seed=3, pixels=(14, 16), mpp=4.0)
    table = pd.read_csv(cohort / "manifest.csv")
    for row, name in zip(table.itertuples(), ("P01_A", "P01_B", "P02_A"), strict=True):
        msi = cohort / str(row.msi)
        for source, target in (
            (msi, f"msi/{name}_msi.imzML"),
            (msi.with_suffix(".ibd"), f"msi/{name}_msi.ibd"),
            (cohort / str(row.slide), f"slides/{name}-HE{Path(str(row.slide)).suffix}"),
            (cohort / str(row.annotation), f"outlines/{name}.geojson"),
            (cohort / str(row.landmarks), f"points/{name}_landmarks.csv"),
        ):
            (mine / target).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, mine / target)
    return mine


def test_check_takes_what_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "mine"))
    (mine / "slides" / "extra.svs").touch()
    monkeypatch.chdir(mine)
    said = msiscale("init", ".")
    assert said.code == 0, said.err
    assert said.out.startswith("manifest.csv: 3 specimens\n")
    assert "2 patients of 3 specimens, such as P01 of P01_A" in said.out
    assert "not paired: slides/extra.svs (slide)" in said.out
    cohort = read_manifest("manifest.csv")
    assert cohort.patients == {"P01_A": "P01", "P01_B": "P01", "P02_A": "P02"}
    assert not cohort.problems and all(s.annotation and s.landmarks for s in cohort)
    words = ["--encoder", "own:small_encoder:small", "--mpp", "4"]
    checked = msiscale("check", "manifest.csv", "--config", "msiscale.toml", *words)
    assert checked.code == 0 and "all inputs can be used" in checked.out, checked.out + checked.err
    # a table program writes the comments back with quotes and commas
    text = Path("manifest.csv").read_text()
    Path("manifest.csv").write_text(
        "".join(
            f'"{line}",,,\n' if line.startswith("#") else f"{line}\n" for line in text.splitlines()
        )
    )
    assert read_manifest("manifest.csv").patients == cohort.patients
    again = msiscale("init", ".")
    assert again.code == 1 and "manifest.csv: is there already; give --force" in again.err
    assert msiscale("init", ".", "--force").code == 0


def test_elsewhere_the_paths_are_whole(data: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "m.csv", tmp_path / "o.toml"
    assert msiscale("init", data, "--out", out, "--config-out", config).code == 0
    assert all(Path(s.msi).is_absolute() for s in read_manifest(str(out)))


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a.svs"], "holds no MSI file"),
        (["a.imzML"], "holds 1 MSI files, but no slide"),
        (["a.imzML", "b.svs", "c.svs"], "no two of one name"),
    ],
)
def test_nothing_to_pair_is_one_line(tmp_path: Path, names: list[str], line: str) -> None:
    touch(tmp_path / "data", *names)
    said = msiscale("init", tmp_path / "data", "--out", tmp_path / "m.csv")
    assert said.code == 1 and line in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "m.csv").exists()


def test_without_a_folder_a_terminal_is_asked_and_a_pipe_is_told(
    data: Path, tmp_path: Path
) -> None:
    said = msiscale("init")
    assert said.code == 1 and "no FOLDER is given" in said.err
    typed = iter([str(data), "0.25", "50x150", "-", "Tumor, Gleason*"])
    answers = ask(lambda *_, **__: next(typed), lambda *_, **__: False)
    out, config = tmp_path / "m.csv", tmp_path / "o.toml"
    assert any("P01" in line for line in begin(None, str(out), str(config), answers=answers))
    assert {s.patient for s in read_manifest(str(out))} == {"P01_A", "P01_B", "P02_A"}
    assert {(s.mpp, s.pixel_um) for s in read_manifest(str(out))} == {(0.25, (150.0, 50.0))}
    found = load_config(str(config))
    assert (found.polarity, found.cancer_classes) == ("-", ("Tumor", "Gleason*"))
    assert answers == Answers(
        str(data),
        False,
        {"mpp": "0.25", "pixel_um": "50x150"},
        {"polarity": "-", "cancer_classes": ("Tumor", "Gleason*")},
    )


def test_the_options_are_toml_and_each_can_be_chosen_as_it_stands(tmp_path: Path) -> None:
    text = options({})
    assert tomllib.loads(text) == {}
    assert {n for n, o in OPTIONS.items() if o.default is None} == {*EXAMPLES}
    for name, option in OPTIONS.items():
        value = option.default if option.default is not None else EXAMPLES[name]
        line = f"{name} = {toml(value)}"
        assert f"# {line}\n" in text and f"# {option.sentence}\n" in text
        if name not in NEEDS:
            (tmp_path / "o.toml").write_text(line)
            assert getattr(load_config(str(tmp_path / "o.toml")), name) == value
    assert json.loads(toml('a "b" \\ c')) == 'a "b" \\ c'
