"""Annotations as JSON: GeoJSON of QuPath and others, and Darwin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import shapely
from shapely.geometry import shape

from msiscale.errors import InputError
from msiscale.slide.outlines import BOXES, CELLS, LINES, Drawn, Outline, placed, polygonal, rings

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_OBJECT = re.compile(r"(Path[A-Za-z]+|TMACore)Object")  # a Java class of QuPath
_GEOMETRIES = {"Polygon", "MultiPolygon", "GeometryCollection"}


def read_json(path: str, data: bytes, forms: str) -> Drawn:
    """Outlines of GeoJSON or Darwin; InputError, which names `forms`, if it is neither."""
    try:
        document = json.loads(data)  # in UTF-8, 16 or 32, with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); export the annotation again") from None
    try:
        if isinstance(document, list):
            return _geojson(document)
        kind = document.get("type")
        if kind == "FeatureCollection":
            drawn = _geojson(document["features"])
            origin = document.get("annotation_origin")  # `write_geojson`
            drawn.origin = None if origin is None else (float(origin[0]), float(origin[1]))
            return drawn
        if kind == "Feature":
            return _geojson([document])
        if kind in _GEOMETRIES:
            return _geojson([{"geometry": document}])
        if "item" in document and isinstance(document.get("annotations"), list):
            return _darwin(document["annotations"])
    except (*_DAMAGED, shapely.errors.ShapelyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path}: a damaged annotation ({reason}); export it again") from None
    called = _called(document)
    raise InputError(f"{path}: {called} that is no annotation; known are {forms}")


def _called(document: Any) -> str:
    """What a document of another layout is, where it can be told."""
    if isinstance(document, dict):
        if {"images", "annotations", "categories"} <= document.keys():
            return "COCO JSON"
        if {"shapes", "imagePath"} <= document.keys():
            return "labelme JSON"
        if document.get("type") == "Topology":
            return "TopoJSON"
    return "JSON"


def _geojson(features: Iterable[Mapping[str, Any]]) -> Drawn:
    """Outlines of GeoJSON features; QuPath's cells and tiles are no annotations."""
    drawn = Drawn(from_bounds=True)
    for feature in features:
        properties = feature.get("properties") or {}
        if feature.get("geometry") is None:
            continue
        if not _is_annotation(feature, properties):
            drawn.left[CELLS] += 1
            continue
        geometry = shape(feature["geometry"])
        placed(shapely.get_coordinates(geometry))
        area = polygonal(geometry)
        if area.is_empty:
            drawn.left[LINES] += not geometry.is_empty
            continue
        name, classed = _name(properties)
        drawn.outlines.append(Outline(area, name, classed=classed))
    return drawn


def _is_annotation(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    """Whether a person drew it: said by a property, before QuPath 0.3 by the feature's id."""
    said = properties.get("objectType") or properties.get("object_type")
    if said is None:
        said = str(feature.get("id") or "")
        if not _OBJECT.fullmatch(said):
            return "nucleusGeometry" not in feature  # of a cell; any other id says nothing
    return str(said).casefold() in ("annotation", "pathannotationobject")


def _name(properties: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The class of a QuPath object, else the name of the object itself; whether it is a class."""
    for key in ("classification", "class", "name"):
        value = properties.get(key)
        if isinstance(value, Mapping):  # {"name": ...}, or {"names": [...]} since QuPath 0.5
            value = value.get("name") or ": ".join(value.get("names") or [])
        text = str(value or "").strip()
        if text and text.casefold() not in ("none", "unclassified"):
            return text, key != "name"
    return None, True


def _darwin(annotations: Sequence[Mapping[str, Any]]) -> Drawn:
    """Outlines of Darwin (V7) JSON: every polygon may have several rings, holes among them."""
    drawn = Drawn()
    for item in annotations:
        polygon = item.get("polygon")
        if not polygon:  # a bounding box, an ellipse, a tag
            drawn.left[BOXES] += 1
            continue
        paths = polygon["paths"] if "paths" in polygon else [polygon["path"]]
        area = rings([[(point["x"], point["y"]) for point in path] for path in paths])
        drawn.outlines.append(Outline(area, str(item["name"]).strip() or None))
    return drawn
