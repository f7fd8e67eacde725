"""Each fault at each stage: what was lost, what differs from an undisturbed run, what was redone.

A phantom cohort runs undisturbed on a real scheduler with two workers; then once for each fault and
stage, the fault coming when the stage's line has appeared. The same command is given again until it
ends with status 0, and every array, chunk, table and ledger record is compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._faults_cases import FAULTS, LIMIT_S, Case, missing
from benchmarks._faults_compare import compare, snapshot
from benchmarks._faults_stand import STAGES, Running, Stand, names, small_disk, stand
from deploy.services import Cluster, s3_server
from msiscale.errors import InputError

PATIENCE_S = 900.0  # for all commands of a case; a lease of a killed run has to end in it
DISK_MIB = 512
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

    def flat(self) -> dict[str, float]:
        """The row under its keys."""
        found = {
            "seconds": self.seconds,
            "survived": float(self.reruns == 0),
            "reruns": float(self.reruns),
            "redone_tasks": float(self.redone_tasks),
            "lost": float(len(self.lost) + self.stuck),
            "different": float(len(self.different) + int(self.facts.get("mixed", 0))),
            **self.facts,
        }
        return {f"{self.fault}.{self.stage}.{name}": value for name, value in found.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes beside ``--json``."""
    parser.add_argument("--quick", action="store_true", help="one stage a fault")
    parser.add_argument("--faults", default="", help=f"commas, out of {','.join(FAULTS)}")
    parser.add_argument("--stages", default="", help=f"commas, out of {','.join(STAGES)}")
    parser.add_argument(
        "--files", choices=("s3", "local"), default="s3", help="where manifest and output are"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="a new folder for outputs and logs; they stay"
    )


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Run the matrix; see `options`.

    Raises
    ------
    InputError
        A name is unknown, the object store cannot be started, the undisturbed run fails, or a
        fault came too late for its stage every time.
    """
    faults = names(_words(words.faults), list(FAULTS), "--faults")
    stages = names(_words(words.stages), list(STAGES), "--stages")
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(words.keep))
        server = None
        if words.files == "s3":
            server = stack.enter_context(s3_server(folder / "ceph"))
        place = stack.enter_context(stand(folder / "stand", server))
        reference = undisturbed(place)
        print(f"undisturbed: {reference.seconds:.1f} s, {sum(reference.tasks.values())} tasks")
        print(HEAD, flush=True)
        for fault in faults:
            if why := missing(fault, place):
                skipped[fault] = why
                continue
            quick = FAULTS[fault].quick
            chosen = [quick] if words.quick and quick in stages else stages
            for stage in chosen:
                rows.append(one_case(place, reference, fault, stage))
                print(_line(rows[-1]), flush=True)
    for fault, why in skipped.items():
        print(f"{fault}: not run: {why}")
    found = {
        "undisturbed.seconds": reference.seconds,
        "undisturbed.tasks": float(sum(reference.tasks.values())),
        "undisturbed.requests": float(reference.requests),
    }
    for row in rows:
        found |= row.flat()
    return totals(rows) | found


def totals(rows: list[Row]) -> dict[str, float]:
    """``cases``, ``lost``, ``different``, and how many the first command survived."""
    flat = [list(row.flat().items()) for row in rows]
    sums = Counter[str]()
    for row in flat:
        for key, value in row:
            sums[key.rsplit(".", 1)[-1]] += value  # type: ignore[assignment]
    return {
        "cases": float(len(rows)),
        "lost": float(sums["lost"]),
        "different": float(sums["different"]),
        "survived": float(sums["survived"]),
    }


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
    cluster = place.networked()[0] if injection.place == "net" else place.cluster
    with _output(place, name, on_disk=injection.place == "disk") as (out, store):
        since, began = place.tally(), time.monotonic()
        run = place.start(out, cluster)
        if not run.await_stage(stage, LIMIT_S):
            raise InputError(f"{fault}: stage {stage} was not reached: {_last(run)}")
        time.sleep(delay_s)
        if run.past(stage):
            run.wait(LIMIT_S)
            return None
        case = Case(place, run, stage, out, cluster)
        injection.act(case)
        code = run.wait(LIMIT_S)
        reruns, stuck = 0, int(code is None)
        _mend(place, cluster)
        while code != 0:
            if time.monotonic() > began + PATIENCE_S:
                raise InputError(
                    f"{fault} at {stage}: not done after {reruns} reruns: {_last(run)}"
                )
            reruns += 1
            run = place.start(out, cluster)
            code = run.wait(LIMIT_S)
            stuck += code is None
            if code:
                time.sleep(1)  # refused while the lease of the first still holds
        seconds = time.monotonic() - began
        difference = compare(reference.contents, snapshot(store))
        again = place.finished(since)
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


def _mend(place: Stand, cluster: Cluster) -> None:
    if cluster is place.net_cluster:
        place.mend_network()
    else:
        cluster.mend(place.workers)


@contextmanager
def _output(place: Stand, name: str, *, on_disk: bool) -> Iterator[tuple[str, Any]]:
    if not on_disk:
        yield place.new_out(name)
        return
    with small_disk(place.folder / f"disk-{name}", DISK_MIB):
        yield place.new_out(f"disk-{name}/out", local=True)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)


def _words(text: str) -> list[str]:
    return [w for w in text.split(",") if w]


def _last(run: Running) -> str:
    lines = run.said().splitlines()
    return lines[-1] if lines else "it said nothing"


COLUMNS = ("seconds", "survived", "reruns", "redone_tasks", "lost", "different")
HEAD = f"{'fault':<20}{'stage':<12}" + "".join(f"{c:>13}" for c in COLUMNS)


def _line(row: Row) -> str:
    values = {key.rsplit(".", 1)[-1]: value for key, value in row.flat().items()}
    text = f"{row.fault:<20}{row.stage:<12}"
    text += "".join(f"{values[c]:>13.4g}" for c in COLUMNS)
    more = [*(f"lost {n}" for n in row.lost[:3]), *(f"different {n}" for n in row.different[:3])]
    return text + "".join(f"\n    {line}" for line in more)
