"""Damaged files by the thousand into every parser, each in a process of bounded memory and time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._fuzz_targets import TARGETS

GRACE_S = 150  # beyond its time after which a process hangs, in code that no signal reaches


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--seconds", type=float, default=240, help="for all parsers together [240]")
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), help="these parsers [all]")
    parser.add_argument("--seed", type=int, default=0, help="of the changes [0]")
    parser.add_argument("--keep", metavar="DIR", help="where inputs that crash are kept")


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a row a parser; all figures together. Exits with 1 when an input crashed."""
    names = words.only or list(TARGETS)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="msiscale-fuzz-") as scratch:
        folder = Path(words.keep or scratch)
        print(f"{'':<16}{'tried':>8}{'read':>8}{'refused':>9}{'crashes':>9}{'lines':>7}", end="")
        print(f"{'worst CPU s':>13}{'worst MiB':>11}")
        for name in names:
            found = fuzzed(name, folder / name, words.seconds / len(names), words.seed)
            counts, worst = found["counts"], found["worst"]
            print(
                f"{name:<16}{counts['tried']:>8}{counts['read']:>8}{counts['refused']:>9}", end=""
            )
            print(
                f"{counts['crashes']:>9}{found['lines']:>7}{worst['s']:>13.2f}{worst['mib']:>11.0f}"
            )
            for kind, why in found["kinds"].items():
                print(f"    {kind}: {why.splitlines()[0] if why else ''}")
            for key in ("tried", "read", "refused", "crashes"):
                figures[f"fuzz.{name}.{key}"] = counts[key]
            figures |= {
                f"fuzz.{name}.worst_{'cpu_s' if k == 's' else k}": v for k, v in worst.items()
            }
    for key in ("tried", "crashes"):
        figures[f"fuzz.{key}"] = sum(figures[f"fuzz.{name}.{key}"] for name in names)
    for key in ("worst_cpu_s", "worst_mib"):
        figures[f"fuzz.{key}"] = max(figures[f"fuzz.{name}.{key}"] for name in names)
    print(flush=True)
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
        command = [sys.executable, "-m", "benchmarks._fuzz_worker", name, str(here)]
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
