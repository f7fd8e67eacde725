from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.slide import ndpa
from msiscale.slide.annotations import read_annotation
from msiscale.slide.reader import Slide, open_reader

FACTS = {
    "hamamatsu.XOffsetFromSlideCentre": "1000000",
    "hamamatsu.YOffsetFromSlideCentre": "-200000",
    "openslide.mpp-x": "0.5",
    "openslide.mpp-y": "0.25",
}
VIEW = """<?xml version="1.0" encoding="utf-8" standalone="yes"?><annotations>
<ndpviewstate id="1"><title>Tumor</title><details/><coordformat>nanometers</coordformat>
<x>0</x><y>0</y>{}</ndpviewstate></annotations>"""
LINE = """<annotation type="freehand" displayname="AnnotateFreehand" color="#000000">
<measuretype>0</measuretype><closed>{}</closed><pointlist>{}</pointlist></annotation>"""


@pytest.fixture
def slide(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Slide:
    """A real slide with the properties of an NDPI file."""
    monkeypatch.setattr(ndpa, "_facts", lambda _: FACTS)
    return open_reader(shared_data / "slides/cmu-1-small-region.svs")


def points(xy: list[tuple[float, float]], slide: Slide) -> str:
    """From pixels to nanometres, as NDP.view counts them: from the centre of the glass."""
    height, width = slide.shape
    nm = [((x - width / 2) * 500 + 1_000_000, (y - height / 2) * 250 - 200_000) for x, y in xy]
    return "".join(f"<point><x>{x:.0f}</x><y>{y:.0f}</y></point>" for x, y in nm)


def test_nanometres_become_pixels(slide: Slide, tmp_path: Path) -> None:
    corners = points([(100, 200), (500, 200), (500, 800), (100, 800)], slide)
    centre = points([(1000, 1000)], slide).replace("<point>", "").replace("</point>", "")
    circle = f'<annotation type="circle">{centre}<radius>50000</radius></annotation>'
    path = tmp_path / "a.ndpi.ndpa"
    path.write_text(VIEW.format(LINE.format(1, corners) + LINE.format(0, corners) + circle))
    with pytest.warns(MsiscaleWarning, match="1 points or lines"):
        one, round = read_annotation(path, slide.shape, slide=slide)
    assert one.name == "Tumor"
    assert one.polygon.bounds == pytest.approx((100, 200, 500, 800), abs=0.01)
    assert round.polygon.bounds == pytest.approx((900, 800, 1100, 1200), abs=0.01)
    assert round.polygon.area == pytest.approx(np.pi * 100 * 200, rel=1e-3)


def test_a_slide_without_a_place_on_the_glass(shared_data: Path, tmp_path: Path) -> None:
    slide = open_reader(shared_data / "slides/cmu-1-small-region.svs")
    path = tmp_path / "a.ndpa"
    path.write_text(VIEW.format(LINE.format(1, points([(0, 0), (9, 0), (9, 9)], slide))))
    with pytest.raises(InputError, match="svs does not say where that is"):
        read_annotation(path, slide.shape, slide=slide)
