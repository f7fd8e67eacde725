"""Damaged files by the thousand into every parser, each in a process of bounded memory and time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common.measure import table
from benchmarks.common.places import folder_of, names
from benchmarks.common.progress import Progress

TAKES = "5 minutes; --full 9"
FULL: dict[str, Any] = {"seconds": 480, "seed": 12}
GRACE_S = 150  # beyond its time after which a process hangs, in code that no signal reaches


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--seconds", type=float, default=240, help="for all parsers together [240]")
    parser.add_argument("--only", nargs="+", default=[], metavar="PARSER", help="these [all]")
    parser.add_argument("--seed", type=int, default=0, help="of the changes [0]")
    parser.add_argument("--keep", metavar="DIR", help="where inputs that crash are kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a row a parser; all figures together."""
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
    for key in ("tried", "crashes", "worst_cpu_s", "worst_mib"):
        values = [figures[f"fuzz.{name}.{key}"] for name in parsers]
        figures[f"fuzz.{key}"] = max(values) if key.startswith("worst") else sum(values)
    return figures


def fuzzed(name: str, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """What a worker found; one that dies (of a signal) or hangs is started again with its rest."""
    shutil.rmtree(folder, ignore_errors=True)
    total: dict[str, Any] = {
        "counts": dict.fromkeys(("tried", "read", "refused", "crashes"), 0),
        "worst": {"s": 0.0, "mib": 0.0},
        "kinds": {},
        "lines": 0,
    }
    end, part = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 1 or part == 0:
        here = folder / str(part)
        here.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.fuzz.worker", name, str(here)]
        command += [str(max(left, 1)), str(seed + 1000 * part)]
        why = ""
        try:
            ended = subprocess.run(
                command,
                stderr=subprocess.PIPE,
                timeout=left + GRACE_S,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if ended.returncode:
                last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
                why = f"the process ended with {ended.returncode}: {''.join(last)}"
        except subprocess.TimeoutExpired:
            why = "the process hung"
        _add(total, here)
        if not why:
            break
        total["counts"]["crashes"] += 1
        total["kinds"][f"{why} (part {part})"] = ""
        shutil.copytree(here / "input", here / "crashes" / "last", dirs_exist_ok=True)
        part += 1
    return total


def _add(total: dict[str, Any], folder: Path) -> None:
    if not (folder / "found.json").exists():
        return
    found = json.loads((folder / "found.json").read_text())
    for key, value in found["counts"].items():
        total["counts"][key] += value
    for key, value in found["worst"].items():
        total["worst"][key] = max(total["worst"][key], value)
    total["kinds"] |= found["kinds"]
    total["lines"] = max(total["lines"], found["lines"])
