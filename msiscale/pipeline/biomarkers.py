"""Every m/z against the annotation: a task a specimen, then over patients."""

from __future__ import annotations

import warnings
import zlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale import msi
from msiscale.biomarkers import (
    biomarker_table,
    builtin_lipids,
    read_lipids,
    specimen_association,
    tidy,
    without_say,
)
from msiscale.cohort import Specimen
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.tasks import Task
from msiscale.store import (
    array_of,
    at_once,
    join,
    open_group,
    read,
    read_csv,
    remove,
    write_csv,
)

TABLES = ("biomarkers.csv", "biomarkers_by_specimen.csv")
ANNOTATIONS = "annotations.csv"
RATES = ["msm", "annotation_fdr", "annotation_flags"]


def biomarkers(run: Run) -> None:
    """``biomarkers.csv`` (over patients), ``biomarkers_by_specimen.csv``, and figures of the
    strongest."""
    labelled = [s for s in run.specimens() if run.upstream("register", s)["labelled"]]
    if not labelled:
        run.say("biomarkers: no specimen has an annotation, so there is nothing to compare")
        _nothing(run)
        return
    shifts = run.config.shifts
    keys = {
        s.name: run.key(
            "association",
            run.upstream("ingest", s)["digest"],
            run.upstream("register", s)["digest"],
            shifts,
        )
        for s in run.specimens()
    }

    def task(specimen: Specimen) -> Task:
        args = (join(run.cohort_url, specimen.name), _table_url(run, specimen), shifts)
        return Task(specimen.name, specimen.name, _association, args)

    run.each("association", keys, task, among=labelled)
    names = [s.name for s in labelled if s.name not in run.failed]
    config = run.config
    part = config.part("lipids", "polarity", "adducts", "annotation_ppm", "min_pixels")
    patients = run.cohort.patients
    facts = [[n, patients[n], keys[n]] for n in names]
    rated = run.record("annotate", "cohort")
    rates = None if rated is None else rated["digest"]
    if rated is not None and not set(rated["specimens"]) <= set(patients):
        run.say(
            f"biomarkers: {ANNOTATIONS} has other specimens too, so it is not used; run msiscale "
            "annotate again"
        )
        rates = None
    key = run.key("biomarkers", facts, part, identity(config.lipids), rates)
    if run.done("biomarkers", "cohort", key):
        return
    from msiscale.pipeline.strongest import draw_strongest  # matplotlib, where there is a figure

    kept = [s for s in labelled if s.name in names]
    bodies = at_once(lambda s: read_csv(_table_url(run, s)), kept)
    tables = {s.name: body for s, body in zip(kept, bodies, strict=True)}
    left_out = without_say(tables, config.min_pixels)
    unheard = [
        f"{name} {why}, so it is left out of the biomarkers" for name, why in left_out.items()
    ]
    if len(left_out) == len(tables):
        for text in unheard:
            run.notice("biomarkers", "", text)
        run.say("biomarkers: no specimen qualifies, so there is nothing to compare")
        _nothing(run)
        return
    with run.making("biomarkers", key) as record:
        for text in unheard:
            warnings.warn(text, MsiscaleWarning, stacklevel=2)
        found = biomarker_table(
            {name: table for name, table in tables.items() if name not in left_out},
            patients,
            read_lipids(config.lipids) if config.lipids else builtin_lipids(),
            polarity=polarity_of(run, labelled),
            adducts=config.adducts,
            tolerance_ppm=config.annotation_ppm,
        )
        if rates is not None:
            found = with_rates(found, read_csv(join(run.out, ANNOTATIONS)))
        for table, content in zip(TABLES, (found, tidy(tables, patients)), strict=True):
            write_csv(join(run.out, table), content)
        draw_strongest(run, found, tables, kept)
        record["mz"] = len(found)


def _nothing(run: Run) -> None:
    """There are no biomarkers, also not those of an earlier cohort."""
    run.forget("biomarkers", ["cohort"])
    for table in TABLES:
        remove(join(run.out, table))


def with_rates(found: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Add the score, FDR and flags of the named ion in `annotations`; NaN or empty if not there."""
    rates = annotations[["formula", "adduct", "msm", "fdr", "flags"]]
    rates = rates.set_axis(["formula", "adduct", *RATES], axis=1)
    merged = found.merge(rates, how="left", on=["formula", "adduct"], validate="many_to_one")
    return merged.assign(annotation_flags=merged["annotation_flags"].fillna(""))


def _table_url(run: Run, specimen: Specimen) -> str:
    return join(run.out, "association", f"{specimen.name}.csv")


def _association(url: str, target: str, shifts: int) -> dict[str, Any]:
    group = open_group(url)
    intensity = array_of(group, "intensity")
    transform = str(intensity.attrs.get("transform", "none"))
    unit = float(str(intensity.attrs.get("unit", 1.0)))

    def restore(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return msi.inverse_transform(values, transform, unit)

    found = specimen_association(
        intensity,
        read(group, "cancer"),
        read(group, "tissue"),
        mz=read(group, "mz"),
        shifts=shifts,
        # its own places for every specimen, the same whatever else is in the cohort
        seed=zlib.crc32(url.rstrip("/").rsplit("/", 1)[-1].encode()),
        restore=None if transform == "none" else restore,
    )
    write_csv(target, found)
    return {"n_cancer": int(found["n_cancer"].max()), "n_other": int(found["n_other"].max())}


def polarity_of(run: Run, specimens: list[Specimen]) -> str:
    """As asked for, else as all files say; InputError where they do not."""
    if run.config.polarity:
        return run.config.polarity
    found = {run.upstream("peaks", s)["polarity"] for s in specimens} - {None}
    if len(found) != 1:
        what = "no file says its polarity" if not found else "the files differ in polarity"
        raise InputError(f"{run.cohort.path}: {what}; give --polarity + or -")
    return str(found.pop())
