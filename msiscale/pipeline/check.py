"""Open every input of a manifest, compute nothing."""

from __future__ import annotations

import warnings

from msiscale import msi
from msiscale.biomarkers import read_lipids
from msiscale.cohort import Specimen, read_manifest
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import PixelSize, scaling
from msiscale.models.incremental import need_dask_ml
from msiscale.pipeline.axis import given_axis
from msiscale.pipeline.placement import given
from msiscale.pipeline.recalibration import given_masses
from msiscale.pipeline.register import cancer_on_grid
from msiscale.slide.reader import check as check_slide
from msiscale.slide.reader import open_reader
from msiscale.work import reason


def check(manifest: str, config: RunConfig) -> list[str]:
    """List problems: of headers, landmarks, outlines and a patch of each slide; not of spectra."""
    from msiscale.features.encoders import load_encoders  # torch takes seconds

    cohort = read_manifest(manifest)
    problems = list(cohort.problems.values())
    for name, load in (
        ("encoder", lambda: load_encoders(config.encoder, config.weights)),
        ("axis", lambda: given_axis(config)),
        ("pca", lambda: need_dask_ml() if config.pca == "incremental" else None),
        ("recalibrate", lambda: config.recalibrate and given_masses(config)),
        ("lipids", lambda: config.lipids and read_lipids(config.lipids)),
    ):
        try:
            load()
        except (InputError, OSError) as error:
            problems.append(f"{name}: {reason(error)}")
    for specimen in cohort:
        problems += [f"{specimen.name}: {line}" for line in _check(specimen, config)]
    return problems


def _check(specimen: Specimen, config: RunConfig) -> list[str]:
    found: list[str] = []
    shape, pixel_um = (1, 1), None
    try:
        source = msi.open_source(specimen.msi, pixel_um=specimen.pixel_um)
        shape, pixel_um = source.shape, source.pixel_um
        if pixel_um is None:
            found.append(f"{specimen.msi}: no pixel size; give the manifest column pixel_um")
    except Exception as error:
        found.append(reason(error))
    try:
        slide = open_reader(specimen.slide, mpp=specimen.mpp)
        check_slide(slide)
        if pixel_um is not None:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", MsiscaleWarning)
                if specimen.landmarks or specimen.matrix:
                    matrix = given(specimen, slide.mpp, PixelSize.of(pixel_um)).matrix
                else:  # found when it runs; anywhere will do to read the annotation
                    matrix = scaling(pixel_um[1] / slide.mpp[1], pixel_um[0] / slide.mpp[0])
                cancer_on_grid(specimen, slide, matrix, shape, config)
            found += [str(w.message) for w in caught if issubclass(w.category, MsiscaleWarning)]
    except Exception as error:
        found.append(reason(error))
    return found
