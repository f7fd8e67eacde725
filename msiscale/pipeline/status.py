"""What a run has done, from its ledger."""

from __future__ import annotations

from msiscale.errors import InputError
from msiscale.store import Ledger, at_once, exists, join, read_json

PER_SPECIMEN = ("manifest", "peaks", "ingest", "register", "features", "sums", "fit")
COHORT = ("axis", "fit", "biomarkers", "annotate", "regions", "report")


def status(out: str) -> list[str]:
    """Lines for the user: a table of specimens by stages, then reasons of failure."""
    plan = join(out, "run.json")
    if not exists(plan):
        raise InputError(f"{out}: no run there; start one with msiscale run MANIFEST --out {out}")
    names = list(read_json(plan)["specimens"])
    ledger = Ledger(out)
    stages = sorted({*PER_SPECIMEN, *COHORT})
    records = dict(zip(stages, at_once(ledger.read_all, stages), strict=True))
    width = max([8, *(len(n) for n in names)])
    lines = [" ".join([f"{'specimen':<{width}}", *(f"{s:>9}" for s in PER_SPECIMEN[1:])])]
    reasons = []
    for name in names:
        cells = []
        for stage in PER_SPECIMEN:
            record = records[stage].get(name)
            word = "missing" if record is None else str(record["status"])
            if word == "failed" and record is not None:
                reasons.append(f"{name}: {stage} failed: {record['reason']}")
            cells.append(f"{word:>9}")
        lines.append(" ".join([f"{name:<{width}}", *cells[1:]]))
    done = [s for s in COHORT if records[s].get("cohort", {}).get("status") == "done"]
    lines.append(f"cohort: done: {', '.join(done) or 'nothing'}")
    left = [name for name in sorted(records["peaks"]) if name not in names]
    if left:
        lines.append(
            f"not in the manifest: {', '.join(left)}; their data are kept until"
            f" msiscale withdraw {out} {' '.join(left)}"
        )
    return lines + reasons
