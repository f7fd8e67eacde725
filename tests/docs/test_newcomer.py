"""The words of docs/newcomer.md, typed as they stand, with real files."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
from commands import typed

PAGE = Path(__file__).parents[2] / "docs" / "newcomer.md"
FILES = {
    "msi/{}.imzML": "imzml/galaxy_spatial_dgmm_input/spatial_DGMM_input.imzML",
    "msi/{}.ibd": "imzml/galaxy_spatial_dgmm_input/spatial_DGMM_input.ibd",
    "annotations/{}.geojson": "annotations/qupath_bare_list.geojson",
}
SLIDES = {"A": "cmu-1-small-region.svs", "B": "tcga-cr-7395-01a-01-ts1.svs"}


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """Where the page begins: its files in ``mine``."""
    for name, slide in SLIDES.items():
        files = {**FILES, "slides/{}.svs": f"slides/{slide}"}
        for target, source in files.items():
            path = tmp_path / "mine" / target.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared_data / source, path)
    # A and B are two patients: their files must not be the same
    with (tmp_path / "mine" / "msi" / "B.ibd").open("r+b") as ibd:
        ibd.seek(-4, 2)
        last = ibd.read(1)[0]
        ibd.seek(-4, 2)
        ibd.write(bytes([last ^ 1]))
    with (tmp_path / "mine" / "annotations" / "B.geojson").open("a") as annotation:
        annotation.write("\n")
    return tmp_path


def words() -> str:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
    return block


def test_the_words_up_to_check(folder: Path) -> None:
    before, _, _ = words().partition("msiscale run")
    said = typed(folder, before, 120).strip().splitlines()
    assert said[0] == "A (patient P1)" and said[-1] == "all inputs can be used, with 1 note"


@pytest.mark.slow(reason="a run at the default options")
def test_all_the_words_end_in_a_report_that_finds_nothing(folder: Path) -> None:
    assert "report: results/report.html" in typed(folder, words(), 900)
    with (folder / "mine" / "results" / "metrics.csv").open() as file:
        (auc,) = (
            float(row["value"])
            for row in csv.DictReader(file)
            if (row["protocol"], row["specimen"]) == ("leave_one_patient_out", "all")
            and (row["model"], row["metric"], row["target"]) == ("cancer_from_he", "auc", "cancer")
        )
    assert 0.3 < auc < 0.7  # MSI, slides and outlines are of different tissues
