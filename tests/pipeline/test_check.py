"""What `check` says of inputs that can be used and should be looked at: sizes above all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import CHOICES, Said, installed, msiscale
from PIL import Image

from msiscale import msi
from msiscale.config import RunConfig
from msiscale.features.encoders import Encoders, load_encoder
from msiscale.grid import PixelSize
from msiscale.notices import Notice, lines
from msiscale.pipeline import run
from msiscale.pipeline.check import check
from msiscale.pipeline.plausible import coarser_than_trained, odd_extent
from msiscale.pipeline.withdraw import withdraw
from msiscale.slide.backend import Level
from msiscale.slide.reader import Slide
from msiscale.store import Ledger

CONFIG = RunConfig(encoder="own:small_encoder:small", mpp=4.0)


@pytest.fixture
def pair(shared_data: Path) -> Path:
    """The folder of a real MSI and H&E of one section."""
    return shared_data / "paired/msight_mouse_bladder"


def slide_of(width_mm: float, height_mm: float, mpp: float) -> Slide:
    shape = round(height_mm * 1000 / mpp), round(width_mm * 1000 / mpp)
    return Slide("a.tif", PixelSize(mpp, mpp), (Level(shape, (1, 1)),), (0, 0), "tiff", "")


@pytest.mark.parametrize(
    ("width", "height", "mpp", "words"),
    [
        pytest.param(6.2, 4.6, 2.4, None, id="as it should be"),
        pytest.param(4.6, 6.2, 2.4, None, id="turned"),
        pytest.param(5.5, 4.0, 2.4, None, id="cuts the bounding box"),
        pytest.param(60.0, 24.0, 0.25, None, id="a whole slide beside a piece"),
        pytest.param(
            0.44, 0.33, 0.17, "0.44 x 0.33 mm, smaller than its MSI of 6.80 x 4.00", id="tiny"
        ),
        pytest.param(4.0, 4.0, 0.5, "smaller than its MSI", id="holds less than was measured"),
        pytest.param(68.0, 46.0, 24.0, "115 times the area of its MSI", id="ten times too coarse"),
        pytest.param(
            600.0,
            240.0,
            2.5,
            "larger than any glass slide",
            id="a whole slide ten times too coarse",
        ),
    ],
)
def test_the_extent_of_a_slide(width: float, height: float, mpp: float, words: str | None) -> None:
    slide = slide_of(width, height, mpp)
    found = odd_extent(slide, (160, 272), PixelSize(25.0, 25.0), spectra=27_000)
    if words is None:
        assert found is None
        return
    assert found is not None and found.startswith("a.tif: ") and words in found
    assert re.search("µm per pixel (or less )?would", found) and "manifest column mpp" in found


def test_the_pixel_that_would_fit() -> None:
    """It makes the slide as large as the MSI; on glass, the slide lies on the largest."""
    small = odd_extent(slide_of(0.68, 0.4, 0.2), (160, 272), PixelSize(25.0, 25.0), 27_000)
    assert small is not None and "about 2 µm per pixel would make it as large" in small
    large = odd_extent(slide_of(510, 240, 2.5), (160, 272), PixelSize(25.0, 25.0), 27_000)
    assert large is not None and "0.5 µm per pixel or less would fit on glass" in large


def test_an_encoder_that_was_trained_finer() -> None:
    plain = load_encoder("own:small_encoder:small")
    finer = replace(plain, native_mpp=0.5)
    assert plain.native_mpp is None and coarser_than_trained(plain, 8.0) == []
    assert coarser_than_trained(finer, 0.5) == coarser_than_trained(finer, 0.25) == []
    (line,) = coarser_than_trained(Encoders((plain, finer)), 2.4)
    assert line.startswith("--mpp 2.4 is coarser than the 0.5 µm per pixel that own:small_encoder")


def test_lines_of_several_specimens() -> None:
    found = [Notice(f"S{i}", f"{i}.tif", "slide", "odd") for i in range(5)]
    found += [Notice("S1", "1.tif", "slide", "odd", "again"), Notice("", "", "mpp", "of all")]
    found += [Notice("S1", "1.tif", "slide", "odder")]
    assert list(lines(found)) == [
        "S0, S1, S2 and 2 more: slide: odd",
        "of all",
        "S1: 1.tif: odder",
    ]


def test_the_real_pair(pair: Path) -> None:
    """Whose file says 0.17 µm per pixel where 2.41 is right."""
    tiff = pair / "prostate_he_example.tif"
    found = check(str(pair / "manifest_no_mpp.csv"), replace(CONFIG, mpp=2.4))
    assert found.problems == []
    (notice,) = found.notices
    assert (notice.specimen, notice.file, notice.field) == ("R0008", str(tiff), "slide")
    for words in ("0.44 x 0.33 mm", "6.85 x 4.08 mm", "0.17 µm", "about 2.4 µm per pixel", "mpp"):
        assert words in notice.text, words
    sound = check(str(pair / "manifest.csv"), replace(CONFIG, mpp=2.413))
    assert (sound.problems, sound.notices) == ([], [])
    (enlarged,) = check(str(pair / "manifest.csv"), replace(CONFIG, mpp=0.5)).notices
    assert enlarged.file == str(tiff) and "2.41 µm per pixel" in enlarged.text
    assert "coarser than --mpp 0.5" in enlarged.text


def ours(said: Said) -> None:
    """Standard error holds our lines, and nothing of a library."""
    for words in ("tifffile", ".py", "Warning", "Traceback", "distributed"):
        assert words not in said.err, said.err
    for line in said.err.splitlines():
        assert line.startswith("msiscale: ") or "/" in line, line


def test_the_terminal_of_check(pair: Path) -> None:
    said = installed("check", pair / "manifest_no_mpp.csv", "--encoder", "efficientnet-lite0")
    assert (said.code, said.err) == (0, "")
    *understood, warning, end = said.out.splitlines()
    assert understood[0].startswith("R0008") and "25 µm each (from the file)" in understood[1]
    assert "0.17 µm per pixel (from the file)" in understood[2]
    assert warning.startswith("warning: R0008: /") and "smaller than its MSI" in warning
    assert end == "all inputs can be used, with 1 warning"


def test_the_terminal_of_stages_whose_workers_read_the_file(pair: Path, tmp_path: Path) -> None:
    words = [*CHOICES, "--mpp", "2.0"]
    known = installed("ingest", pair / "manifest.csv", "--out", tmp_path, "--workers", "1", *words)
    said = installed("register", pair / "manifest.csv", "--out", tmp_path, "--workers", "1", *words)
    for each in (known, said):
        assert each.code == 0, each.err
        ours(each)
    assert "tifffile" not in said.out


@pytest.mark.slow(reason="a whole run and all that reads it, each a process with a worker")
def test_the_terminal_of_every_command(pair: Path, tmp_path: Path) -> None:
    out, tiff = tmp_path / "run", pair / "prostate_he_example.tif"
    words = [*CHOICES, "--mpp", "2.0", "--workers", "1"]
    said = installed("run", pair / "manifest.csv", "--out", out, *words)
    assert said.code == 0, said.err
    ours(said)
    enlarged = [line for line in said.err.splitlines() if "coarser than --mpp 2" in line]
    assert len(enlarged) == 1 and enlarged[0].startswith(f"msiscale: R0008: {tiff}: ")
    (notice,) = json.loads((out / "run.json").read_text())["notices"]
    assert (notice["specimen"], notice["field"], notice["stage"]) == ("R0008", "slide", "features")
    new = ["predict", out / "model.zarr", tiff, "--slide-mpp", "2.413", "--out", tmp_path / "new"]
    quick = ["--factors", "8", "--ions", "1", "--methods", "ihs", "--scores-only"]
    for command in (
        ["report", pair / "manifest.csv", "--out", out, *words],
        ["fuse", pair / "manifest.csv", "--out", out, *quick],
        [*new, "--workers", "1"],
        ["export", tmp_path / "new", "--format", "ome-zarr", "--out", tmp_path / "zarr"],
    ):
        said = installed(*command)
        assert said.code == 0, said.err
        ours(said)


NOISY = """
import logging, warnings
from msiscale.errors import MsiscaleWarning

def noise(number):
    logging.getLogger("tifffile").warning("OME series cannot handle it")
    logging.getLogger("distributed.worker").error("something is lost")
    warnings.warn("pandas will change", FutureWarning)
    warnings.warn("a.tif: odd", MsiscaleWarning)
    return number
"""
PROGRAM = """
import sys
import noisy
from msiscale.cluster import connect
from msiscale.log import on_the_command_line
from msiscale.pipeline.tasks import Task, run_tasks

if __name__ == "__main__":
    with on_the_command_line(debug="--debug" in sys.argv), connect(workers=1) as client:
        noisy.noise(1)
        assert run_tasks(client, [Task("a", "a", noisy.noise, (2,))], "t").results == {"a": 2}
"""


@pytest.mark.parametrize("debug", [False, True])
def test_the_worker_of_a_command_leaves_the_terminal_alone(tmp_path: Path, debug: bool) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), *(["--debug"] if debug else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    if debug:
        assert done.stderr.count("OME series") == done.stderr.count("FutureWarning: pandas") == 2
    else:
        dashboard, *said = done.stderr.splitlines()
        assert dashboard.startswith("Dask dashboard: http://127.0.0.1:")
        assert said == ["msiscale: a.tif: odd", "msiscale: a: a.tif: odd"]


def odd_cohort(folder: Path, scale: float = 1.0) -> Path:
    """Two specimens: a slide coarser than the pixels asked for, and one far too small as well."""
    random = np.random.default_rng(0)
    rows = []
    for name, mpp in (("S1", 5.0), ("S2", 0.5 * scale)):
        xy = np.array([(x, y) for y in range(10) for x in range(12)])
        intensity = random.random((120, 3)).astype(np.float32)
        intensity[3, 1] = -1
        msi.write_hdf5(
            str(folder / f"{name}.h5"), [200.0, 300.0, 400.0], xy, intensity, pixel_um=50
        )
        pixels = np.full((140, 160, 3), 240, np.uint8)
        pixels[10:110, 10:130] = random.integers(90, 200, (100, 120, 3))
        Image.fromarray(pixels).save(folder / f"{name}.png")
        side = 50 / mpp  # as stated: a registration of another scale is refused
        matrix = [[side, 0, 15 + side / 2], [0, side, 10 + side / 2], [0, 0, 1]]
        (folder / f"{name}.json").write_text(json.dumps(matrix))
        row = {"specimen": name, "patient": name, "msi": f"{name}.h5", "slide": f"{name}.png"}
        rows.append({**row, "matrix": f"{name}.json", "mpp": mpp})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_a_run_says_and_keeps_what_check_says(tmp_path: Path, scheduler: str) -> None:
    manifest, out = odd_cohort(tmp_path), tmp_path / "run"
    said = msiscale("check", manifest, *CHOICES)
    assert said.code == 0 and said.out.count("warning: ") == 2, said.out
    words = {"encoder": CONFIG.encoder, "mpp": 4.0, "window": 512, "scheduler": scheduler}

    def ran(*stages: str) -> tuple[list[str], list[tuple[str, str, str]]]:
        with pytest.MonkeyPatch.context() as patch:
            lines: list[str] = []
            patch.setattr("msiscale.log.say", lines.append)
            run(str(manifest), str(out), stages=stages, **words)
        kept = json.loads((out / "run.json").read_text())["notices"]
        # what is said of the m/z axis, test_window.py holds
        kept = [n for n in kept if n["stage"] != "axis"]
        return lines, [(n["stage"], n["specimen"], n["field"]) for n in kept]

    told, kept = ran("ingest")
    negative = "msi: 1 negative intensities read as 0"
    assert f"S1, S2: {negative}" in told
    assert kept == [("peaks", "S1", "msi"), ("peaks", "S2", "msi")]
    told, kept = ran("register", "features")
    assert sum("smaller than its MSI" in line for line in told) == 1
    assert sum("coarser than --mpp 4" in line for line in told) == 1
    assert kept == [
        ("peaks", "S1", "msi"),
        ("peaks", "S2", "msi"),
        ("register", "S2", "slide"),
        ("features", "S1", "slide"),
    ]
    again, same = ran("ingest", "register", "features")
    assert same == kept and sum("negative" in line for line in again) == 1  # nothing is redone
    odd_cohort(tmp_path, scale=10.0)  # the scale is mended
    told, kept = ran("ingest", "register", "features")
    assert ("register", "S2", "slide") not in kept and ("features", "S2", "slide") in kept
    withdraw(str(out), ["S2"])
    notices = json.loads((out / "run.json").read_text())["notices"]
    assert {n["specimen"] for n in notices} == {"S1"}


def test_what_fails_is_noticed_too(tmp_path: Path, scheduler: str) -> None:
    """A wrong scale is known also where the registration fails on it."""
    manifest, out = odd_cohort(tmp_path), tmp_path / "run"
    (tmp_path / "S2.json").write_text(json.dumps([[100.0, 0, 1e5], [0, 100, 1e5], [0, 0, 1]]))
    words = {"encoder": CONFIG.encoder, "mpp": 4.0, "scheduler": scheduler}
    done = run(str(manifest), str(out), stages=("ingest", "register"), **words)
    assert "nothing of the MSI lies on the slide" in done.failed["S2"]
    record = Ledger(str(out)).read("register", "S2")
    assert record is not None and "smaller than its MSI" in record["notices"][0]
    kept = json.loads((out / "run.json").read_text())["notices"]
    assert [n["specimen"] for n in kept if n["stage"] == "register"] == ["S2"]


def test_strict_and_json(tmp_path: Path) -> None:
    manifest = odd_cohort(tmp_path)
    assert msiscale("check", manifest, "--strict", *CHOICES).code == 1
    said = msiscale("check", manifest, "--json", *CHOICES)
    found = json.loads(said.out)
    assert said.code == 0 and found["problems"] == []
    assert {(n["specimen"], n["field"], n["severity"]) for n in found["notices"]} == {
        ("S1", "slide", "warning"),
        ("S2", "slide", "warning"),
    }
    first = found["specimens"][0]
    assert first["msi"] == {
        "pixels": 120,
        "grid": [10, 12],
        "pixel_um": [50.0, 50.0],
        "pixel_um_from": "the file",
        "mz_from": "all spectra",
        "mz": [200.0, 400.0],
        "spacing_mz": 100.0,
        "spectra": "centroid",
        "polarity": None,
        "ms_level": None,
        "analyser": None,
    }
    assert first["slide"]["mpp"] == [5.0, 5.0] and first["slide"]["mpp_from"] == "manifest"
    assert first["registration"] == "matrix" and first["annotation"] is None
