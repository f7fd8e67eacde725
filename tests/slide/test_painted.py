from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import painting
import pytest
import shapely
import shapely.affinity
from painting import Paint, wavy
from PIL import Image, ImageDraw, ImageOps

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


# What people do: every kind of line on two slides, the truth known to a fraction of a pixel.
SLIDES = {
    "cmu": ("slides/cmu-1-small-region.svs", None, 0.25),
    "tcga": ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.25, 0.125),
}
OUTLINES = {
    "cmu": [wavy(700, 835, 420, 5), wavy(1540, 2075, 380, 3)],
    "tcga": [wavy(2800, 1700, 700, 5), wavy(1000, 1900, 320, 3)],
}


@lru_cache
def opened(folder: Path, name: str) -> Slide:
    file, mpp, _ = SLIDES[name]
    return open_reader(folder / file, mpp=mpp)


@lru_cache
def plain(folder: Path, name: str, factor: float) -> Image.Image:
    return painting.plain(opened(folder, name), factor * SLIDES[name][2])


def copy_of(
    folder: Path, path: Path, name: str, how: Paint, outlines: list[painting.Points]
) -> tuple[Slide, shapely.Geometry]:
    """Save a copy with outlines; `how.scale` is relative to the slide's usual one."""
    slide = opened(folder, name)
    how = replace(how, scale=how.scale * SLIDES[name][2])
    painting.paint(plain(folder, name, how.scale / SLIDES[name][2]), outlines, how).save(path)
    return slide, painting.truth(outlines, slide)


KINDS = {
    **{colour: Paint(1, colour, 3) for colour in painting.COLOURS},
    "hairline": Paint(2, "green", 0.5),
    "black hairline": Paint(2, "black", 0.5),
    "black 1 px": Paint(1, "black", 1),
    "green 1 px": Paint(1, "green", 1),
    "wide": Paint(1, "blue", 9),
    "faint": Paint(1, "green", 3, alpha=0.4),
    "fill": Paint(1, "green", fill=True),
    "black fill": Paint(1, "black", fill=True),
    "half fill": Paint(1, "green", fill=True, alpha=0.5),
    "quarter fill": Paint(1, "blue", fill=True, alpha=0.25),
    "dashed": Paint(1, "black", 3, dash=(8, 6)),
    "dotted": Paint(1, "red", 2, dash=(3, 3)),
    "gap": Paint(1, "green", 3, gap=1 / 80),
    "JPEG 30": Paint(2, "blue", 4, quality=30),
    "black JPEG 30": Paint(2, "black", 4, quality=30),
    "dark red JPEG 50": Paint(2, "dark red", 4, quality=50),
    "shifted": Paint(2, "green", 4, shift=(3, 3)),
    "shifted back": Paint(1, "black", 3, shift=(-5, 2), quality=75),
    "brighter": Paint(1, "green", 3, brightness=1.2),
    "darker": Paint(1, "yellow", 3, brightness=0.75),
    "contrast": Paint(1, "black", 3, contrast=1.8),
    "saturated": Paint(1, "dark blue", 3, saturation=1.6),
    "gamma": Paint(1, "green", 3, gamma=0.6),
    "all at once": Paint(2, "green", 4, contrast=1.4, saturation=1.3, quality=60, shift=(2, -3)),
    "cropped": Paint(1, "green", 3, crop=(2, 3)),
    "thumbnail": Paint(0.2, "green", 1),
    "black thumbnail": Paint(0.2, "black", 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SLIDES)
def test_every_kind_of_line(shared_data: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "painted.png"
    slide, true = copy_of(shared_data, path, name, KINDS[kind], OUTLINES[name])
    regions = read_annotation(path, slide.shape, slide=slide)
    assert len(regions) == 2
    assert agreement(regions, true) > 0.95


@pytest.mark.parametrize(
    "how",
    [
        Paint(1, "white", 1, quality=30),
        Paint(2, "grey", 4, quality=30),
        Paint(2, "green", 0.5, alpha=0.3, quality=40),
        Paint(0.2, "grey", 1),
        Paint(0.2, "white", 1),
        Paint(0.4, "green", 1, quality=40),
        Paint(1, "green", 3, gap=0.2),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SLIDES)
def test_what_can_hardly_be_seen_is_right_or_refused(
    shared_data: Path, tmp_path: Path, name: str, how: Paint
) -> None:
    path = tmp_path / "painted.png"
    slide, true = copy_of(shared_data, path, name, how, OUTLINES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lines enclose nothing is told beside the refusal
        try:
            regions = read_annotation(path, slide.shape, slide=slide)
        except InputError as error:
            assert "close it" in str(error) or "close them" in str(error)
        else:
            assert not regions or agreement(regions, true) > 0.95


@pytest.mark.parametrize(
    "how",
    [
        Paint(1),
        Paint(1, quality=30),
        Paint(1, contrast=1.8, quality=75),
        Paint(1, brightness=1.2),
        Paint(1, gamma=0.6, shift=(4, -3)),
        Paint(1, saturation=1.6, quality=50),
        Paint(0.2, brightness=0.8),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SLIDES)
def test_nothing_drawn_is_nothing_found(
    shared_data: Path, tmp_path: Path, name: str, how: Paint
) -> None:
    path = tmp_path / "painted.png"
    slide, _ = copy_of(shared_data, path, name, how, [])
    with pytest.warns(MsiscaleWarning, match="no annotated region") as told:
        assert read_annotation(path, slide.shape, slide=slide) == []
    assert len(told) == 1


def test_regions_that_touch_count_both(shared_data: Path, tmp_path: Path) -> None:
    outlines = [wavy(700, 1500, 300, 2, 0.0), wavy(1298, 1500, 300, 2, 0.0)]
    path = tmp_path / "painted.png"
    slide, true = copy_of(shared_data, path, "cmu", Paint(1, "black", 3), outlines)
    assert agreement(read_annotation(path, slide.shape, slide=slide), true) > 0.95


def test_an_outline_within_another_is_a_hole(shared_data: Path, tmp_path: Path) -> None:
    outer, inner = wavy(1300, 1500, 500, 3), wavy(1300, 1500, 200, 3)
    path = tmp_path / "painted.png"
    slide, _ = copy_of(shared_data, path, "cmu", Paint(1, "green", 3), [outer, inner])
    with pytest.warns(MsiscaleWarning, match="taken as holes"):
        regions = read_annotation(path, slide.shape, slide=slide)
    assert agreement(regions, shapely.Polygon(outer, [inner])) > 0.95


def two_colours(folder: Path, path: Path, other: painting.Points) -> Slide:
    slide, _ = copy_of(folder, path, "cmu", Paint(1, "green", 3), [wavy(1300, 1500, 500, 3)])
    again = painting.paint(Image.open(path), [other], Paint(0.25, "black", 3))
    again.save(path)
    return slide


def test_two_colours_side_by_side_count_and_within_each_other_are_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "painted.png"
    slide = two_colours(shared_data, path, wavy(600, 2300, 250, 2))
    assert len(read_annotation(path, slide.shape, slide=slide)) == 2
    slide = two_colours(shared_data, path, wavy(1300, 1500, 200, 2))
    with pytest.raises(InputError, match="of another colour"):
        read_annotation(path, slide.shape, slide=slide)


def test_an_outline_cut_by_the_border_is_closed_along_it(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "painted.png"
    for outline in (wavy(100, 1500, 400, 3), wavy(2100, 100, 500, 2), wavy(1200, 2950, 350, 3)):
        slide, true = copy_of(shared_data, path, "cmu", Paint(1, "black", 3), [outline])
        assert agreement(read_annotation(path, slide.shape, slide=slide), true) > 0.95
    slide, _ = copy_of(shared_data, path, "cmu", Paint(1, "black", 3), [wavy(1110, 1500, 1250, 2)])
    with pytest.raises(InputError, match="which side is meant"):
        read_annotation(path, slide.shape, slide=slide)


@pytest.mark.parametrize("turn", [ImageOps.mirror, ImageOps.flip], ids=["mirrored", "upside down"])
def test_a_copy_of_something_else_is_refused(
    shared_data: Path, tmp_path: Path, turn: Callable[[Image.Image], Image.Image]
) -> None:
    path = tmp_path / "painted.png"
    slide, _ = copy_of(shared_data, path, "cmu", Paint(1), OUTLINES["cmu"])
    turn(Image.open(path)).save(path)
    with pytest.raises(InputError, match="neither turned nor mirrored"):
        read_annotation(path, slide.shape, slide=slide)


@pytest.mark.parametrize(
    "file",
    [
        "black_sc0.5_w5.png",
        "blue_jpeg_q30.jpg",
        "green_sc0.25_w1.png",
        "unclosed_gap_1of80.png",
        # read right once pictures are turned by their tag and converted by their inks
        "EXIF_orientation_3__upside_down_stored_.jpg",
        "cmyk.tif",
    ],
)
def test_cases_that_were_read_wrong(shared_data: Path, tmp_path: Path, file: str) -> None:
    folder = shared_data / "cases/slides/painted"
    if not folder.is_dir():
        pytest.skip("shared/data/cases is not here")
    known = json.loads((folder / "truth_level0.json").read_text())
    path = folder / file
    if file.startswith("EXIF") or file == "cmyk.tif":
        path = tmp_path / "plain.png"
        ImageOps.exif_transpose(Image.open(folder / file)).convert("RGB").save(path)
    slide = opened(shared_data, "cmu")
    regions = read_annotation(path, slide.shape, slide=slide)
    true = shapely.union_all([shapely.Polygon(points) for points in known.values()])
    assert len(regions) == 2 and agreement(regions, true) > 0.95


def test_a_case_that_runs_off_the_border(shared_data: Path) -> None:
    path = shared_data / "cases/slides/painted/outline_running_off_the_border.png"
    if not path.exists():
        pytest.skip("shared/data/cases is not here")
    slide = opened(shared_data, "cmu")
    (region,) = read_annotation(path, slide.shape, slide=slide)
    # corners of the line in pixels of the copy, read off the picture
    true = shapely.Polygon([(0, 103), (450, 149), (400, 600), (0, 553)])
    true = shapely.affinity.scale(true, 2, 2, origin=(0, 0))
    assert agreement([region], true) > 0.95
