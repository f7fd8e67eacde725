"""Predicted MSI as imzML, read by pyimzML and by our own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported import KEPT, MZ, PIXEL
from pyimzml.ImzMLParser import ImzMLParser

import msiscale as ms
from msiscale.export import export
from msiscale.export.source import open_run
from msiscale.prediction.model import spectra


def expected(run: str, name: str) -> np.ndarray:
    """(y, x, mz), NaN where nothing is predicted."""
    (source,) = open_run(run, [name]).sources
    parts = (source.predicted.read(n) for n in ("predicted_scores", "mean", "components"))
    return spectra(*parts)


@pytest.fixture(scope="module")
def folder(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imzml")
    done = export(run, str(out), "imzml")
    assert done.written == [f"{out}/A.imzML", f"{out}/B.imzML"]
    return out


def test_pyimzml_reads_the_same_values(run: str, folder: Path) -> None:
    values = expected(run, "A")
    with ImzMLParser(str(folder / "A.imzML")) as parser:
        known = np.isfinite(values).all(axis=-1)
        assert len(parser.coordinates) == known.sum() < known.size
        for i, (x, y, _) in enumerate(parser.coordinates):
            mz, intensity = parser.getspectrum(i)
            np.testing.assert_array_equal(mz, MZ[KEPT])
            np.testing.assert_array_equal(intensity, values[y - 1, x - 1])
        said = parser.imzmldict
        assert (said["pixel size x"], said["pixel size y"]) == (PIXEL[1], PIXEL[0])
        assert (said["max count of pixels x"], said["max count of pixels y"]) == (85, 70)
        assert parser.polarity == "negative" and parser.spectrum_mode == "centroid"


def test_our_own_reader_checks_its_uuid_and_agrees(run: str, folder: Path) -> None:
    values = expected(run, "B")
    found = ms.open_msi(str(folder / "B.imzML"))
    assert found.attrs["mode"] == "continuous" and found.attrs["polarity"] == "-"
    assert found.attrs["pixel_um"] == list(PIXEL) and found.attrs["notes"] == []
    y, x = (n - 1 for n in found.attrs["origin"])
    inner = values[y : y + found.sizes["y"], x : x + found.sizes["x"]]
    np.testing.assert_array_equal(found["intensity"].values, inner)


def test_the_same_results_give_the_same_bytes(run: str, folder: Path, tmp_path: Path) -> None:
    export(run, str(tmp_path), "imzml", specimens=["A"])
    for name in ("A.imzML", "A.ibd"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.ibd", "A.imzML"]


def test_a_slide_without_msi_and_a_store(slide_run: str) -> None:
    done = export(slide_run, "memory://exported/imzml", "imzml")
    assert done.written == ["memory://exported/imzml/N.imzML"]
    found = ms.open_msi(done.written[0])
    assert found["intensity"].shape == (26, 40, 5)  # four rows are not predicted
    assert found.attrs["polarity"] == "-" and found.attrs["pixel_um"] == [50.0, 50.0]
    np.testing.assert_array_equal(found["intensity"].values, expected(slide_run, "N")[4:])
