"""The recipe of docs/glioblastoma.md on a phantom laid out like it; all but the download."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from commands import CHOICES, installed

from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.grid import apply, translation
from msiscale.pipeline.check import check
from msiscale.simulate import simulate

SCRIPT = Path(__file__).parents[2] / "docs" / "glioblastoma_manifest.py"
SECTIONS = ("01_Train_P1_r1", "02_Train_P1_r2", "21_Test_P13_r1", "24_Test_P15_r2")
DOWNSAMPLE = 4.0
ABC = ("a11", "a12", "tx", "a21", "a22", "ty")
NAMES = ("MSI_x", "MSI_y", "HE_x", "HE_y")
OPTIONS = ("--slide-downsample", str(DOWNSAMPLE), "--columns", ",".join(NAMES))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A folder a section, as the record's archives unpack; the true matrices."""
    base = tmp_path_factory.mktemp("glioblastoma")
    n = len(SECTIONS)
    simulate(
        base / "coh", specimens=n, seed=5, pixels=(20, 22), mpp=4.0, annotations=("imagescope",)
    )
    folder, truth = base / "gbm", []
    for i, section in enumerate(SECTIONS):
        own, slide = f"S{i + 1:02d}", f"P1_patientset{i}_104850_aperioID10105{i}"
        stem = section.partition("_")[2]
        for source, target in (
            (f"{own}.imzML", f"imzml/{stem}.imzML"),
            (f"{own}.ibd", f"imzml/{stem}.ibd"),
            (f"{own}.tiff", f"HE-XML/{slide}.svs"),
            (f"{own}_annotation.xml", f"HE-XML/{slide}.xml"),
        ):
            path = folder / section / target
            path.parent.mkdir(parents=True, exist_ok=True)
            (base / "coh" / source).rename(path)
        for extra in ("Optical", "TM"):
            (folder / section / extra).mkdir()
        (folder / section / "Optical" / f"{stem}_0001.tif").write_bytes(b"not of interest")
        matrix = np.array(json.loads((base / f"coh/truth/{own}.json").read_text())["matrix"])
        truth.append(matrix)
        # as a tool has it that counts pixels from 1 and saw the slide at a quarter
        y, x = (index.ravel() for index in np.mgrid[:20, :22])
        seen = apply(matrix, np.column_stack([x, y])) / DOWNSAMPLE
        pairs = pd.DataFrame(np.column_stack([x + 1, y + 1, seen]), columns=NAMES)
        pairs.to_excel(folder / section / "TM" / f"{stem}.xlsx", index=False)
    return folder, truth


def make(folder: Path, *words: str) -> str:
    """The script, as a user runs it; what it said."""
    spec = importlib.util.spec_from_file_location("glioblastoma_manifest", SCRIPT)
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    line = [str(folder), *words]
    done = CliRunner().invoke(script.main, line, catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_the_manifest_and_its_matrices_are_right(layout: tuple[Path, list[np.ndarray]]) -> None:
    folder, truth = layout
    said = make(folder, *OPTIONS)
    assert "24_Test_P15_r2: off by 0.00 MSI pixels" in said and "4 sections of 3 patients" in said
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["specimen"] for r in rows] == list(SECTIONS)
    assert [r["patient"] for r in rows] == ["P1", "P1", "P13", "P15"]
    for row, matrix in zip(rows, truth, strict=True):
        found = json.loads((folder / row["matrix"]).read_text())
        np.testing.assert_allclose(found, matrix, rtol=1e-9, atol=1e-6)
    assert (
        check(str(folder / "manifest.csv"), RunConfig(encoder="efficientnet-lite0")).problems == []
    )


@pytest.mark.parametrize("form", ["named", "bare"])
def test_a_table_that_holds_a_matrix(
    layout: tuple[Path, list[np.ndarray]], tmp_path: Path, form: str
) -> None:
    folder, truth = layout
    shutil.copytree(folder / SECTIONS[0], tmp_path / SECTIONS[0])
    back = np.linalg.inv(truth[0] @ translation(-1, -1))  # slide to MSI, both from 1 and 0
    table = pd.DataFrame(back) if form == "bare" else pd.DataFrame([back[:2].ravel()], columns=ABC)
    table.to_csv(tmp_path / SECTIONS[0] / "TM" / "t.csv", index=False, header=form != "bare")
    columns = "matrix" if form == "bare" else ",".join(ABC)
    make(tmp_path, "--tables", "t.csv", "--columns", columns, "--inverse")
    found = json.loads((tmp_path / "matrices" / f"{SECTIONS[0]}.json").read_text())
    np.testing.assert_allclose(found, truth[0], rtol=1e-9, atol=1e-6)


def test_what_does_not_fit_is_said_in_a_line(
    layout: tuple[Path, list[np.ndarray]], tmp_path: Path
) -> None:
    folder, _ = layout
    for words, says in (
        ((*OPTIONS, "--slides", "*.ndpi"), r"no file \*\.ndpi"),
        ((), "its columns are MSI_x, MSI_y, HE_x, HE_y; name in --columns four that pair"),
        ((*OPTIONS, "--patient", "Z"), "'Z' finds nothing"),
        ((*OPTIONS, "--sections", "Nr*"), "no folder Nr"),
        ((*OPTIONS[:-1], "matrix"), "are no matrix; name in --columns"),
        ((*OPTIONS, "--tables", "*"), "files \\*; keep one"),
    ):
        with pytest.raises(InputError, match=says) as error:
            make(folder, *words)
        assert "\n" not in str(error.value)


def test_a_map_that_is_not_affine_is_seen(
    layout: tuple[Path, list[np.ndarray]], tmp_path: Path
) -> None:
    folder, _ = layout
    shutil.copytree(folder / SECTIONS[0], tmp_path / SECTIONS[0])
    (table,) = (tmp_path / SECTIONS[0] / "TM").iterdir()
    pairs = pd.read_excel(table)
    pairs["HE_x"] += 25 / DOWNSAMPLE * np.where(pairs["MSI_x"] > 11, 2.0, 0.0)  # torn by two pixels
    pairs.to_excel(table, index=False)
    said = make(tmp_path, *OPTIONS)
    assert 0.5 < float(said.split("off by ")[1].split()[0]) < 2


@pytest.mark.slow(reason="a run of four sections, a prediction and four exports")
def test_every_step_to_the_report(layout: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    folder, _ = layout
    make(folder, *OPTIONS)
    out = tmp_path / "run"
    said = installed("run", folder / "manifest.csv", "--out", out, *CHOICES, timeout=900)
    assert said.code == 0, said.err
    assert (out / "report.html").stat().st_size > 10_000
    with (out / "metrics.csv").open() as file:
        folds = {r["fold"] for r in csv.DictReader(file) if r["specimen"] != "all"}
    assert {"P1", "P13", "P15"} <= folds  # both sections of a patient left out together
    slide = next((folder / SECTIONS[0] / "HE-XML").glob("*.svs"))
    said = installed("predict", out / "model.zarr", slide, "--out", tmp_path / "new", timeout=600)
    assert said.code == 0, said.err
    for form in ("ome-zarr", "parquet", "imzml", "geojson"):
        said = installed("export", out, "--out", tmp_path / form, "--format", form)
        assert said.code == 0 and said.out, said.err
