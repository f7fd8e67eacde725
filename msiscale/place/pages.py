"""``msiscale place``: a page a specimen, and the list of them, below ``place/`` of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from msiscale.cluster import Where, WhereWords, connecting
from msiscale.cohort import Specimen, read_manifest
from msiscale.config import RunConfig, kept_options
from msiscale.errors import InputError
from msiscale.pipeline.context import Run, identity, say
from msiscale.pipeline.driver import run as run_stages
from msiscale.pipeline.places import files_of, located
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.tasks import Task
from msiscale.place.content import content
from msiscale.report.frame import framed, own, templates
from msiscale.report.html import BY_HAND
from msiscale.store import Ledger, StoredSpecimen, absolute, digest, exists, join, write_bytes
from msiscale.store.lease import held
from msiscale.store.seen import check_seen, sharing

INDEX = "index"
IONS = 24  #: ion images of a page, at most
MOST_IONS = 200
NEEDED = ("ingest", "register")
SCRIPTS = (
    *("unpack.js", "fit.js", "state.js", "files.js", "canvas.js"),
    *("msi.js", "input.js", "words.js", "place.js"),
)
STYLES = ("report.css", "place.css")


@dataclass(frozen=True)
class Placed:
    """What was written: `index`, the list of the pages; `failed`, those without one, and why."""

    index: str
    pages: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)


def place(
    manifest: str,
    out: str,
    *,
    specimens: Sequence[str] = (),
    ions: int = IONS,
    config: RunConfig | None = None,
    where: Where | None = None,
    debug: bool = False,
    **words: Unpack[WhereWords],
) -> Placed:
    """Write the pages on which specimens are placed by hand.

    What is missing of the stages ingest and register is run first. A specimen whose automatic
    registration is refused has a page all the same.

    Parameters
    ----------
    manifest, out
        Of a run, finished or not.
    specimens
        Names; default all.
    ions
        Ion images of a page, at most; fewer where the MSI has many pixels.
    config
        Options of a run that is not there yet; one that is keeps its own.
    where, **words
        Where it runs, and its fields by name, which win; default: as Dask is configured, else here.
    debug
        Raise unexpected errors with their traceback in place of setting the specimen aside.

    Returns
    -------
    Placed
        The pages, and the specimens that have none.

    Raises
    ------
    InputError
        A specimen is not in the manifest, `ions` is not a number of 1 to 200, or the manifest or
        the run cannot be used.
    """
    where = dataclasses.replace(where or Where(), **words)
    if not 1 <= ions <= MOST_IONS:
        raise InputError(f"--ions {ions}: give a number of 1 to {MOST_IONS}")
    given, out = out, absolute(out)
    cohort = read_manifest(absolute(manifest))
    asked = list(specimens) or [*cohort.patients, *cohort.problems]
    for name in asked:
        if name not in cohort.patients and name not in cohort.problems:
            raise InputError(f"{manifest}: no specimen {name!r} in it; --specimen takes its names")
    chosen = located(_config(out) or config or RunConfig())
    readable = [name for name in asked if name in cohort.patients]
    _make_ready(manifest, out, readable, chosen, where, debug)
    with held(out, say=say) as lease, connecting(where) as joined:
        lease = sharing(lease, files_of(cohort, chosen))

        def client() -> Any:
            found = joined()
            check_seen(found, files_of(cohort, chosen), lease)
            return found

        job = Run(out, cohort, chosen, client, lease, debug=debug)
        failed = _without(job, asked)
        wanted = [s for s in cohort if s.name in asked and s.name not in failed]
        files = job.identified("place", wanted, _files)
        wanted = [s for s in wanted if s.name in files]
        keys = {s.name: _key(job, s, ions, files[s.name]) for s in wanted}

        def task(specimen: Specimen) -> Task:
            record = job.record("register", specimen.name) or {}
            args = (out, specimen, record, ions)
            return Task(specimen.name, specimen.name, _page, args)

        job.each("place", keys, task, among=wanted)
        _write_index(job)
    failed |= {n: why for n, why in job.failed.items() if n in asked}
    pages = {s.name: page_url(given, s.name) for s in wanted if s.name not in failed}
    return Placed(join(given, BY_HAND, f"{INDEX}.html"), pages, failed)


def page_url(out: str, name: str) -> str:
    """Where the page of a specimen is."""
    return join(out, BY_HAND, f"{name}.html")


def _config(out: str) -> RunConfig | None:
    """The options of a run that is there."""
    plan = Ledger(out).plan()
    if plan is None or "parameters" not in plan:
        return None
    return RunConfig(**kept_options(plan["parameters"]))


def _make_ready(
    manifest: str, out: str, asked: Sequence[str], config: RunConfig, where: Where, debug: bool
) -> None:
    """Run the stages that a page needs where one of the specimens lacks them."""
    ledger = Ledger(out)
    records = {stage: ledger.read_all(stage) for stage in NEEDED}
    ready = (
        records["ingest"].get(name, {}).get("status") == "done" and name in records["register"]
        for name in asked
    )
    if not all(ready):
        run_stages(manifest, out, config=config, where=where, stages=NEEDED, debug=debug)


def _without(job: Run, asked: Sequence[str]) -> dict[str, str]:
    """Specimens that can have no page, and why."""
    failed = {n: why for n, why in job.cohort.problems.items() if n in asked}
    for specimen in job.cohort:
        name = specimen.name
        if name not in asked:
            continue
        if name.lower() == INDEX:
            failed[name] = f"{BY_HAND}/{INDEX}.html is the list of the pages; rename the specimen"
        elif not job.is_done("ingest", name):
            why = (job.record("ingest", name) or job.record("peaks", name) or {}).get("reason")
            failed[name] = str(why or "its MSI was not read; msiscale ingest says why")
    return failed


def _files(specimen: Specimen) -> list[Any]:
    """What tells the files that a page is made of from other versions."""
    return [identity(file) for file in (specimen.slide, specimen.landmarks, specimen.matrix)]


def _key(job: Run, specimen: Specimen, ions: int, files: list[Any]) -> str:
    """All that a page is made of, its scripts among it."""
    record = job.record("register", specimen.name) or {}
    known = [record.get(k) for k in ("status", "digest", "reason")]
    texts = digest([*(own(name, "place") for name in (*SCRIPTS, *STYLES)), *_templates()])
    return job.key("place", job.stamp("ingest", specimen), known, files, specimen.mpp, ions, texts)


def _templates() -> list[str]:
    """The text of what a page is made from."""
    made = templates("place")
    assert made.loader is not None
    return [made.loader.get_source(made, name)[0] for name in ("page.html.j2", "base.html.j2")]


def _page(out: str, specimen: Specimen, record: Mapping[str, Any], ions: int) -> dict[str, Any]:
    found = content(StoredSpecimen.of(out, specimen.name), specimen, record, ions=ions)
    frame = framed(
        f"{specimen.name} – placing – msiscale", list(STYLES), list(SCRIPTS), package="place"
    )
    text = templates("place").get_template("page.html.j2").render(content=found, **frame)
    write_bytes(page_url(out, specimen.name), text.encode())
    start = found["start"]
    return {"start": start["kind"], "says": start["says"], "pairs": len(found["pairs"])}


def _write_index(job: Run) -> None:
    """The list of all pages that there are, of earlier calls too."""
    records = job.records("place")
    rows = [
        {"name": s.name, "patient": s.patient, **records[s.name]}
        for s in job.cohort
        if job.is_done("place", s.name)
    ]
    report = exists(join(job.out, "report.html"))
    facts = [[row[k] for k in ("name", "patient", "says", "pairs")] for row in rows]
    key = job.key("place", facts, report, own("place.css", "place"))
    url = join(job.out, BY_HAND, f"{INDEX}.html")
    if job.done("place", COHORT, key) and exists(url):
        return
    with job.making("place", key):
        frame = framed("Placing – msiscale", list(STYLES), [], package="place")
        page = templates("place").get_template("index.html.j2")
        write_bytes(url, page.render(rows=rows, report=report, **frame).encode())
