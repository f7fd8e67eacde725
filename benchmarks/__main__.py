"""``python -m benchmarks NAME [--json FILE]``: prints a table, writes the same as flat JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import (
    annotation,
    bad_imzml,
    biomarkers,
    faults,
    features,
    fusion,
    fuzz,
    ingest,
    models,
    null,
    registration,
    report,
    scaling,
    study,
)

NAMES = {
    "annotation": annotation,
    "bad_imzml": bad_imzml,
    "biomarkers": biomarkers,
    "faults": faults,
    "features": features,
    "fusion": fusion,
    "fuzz": fuzz,
    "ingest": ingest,
    "models": models,
    "null": null,
    "registration": registration,
    "report": report,
    "scaling": scaling,
    "study": study,
}


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in NAMES.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        command.add_argument("--json", type=Path, metavar="FILE")
        module.options(command)
    words = parser.parse_args()
    found = NAMES[words.name].measure(words)
    for key, value in found.items():
        print(f"{key:<60} {value:12.5g}")
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
