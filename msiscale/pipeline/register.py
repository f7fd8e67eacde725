"""Slide, registration and annotation -> tissue, cancer and a picture of the slide on the MSI grid.

The registration is what the manifest gives; without it, or with ``--registration auto``, it is
found from the specimen's cube and slide (`msiscale.pipeline.placement`).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.features.preview import preview
from msiscale.grid import Block, PixelSize, centres_um
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.placement import (
    REFUSED,
    Placed,
    given,
    is_accepted,
    is_automatic,
    needs_cube,
    place,
    put_deformation,
    refused_row,
    sizes_of,
)
from msiscale.pipeline.plausible import odd_extent
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.tasks import Task
from msiscale.placing import Placing
from msiscale.registration import AUTOMATIC, RESIDUALS
from msiscale.regridding import covered_by_half
from msiscale.slide.annotations import read_placed
from msiscale.slide.labels import labels
from msiscale.slide.origin import said_offset
from msiscale.slide.outlines import Outline
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.tissue import tissue_mask
from msiscale.slide.working import working
from msiscale.store import digest, join, open_group, put, write_csv

PREVIEW_PIXELS = 1600  # on the longer side, at most
PLACEMENT_VERSION = 3  # of the numbers that automatic registration finds
DEFORMATION_VERSION = 2  # of what is left over, at the corners of pixels
GIVEN_VERSION = 1  # of what a given registration is held against
LEAST_ON_TISSUE = 0.5  # of the annotated cancer, below which it seems to be of another place
LABELS_VERSION = 1  # of what an annotation is read as
COLUMNS = (
    *("specimen", "method", "landmarks", *RESIDUALS, "mirrored", *AUTOMATIC),
    *("refused", "why", "matrix"),
)


def register(run: Run) -> None:
    """``tissue``, ``cancer`` and ``preview`` of every specimen, and ``registration.csv``."""
    config = run.config
    part = config.part("cancer_classes", "exclude_classes", "tissue")
    keys, peaks = {}, {}

    def known(s: Specimen) -> list[Any]:
        return [identity(f) for f in (s.slide, s.annotation, s.landmarks, s.matrix)]

    for s in list(run.specimens()):
        if needs_cube(s, config) and not run.is_done("ingest", s.name):
            why = "automatic registration needs the stage ingest; run it first"
            run.set_aside("register", s.name, "", why)
    files = run.identified("register", run.specimens(), known)
    for s in run.specimens():
        peaks[s.name] = run.upstream("peaks", s)
        looks: list[Any] = [LABELS_VERSION, s.annotation_origin, s.annotation_required]
        looks += [] if is_automatic(s, config) else [GIVEN_VERSION]
        if needs_cube(s, config):
            cube = run.upstream("ingest", s)["digest"]
            looks += [cube, PLACEMENT_VERSION, is_automatic(s, config), config.refine]
            looks += [is_accepted(s, config)]
            looks += [DEFORMATION_VERSION] if config.refine != "none" else []
        keys[s.name] = run.key(
            "register", peaks[s.name]["digest"], files[s.name], s.mpp, part, *looks
        )

    def task(specimen: Specimen) -> Task:
        args = (run.out, run.cohort_url, specimen, peaks[specimen.name], config)
        return Task(specimen.name, specimen.name, _register, args)

    run.each("register", keys, task)
    write_table(run)


def write_table(run: Run) -> None:
    """``registration.csv``: one row a specimen, also of those whose registration was refused."""
    rows = []
    for specimen in run.specimens():
        record = run.upstream("register", specimen)
        rows.append({"specimen": specimen.name, "refused": 0, **record["registration"]})
    for name in (s.name for s in run.cohort if REFUSED in run.failed.get(s.name, "")):
        group = open_group(join(run.cohort_url, name))
        rows.append({"specimen": name, **refused_row(group)})
    key = run.key("registration", rows)
    if run.done("registration", COHORT, key):
        return
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["landmarks"] = table["landmarks"].fillna(0).astype(int)
    table["matrix"] = [json.dumps(m) if isinstance(m, list) else None for m in table["matrix"]]
    with run.making("registration", key, "register"):
        write_csv(join(run.out, "registration.csv"), table)


def _register(
    out: str, cohort_url: str, specimen: Specimen, peaks: dict[str, Any], config: RunConfig
) -> dict[str, Any]:
    shape: tuple[int, int] = tuple(peaks["shape"])
    pixel_um = PixelSize.of(peaks["pixel_um"])
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    odd = odd_extent(slide, shape, pixel_um, peaks["spectra"])
    if odd is not None:
        warnings.warn(odd, MsiscaleWarning, stacklevel=2)
    outlines, origin = annotated(specimen, slide)
    group = open_group(join(cohort_url, specimen.name), "a")
    if needs_cube(specimen, config):
        placed = place(out, group, specimen, slide, config)
    else:
        placed = Placed(given(specimen, slide, sizes_of(slide, pixel_um, shape)))
    for note in placed.notes:
        warnings.warn(note, MsiscaleWarning, stacklevel=2)
    found, placing = placed.registration, placed.placing(pixel_um)
    tissue = covered_by_half(*tissue_mask(slide), placing, Block(0, shape[0], 0, shape[1]))
    cancer = cancer_on_grid(specimen, slide, placing, shape, config, outlines)
    if not tissue.any():
        how = "automatic" if is_automatic(specimen, config) else None
        raise InputError(
            f"{specimen.slide}: no tissue under the MSI pixels; check the registration of "
            f"{specimen.name} ({how or specimen.landmarks or specimen.matrix})"
        )
    _must_lie_on(tissue, cancer, specimen)
    if config.tissue == "all":  # what is off the slide has no coverage, and does not count either
        tissue = np.ones(shape, bool)
    put_deformation(group, placed)
    put(group, "tissue", tissue, ("y", "x"))
    if cancer is not None:
        put(group, "cancer", cancer, ("y", "x"), attrs={"long_name": "annotated fraction"})
    else:
        put(group, "cancer", np.full(shape, np.nan, np.float32), ("y", "x"))
    per_pixel = max(1, min(16, PREVIEW_PIXELS // max(shape)))
    image = working(slide, max(max(pixel_um) / per_pixel, *slide.mpp))  # never enlarged
    put(group, "preview", preview(image, placing, shape, per_pixel), ("yp", "xp", "rgb"))
    for name, n, um in zip(("yp", "xp"), shape, pixel_um, strict=True):
        coordinates = centres_um(n * per_pixel, um / per_pixel)
        put(group, name, coordinates, (name,), attrs={"units": "µm"})
    group.attrs.update(
        {
            "slide": specimen.slide,
            "mpp": list(slide.mpp),
            "matrix": found.matrix.tolist(),
            "registration": found.method,
            "origin": list(origin),
        }
    )
    bent = [] if placed.field is None else [hashlib.sha256(placed.field.tobytes()).hexdigest()]
    return {
        "registration": found.record(),
        # what features depend on: not the annotation, not the choice of peaks
        "geometry": digest(
            [identity(specimen.slide), slide.mpp, found.matrix.tolist(), shape, *bent]
        ),
        "matrix": found.matrix.tolist(),
        "mpp": list(slide.mpp),
        "tissue_pixels": int(tissue.sum()),
        "labelled": cancer is not None and bool(np.isfinite(cancer).any()),
    }


def _must_lie_on(tissue: np.ndarray, cancer: np.ndarray | None, specimen: Specimen) -> None:
    """Warn of cancer most of which lies off the tissue that was found."""
    if cancer is None:
        return
    whole, on = (float(np.nansum(some, dtype=float)) for some in (cancer, cancer[tissue]))
    if on < LEAST_ON_TISSUE * whole:
        warnings.warn(
            f"{specimen.annotation}: {on / whole:.0%} of the annotated cancer lies on tissue; check"
            " that the annotation is of this slide, in level-0 pixels (or give annotation_origin),"
            " and check the registration",
            MsiscaleWarning,
            stacklevel=3,
        )


def annotated(specimen: Specimen, slide: Slide) -> tuple[list[Outline] | None, tuple[float, float]]:
    """The outlines of a specimen, None without an annotation, and what QuPath's count from."""
    said = specimen.annotation_origin
    default = said_offset("bounds" if said is None else said, slide)
    if specimen.annotation is None:
        return None, default
    outlines, origin = read_placed(specimen.annotation, slide.shape, offset=said, slide=slide)
    return outlines, default if origin is None else origin


def cancer_on_grid(
    specimen: Specimen,
    slide: Slide,
    placing: Placing,
    shape: tuple[int, int],
    config: RunConfig,
    outlines: Sequence[Outline] | None,
) -> np.ndarray | None:
    """Compute the annotated fraction of every MSI pixel.

    Parameters
    ----------
    specimen
        Whose annotation is read.
    slide
        Its slide.
    placing
        (3, 3) float64, or GridMap: MSI pixel index to level-0 pixels.
    shape
        (y, x) of the MSI grid.
    config
        Says which classes are cancer, and which to leave unknown.
    outlines
        Those of the annotation; None without one.

    Returns
    -------
    numpy.ndarray or None
        (y, x) float32, 0 to 1, NaN where it is unknown; None without an annotation. What was
        assumed is warned of.

    Raises
    ------
    InputError
        No class in the annotation is known to be cancer or not, or nothing in it counts where
        the manifest requires it.
    """
    if outlines is None:
        return None
    chosen = {"cancer": config.cancer_classes, "exclude": config.exclude_classes}
    try:
        found = labels(outlines, placing, shape, **chosen, mpp=slide.mpp)
    except InputError as error:
        raise InputError(f"{specimen.annotation}: {error}") from None
    if specimen.annotation_required and not np.isfinite(found.fraction).any():
        why = found.texts[-1].partition(";")[0] if found.texts else "no annotated region in it"
        raise InputError(
            f"{specimen.annotation}: {why}, and the manifest says annotation_required; mend it, or"
            " leave that column empty to go on without"
        )
    for text in found.texts:
        warnings.warn(f"{specimen.annotation}: {text}", MsiscaleWarning, stacklevel=2)
    return found.fraction
