"""A pathologist's annotation, in whatever form it came, as outlines in level-0 pixels."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.slide.annotation_json import read_json
from msiscale.slide.annotation_xml import read_xml
from msiscale.slide.classes import roles
from msiscale.slide.labels import label_fraction
from msiscale.slide.origin import (
    Origin,
    Points,
    found_offset,
    inner_points,
    other_scale,
    said_offset,
)
from msiscale.slide.outlines import BOXES, CELLS, MEASURES, Drawn, Outline, moved
from msiscale.slide.painted import read_painted
from msiscale.slide.reader import Slide
from msiscale.store import read_bytes, write_json

__all__ = ["Outline", "label_fraction", "read_annotation", "write_geojson"]

_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".zarr"}
_FORMS = (
    "QuPath GeoJSON, Darwin JSON, ImageScope XML, HALO annotations, ASAP XML, Hamamatsu NDPA, or a"
    " painted PNG, JPEG or TIFF"
)
_MANY = 2000  # outlines, from which each counts by one point when their place is judged


def read_annotation(
    path: str | os.PathLike[str],
    slide_shape: tuple[int, int],
    *,
    offset: Origin | None = None,
    slide: Slide | None = None,
) -> list[Outline]:
    """Annotated outlines of a slide.

    Parameters
    ----------
    path : str or path
        GeoJSON (FeatureCollection, bare list, one Feature or geometry), Darwin JSON, Aperio
        ImageScope XML, HALO ``.annotations``, ASAP XML, Hamamatsu ``.ndpa`` (of which the slide
        must be given), or a picture: a copy of the slide at any scale with coloured outlines.
    slide_shape : (int, int)
        Height and width of level 0.
    offset : (float, float) or str, optional
        (x, y) added to the coordinates of a vector form, ``"bounds"`` for those of the slide, or
        ``"level0"`` for none. By default what the file says, or, of GeoJSON of a slide with
        margins, what the slide's tissue says.
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
    return read_placed(path, slide_shape, offset=offset, slide=slide)[0]


def read_placed(
    path: str | os.PathLike[str],
    slide_shape: tuple[int, int],
    *,
    offset: Origin | None = None,
    slide: Slide | None = None,
) -> tuple[list[Outline], tuple[float, float] | None]:
    """The outlines of `read_annotation`, and where their coordinates were found to count from.

    Parameters
    ----------
    path, slide_shape, offset, slide
        As those of `read_annotation`.

    Returns
    -------
    outlines : list of Outline
    origin : (float, float) or None
        (x, y) in level-0 pixels; None where it was neither said nor looked for.
    """
    url = os.fspath(path)
    if PurePosixPath(url.rstrip("/")).suffix.lower() in _IMAGES:
        outlines, origin = read_painted(url, slide_shape, slide=slide), None
        drawn = Drawn(outlines)
    else:
        drawn = _read_vector(url, slide)
        origin = _origin(url, drawn, offset, slide)
        _tell_bare(url, drawn.outlines)
    outlines = [moved(one, origin or (0, 0)) for one in drawn.outlines if not one.polygon.is_empty]
    _tell(url, outlines, drawn.left)
    if outlines:
        _check_place(url, outlines, slide_shape, slide)
    return outlines, origin


def _read_vector(url: str, slide: Slide | None) -> Drawn:
    try:
        data = read_bytes(url)
    except FileNotFoundError:
        raise InputError(f"{url}: no such file; check the manifest column `annotation`") from None
    except OSError as error:
        raise InputError(f"{url}: cannot be read ({error}); check the path") from None
    start = data[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]  # byte order marks, blanks
    if start == b"<":
        return read_xml(url, data, slide)
    if start in (b"{", b"["):
        return read_json(url, data, _FORMS)
    called = "an empty file" if not data.strip() else "not an annotation"
    if data.startswith(b"SQLite format 3"):
        called = "a SQLite database, as SlideRunner's, which is not read"
    raise InputError(f"{url}: {called}; known are {_FORMS}")


def _origin(
    url: str, drawn: Drawn, said: Origin | None, slide: Slide | None
) -> tuple[float, float] | None:
    """Where a file's coordinates count from: as it says itself, as is said, or as is found."""
    if drawn.origin is not None:
        return drawn.origin
    if said is not None:
        origin = said_offset(said, slide)
        if origin != (0, 0):
            told = f"coordinates count from x, y {origin[0]:g}, {origin[1]:g}, as is said"
            warnings.warn(f"{url}: {NOTE}{told}", MsiscaleWarning, stacklevel=4)
        return origin
    if slide is None or not drawn.from_bounds:
        return None
    origin, text = found_offset(_points(drawn.outlines), slide)
    if text is not None:
        warnings.warn(f"{url}: {text}", MsiscaleWarning, stacklevel=4)
    return origin


def _points(outlines: Sequence[Outline]) -> Points:
    """Points (x, y) that are spread over outlines."""
    polygons = [one.polygon for one in outlines]
    if len(polygons) > _MANY:
        return np.asarray(shapely.get_coordinates(shapely.point_on_surface(polygons)))
    return inner_points(shapely.union_all(polygons))


def _tell(url: str, outlines: Sequence[Outline], left: Counter[str]) -> None:
    """What in a file is no outline."""
    texts = []
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(left.items()) if n)
    if not outlines:
        only = f", only {told}" if told else ""
        texts.append(
            f"no annotated region in it{only}; the specimen counts as one without an annotation"
        )
    else:
        for kind, n in sorted(left.items()):
            if n and kind == CELLS:
                texts.append(f"{NOTE}{n} {kind} in it are left out; annotations alone count")
            elif n and kind not in (MEASURES, BOXES):
                texts.append(f"{n} {kind} in it are left out; draw as areas what is an outline")
    for text in texts:
        warnings.warn(f"{url}: {text}", MsiscaleWarning, stacklevel=4)


def _tell_bare(url: str, outlines: Sequence[Outline]) -> None:
    """That outlines without a class count as cancer, where they do."""
    kinds = roles(outlines, None, None)
    n = sum(not one.name and kind == "cancer" for one, kind in zip(outlines, kinds, strict=True))
    if n:
        text = f"{url}: {NOTE}{n} outline(s) without a class in it count as cancer"
        warnings.warn(text, MsiscaleWarning, stacklevel=4)


def _check_place(
    url: str, outlines: Sequence[Outline], slide_shape: tuple[int, int], slide: Slide | None
) -> None:
    """An annotation of another slide, or at another scale, does not pass for one without cancer."""
    height, width = slide_shape
    extent = shapely.total_bounds([one.polygon for one in outlines])
    inside = shapely.box(0, 0, width, height).intersection(shapely.box(*extent))
    told = "{:.0f}, {:.0f} to {:.0f}, {:.0f}".format(*extent)
    scale = None if slide is None else other_scale(_points(outlines), slide)
    if inside.is_empty or inside.area == 0:
        because = "" if scale is None else f" ({scale.partition(';')[0]})"
        raise InputError(
            f"{url}: regions at x, y {told} lie outside the slide of {width} x {height}"
            f" px{because}; give the annotation of this slide in level-0 pixels"
        )
    texts = [] if scale is None else [scale]
    if extent[2] > 1.05 * width or extent[3] > 1.05 * height or min(extent[:2]) < -0.05 * width:
        texts.append(f"regions at x, y {told} reach beyond the slide of {width} x {height} px")
    for text in texts:
        warnings.warn(f"{url}: {text}", MsiscaleWarning, stacklevel=4)


def write_geojson(
    url: str,
    outlines: Iterable[Outline],
    *,
    properties: Sequence[Mapping[str, Any]] | None = None,
    origin: tuple[float, float] = (0.0, 0.0),
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
    origin : (float, float), optional
        (x, y) in level-0 pixels from which coordinates are counted in the file, which says so:
        `Slide.bounds` for QuPath.
    """
    outlines = [moved(one, (-origin[0], -origin[1])) for one in outlines]
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
    said = {} if tuple(origin) == (0, 0) else {"annotation_origin": list(origin)}
    write_json(url, {"type": "FeatureCollection", **said, "features": features})
