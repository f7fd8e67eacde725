"""What a run has done, from its ledger."""

from __future__ import annotations

from msiscale.errors import InputError
from msiscale.pipeline.stages import COHORT, STAGES
from msiscale.store import Ledger, at_once


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
    ledger = Ledger(out)
    plan = ledger.plan()
    if plan is None:
        raise InputError(f"{out}: no run there; start one with msiscale run MANIFEST --out {out}")
    names = list(plan["specimens"])
    listed = ["manifest", *(part.name for stage in STAGES for part in stage.parts)]
    records = dict(zip(listed, at_once(ledger.read_all, listed), strict=True))
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
