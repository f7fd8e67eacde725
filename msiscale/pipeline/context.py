"""What the stages of one run share: where, what, how, and who has been set aside."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from distributed import Client

from msiscale import __version__, log
from msiscale.cohort import Cohort, Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import Block
from msiscale.log import hearing
from msiscale.notices import Notice, lines
from msiscale.pipeline.account import Account
from msiscale.pipeline.scattered import Cells, blocks_of
from msiscale.pipeline.stages import COHORT, PARTS
from msiscale.pipeline.tasks import Finished, Outcome, Task, run_tasks
from msiscale.store import (
    Ledger,
    StoredSpecimen,
    at_once,
    digest,
    is_file,
    is_url,
    join,
    local_path,
    size_and_state,
    split_scene,
)
from msiscale.store.content import content_of, seen
from msiscale.store.lease import Lease
from msiscale.store.ledger import Record
from msiscale.store.seen import see
from msiscale.store.written import Written, recording
from msiscale.work import reason

BEGUN_TOGETHER = 8  # specimens whose arrays are made at a time


@dataclass(frozen=True)
class Begun:
    """A specimen whose arrays are there: side of a block, what was written, blocks done before."""

    block: int
    written: dict[str, str]
    done: dict[str, Record]


@dataclass
class Run:
    """One run over a cohort: every stage takes it and marks in it who failed."""

    out: str
    cohort: Cohort
    config: RunConfig
    join: Callable[[], Client]  # gives the client, when there is a first task
    lease: Lease
    debug: bool = False
    new_axis: bool = False  # find the m/z axis anew, for the specimens of now
    failed: dict[str, str] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    encoder: dict[str, Any] = field(default_factory=dict)
    joined: bool = False  # whether there was a task
    _records: dict[str, dict[str, Record]] = field(default_factory=dict)
    _notices: dict[Notice, None] = field(default_factory=dict)  # each once, in order
    _told: set[tuple[str, str]] = field(default_factory=set)

    @property
    def client(self) -> Client:
        """Of the cluster, which is joined or started when it is first asked for."""
        self.joined = True
        return self.join()

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

    @cached_property
    def _specimens(self) -> dict[str, Specimen]:
        return {s.name: s for s in self.cohort}

    @property
    def names(self) -> list[str]:
        """All that the manifest asks for, those with a bad row too."""
        return [*self.cohort.patients, *self.cohort.problems]

    def specimens(self) -> Iterator[Specimen]:
        """Those that have not been set aside."""
        return (s for s in self.cohort if s.name not in self.failed)

    def key(self, stage: str, *facts: Any) -> str:
        """Digest of a stage: its version and everything that it depends on."""
        return digest([stage, PARTS[stage].version if stage in PARTS else 1, *facts])

    # the ledger as this run sees it: a stage is read once, all records together, and then kept, as
    # nobody else writes while the lease is held

    def records(self, stage: str) -> dict[str, Record]:
        """Every record of a stage, by name."""
        if stage not in self._records:
            self._records[stage] = self.ledger.read_all(stage)
        return self._records[stage]

    def record(self, stage: str, name: str) -> Record | None:
        """The record of a specimen (or of the ``cohort``), or None."""
        return self.records(stage).get(name)

    def is_done(self, stage: str, name: str) -> bool:
        """Whether the stage finished, for whatever digest."""
        record = self.record(stage, name)
        return record is not None and record["status"] == "done"

    def done(self, stage: str, name: str, key: str) -> bool:
        """Whether the stage finished for exactly this digest."""
        return self.is_done(stage, name) and self.records(stage)[name]["digest"] == key

    def write(self, stage: str, name: str, key: str, status: str, **facts: Any) -> None:
        """Record an outcome; call it after everything it vouches for is written."""
        self.records(stage)[name] = self.ledger.write(stage, name, key, status, **facts)

    def identified(
        self, stage: str, specimens: Iterable[Specimen], files: Callable[[Specimen], Any]
    ) -> dict[str, Any]:
        """`files` of each specimen; one whose inputs cannot be reached or read is set aside."""

        def known(specimen: Specimen) -> Any:
            try:
                return files(specimen)
            except (InputError, OSError) as error:
                return error

        asked = list(specimens)
        found = dict(zip((s.name for s in asked), at_once(known, asked), strict=True))
        for name, error in found.items():
            if isinstance(error, Exception):
                self.set_aside(stage, name, "", reason(error))
        return {name: facts for name, facts in found.items() if not isinstance(facts, Exception)}

    def stored(self, specimen: Specimen) -> StoredSpecimen:
        """What was read and placed of a specimen."""
        return StoredSpecimen.of(self.out, specimen.name)

    @contextmanager
    def making(
        self, part: str, key: str, stage: str = "", **counts: int
    ) -> Iterator[dict[str, Any]]:
        """Make a part of the cohort in the client: its old record goes first, the new comes last.

        `key` is the digest of all that the part depends on; `stage` (default: the part's name) is
        charged with the time and the `counts`.

        Yields
        ------
        dict
            To take the facts of the record.
        """
        facts: dict[str, Any] = {}
        heard: dict[str, None] = {}
        self.forget(part, [COHORT])
        with (
            hearing(heard.setdefault),
            self.account.timed(stage or part, **counts),
            self.recording() as noted,
        ):
            yield facts
        for text in heard:
            self.notice(part, "", text)
        facts |= {"notices": [*heard]} if heard else {}
        self.write(part, COHORT, key, "done", **facts, written=noted.parts)

    def forget(self, stage: str, names: Iterable[str]) -> None:
        """Remove records, before what they vouch for is touched."""
        known = self.records(stage)
        self.ledger.forget(stage, [n for n in names if known.pop(n, None) is not None])

    def upstream(self, stage: str, specimen: Specimen) -> Record:
        """The record of an earlier stage, which must be done."""
        if not self.is_done(stage, specimen.name):
            raise RuntimeError(f"{specimen.name}: stage {stage} is not done")
        return self.records(stage)[specimen.name]

    def stamp(self, stage: str, specimen: Specimen) -> str:
        """Digest of an earlier stage, which must be done."""
        return str(self.upstream(stage, specimen)["digest"])

    def set_aside(self, stage: str, name: str, key: str, why: str) -> None:
        """A specimen that cannot go on: recorded, said in one line, left out from here on."""
        self.failed[name] = why
        mine = (n for n in self._notices if (n.stage, n.specimen) == (stage, name))
        own = [n.warned for n in mine]
        heard = {"notices": own} if own else {}
        self.write(stage, name, key, "failed", reason=why, version=__version__, **heard)
        self.say(f"{stage}: {name} set aside: {why}")

    def say(self, text: str) -> None:
        """A line for the user."""
        say(text)

    def notice(self, stage: str, name: str, text: str) -> None:
        """Say what was noticed of a specimen ("" for none), unless this run has said it."""
        self._tell([self._notice(stage, name, text)])

    def _notice(self, stage: str, name: str, text: str) -> Notice:
        return Notice.of(self._specimens.get(name), text, stage)

    def _tell(self, notices: Iterable[Notice]) -> None:
        new = [n for n in notices if (n.specimen, n.text) not in self._told]
        self._told |= {(n.specimen, n.text) for n in new}
        self._notices |= dict.fromkeys(new)
        for line in lines(new):
            self.say(line)

    def _tell_of(self, stage: str, specimens: Iterable[Specimen]) -> None:
        """Say what the records of a stage say was noticed."""
        records = self.records(stage)
        self._tell(
            Notice.of(specimen, text, stage)
            for specimen in specimens
            for text in records.get(specimen.name, {}).get("notices", [])
        )

    def notices(self, earlier: Iterable[Notice]) -> list[Notice]:
        """All that was noticed, by stage, also earlier and in parts that this run left alone."""
        known, mine = {"": "", COHORT: ""} | {n: n for n in self.names}, self._records
        kept = [n for n in earlier if n.stage in PARTS.keys() - mine.keys() and n.specimen in known]
        recorded = [
            self._notice(stage, known[name], text)
            for stage, records in mine.items()
            for name in known
            if name in records
            for text in records[name].get("notices", [])
        ]
        order = {part: i for i, part in enumerate(PARTS)}
        found = dict.fromkeys([*kept, *recorded, *self._notices])
        return sorted(found, key=lambda n: order.get(n.stage, -1))

    def tasks(
        self,
        tasks: Iterable[Task],
        stage: str,
        *,
        total: int | None = None,
        gpu: bool = False,
        finished: Finished | None = None,
    ) -> Outcome:
        """`run_tasks` of this run."""
        if total is None and isinstance(tasks, Sequence):
            total = len(tasks)
        left = iter(tasks)
        first = next(left, None)
        if first is None:
            return Outcome()
        return run_tasks(
            self.client,
            itertools.chain([first], left),
            stage,
            total=total,
            debug=self.debug,
            gpu=gpu,
            finished=finished,
            alive=self.lease.guard,
            noticed=partial(self.notice, stage),
        )

    def recording(self) -> AbstractContextManager[Written]:
        """Notes what the client itself writes, for the record of it."""
        return recording(self.out, self.lease.guard)

    def each(
        self,
        stage: str,
        keys: dict[str, str],
        task: Callable[[Specimen], Task],
        among: list[Specimen] | None = None,
    ) -> None:
        """A stage with one task a specimen, for those whose record does not say done."""
        asked = list(self.specimens()) if among is None else among
        todo = [s for s in asked if not self.done(stage, s.name, keys[s.name])]
        self.forget(stage, [s.name for s in todo])

        def finished(name: str, results: dict[str, Record], failure: str | None) -> None:
            if failure is not None:
                self.set_aside(stage, name, keys[name], failure)
            else:  # its worker has recorded it
                self.records(stage)[name] = results[name]

        tasks = (  # made when their turn comes: what they carry is not in memory all at once
            self._recorded(stage, s.name, keys[s.name], task(s), version=__version__) for s in todo
        )
        outcome = self.tasks(tasks, stage, total=len(todo), finished=finished)
        self._tell_of(stage, asked)
        self.account.add(stage, outcome, redone=len(todo), of=len(asked))

    def blockwise(
        self,
        stage: str,
        keys: dict[str, str],
        shapes: dict[str, tuple[int, int]],
        create: Callable[[Specimen], dict[str, Any]],
        task: Callable[[Specimen, Block], tuple[Callable[..., Any], tuple[Any, ...]]],
        combine: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        cells: Mapping[str, Cells] | None = None,
        gpu: bool = False,
    ) -> None:
        """A stage with one task a block of MSI pixels; finished blocks are not done again.

        `cells` (by specimen) says which blocks are made of images whose regions are far apart.
        """
        apart = cells or {}
        asked = list(self.specimens())
        todo = [s for s in asked if not self.done(stage, s.name, keys[s.name])]
        old = set(self.ledger.folders(stage)) if todo else set()
        begun: dict[str, Begun] = {}
        sent = 0

        def finished(name: str, results: dict[str, Record], failure: str | None) -> None:
            key, made = keys[name], begun.pop(name)
            if failure is not None:
                self.set_aside(stage, name, key, failure)
                return
            done = {**made.done, **results}
            facts = combine([done[part]["facts"] for part in sorted(done)])
            facts |= {"block": made.block, "blocks": len(done), "version": __version__}
            heard = dict.fromkeys(n for part in done.values() for n in part.get("notices", []))
            facts |= {"notices": [*heard]} if heard else {}
            self.write(stage, name, key, "done", written=made.written, **facts)

        def tasks() -> Iterator[Task]:
            """Arrays are made, some specimens at a time, just before their blocks are sent."""
            nonlocal sent
            for some in batched(todo, BEGUN_TOGETHER):
                made = at_once(lambda s: self._begin(stage, s, keys[s.name], create, old), some)
                for specimen, start in zip(some, made, strict=True):
                    name, key = specimen.name, keys[specimen.name]
                    begun[name] = start
                    cut = blocks_of(apart.get(name), shapes[name], start.block)
                    named = {block_name(name, block): block for block in cut}
                    missing = [part for part in named if part not in start.done]
                    if not missing:  # all were done when the run was stopped
                        finished(name, {}, None)
                    sent += len(missing)
                    for part in missing:
                        one = Task(part, name, *task(specimen, named[part]), len(missing))
                        yield self._recorded(stage, part, key, one)

        size = self.config.block
        total = sum(len(blocks_of(apart.get(s.name), shapes[s.name], size)) for s in todo)
        outcome = self.tasks(tasks(), stage, total=total, gpu=gpu, finished=finished)
        self._tell_of(stage, asked)
        self.account.add(stage, outcome, redone=len(todo), of=len(asked), blocks=sent)

    def _begin(
        self,
        stage: str,
        specimen: Specimen,
        key: str,
        create: Callable[[Specimen], dict[str, Any]],
        old: set[str],
    ) -> Begun:
        """Make the arrays of a specimen, or find them begun."""
        name, ledger = specimen.name, self.ledger
        record = self.record(stage, name)
        if record and record["status"] == "started" and record["digest"] == key:
            known = ledger.read_all(stage, name)
            done = {p: r for p, r in known.items() if r["status"] == "done" and r["digest"] == key}
            return Begun(int(record["block"]), record["written"], done)
        self.forget(stage, [name])
        if name in old:  # blocks of another digest
            ledger.forget_parts(stage, name)
        with self.recording() as noted:
            facts = create(specimen)
        size = self.config.block
        self.write(stage, name, key, "started", block=size, written=noted.parts, **facts)
        return Begun(size, noted.parts, {})

    def _recorded(self, stage: str, name: str, key: str, task: Task, **facts: Any) -> Task:
        args = (self.lease, stage, name, key, facts, task.function, task.args)
        return Task(task.name, task.specimen, recorded, args, task.siblings)


def say(text: str) -> None:
    """A line for the user, with no secret of a URL in it."""
    log.say(text)


def batched(items: list[Specimen], size: int) -> Iterator[list[Specimen]]:
    """Some at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))


def block_name(specimen: str, block: Block) -> str:
    """The ledger's name of a block."""
    return f"{specimen}/{block.y0}-{block.x0}"


def recorded(
    lease: Lease,
    stage: str,
    name: str,
    key: str,
    more: dict[str, Any],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> Record:
    """Run a task while the lease is held; record it once its data are written; return that."""
    heard: dict[str, None] = {}
    try:
        with hearing(heard.setdefault):
            facts, wrote = noting(lease, function, args)
    except BaseException:
        for text in heard:  # said of what failed too
            warnings.warn(text, MsiscaleWarning, stacklevel=2)
        raise
    # of a block the facts stand apart, to be combined
    found = facts if "/" not in name else {"facts": facts}
    if heard:
        found = {**found, "notices": [*heard]}
    return Ledger(lease.out).write(stage, name, key, "done", **wrote, **more, **found)


def noting(
    lease: Lease, function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a task returns, and what it wrote."""
    see(lease)
    lease.guard()
    with recording(lease.out, lease.guard) as noted:
        facts = function(*args)
    lease.guard()
    return facts, {"written": noted.parts, "bytes_written": noted.bytes}


def _metadata(folder: str) -> str:
    """The file that a Zarr store of format 3 or 2 begins with; the folder where there is none."""
    names = (join(folder, name) for name in ("zarr.json", ".zmetadata", ".zgroup"))
    return next(filter(is_file, names), folder)


def identity(path: str | None, *companions: str) -> list[Any] | None:
    """What tells a file from another version: size, time and digest, or the store's tag."""
    if path is None:
        return None
    found: list[Any] = []
    for named in (path, *companions):
        name, _ = split_scene(named)
        folder = not is_url(name) and local_path(name).is_dir()
        file = _metadata(name) if folder else name
        try:
            size, state = size_and_state(file)
        except FileNotFoundError:
            if not is_url(name):
                raise
            size, state = size_and_state(_metadata(name))  # a folder of a store
        found.append([named.rsplit("/", 1)[-1], size, state])
        if not is_url(file) and local_path(file).is_file():
            found[-1].append(seen(local_path(file))[-1])
        elif folder and file == name:  # of files of another kind, as DICOM
            found[-1].append(content_of(name))
    return found
