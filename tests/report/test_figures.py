from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msiscale.report import write_figures
from msiscale.report.data import Results
from msiscale.report.figures import best_mode, cancer_pixel, figure2, spectra_at
from msiscale.store import open_group, put, read

KINDS = ("figure1", "figure2", "ions", "registration")


@pytest.mark.parametrize("name", ["s1", "s3", "wide"])
def test_every_figure_is_a_picture_of_sensible_size(drawn_folder: Path, name: str) -> None:
    for kind in KINDS:
        with Image.open(drawn_folder / "figures" / f"{kind}_{name}.png") as image:
            image.load()
            assert image.format == "PNG"
            assert 500 < image.width < 2400
            assert 250 < image.height < 2400
            colours = image.convert("RGB").getcolors(1 << 22)
        assert len(colours) > 200  # maps, not an empty frame


def test_figures_are_the_same_every_time(drawn_folder: Path) -> None:
    before = (drawn_folder / "figures" / "figure2_s1.png").read_bytes()
    paths = write_figures(str(drawn_folder), "s1")
    assert [Path(p).name for p in paths] == [f"{kind}_s1.png" for kind in KINDS]
    assert (drawn_folder / "figures" / "figure2_s1.png").read_bytes() == before


def test_a_specimen_without_data_has_no_figures(drawn_folder: Path) -> None:
    assert write_figures(str(drawn_folder), "broken") == []


def test_only_what_is_there_is_drawn(results_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(results_folder / "cohort.zarr", out / "cohort.zarr")
    assert [Path(p).name for p in write_figures(str(out), "s1")] == ["registration_s1.png"]


def test_any_url_will_do(results_folder: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    try:
        for name in ("cohort.zarr", "predictions.zarr"):
            memory.put(f"{results_folder}/{name}/s1/", f"/run/{name}/s1/", recursive=True)
        paths = write_figures("memory://run", "s1")
        assert "memory://run/figures/figure1_s1.png" in paths
        with Image.open(io.BytesIO(memory.cat_file("/run/figures/figure1_s1.png"))) as image:
            assert image.format == "PNG"
    finally:
        memory.rm("/run", recursive=True)


def test_best_mode_is_that_of_the_metrics(results_folder: Path) -> None:
    results = Results(str(results_folder))
    predicted = results.predictions("s1")
    assert predicted is not None
    assert best_mode(results, "s1", predicted) == (0, pytest.approx(0.6))


def test_best_mode_without_metrics_is_computed(results_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(results_folder / "predictions.zarr", tmp_path / "predictions.zarr")
    group = open_group(str(tmp_path / "predictions.zarr" / "s1"), "a")
    guess = read(group, "predicted_scores")
    guess[..., 3] = read(group, "scores")[..., 3]
    put(group, "predicted_scores", guess, ("y", "x", "component"))
    results = Results(str(tmp_path))
    predicted = results.predictions("s1")
    assert predicted is not None
    assert best_mode(results, "s1", predicted) == (3, pytest.approx(1.0))


def test_the_pixel_is_cancer_and_near_its_centre(results_folder: Path) -> None:
    results = Results(str(results_folder))
    data, predicted = results.cohort("s1"), results.predictions("s1")
    assert data is not None and predicted is not None
    guess = predicted.read("predicted_scores")[..., 0]
    (y, x), words = cancer_pixel(data, guess)
    cancer = data.cancer
    assert cancer[y, x] == np.nanmax(cancer)
    assert np.hypot(y - 0.42 * 44, x - 0.6 * 56) < 2
    assert words == "cancer pixel (fraction 1.00)"

    unlabelled, guess3 = results.cohort("s3"), results.predictions("s3")
    assert unlabelled is not None and guess3 is not None
    (y, x), words = cancer_pixel(unlabelled, guess3.read("predicted_scores")[..., 0])
    assert "no annotated cancer" in words
    assert unlabelled.tissue[y, x]


def test_spectra_pair_the_same_mz_and_are_clipped(results_folder: Path) -> None:
    results = Results(str(results_folder))
    data, predicted = results.cohort("s1"), results.predictions("s1")
    assert data is not None and predicted is not None
    mz, measured, guess = spectra_at(data, predicted, (18, 34))
    keep = np.isin(data.mz, mz)
    assert keep.sum() == mz.size < data.mz.size
    np.testing.assert_array_equal(measured, data.read("intensity")[18, 34, keep])
    assert guess.min() == 0
    assert np.corrcoef(measured, guess)[0, 1] > 0.5


def test_titles_tell_the_score_and_names_stay_plain(results_folder: Path) -> None:
    figure = figure2(Results(str(results_folder)), "s1")
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any("R² 0.600" in title for title in titles)
    assert any("mode_000" in title for title in titles)
