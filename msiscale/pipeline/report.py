"""Figures of every specimen, one task each, then the page that holds them."""

from __future__ import annotations

from typing import Any

from msiscale.cohort import Specimen
from msiscale.pipeline.context import Run
from msiscale.pipeline.stages import SPECIMEN_PARTS
from msiscale.pipeline.tasks import Task
from msiscale.report import write_figures, write_report


def report(run: Run) -> None:
    """``figures/`` and ``report.html``; the page is made anew each time, the figures when due."""
    cohort = [run.record(part, "cohort") for part in ("fit", "biomarkers", "by_ion")]
    done = [r["digest"] for r in cohort if r is not None]
    drawn = [s for s in run.specimens() if run.is_done("fit", s.name)]
    keys = {s.name: run.key("figures", run.stamp("register", s), done) for s in run.specimens()}

    def task(specimen: Specimen) -> Task:
        return Task(specimen.name, specimen.name, _figures, (run.out, specimen.name))

    run.each("figures", keys, task, among=drawn)
    with run.making("report", ""):
        write_report(run.out, parts=["manifest", *SPECIMEN_PARTS])


def _figures(out: str, name: str) -> dict[str, Any]:
    return {"figures": [str(p) for p in write_figures(out, name)]}
