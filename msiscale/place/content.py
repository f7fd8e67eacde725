"""Everything that the page of a specimen works with, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from bokeh.palettes import Cividis256, Viridis256

from msiscale.cohort import Specimen
from msiscale.errors import InputError
from msiscale.grid import Floats, PixelSize, as_matrix, scaling, translation
from msiscale.pipeline.placement import landmarks
from msiscale.place.images import images
from msiscale.place.slides import pictures
from msiscale.registration import read_matrix
from msiscale.registration.scale import MOST_SCALE
from msiscale.report import packing
from msiscale.slide.origin import said_offset
from msiscale.slide.reader import Slide, open_reader
from msiscale.store import StoredSpecimen

GREY = [f"#{v:02x}{v:02x}{v:02x}" for v in range(256)]
COLOURS = {"viridis": list(Viridis256), "cividis": list(Cividis256), "grey": GREY}


def content(
    stored: StoredSpecimen, specimen: Specimen, record: Mapping[str, Any], *, ions: int
) -> dict[str, Any]:
    """What the page shows, and where it starts.

    Parameters
    ----------
    stored
        With its cube.
    specimen
        Its row of the manifest.
    record
        Of its registration in the ledger; empty where there is none.
    ions
        Ion images at most.

    Returns
    -------
    dict
        Sizes, pictures, packed images, the first placement and pairs.

    Raises
    ------
    InputError
        The slide cannot be read.
    """
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    shown = images(stored, ions)
    start, pairs = start_of(stored, specimen, slide, record)
    return {
        "name": specimen.name,
        "slide": {
            "file": PurePosixPath(specimen.slide.rstrip("/")).name,
            "size": [slide.shape[1], slide.shape[0]],
            "mpp": [slide.mpp.x, slide.mpp.y],
            "pictures": pictures(slide),
        },
        "msi": {
            "size": [stored.shape[1], stored.shape[0]],
            "pixel_um": [stored.pixel_um.x, stored.pixel_um.y],
            "step": shown["step"],
            "images": shown["listed"],
        },
        "start": start,
        "pairs": pairs,
        "given": {name: bool(getattr(specimen, name)) for name in ("landmarks", "matrix")},
        # what landmarks in the file count from, and whether that is yet to be said
        "origin": list(said_offset(specimen.annotation_origin or "level0", slide)),
        "unsaid": specimen.annotation_origin is None and tuple(slide.bounds) != (0, 0),
        "most_scale": MOST_SCALE,
        "colours": COLOURS,
        "packed": packing.pack({"levels": shown["levels"]}),
    }


def start_of(
    stored: StoredSpecimen, specimen: Specimen, slide: Slide, record: Mapping[str, Any]
) -> tuple[dict[str, Any], list[list[float]]]:
    """Where the page starts.

    Parameters
    ----------
    stored, specimen, slide
        Of the specimen.
    record
        Of its registration in the ledger; empty where there is none.

    Returns
    -------
    start : dict
        ``matrix`` (3x3, MSI pixel index to level-0 pixels); ``kind``: given, found, refused or
        none; ``says``: that in words.
    pairs : list of list of float
        The landmarks of the manifest: slide x, slide y, MSI x, MSI y.
    """
    pairs: list[list[float]] = []
    said = ""
    try:
        if specimen.matrix:
            given = read_matrix(specimen.matrix).matrix
            return _start(given, "given", "the matrix of the manifest"), pairs
        if specimen.landmarks:
            pairs = np.hstack(landmarks(specimen, slide)).tolist()
    except InputError as error:
        given_file = str(specimen.matrix or specimen.landmarks)  # its folder is nobody's business
        said = f"; {str(error).replace(given_file, PurePosixPath(given_file).name)}"
    if record.get("status") == "done" and "matrix" in record:
        how = record.get("registration", {}).get("method", "")
        words = (
            "the place that the images gave" if how == "automatic" else f"the registration ({how})"
        )
        kind = "found" if how == "automatic" else "given"
        return _start(as_matrix(record["matrix"]), kind, words + said), pairs
    refused = stored.facts.get("placement", {})
    why = str(refused.get("why", "")) if isinstance(refused, Mapping) else ""
    if why:
        matrix = _known(refused.get("matrix"))
        if matrix is not None:
            words = f"the place that the images gave, which was refused: {why}{said}"
            return _start(matrix, "refused", words), pairs
        said = f"; automatic registration was refused: {why}{said}"
    middle, kind = centred(stored.shape, stored.pixel_um, slide), "refused" if why else "none"
    return _start(middle, kind, f"the middle of the MSI on the middle of the slide{said}"), pairs


def _start(matrix: Floats, kind: str, says: str) -> dict[str, Any]:
    return {"matrix": matrix.tolist(), "kind": kind, "says": says}


def _known(values: Any) -> Floats | None:
    try:
        return as_matrix(values)
    except (ValueError, TypeError):
        return None


def centred(shape: tuple[int, int], pixel_um: PixelSize, slide: Slide) -> Floats:
    """The MSI upright on the middle of the slide, at the scale of the pixel sizes.

    Parameters
    ----------
    shape
        (y, x) of the MSI.
    pixel_um
        Of the MSI.
    slide
        Of any size.

    Returns
    -------
    NDArray
        (3, 3) float64, MSI pixel index to level-0 pixels.
    """
    (height, width), (ny, nx) = slide.shape, shape
    size = scaling(pixel_um.x / slide.mpp.x, pixel_um.y / slide.mpp.y)
    to_middle = translation(width / 2, height / 2)
    return np.asarray(to_middle @ size @ translation(-(nx - 1) / 2, -(ny - 1) / 2))
