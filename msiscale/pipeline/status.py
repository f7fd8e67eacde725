"""What a run has done, from its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from msiscale.errors import InputError
from msiscale.pipeline.stages import COHORT, STAGES
from msiscale.store import Ledger, at_once
from msiscale.store.lease import Watch
from msiscale.store.ledger import Record

LOOK_S = 2.0  # between two looks at a run, at the least
SHARE = 10  # times as long as a look takes is waited before the next


def status(out: str) -> list[str]:
    """Show what the run at `out` has done.

    Returns
    -------
    list of str
        A table of specimens by records of the stages, then reasons of failure. A stage that only
        its own command runs is shown once it has run. ``-`` stands for a record that a specimen
        does not need (it has no annotation, say), the cohort's own being done.

    Raises
    ------
    InputError
        `out` holds no run.
    """
    names, records = _recorded(out)
    listed = [*records]
    optional = {p.name for s in STAGES if s.asked_for for p in s.parts} | {"calibration", "pages"}
    columns = [
        (part.name, any(records[p.name].get(COHORT) for p in stage.parts))
        for stage in STAGES
        for part in stage.parts
        if part.specimens and (records[part.name] or part.name not in optional)
    ]
    width = max([8, *(len(n) for n in names)])
    head = [f"{column:>{max(9, len(column))}}" for column, _ in columns]
    lines = [" ".join([f"{'specimen':<{width}}", *head])]
    reasons = []
    for name in names:
        cells = []
        stopped = any(r[name]["status"] == "failed" for r in records.values() if name in r)
        for column, pooled in (("manifest", False), *columns):
            record = records[column].get(name)
            word = "-" if pooled and not stopped else "missing"
            word = str(record["status"]) if record else word
            if record and word == "failed":
                reasons.append(f"{name}: {column} failed: {record['reason']}")
            cells.append(f"{word:>{max(9, len(column))}}")
        lines.append(" ".join([f"{name:<{width}}", *cells[1:]]))
    whole = [p for p in listed if records[p].get(COHORT, {}).get("status") == "done"]
    lines.append(f"cohort: done: {', '.join(whole) or 'nothing'}")
    left = [name for name in sorted(records["peaks"]) if name not in names]
    if left:
        lines.append(
            f"not in the manifest: {', '.join(left)}; their data are kept until"
            f" msiscale withdraw {out} {' '.join(left)}"
        )
    return lines + reasons


def watched(out: str, pause: Callable[[float], None] = time.sleep) -> Iterator[list[str]]:
    """Look at the run at `out` again and again, until no run writes there.

    Parameters
    ----------
    out
        Folder or URL of the results.
    pause
        Waits for some seconds between two looks.

    Yields
    ------
    list of str
        One short text for each kind of record that is begun, ``features 3 of 4``, and then how
        many specimens have failed, if any have.
    """
    watch = Watch(out)
    while True:
        began, lives = time.monotonic(), watch.lives()
        yield counts(out)
        if not lives:
            return
        pause(max(LOOK_S, SHARE * (time.monotonic() - began)))


def counts(out: str) -> list[str]:
    """How many specimens have each record; see `watched`."""
    names, records = _recorded(out)
    said = []
    failed = {n for found in records.values() for n in names if _is(found, n, "failed")}
    for stage in STAGES:
        for part in stage.parts:
            found = records[part.name]
            done = sum(_is(found, name, "done") for name in names)
            going = sum(_is(found, name, "started") for name in names)
            if part.specimens and (done or going):
                begun = f" ({going} under way)" if going else ""
                said.append(f"{part.name} {done} of {len(names)}{begun}")
            elif not part.specimens and _is(found, COHORT, "done"):
                said.append(f"{part.name} done")
    return [*said, f"{len(failed)} failed"] if failed else said


def _is(records: dict[str, Record], name: str, status: str) -> bool:
    return name in records and records[name]["status"] == status


def _recorded(out: str) -> tuple[list[str], dict[str, dict[str, Record]]]:
    """The specimens of a run, and all its records by kind. InputError where there is no run."""
    ledger = Ledger(out)
    plan = ledger.plan()
    if plan is None:
        raise InputError(f"{out}: no run there; start one with msiscale run MANIFEST --out {out}")
    listed = ["manifest", *(part.name for stage in STAGES for part in stage.parts)]
    records = dict(zip(listed, at_once(ledger.read_all, listed), strict=True))
    return list(plan["specimens"]), records
