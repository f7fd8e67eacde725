"""Damaged files by the thousand into every parser, each in a process of bounded memory and time."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common.measure import table
from benchmarks.common.places import folder_of, names
from benchmarks.common.progress import Progress

TAKES = "5 minutes; --full 9"
FULL: dict[str, Any] = {"seconds": 480, "seed": 12}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--seconds", type=float, default=240, help="for all parsers together [240]")
    parser.add_argument("--only", nargs="+", default=[], metavar="PARSER", help="these [all]")
    parser.add_argument("--seed", type=int, default=0, help="of the changes [0]")
    parser.add_argument("--keep", metavar="DIR", help="where inputs that crash are kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a row a parser; all figures together."""
    from benchmarks.fuzz.run import fuzzed
    from benchmarks.fuzz.targets import TARGETS

    parsers = names(words.only, list(TARGETS), "--only")
    figures: dict[str, float] = {}
    rows = []
    with folder_of(words.keep) as folder:
        for name in progress.each(parsers, ""):
            found = fuzzed(name, folder / name, words.seconds / len(parsers), words.seed)
            own = {**found["counts"], "worst_cpu_s": found["worst"]["s"]}
            own["worst_mib"] = found["worst"]["mib"]
            figures |= {f"fuzz.{name}.{key}": value for key, value in own.items()}
            rows.append({"": name, **own, "lines": found["lines"]})
            for kind, why in found["kinds"].items():
                print(f"{name}: {kind}: {why.splitlines()[0] if why else ''}")
    print(table(rows), flush=True)
    for key, total in {"tried": sum, "crashes": sum, "worst_cpu_s": max, "worst_mib": max}.items():
        figures[f"fuzz.{key}"] = total(figures[f"fuzz.{name}.{key}"] for name in parsers)
    return figures
