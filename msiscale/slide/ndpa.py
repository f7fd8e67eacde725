"""Annotations of Hamamatsu's NDP.view: nanometres from the centre of the glass slide.

Where the image lies on the glass, and how large its pixels are, is in the NDPI file beside it: the
properties that OpenSlide names ``hamamatsu.XOffsetFromSlideCentre`` and ``openslide.mpp-x`` [1]_.

.. [1] https://openslide.org/formats/hamamatsu/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openslide
import shapely
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.slide.outlines import LINES, Drawn, Outline, placed, polygonal, ring
from msiscale.slide.reader import Slide
from msiscale.store import local_copy

Points = NDArray[np.float64]
_CENTRE = "hamamatsu.{}OffsetFromSlideCentre"
_UNITS = {"nanometers": 1.0, "micrometers": 1e3, "millimeters": 1e6}  # in nm


def read_ndpa(path: str, root: Any, slide: Slide | None) -> Drawn:
    """Closed freehand outlines and circles; their class is the title.

    Parameters
    ----------
    path : str
        Of the file, for messages.
    root
        ``<annotations>`` of an ``.ndpa`` file.
    slide : Slide or None
        The NDPI file that it was drawn on.

    Returns
    -------
    Drawn

    Raises
    ------
    InputError
        The slide does not say where its image lies.
    """
    drawn = Drawn(origin=(0.0, 0.0))  # the glass has no other
    to_pixels: Callable[[Points], Points] | None = None
    for view in root.iter("ndpviewstate"):
        to_pixels = to_pixels or _frame(path, slide)
        unit = (view.findtext("coordformat") or "nanometers").strip().casefold()
        if unit not in _UNITS:
            raise InputError(f"{path}: coordinates in {unit}; export it in nanometers")
        name = (view.findtext("title") or "").strip() or None
        for item in view.iter("annotation"):
            area = _area(item)
            if area.is_empty:
                drawn.left[LINES] += 1
                continue
            scale, convert = _UNITS[unit], to_pixels
            area = shapely.transform(area, lambda xy, s=scale, c=convert: placed(c(xy * s)))
            drawn.outlines.append(Outline(polygonal(area), name))
    return drawn


def _area(item: Any) -> Any:
    """The area of one annotation in its own unit; empty for rulers, pins and open lines."""
    if item.get("type") == "circle":
        x, y, radius = (_number(item, tag) for tag in ("x", "y", "radius"))
        return shapely.Point(x, y).buffer(radius, quad_segs=32)
    points = [(_number(p, "x"), _number(p, "y")) for p in item.iterfind("pointlist/point")]
    closed = (item.findtext("closed") or "1").strip()
    return ring(points) if points and closed != "0" else shapely.Polygon()


def _number(element: Any, tag: str) -> float:
    text = element.findtext(tag)
    if text is None:
        raise KeyError(tag)
    return float(text)


def _frame(path: str, slide: Slide | None) -> Callable[[Points], Points]:
    """The map from nanometres on the glass to level-0 pixels."""
    facts = {} if slide is None else _facts(slide)
    try:
        centre = [float(facts[_CENTRE.format(axis)]) for axis in "XY"]
        nm = [float(facts[f"openslide.mpp-{axis}"]) * 1000 for axis in "xy"]
    except (KeyError, ValueError):
        of = "" if slide is None else f", and {slide.path} does not say where that is"
        raise InputError(
            f"{path}: Hamamatsu's nm from the centre of the glass{of}; give the NDPI slide that"
            " it was drawn on, or export the annotation as GeoJSON"
        ) from None
    assert slide is not None
    half = np.array(slide.shape[::-1]) / 2
    return lambda xy: (xy - centre) / nm + half


def _facts(slide: Slide) -> dict[str, str]:
    """What OpenSlide says of the file; nothing of one that it does not read."""
    try:
        with openslide.OpenSlide(local_copy(slide.path)) as opened:
            return dict(opened.properties)
    except (openslide.OpenSlideError, OSError):
        return {}
