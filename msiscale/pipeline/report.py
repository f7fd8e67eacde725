"""Figures and page of every specimen, a task each, then the page of the cohort.

What a task shows of the cohort's tables, its own rows, travels with it: tables grow with the
cohort, and no task reads one whole. What is drawn already, from the same records, is left alone.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from msiscale import report as drawing
from msiscale.cohort import Specimen
from msiscale.config import as_dict
from msiscale.pipeline.context import Run
from msiscale.pipeline.stages import COHORT, PARTS, SPECIMEN_PARTS
from msiscale.pipeline.tasks import Task
from msiscale.report.apart import is_apart
from msiscale.report.data import Results, State
from msiscale.store import join, remove


def report(run: Run) -> None:
    """``figures/``, ``report.html`` and, of a large cohort, ``report/``: of each what is due."""
    results = Results(run.out, ["manifest", *SPECIMEN_PARTS], run.records)
    _figures(run, results)
    apart = is_apart(results)
    pages = _pages(run, results) if apart else _no_pages(run)
    facts = [run.names, run.failed, as_dict(run.config), apart, pages]
    key = run.key("report", *facts, _stamps(run, *run.names, COHORT))
    if run.done("report", COHORT, key):
        return
    with run.making("report", key):
        drawing.write_report(run.out, pages=False, results=results)
        for state in results.states(list(run.cohort.problems)) if apart else ():
            drawing.page_of(results, state)  # of no specimen: its row could not be used


def _figures(run: Run, results: Results) -> None:
    cohort = [run.record(part, COHORT) for part in ("fit", "biomarkers", "by_ion")]
    done = [r["digest"] for r in cohort if r is not None]
    drawn = [s for s in run.specimens() if run.is_done("fit", s.name)]
    keys = {s.name: run.key("figures", run.stamp("register", s), done) for s in run.specimens()}

    def task(specimen: Specimen) -> Task:
        return Task(specimen.name, specimen.name, _draw, (results.only(specimen.name),))

    run.each("figures", keys, task, among=drawn)


def _pages(run: Run, results: Results) -> dict[str, str]:
    """Make the pages that are due, of those that were set aside too; the key of each."""
    shown = list(run.cohort)
    states = {state.specimen: state for state in results.states()}
    cohort = _stamps(run, COHORT)
    keys = {
        s.name: run.key("pages", astuple(states[s.name]), _stamps(run, s.name), cohort)
        for s in shown
    }

    def task(specimen: Specimen) -> Task:
        args = (results.only(specimen.name), states[specimen.name])
        return Task(specimen.name, specimen.name, _page, args)

    run.each("pages", keys, task, among=shown)
    return keys


def _no_pages(run: Run) -> dict[str, str]:
    """A cohort that was larger has pages no more."""
    old = list(run.records("pages"))
    run.forget("pages", old)
    for name in old:
        for path in PARTS["pages"].of_specimen(name):
            remove(join(run.out, path))
    return {}


def _stamps(run: Run, *names: str) -> list[Any]:
    """Status and digest of every record that the pages are made from."""
    return [
        [part, name, record["status"], record["digest"]]
        for part in PARTS
        if part not in ("pages", "report")
        for name in names
        if (record := run.record(part, name)) is not None
    ]


def _draw(results: Results) -> dict[str, Any]:
    (name,) = results.specimens
    return {"figures": drawing.write_figures(results.out, name, results)}


def _page(results: Results, state: State) -> dict[str, Any]:
    drawing.write_thumbnail(results.out, state.specimen, results)
    return {"page": drawing.page_of(results, state)}
