"""A pathologist's annotation, in whatever form it came, as outlines in level-0 pixels."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.slide.annotation_xml import read_xml
from msiscale.slide.labels import label_fraction
from msiscale.slide.outlines import Outline, placed, polygonal, rings
from msiscale.slide.painted import read_painted
from msiscale.slide.reader import Slide
from msiscale.store import read_bytes, write_json

__all__ = ["Outline", "label_fraction", "read_annotation", "write_geojson"]

_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".zarr"}
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_FORMS = "QuPath GeoJSON, Darwin JSON, ImageScope XML, ASAP XML, or a painted PNG, JPEG or TIFF"


def read_annotation(
    path: str | os.PathLike[str],
    slide_shape: tuple[int, int],
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    slide: Slide | None = None,
) -> list[Outline]:
    """Annotated outlines of a slide.

    Parameters
    ----------
    path : str or path
        QuPath GeoJSON (FeatureCollection, bare list, one Feature), Darwin JSON, Aperio ImageScope
        XML, ASAP XML, or a picture: a copy of the slide at any scale with coloured outlines.
    slide_shape : (int, int)
        Height and width of level 0.
    offset : (float, float)
        (x, y) added to the coordinates of a vector form; `Slide.bounds` for what QuPath wrote of a
        slide with empty margins.
    slide : Slide, optional
        The slide itself; a painted picture is then compared with it, so that outlines of any colour
        (black too) are found.

    Returns
    -------
    list of Outline
        Areas only, in the order of the file; empty ones are left out.

    Raises
    ------
    InputError
        A form that is not known, a damaged file, or outlines that all lie outside the slide.
    """
    url = os.fspath(path)
    if PurePosixPath(url.rstrip("/")).suffix.lower() in _IMAGES:
        outlines = read_painted(url, slide_shape, slide=slide)
    else:
        by = np.asarray(offset, dtype=np.float64)
        outlines = [
            Outline(shapely.transform(one.polygon, lambda xy: xy + by), one.name)
            for one in _read_vector(url)
        ]
    outlines = [one for one in outlines if not one.polygon.is_empty]
    _check_inside(url, outlines, slide_shape)
    return outlines


def _read_vector(url: str) -> list[Outline]:
    try:
        data = read_bytes(url)
    except FileNotFoundError:
        raise InputError(f"{url}: no such file; check the manifest column `annotation`") from None
    except OSError as error:
        raise InputError(f"{url}: cannot be read ({error}); check the path") from None
    start = data[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]  # byte order marks, blanks
    if start == b"<":
        return read_xml(url, data)
    if start in (b"{", b"["):
        return _read_json(url, data)
    raise InputError(f"{url}: not an annotation; known are {_FORMS}")


def _read_json(url: str, data: bytes) -> list[Outline]:
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: not valid JSON ({error}); export the annotation again") from None
    try:
        if isinstance(document, list):
            return _geojson(document)
        if document.get("type") == "FeatureCollection":
            return _geojson(document["features"])
        if document.get("type") == "Feature":
            return _geojson([document])
        if "item" in document and isinstance(document.get("annotations"), list):
            return _darwin(document["annotations"])
    except (*_DAMAGED, shapely.errors.ShapelyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{url}: a damaged annotation ({reason}); export it again") from None
    raise InputError(f"{url}: JSON that is no annotation; known are {_FORMS}")


def _geojson(features: Iterable[Mapping[str, Any]]) -> list[Outline]:
    """Outlines of GeoJSON features; QuPath's cells and tiles are no annotations."""
    outlines = []
    for feature in features:
        properties = feature.get("properties") or {}
        kind = properties.get("objectType") or properties.get("object_type") or "annotation"
        if kind != "annotation" or feature.get("geometry") is None:
            continue
        geometry = shape(feature["geometry"])
        placed(shapely.get_coordinates(geometry))
        outlines.append(Outline(polygonal(geometry), _class_name(properties)))
    return outlines


def _class_name(properties: Mapping[str, Any]) -> str | None:
    """The class of a QuPath object, else the name of the object itself."""
    for key in ("classification", "class", "name"):
        value = properties.get(key)
        if isinstance(value, Mapping):  # {"name": ...}, or {"names": [...]} since QuPath 0.5
            value = value.get("name") or ": ".join(value.get("names") or [])
        if value and str(value).strip():
            return str(value).strip()
    return None


def _darwin(annotations: Iterable[Mapping[str, Any]]) -> list[Outline]:
    """Outlines of Darwin (V7) JSON: every polygon may have several rings, holes among them."""
    outlines = []
    for item in annotations:
        polygon = item.get("polygon")
        if not polygon:  # a bounding box, an ellipse, a tag
            continue
        paths = polygon["paths"] if "paths" in polygon else [polygon["path"]]
        area = rings([[(point["x"], point["y"]) for point in path] for path in paths])
        outlines.append(Outline(area, str(item["name"]).strip() or None))
    return outlines


def _check_inside(url: str, outlines: Sequence[Outline], slide_shape: tuple[int, int]) -> None:
    """An annotation of another slide, or at another scale, does not pass for one without cancer."""
    if not outlines:
        warnings.warn(f"{url}: no annotated region in it", MsiscaleWarning, stacklevel=3)
        return
    height, width = slide_shape
    extent = shapely.union_all([shapely.box(*one.polygon.bounds) for one in outlines]).bounds
    inside = shapely.box(0, 0, width, height).intersection(shapely.box(*extent))
    told = "{:.0f}, {:.0f} to {:.0f}, {:.0f}".format(*extent)
    if inside.is_empty or inside.area == 0:
        raise InputError(
            f"{url}: regions at x, y {told} lie outside the slide of {width} x {height} px;"
            " give the annotation of this slide in level-0 pixels"
        )
    if extent[2] > 1.05 * width or extent[3] > 1.05 * height or min(extent[:2]) < -0.05 * width:
        warnings.warn(
            f"{url}: regions at x, y {told} reach beyond the slide of {width} x {height} px",
            MsiscaleWarning,
            stacklevel=3,
        )


def write_geojson(
    url: str,
    outlines: Iterable[Outline],
    *,
    properties: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write outlines as a GeoJSON FeatureCollection that QuPath opens.

    Parameters
    ----------
    url : str
        Path or URL.
    outlines : iterable of Outline
        With their names.
    properties : sequence of mapping, optional
        Further properties of each, such as ``{"measurements": {...}}``.
    """
    outlines = list(outlines)
    extra = list(properties) if properties is not None else [{} for _ in outlines]
    features = [
        {
            "type": "Feature",
            "geometry": mapping(one.polygon),
            "properties": {
                "objectType": "annotation",
                **({"classification": {"name": one.name}} if one.name else {}),
                **more,
            },
        }
        for one, more in zip(outlines, extra, strict=True)
    ]
    write_json(url, {"type": "FeatureCollection", "features": features})
