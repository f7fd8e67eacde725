"""What there is to export, and what is said of the rest."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from msiscale.cli import cli
from msiscale.errors import InputError
from msiscale.export import export
from msiscale.export.source import open_run, wanted_mz
from msiscale.slide.annotations import read_annotation


def test_finished_specimens_and_why_others_are_not(run: str) -> None:
    opened = open_run(run)
    assert [s.name for s in opened.sources] == ["A", "B"]
    assert opened.left_out == {"C": "C.svs: will not open"}
    assert wanted_mz(opened, None) == [800.5, 700.30004]  # of biomarkers.csv
    assert wanted_mz(opened, [600.201]) == [600.2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"format": "tiff"}, "--format tiff: unknown; give ome-zarr"),
        ({"format": "imzml", "specimens": ["Z"]}, "no specimen 'Z'; there are A, B"),
        ({"format": "imzml", "specimens": ["C"]}, "will not open"),
        ({"format": "parquet", "mz": [650.0]}, "m/z 650.0 is not on the axis; the nearest is"),
        ({"format": "imzml", "mz": [600.2]}, "--mz does not go with"),
        ({"format": "geojson", "specimens": ["B"]}, "no regions/B.geojson; run the stage regions"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(run: str, tmp_path, words, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        export(run, str(tmp_path / "out"), **words)
    assert "\n" not in str(error.value)


def test_no_results(tmp_path) -> None:
    with pytest.raises(InputError, match="no results there; give the --out"):
        export(str(tmp_path), str(tmp_path / "out"), "imzml")


@pytest.mark.parametrize(("library", "extra"), [("anndata", "export"), ("spatialdata",) * 2])
def test_a_library_that_is_missing(
    run: str, tmp_path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install 'msiscale\[{extra}\]'"):
        export(run, str(tmp_path / "out.zarr"), library)


def test_the_command_and_regions_for_qupath(run: str, tmp_path) -> None:
    words = ["export", run, "--out", str(tmp_path), "--format", "geojson", "--specimen"]
    done = CliRunner().invoke(cli, [*words, "A"])
    assert done.exit_code == 0 and done.output.strip() == f"{tmp_path}/A.geojson"
    (region,) = read_annotation(f"{tmp_path}/A.geojson", (4000, 4000))
    assert region.name == "Tumor: Predicted"
    done = CliRunner().invoke(cli, [*words[:-1][:-2], "--format", "imzml"])
    assert done.exit_code == 3 and "C is not in it: C.svs: will not open" in done.output
