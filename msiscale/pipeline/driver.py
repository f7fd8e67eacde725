"""One command over a cohort: every stage in order, each believing only what was finished."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from distributed import Client

from msiscale import __version__, msi
from msiscale.cluster import Where, connecting
from msiscale.cohort import FILES, Specimen, read_manifest
from msiscale.config import (
    NOT_REPRODUCED,
    RunConfig,
    as_dict,
    follows_study,
    load_config,
)
from msiscale.errors import InputError
from msiscale.log import hearing
from msiscale.models.incremental import need_dask_ml
from msiscale.notices import COLUMNS as OF_NOTICES
from msiscale.notices import Notice
from msiscale.notices import table as table_of_notices
from msiscale.pipeline.account import totals
from msiscale.pipeline.annotate import annotated
from msiscale.pipeline.axis import given_axis
from msiscale.pipeline.context import Run, say
from msiscale.pipeline.evaluate import IN_BATCHES
from msiscale.pipeline.features import encoder_facts
from msiscale.pipeline.placement import not_there
from msiscale.pipeline.places import files_of, located
from msiscale.pipeline.progress import ended, specimens
from msiscale.pipeline.recalibration import given_masses
from msiscale.pipeline.stages import COHORT, STAGES, Stage, stage_named, stage_of
from msiscale.pipeline.twins import twins
from msiscale.store import (
    absolute,
    at_once,
    exists,
    is_url,
    join,
    local_path,
    make_root,
    read_csv,
    split_scene,
    write_csv,
    write_json,
)
from msiscale.store.content import recall, seen
from msiscale.store.lease import held
from msiscale.store.seen import check_seen, sharing

PACKAGES = ("dask", "distributed", "numpy", "scikit-learn", "scipy", "torch", "xarray", "zarr")


@dataclass(frozen=True)
class Result:
    """What a run left behind: `out`, and the specimens that failed with their reasons."""

    out: str
    total: int
    failed: dict[str, str] = field(default_factory=dict)

    def summary(self) -> Iterator[str]:
        """Headline lines: figures of what was held out, biomarkers, where the report is."""
        from msiscale.report import Results
        from msiscale.report.headline import lines

        yield from lines(Results(self.out))
        found = join(self.out, "biomarkers.csv")
        if exists(found):
            yield "strongest m/z:"
            for row in read_csv(found).head(5).itertuples():
                name = row.annotation if isinstance(row.annotation, str) else "-"
                adduct = row.adduct if isinstance(row.adduct, str) else ""
                yield f"  {row.mz:10.4f}  AUC {row.auc:.3f}  {name} {adduct}"
        if exists(join(self.out, "annotations.csv")):
            yield from annotated(self.out)
        page = join(self.out, "report.html")
        if exists(page):
            yield f"report: {page}"


def run(
    manifest: str,
    out: str,
    *,
    config: RunConfig | None = None,
    where: Where | None = None,
    stages: Sequence[str] | None = None,
    new_axis: bool = False,
    debug: bool = False,
    **choices: Any,
) -> Result:
    """Run the stages of a cohort; finished work of an earlier run is kept.

    Parameters
    ----------
    manifest
        CSV or Parquet of specimens (see `msiscale.cohort.read_manifest`).
    out
        Folder or URL of the results.
    config, where
        A `RunConfig`, and a `msiscale.cluster.Where`; default: as Dask is configured, else here.
    stages
        Names out of `msiscale.pipeline.STAGES`; default all but those that are asked for. A stage
        whose forerunners are missing says so.
    new_axis
        Find the m/z axis anew for the specimens of now; every cube is then made again.
    debug
        Raise unexpected errors with their traceback in place of setting the specimen aside.
    **choices
        Fields of `config` and of `where` by name, which win.

    Returns
    -------
    Result
        ``failed`` names the specimens that were set aside; the others are done.

    Raises
    ------
    InputError
        The manifest or a choice cannot be used, two patients have the same file, or no specimen has
        finished the earlier stages.

    Examples
    --------
    >>> import msiscale as ms
    >>> result = ms.run(
    ...     "cohort/manifest.csv", "results", stages=("ingest", "register"), workers=1
    ... )
    >>> result.total, result.failed
    (4, {})
    """
    where = (where or Where()).take(choices)
    chosen = load_config(None, **choices) if config is None else replace(config, **choices)
    asked = [s.name for s in STAGES if not s.asked_for] if stages is None else stages
    chain = [stage_named(name) for name in asked]
    names = [stage.name for stage in chain]
    if new_axis and chosen.axis:
        raise InputError(f"option axis = {chosen.axis!r}: leave it out to have a new axis found")
    if "fit" in names and chosen.pca in IN_BATCHES:
        need_dask_ml()
    if "ingest" in names:
        given_axis(chosen)  # one that will not do is said before anything is read
        if chosen.recalibrate is not None:
            given_masses(chosen)
    # workers have another folder, on this machine too
    result, chosen, out = Result(out, 0), located(chosen), absolute(out)
    cohort = read_manifest(absolute(manifest))
    unknown = not_there(chosen, cohort)
    if unknown:
        raise InputError(unknown)
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    again = exists(join(out, "run.json"))
    with held(out, say=say) as lease, connecting(where) as join_cluster:
        lease = sharing(lease, files_of(cohort, chosen))

        @cache
        def joined() -> Client:
            client = join_cluster()
            check_seen(client, files_of(cohort, chosen), lease)
            return client

        job = Run(out, cohort, chosen, joined, lease, debug=debug, new_axis=new_axis)
        _refuse_twins(job)
        # before anything is touched: all is to be done, or it costs nothing as it runs already
        if not again or where.scheduler is not None:
            _ = job.client
        for url in (job.cohort_url, job.state_url, job.predictions_url):
            make_root(url)  # so that the whole opens as one tree
        _note_manifest(job)
        _write_run(job, started, began)
        _set_aside_earlier(job, chain)
        if "features" in names:
            encoder_facts(job)  # weights that cannot be had are said before hours of work
        for stage in chain:
            n = len(list(job.specimens()))
            if not n:
                break
            job.say(f"{stage.name} ({specimens(n)})")
            for what in NOT_REPRODUCED if stage.name == "fit" and follows_study(chosen) else ():
                job.notice(
                    "fit", "", f"the choices of the published study are taken, but not {what}"
                )
            before, at = len(job.failed), time.perf_counter()
            with hearing(partial(job.notice, stage.name, "")):
                stage.function(job)
            spent, failed = job.account.stages.get(stage.name, {}), len(job.failed) - before
            job.say(ended(stage.name, time.perf_counter() - at, n, failed, spent))
            _write_run(job, started, began)
    total = len(cohort) + len(cohort.problems)
    return replace(result, total=total, failed=job.failed)


def _refuse_twins(job: Run) -> None:
    """No patient is left out whose files are those of another. InputError where there is one."""
    for record in job.records("manifest").values():
        recall(record.get("seen", {}))  # so that what was read before is not read again
    found = twins(job.cohort)
    if found.problems:
        first, *others = found.problems
        more = f" ({len(others)} more: msiscale check names them)" if others else ""
        raise InputError(f"{first}{more}")
    for notice in found.notices:
        job.notice("manifest", notice.specimen, f"{notice.file}: {notice.text}")


def _note_manifest(job: Run) -> None:
    """Rows that could not be used are failures of their specimens."""
    known = job.records("manifest")

    def write(specimen: Specimen) -> None:
        facts = {"msi": specimen.msi, "slide": specimen.slide, "seen": _seen(specimen)}
        if known.get(specimen.name) != {"digest": "", "status": "done", **facts}:
            job.write("manifest", specimen.name, "", "done", **facts)

    at_once(write, job.cohort)
    for name, why in job.cohort.problems.items():
        job.set_aside("manifest", name, "", why)


def _seen(specimen: Specimen) -> dict[str, list[Any]]:
    """The local files of a specimen as they are now, so that a rerun need not read them again."""
    files = [getattr(specimen, name) for name in FILES]
    files = [split_scene(file)[0] for file in files if file]
    with suppress(InputError, OSError):  # said by the stage that needs it
        files += msi.companions(specimen.msi)
    found = {}
    for path in (local_path(file) for file in files if not is_url(file)):
        with suppress(OSError):
            if path.is_file():
                found[str(path)] = [*seen(path)]
    return found


def _set_aside_earlier(job: Run, chain: list[Stage]) -> None:
    """A single stage works on the specimens whose earlier stages are done."""
    makes = {part.name for stage in chain for part in stage.parts}
    needed = [part for part in chain[0].before if part not in makes]
    for specimen in list(job.specimens()):
        missing = next((p for p in needed if not job.is_done(p, specimen.name)), None)
        if missing:
            why = f"stage {stage_of(missing)} is not done; run it first"
            job.failed[specimen.name] = why
    if needed and not list(job.specimens()) and len(job.cohort):
        raise InputError(f"{job.out}: {next(iter(job.failed.values()))}")


def _write_run(job: Run, started: str, began: float) -> None:
    """``run.json``; stages that had nothing to do keep their earlier figures."""
    earlier = job.ledger.plan() or {}
    before, stages = earlier.get("stages", {}), job.account.as_dict()
    cost = {**earlier.get("cost", {}), **job.account.cost()}
    fresh = {k: v for k, v in stages.items() if v.get("redone", 1) or k not in before}
    notices = [asdict(n) for n in job.notices(Notice(**n) for n in earlier.get("notices", []))]
    axis = job.record("axis", COHORT) or {}
    children = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    document = {
        "manifest": job.cohort.path,
        "specimens": job.names,
        "patients": job.cohort.patients,
        "failed": job.failed,
        "notices": notices,
        "started": started,
        "wall_s": round(time.perf_counter() - began, 3),
        "stages": {**before, **fresh},
        "totals": totals({**before, **fresh}),
        "cost": {k: v for k, v in cost.items() if k in job.names},
        "client_peak_mib": round(children, 1),
        "workers": len(job.client.scheduler_info(n_workers=-1)["workers"])
        if job.joined
        else earlier.get("workers", 0),
        "mz_window": axis.get("window", {}),
        "captured": axis.get("captured", {}),
        "parameters": as_dict(job.config),
        "versions": {
            "msiscale": __version__,
            "python": platform.python_version(),
            **{p: version(p) for p in PACKAGES},
        },
    }
    if notices != earlier.get("notices"):  # before the document, so that a stop between is mended
        write_csv(join(job.out, "notices.csv"), table_of_notices(notices), OF_NOTICES)
    write_json(join(job.out, "run.json"), document)
