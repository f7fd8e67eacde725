"""What a run, or a prediction, has to export: its finished specimens with their geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import Block, Floats, PixelSize, blocks, translation
from msiscale.placing import Placing, with_affine
from msiscale.store import (
    HeldOut,
    Ledger,
    StoredSpecimen,
    exists,
    has_group,
    join,
    listing,
    nearest_column,
    open_group,
    read_csv,
)

CELL = 64  # MSI pixels on a side that are in memory at a time; no file depends on the run's blocks
_NOTHING = "no prediction there; run the stage fit first"
STRONGEST = 10  # m/z whose ion images are exported where none was asked for


@dataclass(frozen=True)
class ExportSpecimen:
    """One specimen of a run, or one slide of `msiscale predict`.

    Attributes
    ----------
    cohort, predictions
        What ``cohort.zarr`` and ``predictions.zarr`` have of it, None where nothing.
    held
        Its predicted ion images, where there are any: of the specimen as a whole, else of blocks.
    """

    cohort: StoredSpecimen | None
    predictions: StoredSpecimen | None
    held: HeldOut | None = None

    @property
    def stored(self) -> StoredSpecimen:
        """What there is of it, the measured part first."""
        found = self.cohort or self.predictions
        assert found is not None
        return found

    @property
    def name(self) -> str:
        """The name of the specimen, or of the slide."""
        return self.stored.name

    @property
    def patient(self) -> str:
        """The patient; for a slide without MSI its own name."""
        return str(self.stored.facts["patient"]) if self.cohort else self.name

    @property
    def slide(self) -> str:
        """The slide's file."""
        return str(self.stored.facts["slide"])

    @cached_property
    def polarity(self) -> str | None:
        """``+`` or ``-``, None where it is not known."""
        if self.cohort:
            found: str | None = self.cohort.facts["polarity"]
            return found
        model = str(self.stored.facts["model"])
        signs = open_group(model).attrs.get("polarity", []) if has_group(model) else []
        return signs[0] if isinstance(signs, list) and signs in (["+"], ["-"]) else None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the MSI grid, or of the grid of the prediction."""
        return self.stored.shape

    @property
    def pixel_um(self) -> PixelSize:
        """Size of a pixel of that grid."""
        return self.stored.pixel_um

    @property
    def mpp(self) -> PixelSize:
        """Size of a level-0 pixel of the slide."""
        if self.cohort:
            return self.cohort.mpp
        (y, x), matrix = self.pixel_um, self.matrix  # a prediction's grid is the slide's
        return PixelSize(y / float(matrix[1, 1]), x / float(matrix[0, 0]))

    @property
    def matrix(self) -> Floats:
        """(3, 3) float64: pixel index to level-0 pixels."""
        return self.stored.matrix

    @property
    def to_um(self) -> Floats:
        """(3, 3) float64: pixel index to µm from the slide's top left corner."""
        return self.mpp.scaling @ self.matrix

    @property
    def placing_um(self) -> Placing:
        """`to_um` with the deformation of the section, where one was found."""
        return with_affine(self.stored.placing, self.to_um)

    @property
    def corner_to_um(self) -> Floats:
        """The same from continuous coordinates, in which pixel (0, 0) covers 0 to 1."""
        return self.to_um @ translation(-0.5, -0.5)

    @property
    def cells(self) -> list[Block]:
        """The grid in cells of `CELL` pixels, in raster order."""
        return list(blocks(self.shape, (CELL, CELL)))

    @property
    def measurements(self) -> StoredSpecimen:
        """What was measured. InputError for a slide without MSI."""
        if self.cohort is None:
            raise InputError(f"{self.name}: no measured MSI there; give the --out of msiscale run")
        return self.cohort

    @property
    def predicted(self) -> StoredSpecimen:
        """What was predicted. InputError where nothing was."""
        if self.predictions is None or "predicted_scores" not in self.predictions:
            raise InputError(f"{self.name}: {_NOTHING}")
        return self.predictions

    @cached_property
    def rows(self) -> NDArray[np.bool_]:
        """(y, x): the pixels that are a row of a table: measured, or of a slide predicted."""
        return self.cohort.measured if self.cohort else self.predicted_pixels()

    def predicted_pixels(self) -> NDArray[np.bool_]:
        """(y, x): pixels with a prediction, read cell by cell."""
        scores, known = self.predicted.array("predicted_scores"), np.zeros(self.shape, bool)
        for cell in self.cells:
            known[cell.slices] = np.isfinite(np.asarray(scores[(*cell.slices, 0)]))
        return known

    @cached_property
    def mz(self) -> NDArray[np.float64]:
        """(k,): the m/z axis of what was measured, else of what is predicted."""
        return self.cohort.mz if self.cohort else self.predicted_mz

    @property
    def predicted_mz(self) -> NDArray[np.float64]:
        """(k,): the m/z of predicted spectra. InputError where nothing was predicted."""
        if self.held is None:
            raise InputError(f"{self.name}: {_NOTHING}")
        return self.held.mz


@dataclass(frozen=True)
class Opened:
    """The specimens that can be exported, and why others cannot."""

    url: str
    sources: tuple[ExportSpecimen, ...]
    left_out: dict[str, str]


def open_run(url: str, specimens: Sequence[str] | None = None) -> Opened:
    """What there is to export.

    Parameters
    ----------
    url
        Results: the ``--out`` of `msiscale run` or `predict`.
    specimens
        Names; default all that are finished.

    Returns
    -------
    Opened
        They, and why others are not among them.

    Raises
    ------
    InputError
        No results there, a name that is not among them, or nothing finished.
    """
    whole = has_group(join(url, "cohort.zarr"))
    if not whole and not has_group(join(url, "predictions.zarr")):
        raise InputError(f"{url}: no results there; give the --out of msiscale run or predict")
    names, left_out = _finished(url, whole)
    if specimens:
        unknown = [name for name in specimens if name not in {*names, *left_out}]
        if unknown:
            known = ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
            raise InputError(f"{url}: no specimen {unknown[0]!r}; there are {known or 'none'}")
        names = [name for name in names if name in specimens]
        left_out = {name: why for name, why in left_out.items() if name in specimens}
    if not names:
        why = "; ".join(f"{n}: {w}" for n, w in list(left_out.items())[:1]) or "run it first"
        raise InputError(f"{url}: no specimen is finished ({why})")
    return Opened(url, tuple(_opened(url, n, whole) for n in names), left_out)


def _finished(url: str, whole: bool) -> tuple[list[str], dict[str, str]]:
    """Names whose data can be believed, and of the others why not."""
    ledger = Ledger(url)
    stages = ("ingest", "register") if whole else ("predict", "outline")
    records = {stage: ledger.read_all(stage) for stage in stages}
    names = sorted({name for found in records.values() for name in found if "/" not in name})
    document: dict[str, Any] = (ledger.plan() if whole else None) or {}
    if document:  # specimens that the manifest no longer has keep their data, and are not of it
        names = sorted(document["specimens"])
    good, bad = [], {}
    for name in names:
        why = str(document.get("failed", {}).get(name, ""))
        for stage in stages:
            record = records[stage].get(name)
            if record is None or record["status"] != "done":
                why = why or str((record or {}).get("reason") or f"stage {stage} is not done")
        if why:
            bad[name] = why
        else:
            good.append(name)
    return good, bad


def _opened(url: str, name: str, whole: bool) -> ExportSpecimen:
    predicted, held = StoredSpecimen.predicted(url, name), HeldOut(url, name)
    if not whole:
        return ExportSpecimen(None, predicted, held if held.has("predicted_scores") else None)
    fitted = Ledger(url).read("fit", name)
    done = fitted is not None and fitted["status"] == "done"
    cohort = StoredSpecimen.of(url, name)
    if not done:
        return ExportSpecimen(cohort, None)
    both = (held, HeldOut(url, name, "spatial_blocks"))
    return ExportSpecimen(cohort, predicted, next((h for h in both if h.exists), None))


def wanted_mz(opened: Opened, mz: Sequence[float] | None) -> list[float]:
    """The m/z of the axis that are exported: those asked for, else the strongest of the run."""
    axis = opened.sources[0].mz
    if mz is None:
        table = join(opened.url, "biomarkers.csv")
        if not exists(table):
            return []
        mz = read_csv(table, nrows=STRONGEST)["mz"].tolist()
    return [float(axis[nearest_column(axis, value)]) for value in mz]


def region_files(opened: Opened) -> dict[str, str]:
    """Specimen -> URL of its GeoJSON of predicted cancer, of those that have one."""
    there = set(listing(join(opened.url, "regions")))
    return {
        s.name: join(opened.url, "regions", f"{s.name}.geojson")
        for s in opened.sources
        if f"{s.name}.geojson" in there
    }
