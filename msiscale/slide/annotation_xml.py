"""Annotations as XML: Aperio ImageScope, HALO, ASAP and Hamamatsu."""

from __future__ import annotations

from typing import Any

import shapely
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from shapely.geometry.base import BaseGeometry

from msiscale.errors import InputError
from msiscale.slide.ndpa import read_ndpa
from msiscale.slide.outlines import (
    FARTHEST,
    LINES,
    MEASURES,
    Drawn,
    Outline,
    polygonal,
    ring,
    without,
)
from msiscale.slide.reader import Slide

# of a region: ImageScope has numbers, HALO words
_AREAS = {"0": "polygon", "1": "rectangle", "2": "ellipse"}
_AREAS |= {word: word for word in ("polygon", "rectangle", "ellipse")}
_MEASURES = {"3", "4", "5", "6", "arrow", "ruler", "pin", "line", "text"}
_ASAP_AREAS = {"Polygon", "Spline", "Rectangle"}
_CAMELYON_HOLES = "exclusion"  # the group of what is cut out of the tumour around it
_EMPTY = {"Annotations", "Annotation", "Regions", "Attributes", "Attribute", "Comments", "Comment"}
_EMPTY |= {"RegionAttributeHeaders", "AttributeHeader", "Plots"}


def read_xml(path: str, data: bytes, slide: Slide | None = None) -> Drawn:
    """Outlines of a document of a known program; InputError if it is of none."""
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except (ElementTree.ParseError, LookupError) as error:  # also of an unknown encoding
        raise InputError(f"{path}: not valid XML ({error}); export the annotation again") from None
    except DefusedXmlException:
        raise InputError(f"{path}: XML with a DTD or entities; remove its DOCTYPE") from None
    try:
        if root.tag == "Annotations" and _has_regions(root):
            return _layers(root)
        if root.tag == "ASAP_Annotations":
            return _asap(root)
        if root.tag == "annotations" and (len(root) == 0 or root.find("ndpviewstate") is not None):
            return read_ndpa(path, root, slide)
    except InputError:
        raise
    except (KeyError, ValueError, shapely.errors.ShapelyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path}: a damaged annotation ({reason}); export it again") from None
    raise InputError(
        f"{path}: XML of <{root.tag}> in a layout that is not known; known are Aperio ImageScope"
        " and HALO (<Annotations> with <Region>), ASAP (<ASAP_Annotations>) and Hamamatsu"
        " (<annotations> with <ndpviewstate>)"
    )


def _has_regions(root: Any) -> bool:
    """Whether it has regions as ImageScope and HALO write them, or nothing at all."""
    return root.find(".//Region") is not None or {e.tag for e in root.iter()} <= _EMPTY


def _number(text: str) -> float:
    """A coordinate; ASAP writes a decimal comma where the system has one."""
    number = float(text.replace(",", "."))
    if not abs(number) < FARTHEST:
        raise ValueError(f"a coordinate of {number:g}")
    return number


def _layers(root: Any) -> Drawn:
    """Layers of regions of ImageScope or HALO; a negative region is cut out of its layer."""
    drawn = Drawn()
    for layer in root.iter("Annotation"):
        named = (layer.get("Name") or "").strip()
        values = (a.get("Value") or "" for a in layer.iterfind("Attributes/Attribute"))
        described = next((v.strip() for v in values if v.strip()), "")
        areas, holes, names = [], [], []
        for region in layer.iter("Region"):
            word = (region.get("Type") or "0").strip().casefold()
            kind = _AREAS.get(word)
            if kind is None:
                unknown = f"regions of the unknown type {word}"
                drawn.left[MEASURES if word in _MEASURES else unknown] += 1
                continue
            points = [
                (_number(v.attrib["X"]), _number(v.attrib["Y"]))
                for v in region.iter()
                if v.tag in ("Vertex", "V")
            ]
            area = _area(kind, points)
            if area.is_empty:
                drawn.left[LINES] += 1
            elif (region.get("NegativeROA") or "").strip().casefold() in ("1", "true"):
                holes.append(area)
            else:
                areas.append(area)
                names.append(named or (region.get("Text") or "").strip() or described)
        cut = zip(without(areas, holes), names, strict=True)
        drawn.outlines += [Outline(area, name or None) for area, name in cut]
    return drawn


def _area(kind: str, points: list[tuple[float, float]]) -> BaseGeometry:
    """A polygon; of a rectangle or an ellipse two corners of its box will do."""
    if len(points) != 2 or kind == "polygon":
        return ring(points)
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return ring([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    circle = shapely.Point(0, 0).buffer(1, quad_segs=32)
    centre, half = ((x0 + x1) / 2, (y0 + y1) / 2), (abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    return polygonal(shapely.transform(circle, lambda xy: xy * half + centre))


def _asap(root: Any) -> Drawn:
    """Annotations whose class is the group that they are part of, and the groups above it."""
    drawn = Drawn()
    above = {_group(g, "Name"): _group(g, "PartOfGroup") for g in root.iter("Group")}
    holes = []
    for item in root.iter("Annotation"):
        points = sorted(item.iter("Coordinate"), key=lambda c: _number(c.get("Order", "0")))
        xy = [(_number(c.attrib["X"]), _number(c.attrib["Y"])) for c in points]
        area = ring(xy) if item.get("Type") in _ASAP_AREAS else shapely.Polygon()
        if area.is_empty:
            drawn.left[LINES] += 1
            continue
        names: list[str] = []  # from the inner group outwards, each once
        name = _group(item, "PartOfGroup")
        while name and name not in names:
            names.append(name)
            name = above.get(name)
        if any(n.casefold().startswith(_CAMELYON_HOLES) for n in names):
            holes.append(area)
        else:
            first = names[0] if names else None
            drawn.outlines.append(Outline(area, first, tuple(names[1:])))
    cut = without([one.polygon for one in drawn.outlines], holes)
    drawn.outlines = [
        Outline(area, one.name, one.parents) for area, one in zip(cut, drawn.outlines, strict=True)
    ]
    return drawn


def _group(element: Any, attribute: str) -> str | None:
    """The name of a group; ASAP writes None for none."""
    name = (element.get(attribute) or "").strip()
    return None if name in ("", "None") else name
