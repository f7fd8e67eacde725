"""One parser fuzzed by processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GRACE_S = 150  # beyond its time after which a process hangs, in code that no signal reaches


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
