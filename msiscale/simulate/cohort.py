"""A cohort of phantom specimens: seeds in, files with known truth out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import Floats, PixelSize, apply, scaling, translation
from msiscale.simulate import drawn, write
from msiscale.simulate.chemistry import Chemistry, Instrument, design, measure
from msiscale.simulate.tissue import Section, grow, mean_of_cells, outlines
from msiscale.store import write_csv, write_json

if TYPE_CHECKING:
    from msiscale.slide.reader import Slide

FORMS = ("qupath", "imagescope", "asap", "qupath-list", "painted")
"""Forms of annotation, in the order in which the specimens take them."""

CLASS, IGNORED = "Tumor", "Ignore*"
COLUMNS = ("specimen", "patient", "msi", "slide", "annotation", "landmarks", "matrix", "mpp")
_LANDMARK_NOISE = 0.12  # MSI pixels, sd in x and y
_SALT = {"chemistry": 1, "patient": 2, "tissue": 3, "frame": 4, "picture": 5, "msi": 6, "labels": 7}


@dataclass(frozen=True)
class PhantomPlan:
    """What is to be simulated; the same plan gives the same bytes."""

    seed: int
    pixels: tuple[int, int] | None
    pixel_um: float
    mpp: float
    slides: tuple[str, ...]
    slide_mpp: float | None
    lipids: int
    effect: float
    tumour: bool
    instrument: Instrument
    forms: tuple[str, ...]

    def rng(self, purpose: str, index: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, _SALT[purpose], index])


def simulate(
    directory: str | os.PathLike[str],
    *,
    specimens: int | None = None,
    seed: int = 0,
    pixels: tuple[int, int] | None = None,
    pixel_um: float | None = None,
    mpp: float = 1.0,
    slide: str | Sequence[str] | None = None,
    slide_mpp: float | None = None,
    patients: int | None = None,
    lipids: int = 100,
    effect: float = 3.0,
    null: bool = False,
    instrument: Instrument | None = None,
    annotations: Sequence[str] = FORMS,
    workers: int = 1,
) -> str:
    """Write a cohort of paired MSI and H&E whose truth is known.

    Each specimen is an imzML of every pixel of a rectangle, an H&E slide in another frame (turned
    by any angle, mirrored in some, stretched by up to 2 %), an annotation (the forms alternate),
    and landmarks or, for every fourth, the matrix. ``truth/`` holds the matrix, the planted
    lipids, and the fraction of every MSI pixel that each compartment covers. The same arguments
    give the same bytes.

    Parameters
    ----------
    directory : str or path
        Where to; made if need be.
    specimens : int, optional
        How many; default 6, or one a slide.
    seed : int
        Another one makes another cohort.
    pixels : (int, int), optional
        Rows and columns of the MSI; default (40, 44), or what the tissue of a real slide needs.
    pixel_um : float, optional
        µm an MSI pixel; default 100, or 50 on a real slide (these are often small).
    mpp : float
        µm per pixel of the slides that are drawn.
    slide : str or sequence of str, optional
        Real slides: only the MSI and the annotation are simulated, on the tissue that they show.
        The manifest points at them where they are. Specimens beyond their number take them again.
    slide_mpp : float, optional
        µm per pixel of those slides; needed where the file has none.
    patients : int, optional
        Of how many patients; default one a specimen.
    lipids : int
        Lipid ions, at most.
    effect : float
        Times by which the two biomarkers are higher in tumour than in benign epithelium.
    null : bool
        Make the annotated region a place like any other, in morphology and chemistry.
    instrument : Instrument, optional
        Errors of the measurement and differences between specimens.
    annotations : sequence of str
        Forms of annotation, out of `FORMS`, in turn.
    workers : int
        Processes to use.

    Returns
    -------
    str
        Path of ``manifest.csv``.

    Raises
    ------
    InputError
        An option out of range, or a slide that cannot be used.
    """
    slides = (slide,) if isinstance(slide, str) else tuple(slide or ())
    count = specimens if specimens is not None else (len(slides) or 6)
    plan = PhantomPlan(
        seed=seed,
        pixels=None if pixels is None else (int(pixels[0]), int(pixels[1])),
        pixel_um=pixel_um if pixel_um is not None else (50.0 if slides else 100.0),
        mpp=mpp,
        slides=slides,
        slide_mpp=slide_mpp,
        lipids=lipids,
        effect=effect,
        tumour=not null,
        instrument=instrument or Instrument(),
        forms=tuple(annotations),
    )
    _check(plan, count, patients, workers)
    folder = Path(directory)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    chemistry = design(plan.rng("chemistry"), lipids=lipids, effect=effect)
    jobs = [(plan, chemistry, folder, i, i % (patients or count)) for i in range(count)]
    if workers == 1 or count == 1:
        rows = [_specimen(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(min(workers, count), mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(_specimen, *zip(*jobs, strict=True)))
    manifest = str(folder / "manifest.csv")
    write_csv(manifest, rows, [c for c in COLUMNS if any(row.get(c) for row in rows)])
    return manifest


def _check(plan: PhantomPlan, count: int, patients: int | None, workers: int) -> None:
    def need(good: bool, option: str, value: object, remedy: str) -> None:
        if not good:
            raise InputError(f"simulate: {option} = {value!r}; {remedy}")

    need(count >= 1, "specimens", count, "give 1 or more")
    need(workers >= 1, "workers", workers, "give 1 or more")
    need(plan.seed >= 0, "seed", plan.seed, "give 0 or more")
    need(patients is None or 1 <= patients <= count, "patients", patients, "give 1 to specimens")
    need(plan.pixels is None or min(plan.pixels) >= 8, "pixels", plan.pixels, "give 8 or more")
    need(0 < plan.pixel_um < 1e4, "pixel_um", plan.pixel_um, "give µm above 0")
    need(0 < plan.mpp <= plan.pixel_um, "mpp", plan.mpp, "give µm above 0, at most pixel_um")
    need(plan.lipids >= 2, "lipids", plan.lipids, "give 2 or more")
    need(plan.effect > 0, "effect", plan.effect, "give a factor above 0")
    for form in plan.forms:
        need(form in FORMS, "annotations", form, f"use {', '.join(FORMS)}")
    need(bool(plan.forms), "annotations", plan.forms, f"use {', '.join(FORMS)}")


def _specimen(
    plan: PhantomPlan, chemistry: Chemistry, folder: Path, index: int, patient: int
) -> dict[str, str]:
    """Write one specimen; its row of the manifest."""
    name = f"S{index + 1:02d}"
    row = {"specimen": name, "patient": f"P{patient + 1:02d}", "msi": f"{name}.imzML"}
    form = plan.forms[index % len(plan.forms)]
    if plan.slides:
        section, matrix, pixels, shape, mpp, image = _on_slide(plan, index)
        row["slide"] = os.path.abspath(plan.slides[index % len(plan.slides)])
        row["mpp"] = "" if plan.slide_mpp is None else repr(float(mpp))
    else:
        row["slide"] = f"{name}.tiff"
        section, matrix, pixels, shape, image = _drawn(plan, folder / row["slide"], index)
        mpp = plan.mpp
    to_slide = _um_to_slide(matrix, plan.pixel_um)
    rng = plan.rng("labels", index)
    rings = [(CLASS, apply(to_slide, ring)) for ring in outlines(section.cancer, section.step_um)]
    if form in ("asap", "qupath-list") and index < len(FORMS):
        rings.append((IGNORED, apply(to_slide, _doubtful(rng, section))))
    drawing = drawn.Drawing(tuple(rings), mpp)
    if form == "painted":
        row["annotation"] = f"{name}_annotation.png"
        drawn.painted(folder / row["annotation"], drawing, image, shape)
    else:
        ending, writer = drawn.WRITERS[form]
        row["annotation"] = f"{name}_annotation{ending}"
        writer(folder / row["annotation"], drawing)
    maps = fractions(section, pixels)
    if index % 4 == 3:
        row["matrix"] = f"{name}_matrix.json"
        write_json(str(folder / row["matrix"]), {"matrix": matrix.tolist()})
    else:
        row["landmarks"] = f"{name}_landmarks.csv"
        points = _landmarks(rng, maps["tissue"])
        write.write_landmarks(folder / row["landmarks"], rng, matrix, points, _LANDMARK_NOISE)
    seed = (plan.seed, _SALT["msi"], index)
    measurement = measure(seed, chemistry, maps, plan.instrument, tumour=plan.tumour)
    identity = uuid.UUID(bytes=np.random.default_rng([*seed, 2]).bytes(16), version=4)
    write.write_imzml(folder / row["msi"], measurement, plan.pixel_um, identity)
    write.write_fractions(str(folder / "truth" / f"{name}.zarr"), maps, plan.pixel_um)
    write_json(str(folder / "truth" / f"{name}.json"), _truth(chemistry, matrix, plan))
    return row


def fractions(section: Section, pixels: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """Share, float32 (y, x), of each MSI pixel that each compartment covers."""
    layers: dict[str, NDArray[Any]] = {
        "tissue": section.tissue,
        "cancer": section.cancer,
        "gland": section.epithelium | section.lumen,
        "epithelium": section.epithelium & ~section.cancer,  # of benign glands
        "tumour_epithelium": section.epithelium & section.cancer,
        "lumen": section.lumen,
        "stroma": section.tissue & ~section.epithelium & ~section.lumen,
        "nuclei": section.nuclei,
        "immune": section.immune,
    }
    return {name: mean_of_cells(layer, pixels) for name, layer in layers.items()}


def _frame(plan: PhantomPlan, index: int, mpp: PixelSize) -> Floats:
    """A random linear map (2x2) from MSI pixels to slide pixels."""
    rng = plan.rng("frame", index)
    angle = rng.uniform(-np.pi, np.pi)
    if (index + plan.seed) % 3 == 1:  # a slide that was only laid down another way round
        angle = np.pi / 2 * float(rng.integers(0, 4))
    stretch = plan.pixel_um * rng.uniform(0.98, 1.02, 2)
    if (index + plan.seed) % 2 == 1:
        stretch[0] *= -1
    cos, sin = np.round([np.cos(angle), np.sin(angle)], 12)  # a quarter turn is exact
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(np.diag([1 / mpp.x, 1 / mpp.y]) @ turn @ np.diag(stretch))


def _um_to_slide(matrix: Floats, pixel_um: float) -> Floats:
    """From µm of the section, whose corner is that of MSI pixel (0, 0), to level-0 pixels."""
    return matrix @ translation(-0.5, -0.5) @ scaling(1 / pixel_um)


def _drawn(
    plan: PhantomPlan, path: Path, index: int
) -> tuple[Section, Floats, tuple[int, int], tuple[int, int], NDArray[np.uint8]]:
    """Grow a section, draw its slide: section, matrix, pixels, shape of the slide, small image."""
    from msiscale.simulate.render import bands, scanner

    pixels = plan.pixels or (40, 44)
    section, stain = grow(plan.rng("tissue", index), pixels, plan.pixel_um, tumour=plan.tumour)
    rng = plan.rng("picture", index)
    matrix = np.eye(3)
    matrix[:2, :2] = _frame(plan, index, PixelSize.of(plan.mpp))
    row, column = np.nonzero(section.tissue[::4, ::4])
    own = (np.column_stack([column, row]) * 4 + 0.5) * section.step_um
    spread = apply(_um_to_slide(matrix, plan.pixel_um), own)
    low, high = spread.min(axis=0), spread.max(axis=0)
    margins = rng.uniform(150, 500, (2, 2)) / plan.mpp
    matrix[:2, 2] = margins[0] - low
    # whole in every level of the pyramid, so that all levels cover the same field
    width, height = (np.ceil((high - low + margins.sum(axis=0)) / 64) * 64).astype(int)
    shape = int(height), int(width)
    to_slide = _um_to_slide(matrix, plan.pixel_um)
    rows = bands(section, stain, to_slide, shape, plan.mpp, scanner(rng), rng, rows=write.TILE)
    image = write.write_slide(path, rows, shape, plan.mpp)
    return section, matrix, pixels, shape, image


def _on_slide(
    plan: PhantomPlan, index: int
) -> tuple[Section, Floats, tuple[int, int], tuple[int, int], float, NDArray[np.uint8]]:
    """Lay an MSI grid on a real slide: as `_drawn`, with the slide's µm per pixel."""
    from msiscale.simulate.on_slide import fit_grid, overview, section_of

    try:
        slide = _open(plan.slides[index % len(plan.slides)], plan.slide_mpp)
    except InputError as error:
        hint = " (here: slide_mpp)" if "µm per pixel" in str(error) else ""
        raise InputError(f"{error}{hint}") from None
    view = overview(slide)
    linear = _frame(plan, index, slide.mpp)
    matrix, pixels = fit_grid(view[1], view[2], linear, plan.pixels)
    section = section_of(plan.rng("tissue", index), view, matrix, pixels, plan.pixel_um)
    return section, matrix, pixels, slide.shape, float(np.mean(slide.mpp)), view[0]


def _doubtful(rng: np.random.Generator, section: Section) -> Floats:
    """A closed ellipse (n, 2) in µm that a pathologist could not judge, outside the tumour."""
    row, column = np.nonzero(section.tissue[::8, ::8] & ~section.cancer[::8, ::8])
    pick = int(rng.integers(len(row)))
    size = 0.07 * np.sqrt(section.tissue.sum()) * section.step_um * rng.uniform(0.7, 1.3, 2)
    turn = np.linspace(0, 2 * np.pi, 41)
    centre = np.array([column[pick], row[pick]]) * 8 * section.step_um
    return np.asarray(centre + np.column_stack([np.cos(turn), np.sin(turn)]) * size)


def _landmarks(rng: np.random.Generator, tissue: NDArray[np.float32]) -> Floats:
    """8 to 12 points in the tissue, MSI (x, y), far from each other."""
    row, column = np.nonzero(tissue > 0.9 * tissue.max())
    candidates = np.column_stack([column, row]) + rng.uniform(-0.5, 0.5, (len(row), 2))
    chosen = [int(rng.integers(len(candidates)))]
    distance = np.full(len(candidates), np.inf)
    for _ in range(int(rng.integers(7, 12))):
        last = candidates[chosen[-1]]
        distance = np.minimum(distance, np.hypot(*(candidates - last).T))
        chosen.append(int(np.argmax(distance * rng.uniform(0.7, 1.0, len(distance)))))
    return candidates[chosen]


def _truth(chemistry: Chemistry, matrix: Floats, plan: PhantomPlan) -> dict[str, object]:
    raised = chemistry.biomarkers if plan.tumour else ()
    first = len(chemistry.ions)
    isotopes = [
        {"mz": float(chemistry.mz[first + k]), "of": chemistry.ions[i].mz}
        for k, i in enumerate(chemistry.isotopes)
    ]
    return {
        "matrix": matrix.tolist(),
        "biomarkers": [chemistry.ions[i].mz for i in raised],
        "lipids": [
            {"name": ion.name, "formula": ion.formula, "adduct": ion.adduct, "mz": ion.mz}
            for ion in chemistry.ions
        ],
        "isotopes": isotopes,
        "matrix_ions": chemistry.mz[first + len(isotopes) :].tolist(),
    }


def _open(path: str, mpp: float | None) -> Slide:
    """The slide; `mpp` counts where the file does not say."""
    from msiscale.slide.reader import open_reader

    try:
        return open_reader(path)
    except InputError:
        return open_reader(path, mpp=mpp)
