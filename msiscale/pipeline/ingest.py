"""MSI files -> peak sums -> one m/z axis for the cohort -> a cube a specimen."""

from __future__ import annotations

import warnings
from dataclasses import astuple
from functools import lru_cache
from typing import Any

import numpy as np

from msiscale import msi
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.grid import Block, centres_um
from msiscale.log import hearing
from msiscale.msi.asked import Asked
from msiscale.msi.calibration import Calibration
from msiscale.msi.cube import indices_in
from msiscale.msi.index import load_index, save_index
from msiscale.msi.normalisation import Scaling
from msiscale.msi.scatter import scatter_of
from msiscale.msi.source import MsiSource
from msiscale.msi.window import Window
from msiscale.pipeline.axis import Shared, mz_digest, shared_axis
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.opening import asked_of, opened
from msiscale.pipeline.recalibration import calibration_of, recalibrate
from msiscale.pipeline.scattered import attributes, measured_cells
from msiscale.pipeline.tasks import Task
from msiscale.pipeline.windows import grid_ppm
from msiscale.store import (
    array_of,
    at_once,
    create_array,
    divisor,
    join,
    open_group,
    put,
    read,
    write_block,
)


def ingest(run: Run) -> None:
    """Every specimen's MSI on the cohort's m/z axis, in ``cohort.zarr/<specimen>/intensity``."""
    keys = recalibrate(run, find_peaks(run))
    found = shared_axis(run, keys)
    if found is not None:
        write_cubes(run, found)


def find_peaks(run: Run) -> dict[str, str]:
    """Sums over each specimen's spectra, from which the axis is chosen. Memory: one read block."""
    part = {"tolerance_ppm": grid_ppm(run.config)}

    def files(specimen: Specimen) -> list[Any] | None:
        return identity(specimen.msi, *msi.companions(specimen.msi))

    found = run.identified("peaks", run.specimens(), files)
    keys = {
        s.name: run.key("peaks", found[s.name], astuple(asked_of(s, run.config)), part)
        for s in run.cohort
        if s.name in found
    }

    def task(specimen: Specimen) -> Task:
        args = (run.state_url, specimen, run.config, part["tolerance_ppm"])
        return Task(specimen.name, specimen.name, _peaks, args)

    run.each("peaks", keys, task)
    return keys


def _peaks(
    state_url: str, specimen: Specimen, config: RunConfig, tolerance_ppm: float
) -> dict[str, Any]:
    source = opened(specimen, config)
    for note in source.notes:
        warnings.warn(f"{specimen.msi}: {note}", MsiscaleWarning, stacklevel=2)
    if source.pixel_um is None:
        raise InputError(f"{specimen.msi}: {source.unknown_size}")
    with hearing(_nobody):  # of the repairs of each batch
        sums = msi.peak_sums(source, tolerance_ppm=tolerance_ppm)
    if sums.repairs:
        warnings.warn(f"{specimen.msi}: {sums.repairs}", MsiscaleWarning, stacklevel=2)
    group = open_group(join(state_url, specimen.name), "a").require_group("peaks")
    sums.save(group)
    save_index(source, group)
    return {
        "shape": list(source.shape),
        "pixel_um": list(source.pixel_um),
        "pixel_from": source.pixel_from,
        "origin": [int(v) for v in source.origin],
        "spectra": len(source.positions),
        "cells": measured_cells(source.positions, source.shape),
        "polarity": source.polarity,
        "analyser": source.analyser,
        "profile": source.profile,
        "notes": list(source.notes),
        "scatter": scatter_of(sums).facts(),
    }


def _nobody(_: str) -> None:
    """Hears what is said elsewhere, once and for the whole file."""


def write_cubes(run: Run, axis: Shared) -> None:
    """Bin every spectrum onto the axis. One task reads one block and writes one whole shard."""
    config, mz, window = run.config, axis.mz, axis.window
    scaling = scaling_of(config)
    keys, shapes, records = {}, {}, {}
    calibrations: dict[str, Calibration] = {}
    part = config.part("normalise", "reference_mz", "transform")
    part["window"] = window.facts()
    for s in run.specimens():
        records[s.name] = run.upstream("peaks", s)
        shapes[s.name] = tuple(records[s.name]["shape"])
        calibrations[s.name] = calibration_of(run, s.name)
        facts = calibrations[s.name].facts() if calibrations[s.name] else None
        keys[s.name] = run.key("ingest", records[s.name]["digest"], mz_digest(mz), part, facts)
    says: dict[str, Any] = {"normalisation": config.normalise, "transform": config.transform}
    says |= {"unit": scaling.unit, "window": dict(window.facts())}
    if config.reference_mz:
        says["reference_mz"] = list(config.reference_mz)

    def create(specimen: Specimen) -> dict[str, Any]:
        shape, record = shapes[specimen.name], records[specimen.name]
        group = open_group(join(run.cohort_url, specimen.name), "a")
        chunks, _ = msi.layout(shape, len(mz))
        size = config.block
        left_out = attributes(record["cells"], shape, size)
        create_array(
            group,
            "intensity",
            (*shape, len(mz)),
            ("y", "x", "mz"),
            chunks=(divisor(size, chunks[0]), divisor(size, chunks[1]), chunks[2]),
            shards=(size, size, len(mz)),
            attrs=says | left_out,
        )
        norm = {"of": config.normalise} | left_out
        create_array(group, "norm", shape, ("y", "x"), chunks=(size, size), attrs=norm)
        for name, n, um in zip(("y", "x"), shape, record["pixel_um"], strict=True):
            put(group, name, centres_um(n, um), (name,), attrs={"units": "µm"})
        put(group, "mz", mz, ("mz",), attrs={"units": "m/z"})
        facts = {k: record[k] for k in ("pixel_um", "origin", "polarity", "notes")}
        calibration = calibrations[specimen.name]
        facts["calibration"] = calibration.facts() if calibration else None
        group.attrs.update(facts)
        return {}

    def task(specimen: Specimen, block: Block) -> tuple[Any, tuple[Any, ...]]:
        url = join(run.cohort_url, specimen.name)
        stamp = records[specimen.name]["digest"]
        calibration = calibrations[specimen.name]
        return _cube, (url, run.state_url, specimen, stamp, block, config, window, calibration)

    def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
        total = {unit: sum(p[unit] for p in parts) for unit in ("spectra", "without")}
        return {**total, "mz": len(mz)}

    cells = {name: record["cells"] for name, record in records.items()}
    run.blockwise("ingest", keys, shapes, create, task, combine, cells=cells)
    _say_what_is_left_out(run, keys, window)

    def label(s: Specimen) -> None:  # may change without the cube
        group = open_group(join(run.cohort_url, s.name), "r+")
        says: dict[str, Any] = {
            "patient": s.patient,
            "msi": s.msi,
            "captured": axis.captured[s.name],
        }
        if any(group.attrs.get(k) != v for k, v in says.items()):
            group.attrs.update(says)

    at_once(label, run.specimens())


def scaling_of(config: RunConfig) -> Scaling:
    """How the intensities of a run are normalised and transformed."""
    return Scaling(config.normalise, config.reference_mz or (), config.transform)


def _say_what_is_left_out(run: Run, keys: dict[str, str], window: Window) -> None:
    """Spectra that could not be normalised; a specimen of which most lack the reference ions is
    set aside, as what is left of it is no sample of the tissue."""
    config = run.config
    for s in list(run.specimens()):
        record = run.upstream("ingest", s)
        without, total = record["without"], record["without"] + record["spectra"]
        if config.normalise != "reference":
            if without:
                what = f"{NOTE}{without} of {total} spectra are blank and left out"
                run.notice("ingest", s.name, what)
            continue
        ions = ", ".join(f"{m:g}" for m in config.reference_mz or ())
        what = f"{without} of {total} spectra lack the reference ions (m/z {ions}"
        if 2 * without > total:
            why = f"{s.msi}: {what}, {window}); give other --reference-mz"
            run.set_aside("ingest", s.name, keys[s.name], why)
        elif without:
            run.notice("ingest", s.name, f"{what}); these are left out")


# a worker writes the blocks of a specimen one after another, all from one index of its spectra
@lru_cache(maxsize=4)
def _source(state_url: str, specimen: Specimen, asked: Asked, stamp: str) -> MsiSource:
    # the stamp is of the file's size and time: of a file that changed the index is another
    known = load_index(open_group(join(state_url, specimen.name, "peaks")), specimen.msi)
    return known or msi.open_source(specimen.msi, asked=asked)


def _cube(
    url: str,
    state_url: str,
    specimen: Specimen,
    stamp: str,
    block: Block,
    config: RunConfig,
    window: Window,
    calibration: Calibration,
) -> dict[str, Any]:
    group = open_group(url, "r+")
    source = _source(state_url, specimen, asked_of(specimen, config), stamp)
    with hearing(_nobody):  # of repairs, which the peaks have counted
        values, norm = msi.cube_block(
            source,
            read(open_group(url), "mz"),
            block,
            tolerance_ppm=window,
            normalise=config.normalise,
            reference_mz=config.reference_mz or (),
            transform=config.transform,
            calibration=calibration,
        )
    write_block(array_of(group, "intensity"), block, values)
    write_block(array_of(group, "norm"), block, norm)
    spectra = int(np.isfinite(norm).sum())
    return {"spectra": spectra, "without": len(indices_in(source, block)) - spectra}
