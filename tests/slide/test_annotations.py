from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import shapely

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.slide.annotations import Outline, read_annotation, write_geojson

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]


def feature(ring: list, **properties: object) -> dict:
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_real_qupath_collection(shared_data: Path) -> None:
    regions = read_annotation(shared_data / "annotations/qupath05.geojson", (20000, 20000))
    assert [region.name for region in regions] == ["UT", "I", "I"]
    assert regions[0].polygon.bounds == (8837, 6277, 9070, 6563)


def test_real_qupath_bare_list_with_offset(shared_data: Path) -> None:
    path = shared_data / "annotations/qupath_bare_list.geojson"
    plain = read_annotation(path, (2967, 2220))
    moved = read_annotation(path, (2967, 2220), offset=(100, 7))
    assert len(plain) == 3 and all(region.name is None for region in plain)
    assert moved[0].polygon.bounds == pytest.approx(
        np.add(plain[0].polygon.bounds, (100, 7, 100, 7))
    )


def test_real_darwin(shared_data: Path) -> None:
    path = shared_data / "annotations/103S.json"
    regions = read_annotation(path, (40064, 63488))
    document = json.loads(path.read_text())
    drawn = [item for item in document["annotations"] if "polygon" in item]
    assert [region.name for region in regions] == [item["name"] for item in drawn]
    box = drawn[0]["bounding_box"]
    assert regions[0].polygon.bounds == pytest.approx(
        (box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]), abs=0.1
    )
    with pytest.raises(InputError, match="outside the slide of 1000 x 1000"):
        read_annotation(path, (1000, 1000))
    with pytest.warns(MsiscaleWarning, match="beyond the slide"):
        read_annotation(path, (20000, 18000))


def test_geojson_classes_of_every_age(tmp_path: Path) -> None:
    features = [
        feature(SQUARE, classification={"name": "Tumor", "color": [1, 2, 3]}),
        feature(SQUARE, classification={"names": ["Tumor", "Positive"]}),
        feature(SQUARE, classification="Stroma"),
        feature(SQUARE, **{"class": "Old"}),
        feature(SQUARE, objectType="annotation", name="Mine"),
        feature(SQUARE),
        feature(SQUARE, objectType="detection", classification="Cell"),
        feature(SQUARE, object_type="tile"),
        {"type": "Feature", "geometry": None, "properties": {}},
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}},
    ]
    expected = ["Tumor", "Tumor: Positive", "Stroma", "Old", "Mine", None]
    for document in (features, {"type": "FeatureCollection", "features": features}):
        regions = read_annotation(write(tmp_path / "a.geojson", document), (50, 50))
        assert [region.name for region in regions] == expected
    (one,) = read_annotation(write(tmp_path / "a.json", features[0]), (50, 50))
    assert one.polygon.area == 100


def test_geojson_geometries(tmp_path: Path) -> None:
    hole = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    polygon = {"type": "Polygon", "coordinates": [SQUARE, hole]}
    far = [[[20, 20], [22, 20], [22, 22], [20, 22], [20, 20]]]
    multi = {"type": "MultiPolygon", "coordinates": [polygon["coordinates"], far]}
    both = {
        "type": "GeometryCollection",
        "geometries": [polygon, {"type": "Polygon", "coordinates": far}],
    }
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    for geometry, area in ((polygon, 96), (multi, 100), (both, 100), (bow_tie, 50)):
        document = [{"type": "Feature", "geometry": geometry, "properties": {}}]
        (region,) = read_annotation(write(tmp_path / "a.geojson", document), (50, 50))
        assert region.polygon.is_valid and region.polygon.area == pytest.approx(area)


IMAGESCOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Annotations MicronsPerPixel="0.25">
 <Annotation Id="1" Name="Tumor" LineColor="65280"><Attributes/>
  <Regions><RegionAttributeHeaders/>
   <Region Id="1" Type="0" NegativeROA="0"><Vertices>
    <Vertex X="0" Y="0"/><Vertex X="10" Y="0"/><Vertex X="10" Y="10"/><Vertex X="0" Y="10"/>
   </Vertices></Region>
   <Region Id="2" Type="1" NegativeROA="1"><Vertices>
    <Vertex X="2" Y="2"/><Vertex X="4" Y="2"/><Vertex X="4" Y="4"/><Vertex X="2" Y="4"/>
   </Vertices></Region>
   <Region Id="3" Type="4" Text="ruler"><Vertices>
    <Vertex X="0" Y="0"/><Vertex X="9" Y="9"/></Vertices></Region>
  </Regions></Annotation>
 <Annotation Id="2" Name="">
  <Attributes><Attribute Name="Description" Id="0" Value="Stroma"/></Attributes><Regions>
   <Region Id="1" Type="2"><Vertices><Vertex X="20" Y="20"/><Vertex X="30" Y="24"/></Vertices>
   </Region>
   <Region Id="2" Type="0" Text="Ignore"><Vertices>
    <Vertex X="40" Y="40"/><Vertex X="42" Y="40"/><Vertex X="42" Y="42"/></Vertices></Region>
  </Regions></Annotation>
</Annotations>"""

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations><Annotations>
 <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58"><Coordinates>
  <Coordinate Order="0" X="0" Y="0"/><Coordinate Order="10" X="0" Y="10"/>
  <Coordinate Order="2" X="10,5" Y="10"/><Coordinate Order="1" X="10.5" Y="0"/>
 </Coordinates></Annotation>
 <Annotation Name="_0" Type="Rectangle" PartOfGroup="None"><Coordinates>
  <Coordinate Order="0" X="20" Y="0"/><Coordinate Order="1" X="22" Y="0"/>
  <Coordinate Order="2" X="22" Y="3"/><Coordinate Order="3" X="20" Y="3"/>
 </Coordinates></Annotation>
 <Annotation Name="dot" Type="Dot" PartOfGroup="Tumor"><Coordinates>
  <Coordinate Order="0" X="5" Y="5"/></Coordinates></Annotation>
</Annotations><AnnotationGroups><Group Name="Tumor" PartOfGroup="None"/></AnnotationGroups>
</ASAP_Annotations>"""


def test_imagescope(tmp_path: Path) -> None:
    regions = read_annotation(write(tmp_path / "a.xml", IMAGESCOPE), (50, 50))
    assert [region.name for region in regions] == ["Tumor", "Stroma", "Ignore"]
    assert regions[0].polygon.area == 96
    assert regions[1].polygon.area == pytest.approx(np.pi * 5 * 2, rel=1e-2)
    assert regions[1].polygon.bounds == pytest.approx((20, 20, 30, 24))


def test_xml_in_utf_16(tmp_path: Path) -> None:
    text = IMAGESCOPE.replace("UTF-8", "UTF-16")
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    assert len(read_annotation(tmp_path / "a.xml", (50, 50))) == 3


def test_asap(tmp_path: Path) -> None:
    regions = read_annotation(write(tmp_path / "a.xml", ASAP), (50, 50))
    assert [(region.name, region.polygon.area) for region in regions] == [("Tumor", 105), (None, 6)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xml", "<Annotations><Annotation>", "not valid XML"),
        ("a.xml", "<!DOCTYPE x [<!ENTITY e 'x'>]><Annotations>&e;</Annotations>", "DOCTYPE"),
        ("a.xml", "<kml/>", "ImageScope"),
        ("a.xml", IMAGESCOPE.replace('X="2"', 'Z="2"'), "damaged"),
        ("a.xml", ASAP.replace('X="20"', 'X="twenty"'), "damaged"),
        ("a.geojson", '{"type": "FeatureCollection"', "not valid JSON"),
        ("a.geojson", '{"type": "FeatureCollection"}', "damaged"),
        ("a.geojson", '[{"geometry": {"type": "Polygon"}}]', "damaged"),
        ("a.geojson", "[1, 2]", "damaged"),
        ("a.json", '{"shapes": []}', "QuPath GeoJSON, Darwin"),
        ("a.json", '{"shapes": [], "imagePath": "a"}', "labelme JSON"),
        ("a.txt", "tumour here", "not an annotation"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        read_annotation(write(tmp_path / name, text), (50, 50))
    assert name in str(error.value) and words in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_annotation(tmp_path / "no.geojson", (50, 50))
    with pytest.warns(MsiscaleWarning, match="no annotated region"):
        assert read_annotation(write(tmp_path / "a.geojson", []), (50, 50)) == []


def test_geojson_round_trip(tmp_path: Path) -> None:
    holed = shapely.Polygon(SQUARE, [[(2, 2), (4, 2), (4, 4), (2, 4)]])
    two = shapely.MultiPolygon([holed, shapely.box(20, 20, 30, 31)])
    regions = [Outline(holed, "Tumor"), Outline(two)]
    path = tmp_path / "out" / "a.geojson"
    write_geojson(str(path), regions, properties=[{"measurements": {"p": 0.9}}, {}])
    assert "annotation_origin" not in json.loads(path.read_text())
    again = read_annotation(path, (50, 50))
    assert [region.name for region in again] == ["Tumor", None]
    assert all(a.polygon.equals(b.polygon) for a, b in zip(again, regions, strict=True))
    written = json.loads(path.read_text())["features"][0]["properties"]
    assert written == {
        "objectType": "annotation",
        "classification": {"name": "Tumor"},
        "measurements": {"p": 0.9},
    }


HALO = """<Annotations><Annotation LineColor="255" Name="Tumor nests" Visible="True"><Regions>
{}</Regions></Annotation></Annotations>"""


def halo(kind: str, points: list[tuple[float, float]], negative: int = 0) -> str:
    corners = "".join(f'<V X="{x}" Y="{y}" />' for x, y in points)
    return (
        f'<Region Type="{kind}" HasEndcaps="0" NegativeROA="{negative}"><Vertices>{corners}'
        "</Vertices><Comments /></Region>"
    )


def test_halo(tmp_path: Path) -> None:
    regions = [
        halo("Polygon", [(0, 0), (20, 0), (20, 20), (0, 20)]),
        halo("Ellipse", [(5, 5), (15, 13)], 1),
        halo("Rectangle", [(8, 8), (10, 9)]),  # an island in the hole
        halo("Rectangle", [(30, 10), (24, 2)]),  # from any corner
        halo("Rectangle", [(30, 30), (34, 34), (30, 38), (26, 34)]),  # turned
        halo("Ruler", [(0, 0), (9, 9)]),
        halo("Pin", [(3, 3)]),
    ]
    found = read_annotation(
        write(tmp_path / "a.annotations", HALO.format("".join(regions))), (50,) * 2
    )
    assert {one.name for one in found} == {"Tumor nests"}
    hole = np.pi * 5 * 4
    assert [one.polygon.area for one in found] == pytest.approx([400 - hole, 2, 48, 32], rel=1e-3)


def test_halo_of_an_unknown_type_is_said(tmp_path: Path) -> None:
    text = HALO.format(halo("Flood", [(0, 0), (9, 0), (9, 9)]) + halo("Polygon", [(0, 0)]))
    with pytest.warns(
        MsiscaleWarning, match="only 1 points or lines, 1 regions of the unknown type"
    ):
        assert read_annotation(write(tmp_path / "a.annotations", text), (50, 50)) == []


def test_asap_groups_within_groups(tmp_path: Path) -> None:
    groups = """<Group Name="Tumor" PartOfGroup="None"/><Group Name="a" PartOfGroup="b"/>
        <Group Name="b" PartOfGroup="Tumor"/><Group Name="x" PartOfGroup="y"/>
        <Group Name="y" PartOfGroup="x"/>"""
    text = ASAP.replace('<Group Name="Tumor" PartOfGroup="None"/>', groups)
    text = text.replace('PartOfGroup="Tumor" Color', 'PartOfGroup="a" Color')
    text = text.replace('PartOfGroup="None"><Coord', 'PartOfGroup="x"><Coord')
    with pytest.warns(MsiscaleWarning, match="1 points or lines"):
        nested, circle = read_annotation(write(tmp_path / "a.xml", text), (50, 50))
    assert (nested.name, nested.parents) == ("a", ("b", "Tumor"))
    assert (circle.name, circle.parents) == ("x", ("y",))


def test_camelyons_exclusion_alone_is_no_outline(tmp_path: Path) -> None:
    text = ASAP.replace('"Tumor" Color', '"Exclusion" Color').replace('"_0"', '"Exclusion"')
    text = text.replace('PartOfGroup="None"><Coord', 'PartOfGroup="Exclusion"><Coord')
    with pytest.warns(MsiscaleWarning, match="no annotated region"):
        assert read_annotation(write(tmp_path / "a.xml", text), (50, 50)) == []


def test_kinds_of_objects_before_qupath_03(tmp_path: Path) -> None:
    kinds = {
        "PathAnnotationObject": True,
        "PathCellObject": False,
        "PathDetectionObject": False,
        "PathTileObject": False,
        "TMACoreObject": False,
        "PathRootObject": False,
        "0b1c-4f": True,
        "Pathology 3": True,
        "": True,
    }
    for kind, counts in kinds.items():
        document = [{**feature(SQUARE, classification={"name": "Tumor"}), "id": kind}]
        with warnings.catch_warnings(record=True):
            found = read_annotation(write(tmp_path / "a.geojson", document), (50, 50))
        assert bool(found) == counts, kind
    cell = {**feature(SQUARE), "nucleusGeometry": {}}
    with pytest.warns(MsiscaleWarning, match="only 1 cells"):
        assert read_annotation(write(tmp_path / "a.geojson", [cell]), (50, 50)) == []


def test_parts_that_overlap_are_joined(tmp_path: Path) -> None:
    holed = [SQUARE, [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]]
    over = [[[3, 3], [12, 3], [12, 6], [3, 6], [3, 3]]]
    multi = {"type": "MultiPolygon", "coordinates": [holed, over]}
    nested = {
        "type": "GeometryCollection",
        "geometries": [multi, {"type": "Point", "coordinates": [1, 1]}],
    }
    for geometry in (multi, nested):
        with pytest.warns(MsiscaleWarning, match="without a class"):
            (one,) = read_annotation(write(tmp_path / "a.json", geometry), (50, 50))
        assert one.polygon.area == pytest.approx(100 - 4 + 1 + 6)


def test_json_of_any_unicode(tmp_path: Path) -> None:
    text = json.dumps(
        [feature(SQUARE, classification={"name": " Tumor bed é "})], ensure_ascii=False
    )
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        (tmp_path / "a.json").write_bytes(text.encode(encoding))
        (one,) = read_annotation(tmp_path / "a.json", (50, 50))
        assert one.name == "Tumor bed é"


def test_a_file_that_says_its_origin(tmp_path: Path) -> None:
    url = str(tmp_path / "a.geojson")
    write_geojson(url, [Outline(shapely.box(30, 20, 40, 30), "Tumor")], origin=(25.0, 10.0))
    written = json.loads((tmp_path / "a.geojson").read_text())
    assert np.min(written["features"][0]["geometry"]["coordinates"][0], axis=0).tolist() == [5, 10]
    for offset in (None, "level0", (1.0, 1.0)):  # it knows better
        (one,) = read_annotation(url, (50, 50), offset=offset)
        assert one.polygon.bounds == (30, 20, 40, 30)
