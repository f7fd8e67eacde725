"""Registration of a specimen from its cube and its slide, and what a given one leaves over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale import registration
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.grid import Floats, PixelSize, apply
from msiscale.pipeline.pictures import msi_picture, slide_picture
from msiscale.pipeline.plausible import extent_mm, in_mm
from msiscale.registration import Alignment, Deformation, Pair, Registration
from msiscale.registration.automatic import LEAST_OVERLAP, MOST_SCALE
from msiscale.slide.reader import Slide
from msiscale.store import join, put, write_bytes
from msiscale.threads import one_blas_thread

FIGURE = "figures/placement_{}.png"
MOST_GIVEN = 1.25  # of the scale of a given registration against the pixel sizes, or its inverse


def is_automatic(specimen: Specimen, config: RunConfig) -> bool:
    """Whether the specimen is registered from its images."""
    return config.registration == "auto" or not (specimen.landmarks or specimen.matrix)


def needs_cube(specimen: Specimen, config: RunConfig) -> bool:
    """Whether registration looks at the MSI itself."""
    return is_automatic(specimen, config) or config.refine != "none"


def given(specimen: Specimen, mpp: PixelSize, pixel_um: PixelSize) -> Registration:
    """The registration that the manifest gives for a specimen; its scale is that of the pixels."""
    if specimen.matrix:
        found = registration.read_matrix(specimen.matrix)
    elif specimen.landmarks:
        slide_xy, msi_xy = registration.read_landmarks(specimen.landmarks)
        found = registration.fit_landmarks(
            slide_xy, msi_xy, mpp=mpp, pixel_um=pixel_um, source=specimen.landmarks
        )
    else:
        raise InputError(
            f"specimen {specimen.name}: no registration; give the manifest column landmarks or"
            " matrix"
        )
    scale = float(np.sqrt(abs(np.linalg.det(found.matrix[:2, :2])) * mpp.area / pixel_um.area))
    if not 1 / MOST_GIVEN <= scale <= MOST_GIVEN:
        raise InputError(
            f"{specimen.matrix or specimen.landmarks}: it contradicts the pixel sizes:"
            f" {_two_scales(mpp, scale)}; give the right one in the manifest column mpp, or the"
            " registration in level-0 pixels of the slide and indices of the MSI"
        )
    return found


def _two_scales(mpp: PixelSize, scale: float) -> str:
    """What is stated, and what would make `scale` (stated µm of the slide to a µm of the MSI) 1."""
    return (
        f"{mpp.side:.3g} µm a slide pixel are stated, the MSI would need about"
        f" {mpp.side / scale:.3g}"
    )


@dataclass(frozen=True, eq=False)
class Placed:
    """How an MSI lies on its slide, what is left over, and what was odd."""

    registration: Registration
    deformation: Deformation | None = None
    field: NDArray[np.float32] | None = None  # of an accepted deformation, at every MSI pixel
    notes: tuple[str, ...] = ()


def place(
    out: str, group: zarr.Group, specimen: Specimen, slide: Slide, config: RunConfig
) -> Placed:
    """Register a specimen by its images, or as given, and measure what misfit is left.

    Writes ``figures/placement_<specimen>.png`` for an automatic one, believed or not.

    Returns
    -------
    Placed
        The registration with its notes.

    Raises
    ------
    InputError
        The registration cannot be believed; ``placement`` in the group's attributes has the
        figures.
    """
    pixel_um = PixelSize.of(group.attrs["pixel_um"])
    msi = msi_picture(group, pixel_um)
    picture, to_slide, rgb = slide_picture(slide, pixel_um)
    with one_blas_thread():
        if not is_automatic(specimen, config):
            known = given(specimen, slide.mpp, pixel_um)
            pair, to_msi = registration.working_pair(msi, picture)
            matrix = np.linalg.inv(to_slide) @ known.matrix @ np.linalg.inv(msi.to_um) @ to_msi
            return _deformed(Placed(known), pair, matrix, msi, config)
        try:
            _must_fit(msi, slide)
            found = registration.register_pictures(msi, picture)
        except ValueError as error:
            group.attrs["placement"] = {"method": "automatic", "why": str(error)}
            raise InputError(_refusal(specimen, str(error))) from None
        known = _as_registration(found, to_slide @ found.matrix)
        known = _compared(known, specimen, slide.mpp, pixel_um, msi.counts)
        placed = Placed(known)
        if found.accepted:
            placed = _deformed(placed, found.pair, found.pose.matrix, msi, config)
    why = "; ".join(found.why)
    if found.why and found.clear and abs(found.scale - 1) > MOST_SCALE / 2:
        why += f": {_two_scales(slide.mpp, found.scale)}; {_CORRECT}"
    from msiscale.report.registration_figure import placement_figure  # matplotlib

    figure = placement_figure(specimen.name, found, rgb, picture.pixel_um, placed.deformation)
    write_bytes(join(out, FIGURE.format(specimen.name)), figure)
    group.attrs["placement"] = {
        **{k: v for k, v in known.record().items() if v == v},
        "why": why,
    }
    if not found.accepted:
        seen = f" (see {FIGURE.format(specimen.name)})"
        raise InputError(_refusal(specimen, why) + seen)
    return placed


def refused_row(group: zarr.Group) -> dict[str, Any]:
    """The row of ``registration.csv`` of a specimen whose registration was refused."""
    facts = group.attrs.get("placement")
    assert isinstance(facts, dict)
    return {**facts, "refused": 1}


def _must_fit(msi: registration.Picture, slide: Slide) -> None:
    """Raise ValueError where half of the MSI cannot lie on the slide, whatever they show."""
    own = slide.shape[0] * slide.shape[1] * slide.mpp.area
    area = int(msi.counts.sum()) * msi.pixel_um.area
    if own >= LEAST_OVERLAP * area:
        return
    rows, columns = (int(np.ptp(n)) + 1 for n in np.nonzero(msi.counts))
    needed = float(np.sqrt(own / (rows * columns * msi.pixel_um.area)))  # if it shows all of it
    sizes = in_mm(extent_mm(slide.shape, slide.mpp))
    measured = in_mm(extent_mm((rows, columns), msi.pixel_um))
    raise ValueError(
        f"the slide, {sizes} mm, is too small for the MSI, {measured} mm:"
        f" {_two_scales(slide.mpp, needed)} or more; {_CORRECT}"
    )


REFUSED = "automatic registration refused"
_CORRECT = "give the right one in the manifest column mpp"


def _refusal(specimen: Specimen, why: str) -> str:
    if why.endswith(_CORRECT):
        return f"{specimen.slide}: {REFUSED} for {specimen.name}: {why}"
    remedy = (
        "--registration given uses what the manifest gives"
        if specimen.landmarks or specimen.matrix
        else "place it by hand with msiscale place, or give the manifest column landmarks or matrix"
    )
    return f"{specimen.slide}: {REFUSED} for {specimen.name}: {why}; {remedy}"


def _as_registration(found: Alignment, matrix: Floats) -> Registration:
    return Registration(
        matrix,
        "automatic",
        confidence=found.confidence,
        z=found.z,
        overlap=found.overlap,
        dice=found.dice,
    )


def _compared(
    known: Registration,
    specimen: Specimen,
    mpp: PixelSize,
    pixel_um: PixelSize,
    measured: NDArray[np.bool_],
) -> Registration:
    """With its distance from the landmarks, or from the matrix over the measured pixels."""
    if specimen.landmarks:
        slide_xy, msi_xy = registration.read_landmarks(specimen.landmarks)
    elif specimen.matrix:
        msi_xy = np.argwhere(measured)[:, ::-1].astype(np.float64)
        slide_xy = apply(registration.read_matrix(specimen.matrix).matrix, msi_xy)
    else:
        return known
    miss = (apply(known.matrix, msi_xy) - slide_xy) * [mpp[1], mpp[0]]
    error = float(np.sqrt((miss**2).sum(axis=1).mean()))
    size = float(np.sqrt(pixel_um[0] * pixel_um[1]))
    return replace(known, landmarks=len(slide_xy), error_um=error, error_px=error / size)


def _deformed(
    placed: Placed, pair: Pair, matrix: Floats, msi: registration.Picture, config: RunConfig
) -> Placed:
    """With the deformation that is left over, where it was asked for."""
    if config.refine == "none":
        return placed
    left = registration.deform(pair, matrix)
    if not left.accepted:
        note = f"no deformation beyond the affine map is kept: {'; '.join(left.why)}"
        return replace(placed, deformation=left, notes=(note,))
    field = registration.field_at(left, pair, msi)
    known = replace(placed.registration, deformation_px=left.rms_px)
    return replace(placed, registration=known, deformation=left, field=field)


def put_deformation(group: zarr.Group, placed: Placed) -> None:
    """``deformation`` (y, x, xy) in µm, in the frame of the MSI, before the affine map."""
    if placed.field is not None:
        says = {"units": "µm", "long_name": "displacement along x and y before the affine map"}
        put(group, "deformation", placed.field, ("y", "x", "xy"), attrs=says)
    elif "deformation" in group:
        del group["deformation"]
