from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image, ImageDraw

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.slide.annotations import read_annotation
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.working import working

COLOURS = {
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "black": (0, 0, 0),
    "red": (255, 0, 0),
    "yellow": (255, 240, 0),
}
# Two outlines on the slide of 4443 x 3567 px, one of them not convex.
BEAN = [
    (2400 + 700 * np.cos(t) * (1 + 0.3 * np.sin(3 * t)), 1500 + 500 * np.sin(t))
    for t in np.linspace(0, 2 * np.pi, 90)
]
ROUND = [(1000 + 300 * np.cos(t), 1900 + 300 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 60)]


@pytest.fixture(scope="module")
def slide(shared_data: Path) -> Slide:
    return open_reader(shared_data / "slides/tcga-cr-7395-01a-01-ts1.svs", mpp=0.25)


def paint(
    slide: Slide, path: Path, factor: float, colour: tuple[int, int, int], width: int
) -> shapely.Geometry:
    """Save a copy of the slide, `factor` times smaller, with both outlines; their true area."""
    image = working(slide, 0.25 * factor)
    picture = Image.fromarray(image.read(0, 0, *image.shape))
    draw = ImageDraw.Draw(picture)
    for points in (BEAN, ROUND):
        line = [(x / factor - 0.5, y / factor - 0.5) for x, y in points]
        draw.line([*line, line[0]], fill=colour, width=width, joint="curve")
    picture.save(path, quality=85)
    return shapely.union_all([shapely.Polygon(BEAN), shapely.Polygon(ROUND)])


def agreement(regions: list, truth: shapely.Geometry) -> float:
    area = shapely.union_all([region.polygon for region in regions])
    return area.intersection(truth).area / area.union(truth).area


@pytest.mark.parametrize(
    ("colour", "factor", "width", "suffix", "compare"),
    [
        ("green", 2.0, 5, ".png", False),
        ("green", 4.0, 3, ".jpg", False),
        ("blue", 4.0, 6, ".png", True),
        ("black", 4.0, 5, ".jpg", True),
        ("black", 8.0, 3, ".png", False),
        ("red", 4.0, 4, ".png", False),
        ("yellow", 8.0, 2, ".png", True),
        ("green", 11.3, 2, ".png", True),
        ("green", 16.0, 1, ".png", False),
    ],
)
def test_outlines_become_regions(
    slide: Slide, tmp_path: Path, colour: str, factor: float, width: int, suffix: str, compare: bool
) -> None:
    path = tmp_path / f"painted{suffix}"
    truth = paint(slide, path, factor, COLOURS[colour], width)
    regions = read_annotation(path, slide.shape, slide=slide if compare else None)
    assert len(regions) == 2 and all(region.name is None for region in regions)
    assert agreement(regions, truth) > 0.96
    assert sum(r.polygon.area for r in regions) == pytest.approx(truth.area, rel=0.02)


def test_gaps_are_closed_and_open_lines_left_out(slide: Slide, tmp_path: Path) -> None:
    path = tmp_path / "painted.png"
    truth = paint(slide, path, 4.0, COLOURS["green"], 4)
    picture = Image.open(path)
    clean = Image.fromarray(working(slide, 1.0).read(0, 0, *working(slide, 1.0).shape))
    left = round(BEAN[10][0] / 4)
    top = round(BEAN[10][1] / 4)
    window = (left - 1, top - 12, left + 2, top + 13)  # a gap of three pixels
    picture.paste(clean.crop(window), window[:2])
    ImageDraw.Draw(picture).line([(100, 750), (400, 850)], fill=(0, 255, 0), width=3)
    picture.save(path)
    with pytest.warns(MsiscaleWarning, match="enclose nothing"):
        regions = read_annotation(path, slide.shape)
    assert agreement(regions, truth) > 0.96


def test_a_region_painted_all_over(slide: Slide, tmp_path: Path) -> None:
    image = working(slide, 2.0)
    picture = Image.fromarray(image.read(0, 0, *image.shape))
    ImageDraw.Draw(picture).polygon([(x / 8, y / 8) for x, y in BEAN], fill=(0, 255, 0))
    picture.save(tmp_path / "painted.png")
    regions = read_annotation(tmp_path / "painted.png", slide.shape)
    assert agreement(regions, shapely.Polygon(BEAN)) > 0.96


def test_a_copy_without_outlines_has_no_regions(slide: Slide, tmp_path: Path) -> None:
    image = working(slide, 1.0)
    Image.fromarray(image.read(0, 0, *image.shape)).save(tmp_path / "a.jpg", quality=70)
    for compare in (None, slide):
        with pytest.warns(MsiscaleWarning, match="no annotated region"):
            assert read_annotation(tmp_path / "a.jpg", slide.shape, slide=compare) == []


def test_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100), "white").save(tmp_path / "a.png")
    with pytest.raises(InputError, match="not a copy of the slide"):
        read_annotation(tmp_path / "a.png", (1000, 2000))
