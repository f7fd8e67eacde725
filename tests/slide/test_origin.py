from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.slide.annotations import Outline, read_annotation, write_geojson
from msiscale.slide.origin import found_offset, inner_points, on_tissue, other_scale, said_offset
from msiscale.slide.reader import Slide, open_reader

TISSUE = shapely.box(1200, 900, 1800, 1500)  # on 2000 x 1600 px


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """Pink noise in a corner of a white slide, whose bounds are said to begin at 1000, 800."""
    pixels = np.full((1600, 2000, 3), 245, np.uint8)
    x0, y0, x1, y1 = map(int, TISSUE.bounds)
    noise = np.random.default_rng(0).integers(0, 40, (y1 - y0, x1 - x0, 1))
    pixels[y0:y1, x0:x1] = np.array([200, 110, 170]) + noise
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    return replace(open_reader(tmp_path / "slide.png", mpp=1.0), bounds=(1000, 800))


def at(x: float, y: float, side: float = 300) -> np.ndarray:
    return inner_points(shapely.box(x, y, x + side, y + side))


def test_points_on_tissue(slide: Slide) -> None:
    assert on_tissue(at(1300, 1000), slide) == 1
    assert on_tissue(at(1050, 1000), slide) == pytest.approx(0.5, abs=0.06)
    assert on_tissue(at(-5000, 9000), slide) == 0


def test_tissue_decides_where_coordinates_count_from(slide: Slide) -> None:
    assert found_offset(at(300, 200), slide)[0] == (1000, 800)
    assert found_offset(at(1300, 1000), slide)[0] == (0, 0)
    for x, y in ((300, 200), (1300, 1000)):
        text = found_offset(at(x, y), slide)[1]
        assert text is not None and text.startswith(NOTE)
    offset, text = found_offset(at(0, 0, 50), slide)  # on glass either way
    assert offset == (1000, 800) and text is not None and "annotation_origin" in text
    assert not text.startswith(NOTE)
    offset, text = found_offset(at(1900, 1540, 50), slide)  # on glass, and beyond the slide
    assert offset == (0, 0) and text is not None and "reach beyond" in text
    assert found_offset(at(0, 0), replace(slide, bounds=(0, 0))) == ((0, 0), None)


def test_an_origin_that_is_said(slide: Slide) -> None:
    assert said_offset("level0", slide) == (0, 0)
    assert said_offset("bounds", slide) == (1000, 800)
    assert said_offset((7, 8.5), slide) == (7, 8.5)


def test_outlines_are_moved_and_written_back(slide: Slide, tmp_path: Path) -> None:
    url = str(tmp_path / "a.geojson")
    write_geojson(url, [Outline(shapely.box(300, 200, 600, 500), "Tumor")])
    with pytest.warns(MsiscaleWarning, match="count from the bounds"):
        (one,) = read_annotation(url, slide.shape, slide=slide)
    assert one.polygon.bounds == (1300, 1000, 1600, 1300)
    with pytest.warns(MsiscaleWarning, match="as is said"):
        (one,) = read_annotation(url, slide.shape, slide=slide, offset=(10, 20))
    assert one.polygon.bounds == (310, 220, 610, 520)


@pytest.mark.parametrize("factor", [2.0, 4.0, 16.0, 0.5, 0.25])
def test_the_factor_that_would_fit_is_named(slide: Slide, tmp_path: Path, factor: float) -> None:
    plain = replace(slide, bounds=(0, 0))
    right = shapely.box(1300, 1000, 1700, 1450)
    assert other_scale(inner_points(right), plain) is None
    drawn = shapely.transform(right, lambda xy: xy / factor)
    text = other_scale(inner_points(drawn), plain)
    told = f"multiplied by {factor:g}" if factor > 1 else f"divided by {1 / factor:g}"
    assert text is not None and told in text
    url = str(tmp_path / "a.geojson")
    write_geojson(url, [Outline(drawn, "Tumor")])
    if factor > 1:
        with pytest.warns(MsiscaleWarning, match=told):
            read_annotation(url, plain.shape, slide=plain)
    else:
        with pytest.raises(InputError, match=told):
            read_annotation(url, plain.shape, slide=plain)
