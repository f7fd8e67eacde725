"""A cohort whose m/z are off by known errors becomes that of exact instruments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from pyimzml.ImzMLParser import ImzMLParser
from pyimzml.ImzMLWriter import ImzMLWriter

from msiscale.errors import InputError
from msiscale.models import FoldModel, Moments, final_fold, fit_linear_folds
from msiscale.pipeline import run
from msiscale.pipeline.batch import summary, write_batch
from msiscale.pipeline.check import check
from msiscale.pipeline.withdraw import withdraw
from msiscale.simulate import simulate
from msiscale.simulate.chemistry import Instrument

ERRORS = {"S01": (12.0, 1.5), "S02": (-8.0, 0.0), "S03": (0.0, 0.0)}  # ppm at 650, over 100 Da


def shift(path: Path, offset: float, slope: float) -> None:
    """Write an imzML again with wrong m/z."""
    parser = ImzMLParser(str(path))
    spectra = [parser.getspectrum(i) for i in range(len(parser.coordinates))]
    with ImzMLWriter(str(path.with_suffix("")), mode="processed", polarity="positive") as writer:
        for place, (mz, intensity) in zip(parser.coordinates, spectra, strict=True):
            error = offset + slope * (np.asarray(mz) - 650) / 100
            writer.addSpectrum(mz * (1 + 1e-6 * error), intensity, place)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact") / "cohort"
    instrument = Instrument(drift_ppm=0.0)
    simulate(folder, specimens=3, seed=2, pixels=(12, 14), mpp=4.0, instrument=instrument)
    rows = pd.read_csv(folder / "manifest.csv", dtype=str)
    rows["pixel_um"] = "100"
    rows.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def wrong(exact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(exact, tmp_path_factory.mktemp("wrong") / "cohort"))
    for name, error in ERRORS.items():
        shift(folder / f"{name}.imzML", *error)
    return folder


@pytest.fixture(scope="module")
def good(exact: Path, scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("good") / "run"
    assert not ingest(exact, out, scheduler).failed
    return out


def ingest(folder: Path, out: Path, scheduler: str, **choices):
    return run(
        str(folder / "manifest.csv"), str(out), scheduler=scheduler, stages=("ingest",), **choices
    )


def cube(out: Path, name: str, array: str = "intensity") -> np.ndarray:
    return zarr.open_group(out / "cohort.zarr" / name, mode="r")[array][...]


def test_errors_are_found_and_taken_away(exact, wrong, good, scheduler, tmp_path) -> None:
    out = tmp_path / "run"
    assert not ingest(wrong, out, scheduler, recalibrate="builtin:lipids").failed
    table = pd.read_csv(out / "calibration.csv").set_index("specimen")
    assert (table["matches"] >= 20).all()
    assert table.loc["S01", "median_ppm_before"] == pytest.approx(12.5, abs=2.5)
    assert table.loc["S02", "median_ppm_before"] == pytest.approx(-8, abs=0.5)
    assert (table["median_ppm_after"].abs() < 0.3).all()
    assert table.loc["S01", "mad_after"] < table.loc["S01", "mad_before"]
    for name, (offset, slope) in ERRORS.items():
        row = table.loc[name]
        for mz in (row["low_mz"], 650.0, row["high_mz"]) if row["offset_ppm"] else ():
            known = offset + slope * (mz - 650) / 100
            found = row["offset_ppm"] + row["slope_ppm_per_100"] * (mz - row["centre_mz"]) / 100
            assert found == pytest.approx(known, abs=0.5)
    # the axis, found on corrected sums, is that of the exact cohort
    axis, expected = cube(out, "S01", "mz"), cube(good, "S01", "mz")
    distance = np.abs(axis[:, None] / expected - 1).min(axis=0) * 1e6
    assert len(axis) == pytest.approx(len(expected), rel=0.05)
    assert np.quantile(distance, 0.9) < 0.5
    facts = zarr.open_group(out / "cohort.zarr" / "S01", mode="r").attrs["calibration"]
    assert facts["offset_ppm"] == pytest.approx(table.loc["S01", "offset_ppm"], rel=1e-5)
    # and on one axis so are the cubes, but for peaks that errors of each put at a window's edge
    again, raw = tmp_path / "again", tmp_path / "raw"
    assert not ingest(wrong, again, scheduler, recalibrate="builtin:lipids", axis=str(good)).failed
    assert not ingest(wrong, raw, scheduler, axis=str(good)).failed
    assert not (raw / "calibration.csv").exists()
    for name in ("S01", "S02"):
        truth = cube(good, name)
        assert np.isclose(cube(again, name), truth, rtol=1e-5).mean() > 0.99
        assert (cube(raw, name) > 0).mean() < 0.5 * (truth > 0).mean()
    # not asked for any more, all is as if it never had been
    assert not ingest(wrong, again, scheduler, axis=str(good)).failed
    assert not (again / "calibration.csv").exists()
    np.testing.assert_array_equal(cube(again, "S01"), cube(raw, "S01"))


def test_few_matches_correct_nothing_and_it_is_said(
    exact, good, scheduler, tmp_path, capsys
) -> None:
    masses = tmp_path / "masses.csv"
    masses.write_text("name,mz\na,301.5\nb,999.9\nc,500.5\n")
    out = tmp_path / "run"
    assert not ingest(exact, out, scheduler, recalibrate=str(masses)).failed
    assert "S02: not recalibrated: only" in capsys.readouterr().err
    table = pd.read_csv(out / "calibration.csv")
    assert (table["offset_ppm"] == 0).all() and table["note"].str.contains("only").all()
    np.testing.assert_array_equal(cube(out, "S02"), cube(good, "S02"))


def test_lists_that_will_not_do_are_said_first(exact, scheduler, tmp_path) -> None:
    for asked, words in (
        ("builtin:sugar", "builtin:lipids"),
        ("ppm:300:1000:5", "file of m/z"),
        (str(tmp_path / "no.csv"), "no.csv"),
    ):
        with pytest.raises(InputError, match=words):
            ingest(exact, tmp_path / "run", scheduler, recalibrate=asked)
    assert not (tmp_path / "run").exists()


def test_reference_ion_and_logarithm(exact, good, scheduler, tmp_path, capsys) -> None:
    mz = cube(good, "S01", "mz")
    raw = tmp_path / "raw"
    assert not ingest(exact, raw, scheduler, normalise="none", axis=str(good)).failed
    everywhere = min(
        range(len(mz)), key=lambda i: max((cube(raw, n)[..., i] == 0).mean() for n in ERRORS)
    )
    ion = float(mz[everywhere])
    out = tmp_path / "run"
    words = {"normalise": "reference", "transform": "log", "axis": str(good)}
    assert not ingest(exact, out, scheduler, reference_mz=(ion,), **words).failed
    said = capsys.readouterr().err
    for name in ERRORS:
        plain = cube(raw, name).astype(np.float64)
        divisor = plain[..., everywhere]
        lost = divisor == 0
        divisor[lost] = np.nan
        np.testing.assert_array_equal(np.isnan(cube(out, name, "norm")), lost)
        expected = np.log1p(plain / divisor[..., None] / 0.01)
        np.testing.assert_allclose(cube(out, name), expected, rtol=1e-5)
        line = f"{name}: {lost.sum()} of {lost.size} spectra lack the reference ions"
        assert (line in said) == bool(lost.any())
    attrs = zarr.open_group(out / "cohort.zarr" / "S01", mode="r")["intensity"].attrs
    assert attrs["normalisation"] == "reference" and attrs["reference_mz"] == [ion]
    assert (attrs["transform"], attrs["unit"]) == ("log", 0.01)
    # an ion that is not there: nothing passes for a measurement
    gone = ingest(exact, tmp_path / "gone", scheduler, reference_mz=(281.2,), **words)
    assert set(gone.failed) == set(ERRORS)
    assert all("281.2" in why and "--reference-mz" in why for why in gone.failed.values())


def test_check_names_a_bad_list(exact) -> None:
    from msiscale.config import RunConfig

    config = RunConfig(recalibrate="builtin:none", encoder="efficientnet-lite0")
    assert any(
        line.startswith("recalibrate: ")
        for line in check(str(exact / "manifest.csv"), config).problems
    )


class Quiet:
    """What `write_batch` needs of a run."""

    def __init__(self, out: Path) -> None:
        self.out, self.said = str(out), []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_batch_table_and_its_line(tmp_path) -> None:
    rng = np.random.default_rng(0)
    sums = {}
    for i in range(3):
        z = rng.normal(size=(200, 4))
        spectra = z @ rng.normal(size=(4, 9)) + 4 * i
        sums[f"s{i}"] = Moments.of(z @ np.ones((4, 6)) + rng.normal(size=(200, 6)), spectra)
    patients = {s: s for s in sums}
    (model,) = fit_linear_folds(
        sums, [final_fold(list(sums))], patients, n_components=3, alphas=[1.0]
    )
    assert isinstance(model, FoldModel)
    job = Quiet(tmp_path)
    rows = write_batch(job, model, sums, patients)
    table = pd.read_csv(tmp_path / "batch.csv")
    assert list(table.columns) == ["of", "specimen", "target", "metric", "value"]
    assert len(table) == len(rows) and set(table["of"]) == {"msi", "features"}
    assert set(table["specimen"]) == {"all", *sums}
    assert job.said == [summary(rows)] and "of 3 modes), and one pixel" in job.said[0]
    assert write_batch(job, model, {"s0": sums["s0"]}, patients) == []
    assert not (tmp_path / "batch.csv").exists()


def test_who_is_withdrawn_leaves_the_tables(wrong, scheduler, tmp_path) -> None:
    out = tmp_path / "run"
    assert not ingest(wrong, out, scheduler, recalibrate="builtin:dhb").failed
    assert "S02" in (out / "calibration.csv").read_text()
    withdraw(str(out), ["S02"])
    assert not (out / "calibration.csv").exists()
    assert not list((out / "ledger" / "calibration").glob("S02*"))
    assert json.loads((out / "run.json").read_text())["specimens"] == ["S01", "S03"]
