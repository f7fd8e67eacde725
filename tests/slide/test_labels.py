from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.errors import NOTE, InputError
from msiscale.grid import Block, PixelSize
from msiscale.placing import pixel_corners
from msiscale.slide.classes import roles
from msiscale.slide.labels import label_fraction, labels
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
    regions = [box(-0.5, -0.5, 0.5, 0.5, "PCa"), box(-0.5, -0.5, 0.5, 0.5, "Tumor")]
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
    regions = [box(0, 0, 5, 5, "Stroma"), box(0, 0, 3, 3, "Benign gland")]
    assert (label_fraction(regions, EYE, (2, 2)) == 0).all()
    assert (label_fraction(regions, EYE, (2, 2), cancer=["x"]) == 0).all()
    (text,) = labels(regions, EYE, (2, 2)).texts
    assert text.startswith(NOTE) and "Benign gland (9 px²)" in text


def test_stroma_says_nothing_of_what_is_around_it() -> None:
    regions = [box(-0.5, -0.5, 1.5, 0.5, "Stroma"), box(0, 0, 9, 9, "ROI 2")]
    np.testing.assert_array_equal(label_fraction(regions, EYE, (1, 4)), [[0, 0, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("names", "cancer"),
    [([], None), (["UT"], ["x"]), (["ROI"], None), (["Ignore*"], None), (["Positive"], None)],
)
def test_what_does_not_count_makes_no_negative(names: list[str], cancer: list[str] | None) -> None:
    regions = [box(0, 0, 5, 5, name) for name in names]
    found = labels(regions, EYE, (2, 2), cancer=cancer)
    assert np.isnan(found.fraction).all() and len(found.texts) == len(names)


def test_an_outline_without_a_class_beside_classed_ones_is_a_frame() -> None:
    row = (1, 8)
    frame, tumour = box(0.5, -0.5, 5.5, 0.5), box(1.5, -0.5, 2.5, 0.5, "Tumor")
    nan = np.nan
    expected = [[nan, 0, 1, 0, 0, 0, nan, nan]]
    np.testing.assert_array_equal(label_fraction([frame, tumour], EYE, row), expected)
    two = [frame, tumour, box(6.5, -0.5, 7.5, 0.5)]  # a second frame, which holds nothing
    np.testing.assert_array_equal(label_fraction(two, EYE, row), [[*expected[0][:7], 0]])
    nested = [frame, tumour, box(3.5, -0.5, 4.5, 0.5)]  # a class was forgotten
    np.testing.assert_array_equal(
        label_fraction(nested, EYE, row), [[nan, 0, 1, 0, nan, 0, nan, nan]]
    )
    outside = [frame, tumour, box(5.5, -0.5, 6.5, 0.5, "Tumor")]  # a class holds everywhere
    assert label_fraction(outside, EYE, row)[0, 6] == 1
    same = [box(1.5, -0.5, 2.5, 0.5), tumour]
    assert label_fraction(same, EYE, row)[0, 2] == 1
    benign = [frame, box(1.5, -0.5, 2.5, 0.5, "Benign")]
    np.testing.assert_array_equal(
        label_fraction(benign, EYE, row), [[nan, 0, 0, 0, 0, 0, nan, nan]]
    )


def test_an_outline_without_a_class_that_holds_nothing_is_unknown() -> None:
    ring, tumour = box(1.5, -0.5, 2.5, 0.5), box(0.5, -0.5, 4.5, 0.5, "Tumor")
    np.testing.assert_array_equal(
        label_fraction([ring, tumour], EYE, (1, 6)), [[0, 1, np.nan, 1, 1, 0]]
    )
    (text,) = labels([ring, tumour], EYE, (1, 6)).texts
    assert "give them a class" in text
    # beside what is only left out it is cancer, as it is alone
    ignored = [ring, box(3.5, -0.5, 4.5, 0.5, "Ignore*")]
    np.testing.assert_array_equal(label_fraction(ignored, EYE, (1, 6)), [[0, 0, 1, 0, np.nan, 0]])


def test_classes_that_count_as_not_cancer_are_named_with_their_area() -> None:
    mpp = PixelSize(500.0, 500.0)
    regions = [box(0, 0, 2, 2, "Tumor"), box(4, 4, 6, 6, "Zone 51"), box(4, 4, 5, 5, "Zone 51")]
    (text,) = labels(regions, EYE, (2, 2), mpp=mpp).texts
    assert text.startswith("the classes Zone 51 (1.25 mm²) are not known")
    (text,) = labels(regions, EYE, (2, 2), cancer=["tumor"], mpp=mpp).texts
    assert text.startswith(NOTE)
    (text,) = labels([*regions[:1], box(4, 4, 6, 6, "Necrosis")], EYE, (2, 2), mpp=mpp).texts
    assert text == f"{NOTE}Necrosis (1 mm²) counts as not cancer"


def test_a_class_counts_as_what_it_is_a_part_of() -> None:
    square = shapely.box(0, 0, 1, 1)
    of = [
        Outline(square, "grade 3", ("Tumor",)),
        Outline(square, "pattern", ("unheard of", "Benign")),
        Outline(square, "necrosis", ("Tumor",)),
        Outline(square, "Annotation 7", classed=False),
        Outline(square, "normal", classed=False),
    ]
    assert roles(of[:3], None, None) == ["cancer", "not cancer", "other tissue"]
    assert roles(of, None, None)[3:] == ["area of interest", "not cancer"]
    assert roles(of[3:4], None, None) == ["not known"]  # alone, a name is a class


def test_ten_thousand_outlines() -> None:
    x, y = np.meshgrid(np.arange(100) * 10.0, np.arange(100) * 10.0)
    boxes = shapely.box(x.ravel(), y.ravel(), x.ravel() + 5, y.ravel() + 5)
    regions = [Outline(one, "Tumor" if i % 2 else None) for i, one in enumerate(boxes)]
    frame = box(-5, -5, 1005, 1005)
    matrix = np.array([[20.0, 0, 9.5], [0, 20.0, 9.5], [0, 0, 1]])
    fraction = label_fraction([*regions[1::2], frame], matrix, (50, 50))
    np.testing.assert_allclose(fraction, 50 / 400, rtol=1e-6)
    assert roles(regions, None, None).count("unclassified") == 5000
