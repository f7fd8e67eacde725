"""Open every input of a manifest, compute nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msiscale.biomarkers import read_lipids
from msiscale.cohort import Specimen, read_manifest
from msiscale.config import RunConfig
from msiscale.encoder_names import native_mpp
from msiscale.errors import InputError
from msiscale.grid import PixelSize, scaling
from msiscale.log import hearing
from msiscale.models.incremental import need_dask_ml
from msiscale.notices import Notice
from msiscale.pipeline.axis import given_axis
from msiscale.pipeline.opening import opened
from msiscale.pipeline.placement import given, is_accepted, not_there, sizes_of
from msiscale.pipeline.plausible import coarser_than_trained, odd_extent
from msiscale.pipeline.recalibration import given_masses
from msiscale.pipeline.register import annotated, cancer_on_grid
from msiscale.pipeline.twins import twins
from msiscale.pipeline.understood import Understood
from msiscale.slide.reader import check as check_slide
from msiscale.slide.reader import open_reader
from msiscale.slide.working import as_asked
from msiscale.work import reason

OF_MACHINE = ("encoder", "pca")  # options that need what may not be installed


@dataclass
class Checked:
    """What cannot be used, one line each, what can but should be known, and what was understood.

    ``of_machine`` is true where a problem may be of this machine and not of the files.
    """

    problems: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    understood: list[Understood] = field(default_factory=list)
    of_machine: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``problems``, ``notices`` (rows of ``notices.csv``), ``specimens``, …"""
        return {
            "problems": self.problems,
            "notices": [notice.row() for notice in self.notices],
            "of_machine": self.of_machine,
            "specimens": [each.as_dict() for each in self.understood],
        }


def check(manifest: str, config: RunConfig) -> Checked:
    """Look at headers, three spectra, landmarks, outlines and a patch of each slide."""
    from msiscale.features.encoders import load_encoders  # torch takes seconds

    def encoder() -> None:
        mpp = config.mpp or native_mpp(config.encoder)
        found = load_encoders(config.encoder_in_full, config.weights, mpp=mpp)
        for text in coarser_than_trained(found, mpp):
            checked.notices.append(Notice("", "", "mpp", text))

    cohort = read_manifest(manifest)
    same = twins(cohort)
    checked = Checked([*cohort.problems.values(), *same.problems], [*same.notices])
    for name, load in (
        ("encoder", encoder),
        ("axis", lambda: given_axis(config)),
        ("pca", lambda: need_dask_ml() if config.pca == "incremental" else None),
        ("recalibrate", lambda: config.recalibrate and given_masses(config)),
        ("lipids", lambda: config.lipids and read_lipids(config.lipids)),
    ):
        try:
            with hearing(partial(_of_option, checked, name)):
                load()
        except (InputError, OSError) as error:
            checked.problems.append(f"{name}: {reason(error)}")
            checked.of_machine |= name in OF_MACHINE
    unknown = not_there(config, cohort)
    checked.problems.extend([unknown] if unknown else [])
    for specimen in cohort:
        checked.understood.append(Understood.of(specimen, accepted=is_accepted(specimen, config)))
        found, texts = _check(specimen, config, checked.understood[-1])
        checked.problems.extend(f"{specimen.name}: {line}" for line in found)
        checked.notices.extend(Notice.of(specimen, text) for text in texts)
    return checked


def _of_option(checked: Checked, name: str, text: str) -> None:
    checked.notices.append(Notice("", "", name, text))


def _check(
    specimen: Specimen, config: RunConfig, understood: Understood
) -> tuple[list[str], list[str]]:
    """Problems and warnings of a specimen, which begin with their file."""
    found: list[str] = []
    warned: dict[str, None] = {}
    with hearing(warned.setdefault):
        shape, pixel_um, spectra = (1, 1), None, 1
        try:
            source = opened(specimen, config)
            shape, pixel_um, spectra = source.shape, source.pixel_um, len(source.positions)
            warned |= dict.fromkeys(f"{specimen.msi}: {note}" for note in source.notes)
            if pixel_um is None:
                found.append(f"{specimen.msi}: {source.unknown_size}")
            understood.take_msi(source, specimen)
        except Exception as error:
            found.append(reason(error))
        try:
            slide = open_reader(specimen.slide, mpp=specimen.mpp)
            check_slide(slide)
            understood.take_slide(slide, specimen)
            outlines, _ = annotated(specimen, slide)
            if outlines is not None:
                understood.take_annotation(outlines, slide.mpp, config)
            if config.mpp is not None:  # else it is not finer than any slide
                as_asked(slide, config.mpp)
            if pixel_um is not None:
                size = PixelSize.of(pixel_um)
                odd = odd_extent(slide, shape, size, spectra)
                warned |= {} if odd is None else {odd: None}
                if specimen.landmarks or specimen.matrix:
                    matrix = given(specimen, slide, sizes_of(slide, size, shape)).matrix
                else:  # found when it runs; anywhere will do to read the annotation
                    matrix = scaling(size.x / slide.mpp.x, size.y / slide.mpp.y)
                cancer_on_grid(specimen, slide, matrix, shape, config, outlines)
        except Exception as error:
            found.append(reason(error))
    return found, [*warned]
