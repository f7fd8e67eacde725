"""What the stages of one run share: where, what, how, and who has been set aside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
from distributed import Client

from msiscale import __version__
from msiscale.cohort import Cohort, Specimen
from msiscale.config import RunConfig
from msiscale.grid import Block, blocks
from msiscale.pipeline.tasks import Outcome, Task, run_tasks
from msiscale.store import Ledger, digest, is_url, join, local_path

# a stage whose numbers change gets the next number, and its old results are made anew
STAGE_VERSIONS = {"peaks": 1, "ingest": 1, "register": 1, "features": 1, "sums": 3, "fit": 2}


@dataclass
class Run:
    """One run over a cohort: every stage takes it and marks in it who failed."""

    out: str
    cohort: Cohort
    config: RunConfig
    client: Client
    debug: bool = False
    new_axis: bool = False  # find the m/z axis anew, for the specimens of now
    failed: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.out)

    @property
    def cohort_url(self) -> str:
        return join(self.out, "cohort.zarr")

    @property
    def state_url(self) -> str:
        return join(self.out, "state.zarr")

    @property
    def predictions_url(self) -> str:
        return join(self.out, "predictions.zarr")

    @property
    def names(self) -> list[str]:
        """All that the manifest asks for, those with a bad row too."""
        return [*self.cohort.patients, *self.cohort.problems]

    def specimens(self) -> Iterator[Specimen]:
        """Those that have not been set aside."""
        return (s for s in self.cohort if s.name not in self.failed)

    def key(self, stage: str, *facts: Any) -> str:
        """Digest of a stage: its version and everything that it depends on."""
        return digest([stage, STAGE_VERSIONS.get(stage, 1), *facts])

    def upstream(self, stage: str, specimen: Specimen) -> dict[str, Any]:
        """The record of an earlier stage, which must be done."""
        record = self.ledger.read(stage, specimen.name)
        if record is None or record["status"] != "done":
            raise RuntimeError(f"{specimen.name}: stage {stage} is not done")
        return record

    def set_aside(self, stage: str, name: str, key: str, why: str) -> None:
        """A specimen that cannot go on: recorded, said in one line, left out from here on."""
        self.failed[name] = why
        self.ledger.write(stage, name, key, "failed", reason=why, version=__version__)
        self.say(f"{stage}: {name} set aside: {why}")

    def say(self, text: str) -> None:
        """A line for the user."""
        print(f"msiscale: {text}", file=sys.stderr, flush=True)

    def each(
        self,
        stage: str,
        keys: dict[str, str],
        task: Callable[[Specimen], Task],
        among: list[Specimen] | None = None,
    ) -> None:
        """A stage with one task a specimen, for those whose record does not say done."""
        asked = list(self.specimens()) if among is None else among
        todo = [s for s in asked if not self.ledger.done(stage, s.name, keys[s.name])]
        self.ledger.forget(stage, [s.name for s in todo])
        outcome = run_tasks(self.client, [task(s) for s in todo], stage, debug=self.debug)
        for specimen in todo:
            name = specimen.name
            if name in outcome.failed:
                self.set_aside(stage, name, keys[name], outcome.failed[name])
            else:
                facts = outcome.results[name]
                self.ledger.write(stage, name, keys[name], "done", version=__version__, **facts)
        self.account(stage, outcome, redone=len(todo))

    def blockwise(
        self,
        stage: str,
        keys: dict[str, str],
        shapes: dict[str, tuple[int, int]],
        create: Callable[[Specimen], dict[str, Any]],
        task: Callable[[Specimen, Block], tuple[Callable[..., Any], tuple[Any, ...]]],
        combine: Callable[[list[dict[str, Any]]], dict[str, Any]],
    ) -> None:
        """A stage with one task a block of MSI pixels; finished blocks are not done again."""
        ledger, todo, tasks, parts = self.ledger, [], [], {}
        for specimen in self.specimens():
            name, key = specimen.name, keys[specimen.name]
            if ledger.done(stage, name, key):
                continue
            todo.append(specimen)
            started = ledger.read(stage, name)
            if not started or started["status"] != "started" or started["digest"] != key:
                ledger.forget(stage, [name])
                ledger.forget_parts(stage, name)
                facts = create(specimen)
                started = {"block": self.config.block, **facts}
                ledger.write(stage, name, key, "started", **started)
            size = int(started["block"])  # of the shards as they were made
            parts[name] = [block_name(name, b) for b in blocks(shapes[name], (size, size))]
            for block in blocks(shapes[name], (size, size)):
                if not ledger.done(stage, block_name(name, block), key):
                    function, args = task(specimen, block)
                    tasks.append(
                        Task(
                            block_name(name, block),
                            name,
                            recorded,
                            (self.out, stage, block_name(name, block), key, function, args),
                        )
                    )
        outcome = run_tasks(self.client, tasks, stage, debug=self.debug)
        for specimen in todo:
            name, key = specimen.name, keys[specimen.name]
            if name in outcome.failed:
                self.set_aside(stage, name, key, outcome.failed[name])
                continue
            records = [ledger.read(stage, part) or {} for part in parts[name]]
            facts = combine([r["facts"] for r in records])
            ledger.write(stage, name, key, "done", version=__version__, **facts)
        self.account(stage, outcome, redone=len(todo), blocks=len(tasks))

    def account(self, stage: str, outcome: Outcome, **facts: Any) -> None:
        """Timings for ``run.json``; a stage that ran in two parts adds up."""
        entry = self.stages.setdefault(stage, {"wall_s": 0.0, "cpu_s": 0.0, "peak_mib": 0.0})
        entry["wall_s"] += outcome.wall_s
        entry["cpu_s"] += outcome.cpu_s
        entry["peak_mib"] = max(entry["peak_mib"], outcome.peak_mib)
        for name, value in facts.items():
            entry[name] = entry.get(name, 0) + value


def block_name(specimen: str, block: Block) -> str:
    """The ledger's name of a block."""
    return f"{specimen}/{block.y0}-{block.x0}"


def recorded(
    out: str, stage: str, name: str, key: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Run a block's task and, its data being written, record it."""
    facts = function(*args)
    Ledger(out).write(stage, name, key, "done", facts=facts)


def identity(path: str | None, *companions: str) -> list[Any] | None:
    """What tells one version of a file from another: size and time, or the store's tag."""
    if path is None:
        return None
    found: list[Any] = []
    for name in (path, *companions):
        fs, inner = fsspec.core.url_to_fs(name)
        if not is_url(name) and local_path(name).is_dir():
            inner = join(name, "zarr.json") if fs.exists(join(name, "zarr.json")) else inner
        info = fs.info(inner)
        stamp = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
        found.append([name.rsplit("/", 1)[-1], info.get("size"), str(stamp)])
    return found
