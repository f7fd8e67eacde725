"""Is everything that the ledger vouches for still there, and what it was when it was written?

Each record says what its task wrote, with checksums of the values (`msiscale.store.written`). Here
all of it is read again: a chunk that is missing, short or altered is named, with the stage that
makes it. Memory: one block of one array a worker.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from msiscale.cluster import Where, connect
from msiscale.errors import InputError
from msiscale.pipeline.stages import COHORT, PARTS, stage_named, stage_of
from msiscale.pipeline.tasks import Task, run_tasks
from msiscale.store import (
    Ledger,
    LostChunk,
    absolute,
    at_once,
    exists,
    join,
    open_group,
    read_bytes,
    remove,
)
from msiscale.store.lease import held
from msiscale.store.ledger import Record
from msiscale.store.seen import check_seen
from msiscale.store.written import crc

CUT = "empty or cut"
_PART = re.compile(r"(.+)\[(\d+):(\d+),(\d+):(\d+)\]")


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    stage: str  # of the ledger
    name: str  # specimen, or `cohort`
    record: str  # of the ledger: the name, or that of a block
    what: str  # one line, which names the file

    def __str__(self) -> str:
        return f"{self.name}: stage {stage_of(self.stage)}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What was looked at, and what is damaged."""

    records: int
    checked: int
    damages: tuple[Damage, ...]


def verify(out: str, *, redo: bool = False, where: Where | None = None) -> Verdict:
    """Read again all that the run at `out` has recorded.

    Parameters
    ----------
    out
        Folder or URL of the run.
    redo
        Drop the records of what is damaged, so that the next run makes it anew (and only that).
    where
        A cluster, for a cohort that one machine would take too long to read.

    Returns
    -------
    Verdict
        What was checked, and what is damaged.

    Raises
    ------
    InputError
        `out` holds no run, or a record could not be checked.
    """
    out = absolute(out)
    if not exists(join(out, "run.json")):
        raise InputError(f"{out}: no run there; give the folder or URL of --out")
    ledger = Ledger(out)
    tasks: list[Task] = []
    damages: list[Damage] = []
    for stage in ledger.stages():
        records, damaged = ledger.looked_through(stage)
        damages += [Damage(stage, n, n, f"ledger/{stage}/{n}.json: {CUT}") for n in damaged]
        tasks += [
            Task(f"{stage}/{name}", f"{stage}/{name}", _check, (out, stage, name, record))
            for name, record in sorted(records.items())
            if record.get("status") == "done" and stage != "manifest"
        ]
    with connect(where or Where()) as client:
        check_seen(client, [join(out, "run.json")])
        outcome = run_tasks(client, tasks, "verify")
    for name, why in outcome.failed.items():
        raise InputError(f"{out}: {name} could not be verified: {why}")
    found = [outcome.results[task.name] for task in tasks]
    damages += [d for part in found for d in part["damages"]]
    if redo and damages:
        with held(out):
            _forget(out, tuple(damages))
    return Verdict(len(tasks), sum(part["checked"] for part in found), tuple(damages))


def _check(out: str, stage: str, name: str, record: Record) -> dict[str, Any]:
    """Look at what one record vouches for, and its blocks."""
    ledger = Ledger(out)
    parts = {name: record}
    damages: list[Damage] = []
    if "block" in record:
        blocks, cut = ledger.looked_through(stage, name)
        damages = [Damage(stage, name, n, f"ledger/{stage}/{n}.json: {CUT}") for n in cut]
        key = record["digest"]
        parts |= {part: r for part, r in blocks.items() if r.get("digest") == key}
    checked = 0
    groups: dict[str, str] = {}
    gone = record.get("blocks", 0) - len(parts) + 1 - len(damages)
    if gone > 0:
        damages.append(Damage(stage, name, name, f"{gone} records of its blocks are lost"))
    for part, entry in parts.items():
        for written, checksum in entry.get("written", {}).items():
            checked += 1
            wrong = _damages(out, written, checksum, groups)
            damages += [Damage(stage, name, part, w) for w in wrong]
    return {"damages": damages, "checked": checked}


def _damages(out: str, name: str, checksum: str, groups: dict[str, str]) -> list[str]:
    """What is wrong with a file or an array, a line each; `groups` keeps what was seen of them."""
    if ".zarr/" not in name:
        try:
            found = crc(read_bytes(join(out, name)))
        except FileNotFoundError:
            return [f"{name}: missing"]
        return [] if found == checksum else [f"{name}: altered"]
    cut = _PART.fullmatch(name)
    path = cut[1] if cut else name
    groups |= {p: _metadata(join(out, p)) for p in _parents(path) if p not in groups}
    wrong = [f"{p}/zarr.json: {groups[p]}" for p in _parents(path) if groups[p]]
    if wrong:
        return wrong
    root, _, inner = path.partition(".zarr/")
    try:
        array = open_group(join(out, f"{root}.zarr"))[inner]
    except Exception as error:  # whatever broken metadata bring about
        return [f"{path}/zarr.json: cannot be read ({_line(error)})"]
    if not isinstance(array, zarr.Array):
        return [f"{path}: no longer an array"]
    y0, y1, x0, x1 = map(int, cut.groups()[1:]) if cut else (0, 0, 0, 0)
    region = (slice(y0, y1), slice(x0, x1)) if cut else ()
    try:
        if crc(np.asarray(array[region or ...])) == checksum:
            return []
    except Exception as error:
        return list(_chunks(array, path, region)) or [f"{path}: cannot be read ({_line(error)})"]
    return [f"{name}: altered"]


def _metadata(url: str) -> str:
    """What is wrong with the ``zarr.json`` of a group or an array; "" for nothing."""
    try:
        return "" if isinstance(json.loads(read_bytes(join(url, "zarr.json"))), dict) else CUT
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (ValueError, RecursionError):
        return CUT


def _parents(path: str) -> list[str]:
    """Groups on the way to an array, and the array itself, from the ``.zarr`` down."""
    words = path.split("/")
    first = next(i for i, word in enumerate(words) if word.endswith(".zarr"))
    return ["/".join(words[: i + 1]) for i in range(first, len(words))]


def _chunks(array: zarr.Array[Any], path: str, region: tuple[slice, ...]) -> Iterator[str]:
    """The chunks (or shards) of a region that cannot be read."""
    unit = array.shards or array.chunks
    bounds = [(s.start, s.stop) for s in region] + [(0, n) for n in array.shape[len(region) :]]
    cuts = [range(a // u, -(-b // u)) for (a, b), u in zip(bounds, unit, strict=True)]
    for place in itertools.product(*cuts):
        key = "/".join(["c", *map(str, place)])
        try:
            array[tuple(slice(i * u, (i + 1) * u) for i, u in zip(place, unit, strict=True)) or ...]
        except (LostChunk, FileNotFoundError):
            yield f"{path}/{key}: missing"
        except Exception as error:  # codecs raise many types
            yield f"{path}/{key}: short or altered ({_line(error)})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _forget(out: str, damages: tuple[Damage, ...]) -> None:
    """Drop the records of what is damaged; of a specimen in blocks, only those of such blocks."""
    ledger = Ledger(out)
    for what in dict.fromkeys(d.what for d in damages):
        file = what.removesuffix(f": {CUT}")
        if file != what:  # in the way of what makes it anew
            remove(join(out, file))
    for stage, name in dict.fromkeys((d.stage, d.name) for d in damages):
        if stage == "axis":  # found anew by the next run
            remove(join(out, "state.zarr", "axis"))
        if stage in PARTS and PARTS[stage].pooled:  # all together, or not at all
            made = stage_named(stage_of(stage)).parts
            at_once(lambda part: ledger.forget(part.name, [COHORT]), made)
        record = ledger.read(stage, name)
        own = {d.record for d in damages if (d.stage, d.name) == (stage, name)}
        if record is None or name in own or "block" not in record:
            ledger.forget(stage, [name])
            ledger.forget_parts(stage, name)
            continue
        facts = {k: record[k] for k in ("block", "written")}
        ledger.forget(stage, own)
        ledger.write(stage, name, record["digest"], "started", **facts)
