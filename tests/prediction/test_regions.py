"""Regions of predicted cancer: outlines that say what the map says, in a form that QuPath opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from msiscale.grid import Block, PixelSize, scaling, translation
from msiscale.prediction.regions import PREDICTED, consensus, find_regions, outline, write_regions
from msiscale.prediction.secondary import COLUMNS, predicted_regions, secondary_regions, table
from msiscale.slide.annotations import label_fraction, read_annotation

TO_SLIDE = translation(300, 200) @ scaling(20, 25) @ translation(0.5, 0.5)
TURNED = TO_SLIDE @ np.array([[0.8, -0.6, 12], [0.6, 0.8, 3], [0, 0, 1]])


def blobs(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    """A smooth map of probabilities with holes."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.8)
    above = (noise - np.quantile(noise, 0.55)) / noise.std()
    return (1 / (1 + np.exp(-12 * above))).astype(np.float32)


@pytest.mark.parametrize("matrix", [TO_SLIDE, TURNED])
def test_outlines_come_back_as_the_thresholded_map(tmp_path: Path, matrix: np.ndarray) -> None:
    values = blobs(3)
    values[:4] = np.nan
    found = predicted_regions(
        {"cancer_from_he": values},
        np.zeros(values.shape, bool),
        matrix,
        PixelSize(25.0, 20.0),
        least_probability=0.5,
        least_um2=0,
    )
    url = str(tmp_path / "regions.geojson")
    write_regions(url, {PREDICTED: [(str(i), f) for i, f in enumerate(found)]})
    fraction = label_fraction(read_annotation(url, (2000, 2000)), matrix, values.shape)
    mask = np.nan_to_num(values) >= 0.5
    assert len(found) > 5 and any(len(f.polygon.interiors) for f in found)
    np.testing.assert_array_equal(fraction >= 0.499, mask)  # the corner of a stair is half
    # whole regions keep their area but for the corners
    assert fraction.sum() == pytest.approx(mask.sum(), rel=0.02)


@given(st.integers(0, 10_000), st.floats(0.2, 0.7))
@settings(max_examples=25, deadline=None)
def test_any_mask_gives_valid_outlines_of_its_pixels(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < density
    found = find_regions(mask, np.eye(3), PixelSize(1.0, 1.0), {}, least_um2=0)
    assert sum(f.area_um2 for f in found) == mask.sum()
    together = shapely.union_all([f.polygon for f in found])
    assert all(f.polygon.is_valid and not f.polygon.is_empty for f in found)
    # no centre of another pixel inside, none of its own outside
    y, x = np.mgrid[:9, :11]
    inside = shapely.intersects_xy(together, x.ravel(), y.ravel()).reshape(mask.shape)
    np.testing.assert_array_equal(inside, mask)


def test_an_outline_lies_half_way_between_pixels() -> None:
    polygon = outline(np.ones((3, 4), bool), Block(10, 13, 20, 24), np.eye(3))
    assert polygon.bounds == (19.5, 9.5, 23.5, 12.5)
    assert pytest.approx(polygon.area) == 12 - 4 * 0.125  # its corners are cut


def test_the_collection_is_what_qupath_reads(tmp_path: Path) -> None:
    values, unlike = blobs(5), np.zeros((40, 50), bool)
    unlike[:, :25] = True
    words = {"least_probability": 0.5, "least_um2": 20_000.0}
    maps = {"cancer_from_he": values, "cancer_from_predicted_msi": values**2}
    found = predicted_regions(maps, unlike, TO_SLIDE, PixelSize(25.0, 20.0), **words)
    url = tmp_path / "regions.geojson"
    write_regions(str(url), {PREDICTED: [("r1", f) for f in found]})
    document = json.loads(url.read_text(), parse_constant=lambda c: pytest.fail(f"{c} in JSON"))
    assert document["type"] == "FeatureCollection" and document["features"]
    together, pixels = consensus(maps), 0
    for feature, region in zip(document["features"], found, strict=True):
        properties, said = feature["properties"], feature["properties"]["measurements"]
        assert feature["type"] == "Feature" and properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == "Tumor: Predicted"
        assert len(properties["classification"]["color"]) == 3
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert geometry.is_valid and geometry.geom_type in ("Polygon", "MultiPolygon")
        own = region.mask.nonzero()
        at = (own[0] + region.block.y0, own[1] + region.block.x0)
        assert said["Area µm^2"] == len(own[0]) * 500 >= 20_000
        assert said["mean_probability"] == pytest.approx(together[at].mean(), abs=1e-5)
        assert said["cancer_from_he"] == pytest.approx(values[at].mean(), abs=1e-5)
        assert said["extrapolated_share"] == pytest.approx(unlike[at].mean(), abs=1e-5)
        assert said["agree"] in (1, 2)
        pixels += len(own[0])
    assert 0 < pixels <= (together >= 0.5).sum()


def test_secondary_regions_are_outside_the_annotation_the_likeliest_first() -> None:
    shape = (30, 40)
    he = np.full(shape, 0.1, np.float32)
    msi = he.copy()
    he[4:10, 4:14] = msi[4:10, 4:14] = 0.9  # annotated in its left half
    he[20:26, 30:36] = msi[20:26, 30:36] = 0.95  # found by both
    he[20:24, 5:9], msi[20:24, 5:9] = 0.9, 0.3  # by one only
    he[0, 0] = msi[0, 0] = 0.99  # too small
    cancer = np.zeros(shape, np.float32)
    cancer[4:10, 4:9] = 1
    cancer[:, 39] = np.nan  # not known to be without
    he[5, 39] = msi[5, 39] = 1
    unlike = np.zeros(shape, bool)
    unlike[20:24, 5:7] = True
    maps = {"cancer_from_msi": msi, "cancer_from_he": he}
    words = {"least_probability": 0.5, "least_um2": 1000.0}
    found = secondary_regions(maps, cancer, unlike, TO_SLIDE, PixelSize(10.0, 20.0), **words)
    rows = table("S1", "P1", found, TO_SLIDE, PixelSize(0.5, 0.25))
    assert tuple(rows.columns) == COLUMNS
    assert rows["area_um2"].tolist() == [36 * 200, 30 * 200, 16 * 200]
    assert rows["agree"].tolist() == [2, 2, 1]
    assert rows["distance_um"].round(6).tolist() == [
        round(float(np.hypot(11 * 10, 22 * 20)), 6),
        20.0,  # adjoins: one pixel
        round(float(np.hypot(11 * 10, 0)), 6),
    ]
    assert rows["extrapolated_share"].tolist() == [0, 0, 0.5]
    first = rows.iloc[0]
    assert (first["x_px"], first["y_px"]) == (300 + 20 * 33, 200 + 25 * 23)
    assert (first["x_um"], first["y_um"]) == (first["x_px"] * 0.25, first["y_px"] * 0.5)


def test_without_an_annotation_nothing_is_secondary() -> None:
    values = np.full((5, 6), 0.9, np.float32)
    unknown = np.full((5, 6), np.nan, np.float32)
    words = {"least_probability": 0.5, "least_um2": 0.0}
    none = np.zeros((5, 6), bool)
    found = secondary_regions({"a": values}, unknown, none, np.eye(3), PixelSize(1.0, 1.0), **words)
    assert found == [] and len(table("S", "P", found, np.eye(3), PixelSize(1.0, 1.0))) == 0
    clean = secondary_regions(
        {"a": values}, np.zeros((5, 6), np.float32), none, np.eye(3), PixelSize(1.0, 1.0), **words
    )
    assert np.isnan(clean[0].values["distance_um"])
