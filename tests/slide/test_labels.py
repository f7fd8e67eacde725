from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.placing import pixel_corners
from msiscale.slide.labels import label_fraction
from msiscale.slide.outlines import Outline

EYE = np.eye(3)


def box(x0: float, y0: float, x1: float, y1: float, name: str | None = None) -> Outline:
    return Outline(shapely.box(x0, y0, x1, y1), name)


def rotation(degrees: float, scale: float, x: float, y: float, flip: bool = False) -> np.ndarray:
    a = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    if flip:
        linear = linear @ np.diag([-1, 1])
    return np.array([[*linear[0], x], [*linear[1], y], [0, 0, 1]])


def test_pixel_centres_are_at_integers() -> None:
    fraction = label_fraction([box(0, -0.5, 1.5, 0.5)], EYE, (2, 3))
    assert fraction.dtype == np.float32
    np.testing.assert_array_equal(fraction, [[0.5, 1, 0], [0, 0, 0]])


def test_overlapping_regions_count_once() -> None:
    regions = [box(-0.5, -0.5, 0.5, 0.5), box(-0.5, -0.5, 0.5, 0.5, "Tumor")]
    assert label_fraction(regions, EYE, (1, 1))[0, 0] == 1


@settings(deadline=None, max_examples=25)
@given(
    degrees=st.floats(0, 360),
    scale=st.floats(3, 40),
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_area_is_conserved(degrees: float, scale: float, flip: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (37, 29)
    matrix = rotation(degrees, scale, 100, -50, flip)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 20))
    radii = rng.uniform(3, 13, 20)
    star = np.stack([14 + radii * np.cos(angles), 18 + radii * np.sin(angles)], -1)
    polygon = shapely.make_valid(shapely.Polygon(star @ matrix[:2, :2].T + matrix[:2, 2]))
    fraction = label_fraction([Outline(polygon)], matrix, shape)
    assert fraction.min() >= 0 and fraction.max() <= 1
    assert fraction.sum(dtype=np.float64) * scale**2 == pytest.approx(polygon.area, rel=1e-5)


def test_agrees_with_shapely_pixel_by_pixel() -> None:
    shape = (23, 31)
    matrix = rotation(33, 7, 40, 10)
    polygon = shapely.Point(90, 130).buffer(60).difference(shapely.Point(80, 120).buffer(17))
    corners = pixel_corners(matrix, Block(0, shape[0], 0, shape[1]))
    expected = shapely.area(shapely.intersection(shapely.polygons(corners), polygon)) / 49
    np.testing.assert_allclose(
        label_fraction([Outline(polygon)], matrix, shape), expected, atol=1e-6
    )


def test_excluded_is_unknown_where_it_covers_more_than_half() -> None:
    regions = [box(-0.5, -0.5, 1.0, 0.5, "Tumor"), box(0.2, -0.5, 3.5, 0.5, "Ignore*")]
    fraction = label_fraction(regions, EYE, (1, 4))
    assert fraction[0, 0] == 1  # excluded for three tenths, the rest all cancer
    assert np.isnan(fraction[0, 1:]).all()
    unknown = label_fraction(regions, EYE, (1, 4), exclude=["tumor"], cancer=["ignore*"])
    assert np.isnan(unknown[0, 0])


def test_benign_is_cut_out() -> None:
    regions = [box(-0.5, -0.5, 3.5, 0.5, "metastases"), box(0.5, -0.5, 1.5, 0.5, "normal")]
    np.testing.assert_array_equal(label_fraction(regions, EYE, (1, 4)), [[1, 0, 1, 1]])


@pytest.mark.parametrize(
    "name", ["Tumor", "TUMOUR", "cancer", "Gleason 4+3", "Tumor: Positive", "PCa", "_0", None]
)
def test_usual_names_are_cancer(name: str | None) -> None:
    assert label_fraction([box(-1, -1, 1, 1, name)], EYE, (1, 1))[0, 0] == 1


def test_class_names_can_be_chosen() -> None:
    regions = [box(-1, -1, 0.5, 1, "UT"), box(0.5, -1, 2, 1, "I"), box(-1, -1, 2, 1)]
    with pytest.raises(InputError, match=r"\(I, UT\).*--cancer-class"):
        label_fraction(regions[:2], EYE, (1, 2))
    np.testing.assert_array_equal(label_fraction(regions, EYE, (1, 2), cancer=["ut"]), [[1, 0]])
    np.testing.assert_array_equal(
        label_fraction(regions, EYE, (1, 2), cancer=["U*", "i"]), [[1, 1]]
    )


def test_a_slide_without_cancer() -> None:
    for regions in ([], [box(0, 0, 5, 5, "Stroma"), box(0, 0, 3, 3, "Benign gland")]):
        assert (label_fraction(regions, EYE, (2, 2)) == 0).all()
    foreign = [box(0, 0, 5, 5, "UT")]
    assert (label_fraction(foreign, EYE, (2, 2), cancer=["x"]) == 0).all()
