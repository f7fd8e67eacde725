"""Annotations as XML: Aperio ImageScope and ASAP."""

from __future__ import annotations

from typing import Any

import shapely
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from msiscale.errors import InputError
from msiscale.slide.outlines import FARTHEST, Outline, polygonal, ring

_IMAGESCOPE_AREAS = ("0", "1", "2")  # free hand, rectangle, ellipse; others: rulers and arrows
_ASAP_AREAS = {"Polygon", "Spline", "Rectangle"}


def read_xml(path: str, data: bytes) -> list[Outline]:
    """Outlines of an ImageScope or ASAP document; InputError if it is neither."""
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except (ElementTree.ParseError, LookupError) as error:  # also of an unknown encoding
        raise InputError(f"{path}: not valid XML ({error}); export the annotation again") from None
    except DefusedXmlException:
        raise InputError(f"{path}: XML with a DTD or entities; remove its DOCTYPE") from None
    try:
        if root.tag == "Annotations":
            return _imagescope(root)
        if root.tag == "ASAP_Annotations":
            return _asap(root)
    except (KeyError, ValueError, shapely.errors.ShapelyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path}: a damaged annotation ({reason}); export it again") from None
    raise InputError(
        f"{path}: XML of <{root.tag}>; known are Aperio ImageScope (<Annotations>) and ASAP"
        " (<ASAP_Annotations>)"
    )


def _number(text: str) -> float:
    """A coordinate; ASAP writes a decimal comma where the system has one."""
    number = float(text.replace(",", "."))
    if not abs(number) < FARTHEST:
        raise ValueError(f"a coordinate of {number:g}")
    return number


def _imagescope(root: Any) -> list[Outline]:
    """Layers of outlines. One that is marked as negative is cut out of its layer."""
    outlines = []
    for layer in root.iter("Annotation"):
        named = (layer.get("Name") or "").strip()
        values = (a.get("Value") or "" for a in layer.iterfind("Attributes/Attribute"))
        described = next((v.strip() for v in values if v.strip()), "")
        areas, holes = [], []
        for region in layer.iter("Region"):
            if region.get("Type", "0") not in _IMAGESCOPE_AREAS:
                continue
            points = [
                (_number(v.attrib["X"]), _number(v.attrib["Y"])) for v in region.iter("Vertex")
            ]
            area = _ellipse(points) if region.get("Type") == "2" else ring(points)
            if region.get("NegativeROA") == "1":
                holes.append(area)
            else:
                areas.append((area, named or (region.get("Text") or "").strip() or described))
        cut = shapely.union_all(holes)
        outlines += [Outline(polygonal(area.difference(cut)), name or None) for area, name in areas]
    return outlines


def _ellipse(points: list[tuple[float, float]]) -> Any:
    """An ellipse from two corners of its box."""
    if len(points) != 2:
        return ring(points)
    (x0, y0), (x1, y1) = points
    circle = shapely.Point(0, 0).buffer(1, quad_segs=32)
    centre, half = ((x0 + x1) / 2, (y0 + y1) / 2), (abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    return shapely.transform(circle, lambda xy: xy * half + centre)


def _asap(root: Any) -> list[Outline]:
    """Annotations whose class is the group that they are part of."""
    outlines = []
    for item in root.iter("Annotation"):
        if item.get("Type") not in _ASAP_AREAS:
            continue
        points = sorted(item.iter("Coordinate"), key=lambda c: _number(c.get("Order", "0")))
        xy = [(_number(c.attrib["X"]), _number(c.attrib["Y"])) for c in points]
        group = (item.get("PartOfGroup") or "").strip()
        outlines.append(Outline(ring(xy), None if group in ("", "None") else group))
    return outlines
