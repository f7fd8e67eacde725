"""A small phantom cohort: every file opens with its own tools and agrees with the truth."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import xarray as xr
from PIL import Image
from pyimzml.ImzMLParser import ImzMLParser
from sklearn.metrics import roc_auc_score

from msiscale.cohort import Cohort, Specimen, read_manifest
from msiscale.errors import InputError
from msiscale.grid import PixelSize, apply
from msiscale.msi import bin_spectra, normalisation, open_source
from msiscale.registration import fit_landmarks, read_landmarks, read_matrix
from msiscale.simulate import FORMS, simulate
from msiscale.simulate.write import pyramid_shapes
from msiscale.slide.annotations import read_annotation
from msiscale.slide.labels import label_fraction
from msiscale.slide.reader import open_reader

PIXELS = (18, 20)
SMALL = {"pixels": PIXELS, "mpp": 4.0, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    simulate(folder, specimens=5, **SMALL)
    return folder


@pytest.fixture(scope="module")
def cohort(folder: Path) -> Cohort:
    return read_manifest(str(folder / "manifest.csv"))


def _truth(folder: Path, name: str) -> tuple[dict, xr.Dataset]:
    truth = json.loads((folder / "truth" / f"{name}.json").read_text())
    truth["matrix"] = np.array(truth["matrix"])
    return truth, xr.open_zarr(folder / "truth" / f"{name}.zarr", consolidated=False).load()


def _in_tissue(specimen: Specimen, truth: dict, maps: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """TIC-normalised intensities of the lipids and the labels, of pixels that are tissue."""
    source = open_source(specimen.msi)
    spectra = source.read(np.arange(len(source.positions)))
    mz = np.sort([lipid["mz"] for lipid in truth["lipids"]])
    cube = bin_spectra(spectra, mz, 5.0) / normalisation(spectra, "tic")[:, None]
    tissue = maps.tissue.values.ravel() > 0.5
    return cube[tissue], maps.cancer.values.ravel()[tissue] > 0.5


def _planted(truth: dict) -> list[int]:
    mz = np.sort([lipid["mz"] for lipid in truth["lipids"]])
    return [int(np.argmin(np.abs(mz - b))) for b in truth["biomarkers"]]


def _digests(folder: Path, name: str) -> dict[str, str]:
    files = [f for f in folder.rglob("*") if f.is_file() and name in str(f.relative_to(folder))]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_manifest(cohort: Cohort) -> None:
    assert not cohort.problems
    assert [s.name for s in cohort] == [f"S{i:02d}" for i in range(1, 6)]
    assert len({s.patient for s in cohort}) == 5
    assert [s.matrix is not None for s in cohort] == [False, False, False, True, False]


def test_same_bytes_whatever_the_count_and_the_workers(folder: Path, tmp_path: Path) -> None:
    simulate(tmp_path, specimens=2, workers=2, **SMALL)
    for name in ("S01", "S02"):
        assert _digests(tmp_path, name) == _digests(folder, name)
    assert len(_digests(folder, "S01")) > 6
    simulate(tmp_path / "other", specimens=1, **{**SMALL, "seed": 6})
    there, here = _digests(tmp_path / "other", "S01"), _digests(folder, "S01")
    assert all(there[f"S01{end}"] != here[f"S01{end}"] for end in (".tiff", ".ibd", ".imzML"))


def test_imzml_opens_in_pyimzml(folder: Path, cohort: Cohort) -> None:
    for specimen in cohort:
        path = Path(specimen.msi)
        parser = ImzMLParser(str(path))
        xy = np.array(parser.coordinates)[:, :2]
        assert xy.min() == 1 and tuple(xy.max(axis=0)) == PIXELS[::-1]
        assert len(xy) == PIXELS[0] * PIXELS[1]
        assert parser.imzmldict["pixel size x"] == parser.imzmldict["pixel size y"] == 100.0
        assert parser.polarity == "positive" and parser.spectrum_mode == "centroid"
        lengths = [len(parser.getspectrum(i)[0]) for i in range(len(xy))]
        assert min(lengths) > 60 and max(lengths) < 450
        text, data = path.read_text(), path.with_suffix(".ibd").read_bytes()
        assert str(uuid.UUID(bytes=data[:16])).upper() in text
        assert hashlib.sha1(data).hexdigest().upper() in text
        assert str(folder) not in text
        source = open_source(str(path))
        assert source.shape == PIXELS and source.pixel_um == (100.0, 100.0)
        assert source.polarity == "+" and not source.notes


def test_slide_opens_in_openslide_and_tifffile(cohort: Cohort) -> None:
    for specimen in cohort:
        slide = openslide.OpenSlide(specimen.slide)
        assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == "generic-tiff"
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 4.0
        shapes = [(h, w) for w, h in slide.level_dimensions]
        assert len(shapes) > 1 and shapes == pyramid_shapes(shapes[0])
        with tifffile.TiffFile(specimen.slide) as tiff:
            assert [level.shape[:2] for level in tiff.series[0].levels] == shapes
            image = tiff.series[0].asarray()
        w, h = slide.dimensions
        np.testing.assert_array_equal(
            np.asarray(slide.read_region((0, 0), 0, (w, h)).convert("RGB")), image
        )
        border = np.concatenate([image[:8].reshape(-1, 3), image[:, -8:].reshape(-1, 3)])
        assert border.mean() > 225
        # pink and purple: red and blue above green
        middle = image[h // 4 : -h // 4, w // 4 : -w // 4].reshape(-1, 3).mean(axis=0)
        assert middle[1] + 20 < min(middle[0], middle[2])


def test_tissue_lies_where_the_matrix_says(folder: Path, cohort: Cohort) -> None:
    for specimen in cohort:
        truth, maps = _truth(folder, specimen.name)
        slide = open_reader(specimen.slide)
        image = slide.read(0, 0, 0, *slide.shape).min(axis=-1)
        row, column = np.nonzero(maps.stroma.values > 0.95)
        xy = apply(truth["matrix"], np.column_stack([column, row])).astype(int)
        assert (image[xy[:, 1], xy[:, 0]] < 225).mean() > 0.97
        row, column = np.nonzero(maps.tissue.values == 0)
        xy = apply(truth["matrix"], np.column_stack([column, row])).astype(int)
        xy = xy[((xy >= 0) & (xy < slide.shape[::-1])).all(axis=1)]
        assert (image[xy[:, 1], xy[:, 0]] > 225).all()


def test_registration(folder: Path, cohort: Cohort) -> None:
    flips = []
    for specimen in cohort:
        truth, _ = _truth(folder, specimen.name)
        flips.append(np.linalg.det(truth["matrix"]) < 0)
        if specimen.matrix:
            np.testing.assert_array_equal(read_matrix(specimen.matrix).matrix, truth["matrix"])
            continue
        assert specimen.landmarks
        slide_xy, msi_xy = read_landmarks(specimen.landmarks)
        assert 8 <= len(slide_xy) <= 12
        found = fit_landmarks(slide_xy, msi_xy, mpp=PixelSize.of(4), pixel_um=PixelSize.of(100))
        corners = np.array([(0, 0), (PIXELS[1], 0), PIXELS[::-1], (0, PIXELS[0])], float)
        miss = apply(found.matrix, corners) - apply(truth["matrix"], corners)
        assert np.hypot(*miss.T).mean() / 25 < 0.5
        assert found.residual_px < 0.3
    assert any(flips) and not all(flips)


def test_annotations_agree_with_the_fractions(folder: Path, cohort: Cohort) -> None:
    unknown = 0
    for specimen, form in zip(cohort, FORMS, strict=True):
        truth, maps = _truth(folder, specimen.name)
        slide = open_reader(specimen.slide)
        assert specimen.annotation
        regions = read_annotation(specimen.annotation, slide.shape, slide=slide)
        label = label_fraction(regions, truth["matrix"], PIXELS)
        known = np.isfinite(label)
        unknown += int((~known).sum())
        difference = np.abs(label - maps.cancer.values)[known]
        assert difference.mean() < (0.03 if form == "painted" else 0.012), form
        assert form == "painted" or difference.max() < 0.3
    assert unknown > 0


def test_planted_lipids_stand_out(folder: Path, cohort: Cohort) -> None:
    areas = []
    for specimen in cohort:
        truth, maps = _truth(folder, specimen.name)
        values, cancer = _in_tissue(specimen, truth, maps)
        areas.append([roc_auc_score(cancer, column) for column in values.T])
    mean = np.mean(areas, axis=0)
    planted = _planted(truth)
    assert set(np.argsort(-mean)[:2]) == set(planted)
    assert (mean[planted] > 0.85).all()
    others = np.delete(mean, planted)
    assert np.abs(others - 0.5).max() + 0.05 < (mean[planted] - 0.5).min()


def test_null_cohort(tmp_path: Path) -> None:
    simulate(tmp_path, specimens=3, null=True, **SMALL)
    areas = []
    for specimen in read_manifest(str(tmp_path / "manifest.csv")):
        truth, maps = _truth(tmp_path, specimen.name)
        assert truth["biomarkers"] == []
        values, cancer = _in_tissue(specimen, truth, maps)
        areas.append(np.mean([roc_auc_score(cancer, column) for column in values.T]))
    assert abs(np.mean(areas) - 0.5) < 0.12


def test_on_a_real_slide(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "slides" / "cmu-1-small-region.svs"
    simulate(tmp_path, slide=str(file), seed=1)
    (specimen,) = read_manifest(str(tmp_path / "manifest.csv"))
    assert Path(specimen.slide).samefile(file)
    assert not list(tmp_path.glob("*.tiff"))
    truth, maps = _truth(tmp_path, "S01")
    slide = open_reader(specimen.slide)
    image = slide.read(0, 0, 0, *slide.shape).min(axis=-1)
    row, column = np.nonzero(maps.tissue.values > 0.99)
    assert len(row) > 50
    xy = apply(truth["matrix"], np.column_stack([column, row])).astype(int)
    assert (image[xy[:, 1], xy[:, 0]] < 225).mean() > 0.8
    assert specimen.annotation
    label = label_fraction(
        read_annotation(specimen.annotation, slide.shape, slide=slide),
        truth["matrix"],
        maps.cancer.shape,
    )
    assert np.abs(label - maps.cancer.values).mean() < 0.02
    values, cancer = _in_tissue(specimen, truth, maps)
    areas = np.array([roc_auc_score(cancer, column) for column in values.T])
    assert (areas[_planted(truth)] > 0.8).all()


def test_slide_without_mpp(cohort: Cohort, tmp_path: Path) -> None:
    file = str(tmp_path / "slide.png")
    tissue = tifffile.imread(next(iter(cohort)).slide, key=0)
    Image.fromarray(tissue).save(file)
    with pytest.raises(InputError, match="slide_mpp"):
        simulate(tmp_path, slide=file)
    simulate(tmp_path, slide=file, slide_mpp=4.0, pixel_um=100.0)
    (specimen,) = read_manifest(str(tmp_path / "manifest.csv"))
    assert specimen.mpp == 4.0


@pytest.mark.parametrize(
    "options",
    [
        {"specimens": 0},
        {"seed": -1},
        {"pixels": (3, 3)},
        {"pixel_um": 0.0},
        {"mpp": -1.0},
        {"annotations": ["crayon"]},
        {"patients": 9, "specimens": 3},
    ],
)
def test_bad_options(tmp_path: Path, options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        simulate(tmp_path, **options)
    assert not (tmp_path / "manifest.csv").exists()
