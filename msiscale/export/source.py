"""What a run, or a prediction, has to export: its finished specimens with their geometry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import Block, Floats, as_matrix, blocks, scaling, translation
from msiscale.store import (
    Ledger,
    array_of,
    exists,
    has_group,
    join,
    listing,
    open_group,
    read,
    read_bytes,
    read_json,
)

CELL = 64  # MSI pixels on a side that are in memory at a time; no file depends on the run's blocks
NEAR_PPM = 20.0  # of an m/z that was asked for
STRONGEST = 10  # m/z whose ion images are exported where none was asked for


@dataclass(frozen=True)
class Source:
    """One specimen of a run, or one slide of `msiscale predict`.

    Attributes
    ----------
    name, patient : str
    shape : (ny, nx) of the MSI grid, or of the grid of the prediction
    pixel_um, mpp : (y, x) µm of its pixels, and of a level-0 pixel of the slide
    matrix : (3, 3) pixel index to level-0 pixels
    slide : str
    polarity : '+', '-' or None
    cohort, predictions : groups of ``cohort.zarr`` and ``predictions.zarr``, None where missing
    """

    name: str
    patient: str
    shape: tuple[int, int]
    pixel_um: tuple[float, float]
    mpp: tuple[float, float]
    matrix: Floats
    slide: str
    polarity: str | None
    cohort: zarr.Group | None
    predictions: zarr.Group | None

    @property
    def to_um(self) -> Floats:
        """(3, 3) pixel index to µm from the slide's top left corner."""
        return scaling(self.mpp[1], self.mpp[0]) @ self.matrix

    @property
    def corner_to_um(self) -> Floats:
        """The same from continuous coordinates, in which pixel (0, 0) covers 0 to 1."""
        return self.to_um @ translation(-0.5, -0.5)

    @property
    def cells(self) -> list[Block]:
        """The grid in cells of `CELL` pixels, in raster order."""
        return list(blocks(self.shape, (CELL, CELL)))

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """(y, x): pixels with a spectrum."""
        return np.isfinite(read(self.measurements, "norm"))

    @property
    def measurements(self) -> zarr.Group:
        """Its group of ``cohort.zarr``. InputError for a slide without MSI."""
        if self.cohort is None:
            raise InputError(f"{self.name}: no measured MSI there; give the --out of msiscale run")
        return self.cohort

    @property
    def predicted(self) -> zarr.Group:
        """Its group of ``predictions.zarr``. InputError where nothing is predicted."""
        if self.predictions is None or "predicted_scores" not in self.predictions:
            raise InputError(f"{self.name}: no prediction there; run the stage fit first")
        return self.predictions

    @cached_property
    def mz(self) -> NDArray[np.float64]:
        """The m/z axis of what was measured, else of what is predicted."""
        if self.cohort is not None:
            return read(self.cohort, "mz").astype(np.float64)
        return self.predicted_mz

    @property
    def predicted_mz(self) -> NDArray[np.float64]:
        """The m/z axis of predicted spectra: a fold leaves out what its training hardly has."""
        # a slide's own `mz` are the few that were asked for; the model's axis is beside them
        axis = "mz_axis" if "mz_axis" in self.predicted else "mz"
        return read(self.predicted, axis).astype(np.float64)


@dataclass(frozen=True)
class Opened:
    """The specimens that can be exported, and why others cannot."""

    url: str
    sources: tuple[Source, ...]
    left_out: dict[str, str]


def open_run(url: str, specimens: Sequence[str] | None = None) -> Opened:
    """Read what is in the results at `url` (the ``--out`` of `msiscale run` or `predict`).

    Parameters
    ----------
    url
    specimens
        Names; default all that are finished.

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
    return Opened(url, tuple((_of_run if whole else _of_slide)(url, n) for n in names), left_out)


def _finished(url: str, whole: bool) -> tuple[list[str], dict[str, str]]:
    """Names whose data can be believed, and of the others why not."""
    ledger = Ledger(url)
    stages = ("ingest", "register") if whole else ("predict", "outline")
    records = {stage: ledger.read_all(stage) for stage in stages}
    names = sorted({name for found in records.values() for name in found if "/" not in name})
    plan = join(url, "run.json")
    document: dict[str, Any] = read_json(plan) if whole and exists(plan) else {}
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


def _of_run(url: str, name: str) -> Source:
    group = open_group(join(url, "cohort.zarr", name))
    facts: dict[str, Any] = dict(group.attrs)
    record = Ledger(url).read("fit", name)
    fitted = record is not None and record["status"] == "done"
    height, width = array_of(group, "norm").shape
    return Source(
        name=name,
        patient=str(facts["patient"]),
        shape=(height, width),
        pixel_um=_pair(facts["pixel_um"]),
        mpp=_pair(facts["mpp"]),
        matrix=as_matrix(facts["matrix"]),
        slide=str(facts["slide"]),
        polarity=facts["polarity"],
        cohort=group,
        predictions=open_group(join(url, "predictions.zarr", name)) if fitted else None,
    )


def _of_slide(url: str, name: str) -> Source:
    group = open_group(join(url, "predictions.zarr", name))
    facts: dict[str, Any] = dict(group.attrs)
    matrix, pixel = as_matrix(facts["matrix"]), float(facts["pixel_um"])
    model = str(facts["model"])
    signs = open_group(model).attrs.get("polarity", []) if has_group(model) else []
    height, width = array_of(group, "predicted_scores").shape[:2]
    return Source(
        name=name,
        patient=name,
        shape=(height, width),
        pixel_um=(pixel, pixel),
        mpp=(pixel / float(matrix[1, 1]), pixel / float(matrix[0, 0])),  # its grid is the slide's
        matrix=matrix,
        slide=str(facts["slide"]),
        polarity=signs[0] if isinstance(signs, list) and signs in (["+"], ["-"]) else None,
        cohort=None,
        predictions=group,
    )


def _pair(values: Any) -> tuple[float, float]:
    y, x = values
    return float(y), float(x)


def wanted_mz(opened: Opened, mz: Sequence[float] | None) -> list[float]:
    """The m/z whose ion images are exported: those asked for, else the strongest of the run.

    Raises
    ------
    InputError
        One that is not within `NEAR_PPM` of the axis.
    """
    axis = opened.sources[0].mz
    if mz is None:
        table = join(opened.url, "biomarkers.csv")
        if not exists(table):
            return []
        mz = pd.read_csv(io.BytesIO(read_bytes(table)), nrows=STRONGEST)["mz"].tolist()
    return [float(axis[column_of(axis, value)]) for value in mz]


def column_of(axis: NDArray[np.float64], mz: float) -> int:
    """The column of the axis nearest to `mz`. InputError where it is farther than `NEAR_PPM`."""
    nearest = int(np.argmin(np.abs(axis - mz)))
    if not mz > 0 or abs(axis[nearest] / mz - 1) > NEAR_PPM * 1e-6:
        raise InputError(f"m/z {mz} is not on the axis; the nearest is {axis[nearest]:.4f}")
    return nearest


def region_files(opened: Opened) -> dict[str, str]:
    """Specimen -> URL of its GeoJSON of predicted cancer, of those that have one."""
    there = set(listing(join(opened.url, "regions")))
    return {
        s.name: join(opened.url, "regions", f"{s.name}.geojson")
        for s in opened.sources
        if f"{s.name}.geojson" in there
    }
