"""Figures of every specimen, one task each, then the page that holds them."""

from __future__ import annotations

import time
from typing import Any

from msiscale.cohort import Specimen
from msiscale.pipeline.context import Run
from msiscale.pipeline.tasks import Outcome, Task
from msiscale.report import write_figures, write_report


def report(run: Run) -> None:
    """``figures/`` and ``report.html``; the page is made anew each time, the figures when due."""
    cohort = run.record("fit", "cohort"), run.record("biomarkers", "cohort")
    done = [r["digest"] for r in cohort if r is not None]
    drawn = [s for s in run.specimens() if _fitted(run, s)]
    keys = {
        s.name: run.key("figures", run.upstream("register", s)["digest"], done)
        for s in run.specimens()
    }

    def task(specimen: Specimen) -> Task:
        return Task(specimen.name, specimen.name, _figures, (run.out, specimen.name))

    run.each("figures", keys, task, among=drawn)
    began, cpu = time.perf_counter(), time.process_time()
    with run.recording() as noted:
        write_report(run.out)
    run.write("report", "cohort", "", "done", written=noted.parts)
    run.account.add(
        "report", Outcome(wall_s=time.perf_counter() - began, cpu_s=time.process_time() - cpu)
    )


def _fitted(run: Run, specimen: Specimen) -> bool:
    record = run.record("fit", specimen.name)
    return record is not None and record["status"] == "done"


def _figures(out: str, name: str) -> dict[str, Any]:
    return {"figures": [str(p) for p in write_figures(out, name)]}
