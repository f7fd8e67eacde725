"""The undisturbed run, one case of the matrix, and what the cases come to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.cases import FAULTS, LIMIT_S, Case
from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.stand import STAGES, Running, Stand, Way, small_disk
from msiscale.errors import InputError

PATIENCE_S = 900.0  # for all commands of a case; a lease of a killed run has to end in it
DISK_MIB = 512
WRONG = ("mixed", "unnoticed")  # facts that count as a difference
SHARES = (0.15, 0.05, 0.0)  # of a stage's time, until the fault comes; the first run is the slowest


@dataclass
class Undisturbed:
    """The run that all others are compared with."""

    contents: dict[str, str]
    tasks: Counter[str]
    seconds: float
    stage_s: dict[str, float]
    requests: int  # to the object store, by everybody


@dataclass
class Row:
    """What came of one case."""

    fault: str
    stage: str
    seconds: float
    reruns: int
    lost: tuple[str, ...]
    different: tuple[str, ...]
    redone_tasks: int
    stuck: int = 0
    facts: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The row's numbers."""
        return {
            "seconds": self.seconds,
            "survived": float(self.reruns == 0),
            "reruns": float(self.reruns),
            "redone_tasks": float(self.redone_tasks),
            "lost": float(len(self.lost) + self.stuck),
            "different": float(len(self.different) + sum(int(self.facts.get(n, 0)) for n in WRONG)),
            **self.facts,
        }

    def flat(self) -> dict[str, float]:
        """The same under their keys."""
        return {f"{self.fault}.{self.stage}.{n}": value for n, value in self.figures().items()}


def totals(rows: list[Row]) -> dict[str, float]:
    """``cases``, ``lost``, ``different``, and how many the first command survived."""
    figures = [row.figures() for row in rows]
    counted = ("lost", "different", "survived", "tracebacks")
    sums = {n: sum(f.get(n, 0.0) for f in figures) for n in counted}
    return {"cases": float(len(rows)), **sums}


def undisturbed(place: Stand) -> Undisturbed:
    """A run that nothing happens to."""
    since, began, asked = place.tally(), time.monotonic(), _requests(place)
    out, store = place.new_out("undisturbed")
    run = place.start(out)
    starts: dict[str, float] = {}
    for stage in STAGES:
        if run.await_stage(stage, LIMIT_S):
            starts[stage] = time.monotonic()
    code = run.wait(LIMIT_S)
    ended = time.monotonic()
    if code != 0:
        raise InputError(f"the undisturbed run ended with status {code}: {_last(run)}")
    ends = [*list(starts.values())[1:], ended]
    stage_s = {s: end - starts[s] for s, end in zip(starts, ends, strict=True)}
    requests = _requests(place) - asked
    return Undisturbed(snapshot(store), place.finished(since), ended - began, stage_s, requests)


def _requests(place: Stand) -> int:
    return place.proxy.requests if place.proxy is not None else 0


def one_case(place: Stand, reference: Undisturbed, fault: str, stage: str) -> Row:
    """Let a fault happen at a stage, give the command again until it is done, and compare."""
    for share in SHARES:
        row = _attempt(place, reference, fault, stage, share * reference.stage_s[stage])
        if row is not None:
            return row
    raise InputError(f"{fault}: stage {stage} was over before it came; make the cohort larger")


def _attempt(
    place: Stand, reference: Undisturbed, fault: str, stage: str, delay_s: float
) -> Row | None:
    """A case; None where the stage was over before the fault."""
    injection = FAULTS[fault]
    name = f"{fault}-{stage}-{place.runs}"
    way = place.way(injection.place)
    with _output(place, name, way, on_disk=injection.place == "disk") as (out, store):
        since, began = place.tally(), time.monotonic()
        run = place.start(out, way)
        if not run.await_stage(stage, LIMIT_S):
            raise InputError(f"{fault}: stage {stage} was not reached: {_last(run)}")
        time.sleep(delay_s)
        if run.past(stage):
            run.wait(LIMIT_S)
            return None
        case = Case(place, run, stage, out, way, store)
        injection.act(case)
        run = case.run
        code = run.wait(LIMIT_S)
        reruns, stuck, said = 0, int(code is None), [case.run]
        place.mend(way.cluster)
        while code != 0:
            if time.monotonic() > began + PATIENCE_S:
                raise InputError(
                    f"{fault} at {stage}: not done after {reruns} reruns: {_last(run)}"
                )
            reruns += 1
            run = place.start(out, way, again=True)
            said.append(run)
            code = run.wait(LIMIT_S)
            stuck += code is None
            if code:
                time.sleep(1)  # refused while the lease of the first still holds
        seconds = time.monotonic() - began
        difference = compare(reference.contents, snapshot(store))
        again = place.finished(since)
        case.facts["tracebacks"] = float(sum(noisy(one) for one in said))
    return Row(
        fault,
        stage,
        seconds,
        reruns,
        difference.lost,
        difference.different,
        sum(max(0, n - reference.tasks[key]) for key, n in again.items()),
        stuck,
        case.facts,
    )


@contextmanager
def _output(place: Stand, name: str, way: Way, *, on_disk: bool) -> Iterator[tuple[str, Any]]:
    if not on_disk:
        yield place.new_out(name, local=way.local)
        return
    with small_disk(place.folder / f"disk-{name}", DISK_MIB):
        yield place.new_out(f"disk-{name}/out", local=True)


def noisy(run: Running) -> bool:
    """Whether a command has shown its user what is none of theirs."""
    return any(word in run.said() for word in ("Traceback", "CommClosedError", "StreamClosed"))


def _last(run: Running) -> str:
    lines = run.said().splitlines()
    return lines[-1] if lines else "it said nothing"
