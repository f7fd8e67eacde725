"""Slides and maps as OME-Zarr: every cell shows the MSI pixel at that place of the slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from msiscale.errors import InputError
from msiscale.export import export
from msiscale.export.source import ExportSpecimen, open_run
from msiscale.grid import apply
from msiscale.slide.reader import open_reader


@pytest.fixture(scope="module")
def folder(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ome")
    done = export(run, str(out), "ome-zarr", specimens=["A"], mz=[600.2, 700.30004])
    names = [Path(url).name for url in done.written]
    assert names == [f"{n}.ome.zarr" for n in ("slide", "cancer", "ions", "predicted_ions")]
    return out / "A"


def steps(url: Path, level: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Array, scale and translation of a level."""
    group = zarr.open_group(str(url), mode="r")
    dataset = group.attrs["ome"]["multiscales"][0]["datasets"][level]
    scale, move = dataset["coordinateTransformations"]
    return group[dataset["path"]], np.array(scale["scale"]), np.array(move["translation"])


@pytest.mark.parametrize(("image", "channel"), [("cancer", 1), ("ions", 0), ("predicted_ions", 0)])
def test_cells_show_the_pixel_below_them(run: str, folder: Path, image: str, channel: int) -> None:
    (source,) = open_run(run, ["A"]).sources
    array, scale, move = steps(folder / f"{image}.ome.zarr", 0)
    _, slide_scale, slide_move = steps(folder / "slide.ome.zarr", 0)
    values = np.asarray(array[channel])
    rng = np.random.default_rng(1)
    at = rng.integers(0, values.shape, (4000, 2))
    # through the world of both images to the slide's pixel, and from there to the MSI
    world = at * scale[1:] + move[1:]
    pixel = (world - slide_move[1:]) / slide_scale[1:] + 0.5
    index = apply(np.linalg.inv(source.matrix), pixel[:, ::-1])
    sure = (np.abs(index - np.floor(index) - 0.5) > 1e-6).all(axis=1)
    x, y = np.rint(index).astype(int)[sure].T
    inside = (x >= 0) & (y >= 0) & (x < source.shape[1]) & (y < source.shape[0])
    truth = map_of(source, image, channel)
    found = values[tuple(at[sure].T)]
    assert inside.mean() > 0.4
    # a predicted ion is a product, whose last bits depend on how many pixels BLAS has at once
    near = 1e-6 if image == "predicted_ions" else 0
    np.testing.assert_allclose(found[inside], truth[y[inside], x[inside]], near, near)
    assert np.isnan(found[~inside]).all()


def map_of(source: ExportSpecimen, image: str, channel: int) -> np.ndarray:
    if image == "cancer":
        return source.predicted.read("cancer_from_msi")
    if image == "ions":
        return source.measurements.read("intensity")[..., 1]
    scores, mean, components = (
        source.predicted.read(n) for n in ("predicted_scores", "mean", "components")
    )
    return np.maximum(scores @ components + mean, 0)[..., 1]


def test_no_pixel_is_lost(run: str, folder: Path) -> None:
    (source,) = open_run(run, ["A"]).sources
    array, _, _ = steps(folder / "ions.ome.zarr", 0)
    shown = np.unique(np.asarray(array[0]))
    values = source.measurements.read("intensity")[..., 1]
    assert set(np.unique(values[np.isfinite(values)])) <= set(shown)


def test_levels_are_means_of_what_is_known(folder: Path) -> None:
    fine, scale, move = steps(folder / "cancer.ome.zarr", 0)
    coarse, scale2, move2 = steps(folder / "cancer.ome.zarr", 1)
    above, below = np.asarray(fine[2]), np.asarray(coarse[2])
    assert below.shape == tuple(-(-n // 2) for n in above.shape)
    np.testing.assert_allclose(scale2[1:], 2 * scale[1:])
    np.testing.assert_allclose(move2[1:], move[1:] + scale[1:] / 2)
    even = np.pad(above, [(0, -n % 2) for n in above.shape], constant_values=np.nan)
    four = even.reshape(below.shape[0], 2, below.shape[1], 2).transpose(0, 2, 1, 3)
    known = np.isfinite(four).any(axis=(2, 3))
    assert 0.3 < known.mean() < 1
    np.testing.assert_array_equal(np.isfinite(below), known)
    np.testing.assert_allclose(below[known], np.nanmean(four[known], axis=(1, 2)), rtol=1e-6)


def test_the_slide_is_there_in_full(run: str, folder: Path) -> None:
    (source,) = open_run(run, ["A"]).sources
    slide = open_reader(str(folder / "slide.ome.zarr"))
    original = open_reader(source.slide, mpp=2.0)
    assert slide.mpp == (2.0, 2.0) and slide.shape == original.shape
    np.testing.assert_array_equal(slide.read(0, 5, 9, 50, 60), original.read(0, 5, 9, 50, 60))


def test_again_over_an_earlier_export_but_over_nothing_else(run: str, tmp_path: Path) -> None:
    words = {"specimens": ["B"], "slides": False}
    for mz in ([600.2], [500.1, 800.5]):
        export(run, str(tmp_path), "ome-zarr", mz=mz, **words)
    array, _, _ = steps(tmp_path / "B" / "ions.ome.zarr", 0)
    assert array.shape[0] == 2
    other = zarr.open_group(str(tmp_path / "B" / "cancer.ome.zarr"), mode="w")
    other.create_array("mine", data=np.zeros(3))
    with pytest.raises(InputError, match="no OME-Zarr; give another --out"):
        export(run, str(tmp_path), "ome-zarr", **words)
    assert other["mine"].shape == (3,)


def test_a_slide_that_is_gone(slide_run: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"N: its slide gone.svs is not there.*--no-slides"):
        export(slide_run, str(tmp_path), "ome-zarr")
    export(slide_run, str(tmp_path), "ome-zarr", slides=False, mz=[600.2])
    array, scale, move = steps(tmp_path / "N" / "predicted_ions.ome.zarr", 0)
    assert array.shape == (1, 120, 160) and scale.tolist() == [1.0, 12.5, 12.5]
    np.testing.assert_allclose(move, [0, 6.25 - 1, 6.25 - 1])  # from the first pixel's centre
