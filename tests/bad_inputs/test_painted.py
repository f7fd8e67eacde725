# ruff: noqa: E501  (a line of the page is a line here)
"""Painted copies of a slide, compared with the slide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import painting
import pytest
from bad_inputs.rows import READS, Row
from painting import Paint, Points, wavy
from PIL import Image, ImageOps
from scipy import ndimage

from msiscale.slide.annotations import read_annotation
from msiscale.slide.reader import open_reader

ONE = [wavy(330, 300, 140, 3)]


def a_slide() -> Image.Image:
    """A round section with nuclei and fibres on glass, 640 x 560 px."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:560, :640]
    fibres, nuclei = (ndimage.gaussian_filter(rng.normal(size=(560, 640)), s) for s in (4, 1.5))
    tissue = np.hypot(y - 280, x - 320) < 240 + 40 * np.sin(3 * np.arctan2(y - 280, x - 320))
    pixels = np.array([205.0, 140.0, 185.0]) + 500 * fibres[..., None]
    pixels = np.where((nuclei > 0.18)[..., None], (95.0, 60.0, 130.0), pixels)
    pixels = np.where(tissue[..., None], pixels, 243.0) + rng.normal(0, 1.5, (560, 640, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def row(
    id: str,
    wrong: str,
    how: Paint,
    outlines: list[Points] = ONE,
    *,
    says: str = "",
    does: str = READS,
    area: float | None = None,
    then: Any = None,
) -> Row:
    """A copy at full scale, painted so; the area that is read is the outlines' own if not given."""

    def run(folder: Path) -> None:
        a_slide().save(folder / "slide.png")
        copy = painting.paint(a_slide(), outlines, replace(how, scale=1.0))
        (then(copy) if then else copy).save(folder / "drawn.png")
        slide = open_reader(folder / "slide.png", mpp=1.0)
        regions = read_annotation(folder / "drawn.png", slide.shape, slide=slide)
        true = painting.truth(outlines, slide)
        if area is None:
            assert painting.agreement([r.polygon for r in regions], true) > 0.95
        else:
            assert sum(r.polygon.area for r in regions) == pytest.approx(area, rel=0.05)

    return Row(id, wrong, does, says, run)


UNCLOSED = "<file>: the line at x, y <x>, <y> of the picture goes around something but does not close, or cannot be seen all the way; close it, or draw it thicker and in another colour"
ROWS = [
    row("black", "a copy with a black line", Paint(colour="black", width=3)),
    row("white", "a white line", Paint(colour="white", width=3)),
    row("hair", "a line thinner than a pixel", Paint(colour="dark blue", width=0.5)),
    row("dashed", "a dashed line", Paint(width=3, dash=(8, 6))),
    row("gap", "a gap of 1/80 of the outline", Paint(width=3, gap=1 / 80)),
    row("fill", "a region painted over half transparently, no line", Paint(alpha=0.5, fill=True)),
    row("jpeg", "JPEG of quality 30", Paint(width=3, quality=30)),
    row("shifted", "a copy shifted by 3 pixels", Paint(width=3, shift=(3, 3))),
    row(
        "tone",
        "a copy brighter and of higher contrast",
        Paint(width=3, brightness=1.1, contrast=1.8),
    ),
    row(
        "border",
        "an outline cut off by the border of the picture",
        Paint(width=3),
        [wavy(20, 300, 150, 3)],
    ),
    row(
        "hole",
        "an outline within another, of the same colour",
        Paint(width=3),
        [wavy(330, 300, 160, 2), wavy(330, 300, 70, 2)],
        says="<file>: <n> outline(s) lie within another one and are taken as holes in it",
        area=66_900,
    ),
    row(
        "tone_only",
        "nothing drawn, only the tone changed",
        Paint(contrast=1.4),
        [],
        says="<file>: no annotated region in it; the specimen counts as one without an annotation",
        area=0,
    ),
    row(
        "unclosed",
        "a line that goes around something and does not close",
        Paint(width=3, gap=0.2),
        says=UNCLOSED,
        does="refuses the file",
    ),
    row(
        "across",
        "a line from border to opposite border",
        Paint(width=3),
        [[(-50.0, 100.0), (700.0, 300.0), (700.0, 301.0)]],
        says="<file>: the line at x, y <x>, <y> of the picture goes from border to border, and which side is meant cannot be told; close it around the region",
        does="refuses the file",
    ),
    row(
        "mirrored",
        "a mirrored copy",
        Paint(width=3),
        says="<file>: it does not show what <file> shows (correlation <r>); give a copy of this slide, neither turned nor mirrored",
        does="refuses the file",
        then=ImageOps.mirror,
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)
