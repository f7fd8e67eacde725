# ruff: noqa: E501  (a line of the page is a line here)
"""Annotations: damaged, of another slide, hostile, or in forms that mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row
from PIL import Image, ImageDraw

from msiscale.grid import scaling
from msiscale.slide.annotations import label_fraction, read_annotation

RING = [[5, 5], [25, 5], [25, 25], [5, 25], [5, 5]]
SHAPE = (50, 50)
APPROX = pytest.approx(400)
SCOPE = """<Annotations><Annotation Name="Tumor"><Regions><Region Type="0"><Vertices>
<Vertex X="5" Y="5"/><Vertex X="25" Y="5"/><Vertex X="25" Y="25"/><Vertex X="5" Y="25"/></Vertices>
</Region></Regions></Annotation></Annotations>"""
ASAP = """<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="Tumor"><Coordinates>
<Coordinate Order="0" X="5" Y="5"/><Coordinate Order="1" X="25" Y="5"/>
<Coordinate Order="2" X="25" Y="25"/><Coordinate Order="3" X="5" Y="25"/></Coordinates></Annotation>
</Annotations></ASAP_Annotations>"""


def feature(ring: Any, **properties: Any) -> dict[str, Any]:
    named = {"classification": {"name": "Tumor"}} | properties
    shape = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": shape, "properties": named}


def row(
    id: str,
    wrong: str,
    says: str,
    text: str | bytes | list[Any] | dict[str, Any] | Callable[[Path], None],
    does: str = REFUSES,
    *,
    name: str = "drawn.geojson",
    area: Any = APPROX,
) -> Row:
    """A file of that text; where it is read, of one region of that area."""

    def run(folder: Path) -> None:
        path = folder / name
        if callable(text):
            text(path)
        elif isinstance(text, bytes):
            path.write_bytes(text)
        elif text is not None:
            path.write_text(text if isinstance(text, str) else json.dumps(text))
        regions = read_annotation(path, SHAPE)
        assert sum(region.polygon.area for region in regions) == area
        label_fraction(regions, scaling(5.0), (10, 10))

    return Row(id, wrong, does, says, run)


def absent(path: Path) -> None:
    """Nothing is written."""


def nested(path: Path) -> None:
    path.write_text('{"features":' * 100_000)


def another_shape(path: Path) -> None:
    Image.new("RGB", (50, 20)).save(path)


def open_line(path: Path) -> None:
    picture = Image.new("RGB", (400, 400), (230, 180, 210))
    ImageDraw.Draw(picture).line([(50, 50), (300, 300)], (0, 255, 0), 5)
    ImageDraw.Draw(picture).rectangle([320, 40, 380, 120], outline=(0, 255, 0), width=4)
    picture.save(path)


JSON = "<file>: not valid JSON (<why>); export the annotation again"
XML = "<file>: not valid XML (<why>); export the annotation again"
DTD = "<file>: XML with a DTD or entities; remove its DOCTYPE"
DAMAGED = "<file>: a damaged annotation (<why>); export it again"
FORMS = (
    "QuPath GeoJSON, Darwin JSON, ImageScope XML, HALO annotations, ASAP XML, Hamamatsu NDPA, or a "
    "painted PNG, JPEG or TIFF"
)
LAYOUTS = (
    "<file>: XML of <<tag>> in a layout that is not known; known are Aperio ImageScope and HALO "
    "(<Annotations> with <Region>), ASAP (<ASAP_Annotations>) and Hamamatsu (<annotations> with "
    "<ndpviewstate>)"
)
NO_LABEL = "counts as without an annotation"
NONE = (
    "<file>: no annotated region in it<only what>; the specimen counts as one without an annotation"
)
LAUGHS = "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefg", "bcdefgh", strict=True)
)
ROWS = [
    row(
        "missing",
        "no file",
        "<file>: no such file; check the manifest column `annotation`",
        absent,
    ),
    row("words", "neither JSON nor XML", f"<file>: not an annotation; known are {FORMS}", "tumour"),
    row("json_cut", "JSON cut", JSON, json.dumps([feature(RING)])[:-20]),
    row("json_nested", "JSON nested 100,000 deep", JSON, nested),
    row("json_latin1", "JSON in Latin-1", JSON, '[{"a": "Gewebestück"}]'.encode("latin-1")),
    row(
        "json_other",
        "JSON of something else",
        f"<file>: JSON that is no annotation; known are {FORMS}",
        {"shapes": []},
    ),
    row(
        "no_features", "FeatureCollection without features", DAMAGED, {"type": "FeatureCollection"}
    ),
    row(
        "no_coordinates",
        "geometry without coordinates",
        DAMAGED,
        [{"geometry": {"type": "Polygon"}}],
    ),
    row("nan", "a corner at NaN", DAMAGED, [feature([*RING[:2], [float("nan"), 5], *RING[2:]])]),
    row("far", "a corner at 1e300", DAMAGED, [feature([*RING[:2], [1e300, 5], *RING[2:]])]),
    row(
        "digits",
        "a corner with 400 digits",
        DAMAGED,
        [feature([*RING[:2], [10**400, 5], *RING[2:]])],
    ),
    row(
        "bow_tie",
        "a line that crosses itself",
        "",
        [feature([[5, 5], [25, 25], [25, 5], [5, 25], [5, 5]])],
        READS,
        area=200,
    ),
    row(
        "byte_order_mark",
        "a byte order mark",
        "",
        b"\xef\xbb\xbf" + json.dumps([feature(RING)]).encode(),
        READS,
    ),
    row("bare_list", "a bare list of features", "", [feature(RING)], READS),
    row("empty", "a file of no bytes", f"<file>: an empty file; known are {FORMS}", b""),
    row(
        "coco",
        "COCO JSON",
        f"<file>: COCO JSON that is no annotation; known are {FORMS}",
        {"images": [], "annotations": [], "categories": []},
    ),
    row(
        "sqlite",
        "a database of SlideRunner",
        "<file>: a SQLite database, as SlideRunner's, which is not read; known are <forms>",
        b"SQLite format 3\0" + bytes(100),
    ),
    row(
        "no_area",
        "no area in it",
        "<file>: no annotated region in it; the specimen counts as one without an annotation",
        [],
        NO_LABEL,
        area=0,
    ),
    row(
        "lines_only",
        "points and lines only",
        NONE,
        [
            {"type": "Feature", "geometry": {"type": "LineString", "coordinates": RING}},
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}},
        ],
        NO_LABEL,
        area=0,
    ),
    row(
        "cells_only",
        "cells and tiles only",
        NONE,
        [feature(RING, objectType="cell"), feature(RING, object_type="tile")],
        NO_LABEL,
        area=0,
    ),
    row(
        "stained_cells",
        "classes that say nothing of cancer",
        "annotation: none of its classes (ROI 1) is known as cancer, and none says that there is no"
        " cancer; the specimen counts as one without an annotation: name the classes that are cancer"
        " with --cancer-class",
        [feature(RING, classification={"name": "ROI 1"})],
        NO_LABEL,
    ),
    row(
        "only_stroma",
        "stroma only",
        "annotation: no outline is cancer, and Stroma (400 px²) does not say that none is elsewhere;"
        " cancer is 0 in them and unknown elsewhere: outline a slide without cancer as Normal or"
        " Benign",
        [feature(RING, classification={"name": "Stroma"})],
        "takes the stroma as not cancer, the rest as unknown",
    ),
    row(
        "only_normal",
        "normal tissue only",
        "annotation: note: no outline is cancer, and Normal (400 px²) is known not to be; so there "
        "is none on the slide",
        [feature(RING, classification={"name": "Normal"})],
        "takes the slide as one without cancer",
    ),
    row(
        "unclassified",
        "no class at all",
        "<file>: note: 1 outline(s) without a class in it count as cancer",
        [feature(RING, classification=None)],
        "takes it as cancer",
    ),
    row(
        "class_beside",
        "a class that is not known beside one that is",
        "annotation: the classes Zone 51 (400 px²) are not known and count as not cancer; name those"
        " that are with --cancer-class, and those to leave out with --exclude-class",
        [feature(RING), feature(RING, classification={"name": "Zone 51"})],
        "takes it as not cancer",
        area=800,
    ),
    row(
        "ndpa_alone",
        "Hamamatsu's annotation of a slide that is no NDPI",
        "<file>: Hamamatsu's nm from the centre of the glass; give the NDPI slide that it was drawn "
        "on, or export the annotation as GeoJSON",
        "<annotations><ndpviewstate><title>Tumor</title></ndpviewstate></annotations>",
        name="drawn.ndpa",
    ),
    row(
        "xml_layout",
        "<Annotations> of another program",
        LAYOUTS,
        "<Annotations><Annotation><Polygon><P x='1' y='2'/></Polygon></Annotation></Annotations>",
        name="drawn.xml",
    ),
    row(
        "another_slide",
        "regions that lie outside the slide",
        "<file>: regions at x, y <x0>, <y0> to <x1>, <y1> lie outside the slide of <width> x "
        "<height> px; give the annotation of this slide in level-0 pixels",
        [feature([[x + 100, y] for x, y in RING])],
    ),
    row(
        "another_scale",
        "regions that reach beyond the slide",
        "<file>: regions at x, y <x0>, <y0> to <x1>, <y1> reach beyond the slide of <width> x "
        "<height> px",
        [feature([[3 * x, y] for x, y in RING])],
        READS,
        area=1200,
    ),
    row(
        "classes_unknown",
        "classes of which none is known as cancer",
        "annotation: none of its classes (<names>) is known as cancer; name those that are with "
        "--cancer-class",
        [feature(RING, classification={"name": "Zone 51"})],
    ),
    row("xml_cut", "XML cut", XML, SCOPE[:60], name="drawn.xml"),
    row(
        "xml_encoding",
        "XML of an encoding that does not exist",
        XML,
        '<?xml version="1.0" encoding="latin-99"?>' + SCOPE,
        name="drawn.xml",
    ),
    row(
        "xml_entity",
        "XML with an external entity",
        DTD,
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>{SCOPE}',
        name="drawn.xml",
    ),
    row(
        "xml_laughs",
        "XML with a billion laughs",
        DTD,
        f'<!DOCTYPE x [<!ENTITY a "ha">{LAUGHS}]>{SCOPE.replace("Tumor", "&h;")}',
        name="drawn.xml",
    ),
    row(
        "xml_other",
        "XML of something else",
        LAYOUTS,
        "<kml/>",
        name="drawn.xml",
    ),
    row(
        "scope_no_x",
        "ImageScope vertex without X",
        DAMAGED,
        SCOPE.replace('X="25"', 'Z="1"'),
        name="drawn.xml",
    ),
    row(
        "scope_nan",
        "ImageScope vertex at NaN",
        DAMAGED,
        SCOPE.replace('X="25"', 'X="NaN"'),
        name="drawn.xml",
    ),
    row(
        "asap_words",
        "ASAP coordinate that is no number",
        DAMAGED,
        ASAP.replace('X="25"', 'X="far"'),
        name="drawn.xml",
    ),
    row(
        "asap_comma",
        "ASAP with decimal commas",
        "",
        ASAP.replace('"25"', '"25,0"'),
        READS,
        name="drawn.xml",
    ),
    row(
        "asap_order",
        "ASAP corners in any order",
        "",
        ASAP.replace("\n", "")
        .replace('<Coordinate Order="0" X="5" Y="5"/>', "")
        .replace("</Coordinates>", '<Coordinate Order="0" X="5" Y="5"/></Coordinates>'),
        READS,
        name="drawn.xml",
    ),
    row(
        "painted_part",
        "a painted copy of a part of the slide",
        "<file>: <width> x <height> px is not a copy of the slide of <width> x <height> px; export "
        "the whole slide, not a part of it",
        another_shape,
        name="drawn.png",
    ),
    row(
        "painted_open",
        "a painted line that encloses nothing",
        "<file>: <n> drawn line(s) enclose nothing and are left out; close them if they are outlines",
        open_line,
        "leaves the line out",
        name="drawn.png",
        area=pytest.approx(57 * 77 / 64, rel=0.05),
    ),
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)


def test_numbers_of_the_fraction_are_those_of_the_region(tmp_path: Path) -> None:
    path = tmp_path / "drawn.xml"
    path.write_text(ASAP)
    share = label_fraction(read_annotation(path, SHAPE), scaling(5.0), (10, 10))
    assert share.sum() * 25 == pytest.approx(400) and np.isfinite(share).all()
