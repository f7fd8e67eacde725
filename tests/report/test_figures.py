from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from msiscale.report import write_figures
from msiscale.report.class_gallery import MOST, class_gallery, ends
from msiscale.report.data import Results
from msiscale.report.figures import best_mode, cancer_pixel, figure2, spectra_at
from msiscale.report.ion_gallery import CLASS, gallery, identified, scored, shown
from msiscale.store import open_group, put, read

KINDS = ("figure1", "figure2", "ions", "ion_classes", "biomarkers", "registration")


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
    data, held = results.cohort("s1"), results.held_out("s1")
    assert data is not None and held is not None
    mz, measured, guess = spectra_at(data, held, (18, 34))
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


def test_no_figure_of_a_label_that_is_not_there(alone_folder: Path) -> None:
    drawn = {p.name for p in (alone_folder / "figures").iterdir()}
    kinds = ("figure2", "ions", "ion_classes", "registration")
    assert drawn == {f"{kind}_s3.png" for kind in kinds}


def test_the_gallery_shows_best_median_and_worst(results_folder: Path) -> None:
    results = Results(str(results_folder))
    table = scored(results)
    groups = shown(table)
    assert [name for name, _ in groups] == ["best", "median", "worst"]
    r = table["pearson"].to_numpy()
    best, median, worst = (some["pearson"].to_numpy() for _, some in groups)
    assert best.min() >= median.max() >= median.min() >= worst.max()
    assert best[0] == r.max() and worst[-1] == r.min()
    assert abs(np.searchsorted(-r, -median[0]) - len(r) / 2) <= 2
    figure = gallery(results, "s1")
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    (name,) = [t for t in titles if t.startswith("best: m/z")]
    assert f"{table['mz'].iloc[0]:.4f}" in name
    assert titles[:2] == ["H&E", f"{len(r)} ions"]
    # of one specimen its own r, of the cohort the other: plain NumPy
    group = open_group(str(results_folder / "predictions.zarr" / "s1"))
    held = np.isfinite(read(group, "predicted_scores")[..., 0])
    i = int(np.argmin(np.abs(read(group, "mz") - table["mz"].iloc[0])))
    guess = read(group, "predicted_scores")[held] @ read(group, "components")[:, i]
    source = open_group(str(results_folder / "cohort.zarr" / "s1"))
    j = int(np.argmin(np.abs(read(source, "mz") - table["mz"].iloc[0])))
    own = np.corrcoef(read(source, "intensity")[held][:, j], guess)[0, 1]
    assert any(t.startswith(f"r {own:.2f}, of all {r[0]:.2f}") for t in titles)


def test_each_class_of_lipid_has_its_best_and_its_worst_ion(
    results_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(results_folder, out)
    table = pd.read_csv(out / "ions.csv").sort_values("pearson", ascending=False)
    names = ["PE 36:1 [M-H]-", "PC 34:1 [M+H]+", "PC O-34:1 [M+H]+", "PC 36:2 [M+H]+", "PC 36:1"]
    table["identification"] = [*names, *[""] * (len(table) - len(names))]
    table.to_csv(out / "ions.csv", index=False)
    results = Results(str(out))
    found = ends(identified(scored(results)))
    assert [(name, n) for name, n, _ in found] == [("PC", 3), ("PC O-", 1), ("PE", 1)]
    assert list(found[0][2]["identification"]) == ["PC 34:1 [M+H]+", "PC 36:1"]
    figure = class_gallery(results, "s1")
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    (best,) = [t for t in titles if t.startswith("PC, best of 3")]
    assert f"m/z {table['mz'].iloc[1]:.4f}" in best and "PC 34:1" in best
    assert sum(t.startswith("PE, its only ion") for t in titles) == 1
    table.assign(identification="").to_csv(out / "ions.csv", index=False)
    assert class_gallery(Results(str(out)), "s1") is None


def test_the_classes_with_the_most_ions_are_drawn() -> None:
    kinds = [f"K{i}" for i in range(MOST + 3)]
    table = pd.DataFrame({CLASS: [*kinds, kinds[-1]], "pearson": np.linspace(1, 0, MOST + 4)})
    found = [name for name, *_ in ends(table)]
    assert found[0] == kinds[-1] and len(found) == MOST


def test_few_ions_are_shown_once() -> None:
    table = pd.DataFrame({"pearson": [0.9, 0.5, 0.1]})
    assert [list(some["pearson"]) for _, some in shown(table)] == [[0.9, 0.5], [0.1]]


def test_blocks_are_seen_in_one_set_of_modes(alone_folder: Path, results_folder: Path) -> None:
    results = Results(str(alone_folder))
    assert results.protocol == "spatial_blocks" and not results.labelled
    seen = results.predictions("s3")
    assert seen is not None and seen.has("scores", "predicted_scores", "mean", "mz")
    group = open_group(str(results_folder / "predictions.zarr" / "s3"))
    # the folds' modes differ in sign only; they are not quite at right angles to each other
    wanted, components = read(group, "predicted_scores"), read(group, "components")
    onto = wanted @ (components @ components.T)
    np.testing.assert_allclose(seen.read("predicted_scores"), onto, rtol=1e-3, atol=1e-4)
    held = results.held_out("s3")
    assert held is not None
    y, x = np.argwhere(held.held)[len(np.argwhere(held.held)) // 3]
    known = read(group, "mean") + wanted[y, x] @ components
    found = held.spectrum(int(y), int(x))[np.isin(held.mz, read(group, "mz"))]
    np.testing.assert_allclose(found, known, rtol=1e-3, atol=1e-3)
