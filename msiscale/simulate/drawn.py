"""Annotations of a phantom in each form that pathologists' programs write."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from msiscale.store import write_bytes

Ring = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """Closed outlines (n, 2), (x, y) in level-0 pixels, with their class; `mpp` of level 0."""

    rings: tuple[tuple[str, Ring], ...]
    mpp: float


def qupath(path: Path, drawing: Drawing) -> None:
    """QuPath GeoJSON, a FeatureCollection as versions from 0.3 on write it."""
    features = []
    for number, (name, ring) in enumerate(drawing.rings):
        classification = {"name": name, "color": list(_rgb(name))}
        properties = {"objectType": "annotation", "classification": classification}
        features.append(_feature(f"00000000-0000-4000-8000-{number:012d}", ring, properties))
    document = {"type": "FeatureCollection", "features": features}
    write_bytes(str(path), json.dumps(document).encode())


def qupath_list(path: Path, drawing: Drawing) -> None:
    """QuPath GeoJSON of versions up to 0.2: a bare list of features."""
    features = []
    for name, ring in drawing.rings:
        red, green, blue = _rgb(name)
        # Java packs a colour into one signed integer
        packed = (255 << 24 | red << 16 | green << 8 | blue) - (1 << 32)
        classification = {"name": name, "colorRGB": packed}
        properties = {"classification": classification, "isLocked": False, "measurements": []}
        features.append(_feature("PathAnnotationObject", ring, properties))
    write_bytes(str(path), json.dumps(features).encode())


def imagescope(path: Path, drawing: Drawing) -> None:
    """Aperio ImageScope XML, an annotation layer a class."""
    lines = [f'<Annotations MicronsPerPixel="{drawing.mpp:.6f}">']
    names = list(dict.fromkeys(name for name, _ in drawing.rings))
    for layer, name in enumerate(names, 1):
        red, green, blue = _rgb(name)
        colour = red | green << 8 | blue << 16
        lines.append(
            f'<Annotation Id="{layer}" Name={quoteattr(name)} ReadOnly="0" Visible="1" '
            f'LineColor="{colour}" Type="4"><Attributes/><Regions>'
        )
        own = [ring for own_name, ring in drawing.rings if own_name == name]
        for number, ring in enumerate(own, 1):
            lines.append(
                f'<Region Id="{number}" Type="0" Zoom="1" Selected="0" NegativeROA="0" Text="">'
                "<Attributes/><Vertices>"
            )
            lines += [f'<Vertex X="{x:.2f}" Y="{y:.2f}" Z="0"/>' for x, y in ring[:-1]]
            lines.append("</Vertices></Region>")
        lines.append("</Regions></Annotation>")
    lines.append("</Annotations>")
    write_bytes(str(path), "\n".join(lines).encode())


def asap(path: Path, drawing: Drawing) -> None:
    """ASAP XML: polygons that belong to groups."""
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", "<Annotations>"]
    for number, (name, ring) in enumerate(drawing.rings):
        lines.append(
            f'<Annotation Name="Annotation {number}" Type="Polygon" '
            f'PartOfGroup={quoteattr(name)} Color="{_hex(name)}"><Coordinates>'
        )
        lines += [
            f'<Coordinate Order="{k}" X="{x:.2f}" Y="{y:.2f}"/>'
            for k, (x, y) in enumerate(ring[:-1])
        ]
        lines.append("</Coordinates></Annotation>")
    lines += ["</Annotations>", "<AnnotationGroups>"]
    for name in dict.fromkeys(name for name, _ in drawing.rings):
        lines.append(
            f'<Group Name={quoteattr(name)} PartOfGroup="None" Color="{_hex(name)}">'
            "<Attributes/></Group>"
        )
    lines += ["</AnnotationGroups>", "</ASAP_Annotations>"]
    write_bytes(str(path), "\n".join(lines).encode())


WRITERS: dict[str, tuple[str, Callable[[Path, Drawing], None]]] = {
    "qupath": (".geojson", qupath),
    "imagescope": (".xml", imagescope),
    "asap": (".xml", asap),
    "qupath-list": (".geojson", qupath_list),
}
"""Form -> the ending of its files and their writer."""


def painted(
    path: Path, drawing: Drawing, image: NDArray[np.uint8], slide_shape: tuple[int, int]
) -> None:
    """Write a copy of the slide, on which the outlines are drawn in colour, as PNG.

    Parameters
    ----------
    path
        The file to write.
    drawing
        The outlines, in level-0 pixels.
    image
        (h, w, 3) uint8, RGB, the whole slide at any resolution.
    slide_shape
        Height and width of level 0, pixels.
    """
    from PIL import Image, ImageDraw

    scale = np.array([image.shape[1] / slide_shape[1], image.shape[0] / slide_shape[0]])
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for name, ring in drawing.rings:
        points = [tuple(p) for p in (ring * scale - 0.5).tolist()]
        # the first stretch once more, so that the line has no gap where it closes
        colour = _PAINT.get(name, (0, 0, 255))
        pen.line([*points, *points[1:3]], fill=colour, width=4, joint="curve")
    picture.save(path, format="PNG")


_COLOURS = {"Tumor": (200, 0, 0)}
_PAINT = {"Tumor": (0, 200, 0)}


def _rgb(name: str) -> tuple[int, int, int]:
    return _COLOURS.get(name, (180, 180, 180))


def _hex(name: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_rgb(name))


def _feature(identity: str, ring: Ring, properties: Mapping[str, object]) -> dict[str, object]:
    polygon = {"type": "Polygon", "coordinates": [np.round(ring, 2).tolist()]}
    return {"type": "Feature", "id": identity, "geometry": polygon, "properties": properties}
