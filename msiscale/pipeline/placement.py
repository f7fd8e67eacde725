"""Registration of a specimen from its cube and its slide, and what a given one leaves over."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale import registration
from msiscale.cohort import Cohort, Specimen
from msiscale.config import RunConfig
from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.grid import Floats, PixelSize, apply
from msiscale.pipeline.pictures import msi_picture, slide_picture
from msiscale.pipeline.plausible import extent_mm, in_mm
from msiscale.placing import Placing, places
from msiscale.registration import Alignment, Deformation, Pair, Registration
from msiscale.registration.automatic import LEAST_OVERLAP
from msiscale.registration.scale import (
    MOST_SCALE,
    Sizes,
    contradiction,
    exchanged_axes,
    nearly,
    scale_error,
    two_scales,
)
from msiscale.slide.origin import found_offset, said_offset
from msiscale.slide.reader import Slide
from msiscale.store import DEFORMATION, bent, join, put, write_bytes
from msiscale.threads import one_blas_thread

FIGURE = "figures/placement_{}.png"


def is_automatic(specimen: Specimen, config: RunConfig) -> bool:
    """Whether the specimen is registered from its images."""
    return config.registration == "auto" or not (specimen.landmarks or specimen.matrix)


def is_accepted(specimen: Specimen, config: RunConfig) -> bool:
    """Whether somebody has looked at its automatic registration and takes it, refused or not."""
    return specimen.registration == "accept" or specimen.name in config.accept


def not_there(config: RunConfig, cohort: Cohort) -> str | None:
    """What is wrong with the names that are to be accepted; None where all are in the manifest."""
    names = {*cohort.patients, *cohort.problems}
    unknown = [name for name in config.accept if name not in names]
    if not unknown:
        return None
    return f"--accept {unknown[0]}: {cohort.path} has no such specimen; correct the name"


def needs_cube(specimen: Specimen, config: RunConfig) -> bool:
    """Whether registration looks at the MSI itself."""
    return is_automatic(specimen, config) or config.refine != "none"


def landmarks(specimen: Specimen, slide: Slide) -> tuple[Floats, Floats]:
    """Landmarks (x, y) in level-0 pixels of the slide, wherever they count from, and of the MSI."""
    path = str(specimen.landmarks)
    slide_xy, msi_xy = registration.read_landmarks(path)
    if specimen.annotation_origin is not None:
        origin = said_offset(specimen.annotation_origin, slide)
    else:
        origin, text = found_offset(slide_xy, slide, "landmarks")
        if text is not None:
            warnings.warn(f"{path}: {text}", MsiscaleWarning, stacklevel=2)
    return slide_xy + origin, msi_xy


def given(specimen: Specimen, slide: Slide, sizes: Sizes) -> Registration:
    """The registration that the manifest gives for a specimen; its scale is that of the pixels."""
    mpp, pixel_um, error = sizes.mpp, sizes.pixel_um, 0.0
    if specimen.matrix:
        found = registration.read_matrix(specimen.matrix)
    elif specimen.landmarks:
        slide_xy, msi_xy = landmarks(specimen, slide)
        found = registration.fit_landmarks(
            slide_xy, msi_xy, mpp=mpp, pixel_um=pixel_um, source=specimen.landmarks
        )
        error = scale_error(msi_xy, found.residual_um, pixel_um)
        exchanged = exchanged_axes(slide_xy, msi_xy, sizes)
        if exchanged:
            raise InputError(f"{specimen.landmarks}: {exchanged}")
    else:
        raise InputError(
            f"specimen {specimen.name}: no registration; give the manifest column landmarks or"
            " matrix"
        )
    file = specimen.matrix or specimen.landmarks
    wrong = contradiction(found.matrix, sizes, MOST_SCALE + 2 * error)
    if wrong:
        raise InputError(f"{file}: {wrong}")
    odd = nearly(found.matrix, sizes, error)
    if odd:
        warnings.warn(f"{file}: {odd}", MsiscaleWarning, stacklevel=2)
    return found


def sizes_of(slide: Slide, pixel_um: PixelSize, msi: tuple[int, int]) -> Sizes:
    """What a given registration is held against; `msi` is the shape of the grid."""
    return Sizes(slide.mpp, pixel_um, (slide.shape[0], slide.shape[1]), msi)


@dataclass(frozen=True, eq=False)
class Placed:
    """How an MSI lies on its slide, what is left over, and what was odd."""

    registration: Registration
    deformation: Deformation | None = None
    field: NDArray[np.float32] | None = None  # of an accepted deformation, at corners of MSI pixels
    notes: tuple[str, ...] = ()

    def placing(self, pixel_um: PixelSize) -> Placing:
        """How MSI pixels, of a size in µm, lie on the slide: with the deformation that is kept."""
        matrix = self.registration.matrix
        return matrix if self.field is None else bent(matrix, self.field, pixel_um)


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
            known = given(specimen, slide, sizes_of(slide, pixel_um, msi.shape))
            pair, to_msi = registration.working_pair(msi, picture)
            matrix = np.linalg.inv(to_slide) @ known.matrix @ np.linalg.inv(msi.to_um) @ to_msi
            placed = _deformed(Placed(known), pair, matrix, msi, config)
            return _held(placed, specimen, slide, pixel_um, msi.counts)
        try:
            _must_fit(msi, slide)
            found = registration.register_pictures(msi, picture)
        except ValueError as error:
            group.attrs["placement"] = {"method": "automatic", "why": str(error)}
            raise InputError(_refusal(specimen, str(error), found=False)) from None
        known = _as_registration(found, to_slide @ found.matrix)
        known = _compared(known, specimen, slide, pixel_um, msi.counts)
        by_hand = bool(found.why) and is_accepted(specimen, config)
        if by_hand:
            known = replace(known, method=BY_HAND)
        placed = Placed(known)
        if found.accepted or by_hand:
            placed = _deformed(placed, found.pair, found.pose.matrix, msi, config)
            placed = _held(placed, specimen, slide, pixel_um, msi.counts)
    seen = FIGURE.format(specimen.name)
    why = "; ".join(found.why)
    if found.why and found.clear and abs(found.scale - 1) > MOST_SCALE / 2:
        why += f": {two_scales(slide.mpp, found.scale)}; {_CORRECT}"
    from msiscale.report.registration_figure import placement_figure  # matplotlib

    figure = placement_figure(
        specimen.name, found, rgb, picture.pixel_um, placed.deformation, by_hand=by_hand
    )
    write_bytes(join(out, seen), figure)
    group.attrs["placement"] = {
        **{k: v for k, v in known.record().items() if v == v},
        "why": why,
    }
    if found.why and not by_hand:
        raise InputError(f"{_refusal(specimen, why)} (see {seen})")
    notes = [f"{specimen.slide}: {odd}; look at {seen}" for odd in found.odd]
    if by_hand:
        notes.append(f"{specimen.slide}: accepted by hand, though {why}; look again at {seen}")
    return replace(placed, notes=(*placed.notes, *notes))


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
        f" {two_scales(slide.mpp, needed)} or more; {_CORRECT}"
    )


REFUSED = "automatic registration refused"
BY_HAND = "automatic, accepted by hand"
_CORRECT = "give the right one in the manifest column mpp"


def _refusal(specimen: Specimen, why: str, *, found: bool = True) -> str:
    """The line of a refusal; `found`: a place that may be taken all the same."""
    if why.endswith(_CORRECT):
        return f"{specimen.slide}: {REFUSED} for {specimen.name}: {why}"
    remedy = (
        "--registration given uses what the manifest gives"
        if specimen.landmarks or specimen.matrix
        else "place it by hand with msiscale place, or give the manifest column landmarks or matrix"
    )
    accept = f", or --accept {specimen.name} if its figure shows that the place is right"
    return f"{specimen.slide}: {REFUSED} for {specimen.name}: {why}; {remedy}{accept * found}"


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
    slide: Slide,
    pixel_um: PixelSize,
    measured: NDArray[np.bool_],
) -> Registration:
    """With its distance from the landmarks, or from the matrix over the measured pixels."""
    points, error = _error_um(known.matrix, specimen, slide, measured)
    if not points:
        return known
    return replace(known, landmarks=points, error_um=error, error_px=error / pixel_um.side)


def _held(
    placed: Placed,
    specimen: Specimen,
    slide: Slide,
    pixel_um: PixelSize,
    measured: NDArray[np.bool_],
) -> Placed:
    """With a note of that distance before and after, where a deformation is kept."""
    if placed.field is None:
        return placed
    both = placed.registration.matrix, placed.placing(pixel_um)
    before, after = (_error_um(p, specimen, slide, measured)[1] / pixel_um.side for p in both)
    note = (
        f"{NOTE}a deformation of {placed.registration.deformation_px:.2f} MSI pixels (root mean"
        " square) beyond the affine map is used"
    )
    if np.isfinite(after):
        given = "landmarks" if specimen.landmarks else "given matrix"
        note += (
            f"; the distance from the {given} is {before:.2f} MSI pixels before it and"
            f" {after:.2f} after it"
        )
    return replace(placed, notes=(*placed.notes, note))


def _error_um(
    placing: Placing, specimen: Specimen, slide: Slide, measured: NDArray[np.bool_]
) -> tuple[int, float]:
    """How many points are given, and their root mean square distance; NaN without any."""
    if specimen.landmarks:
        slide_xy, msi_xy = landmarks(specimen, slide)
    elif specimen.matrix:
        msi_xy = np.argwhere(measured)[:, ::-1].astype(np.float64)
        slide_xy = apply(registration.read_matrix(specimen.matrix).matrix, msi_xy)
    else:
        return 0, float("nan")
    miss = (places(placing, msi_xy) - slide_xy) * [slide.mpp.x, slide.mpp.y]
    return len(slide_xy), float(np.sqrt((miss**2).sum(axis=1).mean()))


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
    field = left.spline.at_corners(msi.shape, msi.pixel_um)
    known = replace(placed.registration, deformation_px=left.rms_px)
    return replace(placed, registration=known, deformation=left, field=field)


def put_deformation(group: zarr.Group, placed: Placed) -> None:
    """`DEFORMATION` at corners of pixels: µm in the frame of the MSI, before the affine map."""
    if placed.field is not None:
        says = {"units": "µm", "long_name": "displacement along x and y before the affine map"}
        put(group, DEFORMATION, placed.field, ("corner_y", "corner_x", "xy"), attrs=says)
    elif DEFORMATION in group:
        del group[DEFORMATION]
