"""MSI files -> peak sums -> one m/z axis for the cohort -> a cube a specimen."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from msiscale import msi
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.grid import Block, centres_um
from msiscale.msi.index import load_index, save_index
from msiscale.msi.source import MsiSource
from msiscale.pipeline.axis import Mz, mz_digest, shared_axis
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.tasks import Task
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
    keys = find_peaks(run)
    mz = shared_axis(run, keys)
    if mz is not None:
        write_cubes(run, mz)


def find_peaks(run: Run) -> dict[str, str]:
    """Sums over each specimen's spectra, from which the axis is chosen. Memory: one read block."""
    part = run.config.part("tolerance_ppm")
    keys: dict[str, str] = {}

    def known(specimen: Specimen) -> list[Any] | str | None:
        try:
            return identity(specimen.msi, *msi.companions(specimen.msi))
        except (InputError, OSError) as error:
            return str(error)

    asked = list(run.specimens())
    for specimen, files in zip(asked, at_once(known, asked), strict=True):
        if isinstance(files, str):
            run.set_aside("peaks", specimen.name, "", files)
        else:
            keys[specimen.name] = run.key("peaks", files, specimen.pixel_um, part)

    def task(specimen: Specimen) -> Task:
        args = (run.state_url, specimen, run.config.tolerance_ppm)
        return Task(specimen.name, specimen.name, _peaks, args)

    run.each("peaks", keys, task)
    return keys


def _peaks(state_url: str, specimen: Specimen, tolerance_ppm: float) -> dict[str, Any]:
    source = msi.open_source(specimen.msi, pixel_um=specimen.pixel_um)
    if source.pixel_um is None:
        raise InputError(
            f"{specimen.msi}: no pixel size in the file; give the manifest column pixel_um"
        )
    sums = msi.peak_sums(source, tolerance_ppm=tolerance_ppm)
    group = open_group(join(state_url, specimen.name), "a").require_group("peaks")
    sums.save(group)
    save_index(source, group)
    return {
        "shape": list(source.shape),
        "pixel_um": list(source.pixel_um),
        "origin": [int(v) for v in source.origin],
        "spectra": len(source.positions),
        "polarity": source.polarity,
        "profile": source.profile,
        "notes": list(source.notes),
    }


def write_cubes(run: Run, mz: Mz) -> None:
    """Bin every spectrum onto the axis. One task reads one block and writes one whole shard."""
    config = run.config
    keys, shapes, records = {}, {}, {}
    for s in run.specimens():
        records[s.name] = run.upstream("peaks", s)
        shapes[s.name] = tuple(records[s.name]["shape"])
        part = config.part("normalise", "tolerance_ppm")
        keys[s.name] = run.key("ingest", records[s.name]["digest"], mz_digest(mz), part)

    def create(specimen: Specimen) -> dict[str, Any]:
        shape, record = shapes[specimen.name], records[specimen.name]
        group = open_group(join(run.cohort_url, specimen.name), "a")
        chunks, _ = msi.layout(shape, len(mz))
        size = config.block
        create_array(
            group,
            "intensity",
            (*shape, len(mz)),
            ("y", "x", "mz"),
            chunks=(divisor(size, chunks[0]), divisor(size, chunks[1]), chunks[2]),
            shards=(size, size, len(mz)),
            attrs={"normalisation": config.normalise},
        )
        create_array(
            group, "norm", shape, ("y", "x"), chunks=(size, size), attrs={"of": config.normalise}
        )
        for name, n, um in zip(("y", "x"), shape, record["pixel_um"], strict=True):
            put(group, name, centres_um(n, um), (name,), attrs={"units": "µm"})
        put(group, "mz", mz, ("mz",), attrs={"units": "m/z"})
        facts = {k: record[k] for k in ("pixel_um", "origin", "polarity", "notes")}
        group.attrs.update(facts)
        return {}

    def task(specimen: Specimen, block: Block) -> tuple[Any, tuple[Any, ...]]:
        url = join(run.cohort_url, specimen.name)
        stamp = records[specimen.name]["digest"]
        return _cube, (url, run.state_url, specimen, stamp, block, config)

    def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {"spectra": sum(p["spectra"] for p in parts), "mz": len(mz)}

    run.blockwise("ingest", keys, shapes, create, task, combine)

    def label(s: Specimen) -> None:  # may change without the cube
        group = open_group(join(run.cohort_url, s.name), "r+")
        says = {"patient": s.patient, "msi": s.msi}
        if any(group.attrs.get(k) != v for k, v in says.items()):
            group.attrs.update(says)

    at_once(label, run.specimens())


@lru_cache(maxsize=4)
def _source(state_url: str, name: str, path: str, pixel_um: float | None, stamp: str) -> MsiSource:
    # the stamp is of the file's size and time: of a file that changed the index is another
    known = load_index(open_group(join(state_url, name, "peaks")), path)
    return known or msi.open_source(path, pixel_um=pixel_um)


def _cube(
    url: str, state_url: str, specimen: Specimen, stamp: str, block: Block, config: RunConfig
) -> dict[str, Any]:
    group = open_group(url, "r+")
    source = _source(state_url, specimen.name, specimen.msi, specimen.pixel_um, stamp)
    values, norm = msi.cube_block(
        source,
        read(open_group(url), "mz"),
        block,
        tolerance_ppm=config.tolerance_ppm,
        normalise=config.normalise,
    )
    write_block(array_of(group, "intensity"), block, values)
    write_block(array_of(group, "norm"), block, norm)
    return {"spectra": int(np.isfinite(norm).sum())}
