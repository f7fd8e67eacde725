"""Every m/z against the annotation: a task a specimen, then over patients."""

from __future__ import annotations

import io
import time
from typing import Any

import pandas as pd

from msiscale.biomarkers import (
    biomarker_table,
    builtin_lipids,
    read_lipids,
    specimen_association,
    tidy,
)
from msiscale.cohort import Specimen
from msiscale.errors import InputError
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.tasks import Outcome, Task
from msiscale.store import (
    array_of,
    at_once,
    join,
    open_group,
    read,
    read_bytes,
    remove,
    write_bytes,
)

TABLES = ("biomarkers.csv", "biomarkers_by_specimen.csv")


def biomarkers(run: Run) -> None:
    """``biomarkers.csv`` (over patients) and ``biomarkers_by_specimen.csv``."""
    labelled = [s for s in run.specimens() if run.upstream("register", s)["labelled"]]
    if not labelled:
        run.say("biomarkers: no specimen has an annotation; nothing to compare")
        run.forget("biomarkers", ["cohort"])
        for table in TABLES:  # of an earlier cohort
            remove(join(run.out, table))
        return
    keys = {
        s.name: run.key(
            "association",
            run.upstream("ingest", s)["digest"],
            run.upstream("register", s)["digest"],
        )
        for s in run.specimens()
    }

    def task(specimen: Specimen) -> Task:
        args = (join(run.cohort_url, specimen.name), _table_url(run, specimen))
        return Task(specimen.name, specimen.name, _association, args)

    run.each("association", keys, task, among=labelled)
    names = [s.name for s in labelled if s.name not in run.failed]
    config = run.config
    part = config.part("lipids", "polarity", "adducts", "annotation_ppm")
    patients = run.cohort.patients
    facts = [[n, patients[n], keys[n]] for n in names]
    key = run.key("biomarkers", facts, part, identity(config.lipids))
    if run.done("biomarkers", "cohort", key):
        return
    began, cpu = time.perf_counter(), time.process_time()
    run.forget("biomarkers", ["cohort"])
    kept = [s for s in labelled if s.name in names]
    bodies = at_once(lambda s: read_bytes(_table_url(run, s)), kept)
    tables = {
        s.name: pd.read_csv(io.BytesIO(body), float_precision="round_trip")
        for s, body in zip(kept, bodies, strict=True)
    }
    found = biomarker_table(
        tables,
        patients,
        read_lipids(config.lipids) if config.lipids else builtin_lipids(),
        polarity=_polarity(run, labelled),
        adducts=config.adducts,
        tolerance_ppm=config.annotation_ppm,
    )
    with run.recording() as noted:
        for table, content in zip(TABLES, (found, tidy(tables, patients)), strict=True):
            _write(join(run.out, table), content)
    run.write("biomarkers", "cohort", key, "done", mz=len(found), written=noted.parts)
    spent = Outcome(wall_s=time.perf_counter() - began, cpu_s=time.process_time() - cpu)
    run.account.add("biomarkers", spent)


def _table_url(run: Run, specimen: Specimen) -> str:
    return join(run.out, "association", f"{specimen.name}.csv")


def _write(url: str, table: pd.DataFrame) -> None:
    write_bytes(url, table.to_csv(index=False, lineterminator="\n").encode())


def _association(url: str, target: str) -> dict[str, Any]:
    group = open_group(url)
    found = specimen_association(
        array_of(group, "intensity"),
        read(group, "cancer"),
        read(group, "tissue"),
        mz=read(group, "mz"),
    )
    _write(target, found)
    return {"n_cancer": int(found["n_cancer"].max()), "n_other": int(found["n_other"].max())}


def _polarity(run: Run, specimens: list[Specimen]) -> str:
    if run.config.polarity:
        return run.config.polarity
    found = {run.upstream("peaks", s)["polarity"] for s in specimens} - {None}
    if len(found) != 1:
        what = "no file says its polarity" if not found else "the files differ in polarity"
        raise InputError(f"{run.cohort.path}: {what}; give --polarity + or -")
    return str(found.pop())
