"""Each fault at each stage: what was lost, what differs from an undisturbed run, what was redone.

A phantom cohort runs undisturbed on a real scheduler with two workers; then once for each fault and
stage, the fault coming when the stage's line has appeared. The same command is given again until it
ends with status 0, and every array, chunk, table and ledger record is compared.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common.measure import table
from benchmarks.common.places import folder_of, names
from benchmarks.common.progress import Progress

TAKES = "10 minutes; --full 2 hours"
FULL = {"stages": "all", "pixels": 20}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes beside ``--json``."""
    parser.add_argument("--faults", default="", help="commas between them [all]")
    parser.add_argument(
        "--stages", default="", help="commas between them, or all [for each fault one of its own]"
    )
    parser.add_argument("--pixels", type=int, default=14, help="of a specimen, a side [14]")
    parser.add_argument(
        "--files", choices=("s3", "local"), default="s3", help="where manifest and output are"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="a new folder for outputs and logs; they stay"
    )


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Run the matrix; see `options`.

    Raises
    ------
    InputError
        A name is unknown, the object store cannot be started, the undisturbed run fails, or a
        fault came too late for its stage every time.
    """
    from benchmarks.faults.cases import FAULTS, missing
    from benchmarks.faults.matrix import Row, one_case, totals, undisturbed
    from benchmarks.faults.stand import STAGES, stand
    from deploy.services import s3_server

    faults = names(words.faults.split(",") if words.faults else [], list(FAULTS), "--faults")
    chosen = [] if words.stages in ("", "all") else words.stages.split(",")
    stages = names(chosen, list(STAGES), "--stages")
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(folder_of(words.keep))
        server = stack.enter_context(s3_server(folder / "ceph")) if words.files == "s3" else None
        place = stack.enter_context(
            stand(folder / "stand", server, pixels=(words.pixels, words.pixels + 2))
        )
        cases = []
        for fault in faults:
            if why := missing(fault, place):
                skipped[fault] = why
            else:
                cases += [(fault, s) for s in (stages if words.stages else [FAULTS[fault].stage])]
        progress.total = 1 + len(cases)
        progress("undisturbed")
        reference = undisturbed(place)
        for fault, stage in cases:
            progress(f"{fault} at {stage}")
            rows.append(one_case(place, reference, fault, stage))
    print(table([{"fault": row.fault, "stage": row.stage, **row.figures()} for row in rows]))
    for row in rows:
        for what, some in (("lost", row.lost), ("different", row.different)):
            print("".join(f"{row.fault} at {row.stage}: {what} {n}\n" for n in some[:3]), end="")
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
