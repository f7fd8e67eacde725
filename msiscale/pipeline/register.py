"""Slide, landmarks and annotation -> tissue, cancer and a picture of the slide on the MSI grid."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from msiscale import registration
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.features.preview import preview
from msiscale.grid import as_matrix, centres_um, scaling
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.tasks import Task
from msiscale.regridding import regrid
from msiscale.slide.annotations import label_fraction, read_annotation
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.tissue import tissue_mask
from msiscale.slide.working import working
from msiscale.store import at_once, digest, join, open_group, put, write_bytes

PREVIEW_PIXELS = 1600  # on the longer side, at most


def register(run: Run) -> None:
    """``tissue``, ``cancer`` and ``preview`` of every specimen, and ``registration.csv``."""
    config = run.config
    part = config.part("cancer_classes", "exclude_classes")
    keys, peaks = {}, {}

    def known(s: Specimen) -> list[Any]:
        return [identity(f) for f in (s.slide, s.annotation, s.landmarks, s.matrix)]

    asked = list(run.specimens())
    for s, files in zip(asked, at_once(known, asked), strict=True):
        peaks[s.name] = run.upstream("peaks", s)
        keys[s.name] = run.key("register", peaks[s.name]["digest"], files, s.mpp, part)

    def task(specimen: Specimen) -> Task:
        args = (run.cohort_url, specimen, peaks[specimen.name], config)
        return Task(specimen.name, specimen.name, _register, args)

    run.each("register", keys, task)
    write_table(run)


def write_table(run: Run) -> None:
    """``registration.csv``: one row a specimen."""
    rows = []
    for specimen in run.specimens():
        record = run.upstream("register", specimen)
        rows.append({"specimen": specimen.name, **record["registration"]})
        for note in record["notes"]:
            run.say(f"{specimen.name}: {note}")
    text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    write_bytes(join(run.out, "registration.csv"), text.encode())


def locate(
    specimen: Specimen, slide: Slide, shape: tuple[int, int], pixel_um: tuple[float, float]
) -> registration.Registration:
    """The registration that the manifest gives for a specimen."""
    if specimen.matrix:
        return registration.read_matrix(specimen.matrix)
    if specimen.landmarks:
        slide_xy, msi_xy = registration.read_landmarks(specimen.landmarks)
        return registration.fit_landmarks(
            slide_xy, msi_xy, mpp=slide.mpp, pixel_um=pixel_um, source=specimen.landmarks
        )
    raise InputError(
        f"specimen {specimen.name}: no registration; give the manifest column landmarks or matrix"
    )


def _register(
    cohort_url: str, specimen: Specimen, peaks: dict[str, Any], config: RunConfig
) -> dict[str, Any]:
    shape: tuple[int, int] = tuple(peaks["shape"])
    pixel_um: tuple[float, float] = tuple(peaks["pixel_um"])
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MsiscaleWarning)
        found = locate(specimen, slide, shape, pixel_um)
        tissue = tissue_on_grid(slide, found.matrix, shape)
        cancer = cancer_on_grid(specimen, slide, found.matrix, shape, config)
    if not tissue.any():
        raise InputError(
            f"{specimen.slide}: no tissue under the MSI pixels; check the registration of "
            f"{specimen.name} ({specimen.landmarks or specimen.matrix})"
        )
    group = open_group(join(cohort_url, specimen.name), "a")
    put(group, "tissue", tissue, ("y", "x"))
    if cancer is not None:
        put(group, "cancer", cancer, ("y", "x"), attrs={"long_name": "annotated fraction"})
    else:
        put(group, "cancer", np.full(shape, np.nan, np.float32), ("y", "x"))
    per_pixel = max(1, min(16, PREVIEW_PIXELS // max(shape)))
    image = working(slide, max(*pixel_um) / per_pixel)
    put(group, "preview", preview(image, found.matrix, shape, per_pixel), ("yp", "xp", "rgb"))
    for name, n, um in zip(("yp", "xp"), shape, pixel_um, strict=True):
        coordinates = centres_um(n * per_pixel, um / per_pixel)
        put(group, name, coordinates, (name,), attrs={"units": "µm"})
    group.attrs.update(
        {
            "slide": specimen.slide,
            "mpp": list(slide.mpp),
            "matrix": found.matrix.tolist(),
            "registration": found.method,
        }
    )
    return {
        "registration": found.record(),
        # what features depend on: not the annotation, not the choice of peaks
        "geometry": digest([identity(specimen.slide), slide.mpp, found.matrix.tolist(), shape]),
        "matrix": found.matrix.tolist(),
        "mpp": list(slide.mpp),
        "tissue_pixels": int(tissue.sum()),
        "labelled": cancer is not None,
        "notes": [str(w.message) for w in caught if issubclass(w.category, MsiscaleWarning)],
    }


def tissue_on_grid(slide: Slide, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bool (y, x): the MSI pixels that the slide covers with tissue by half or more."""
    mask, (dy, dx) = tissue_mask(slide)
    to_mask = scaling(1 / dx, 1 / dy) @ as_matrix(matrix)
    found = regrid(mask.astype(np.float32), to_mask, shape)
    return np.asarray((found["values"] * found["coverage"]).fillna(0) >= 0.5)


def cancer_on_grid(
    specimen: Specimen,
    slide: Slide,
    matrix: np.ndarray,
    shape: tuple[int, int],
    config: RunConfig,
) -> np.ndarray | None:
    """Float32 (y, x): the annotated fraction of every MSI pixel; None without an annotation."""
    if specimen.annotation is None:
        return None
    regions = read_annotation(specimen.annotation, slide.shape, slide=slide)
    chosen = {"cancer": config.cancer_classes, "exclude": config.exclude_classes}
    try:
        return label_fraction(regions, matrix, shape, **chosen)
    except InputError as error:
        raise InputError(f"{specimen.annotation}: {error}") from None
