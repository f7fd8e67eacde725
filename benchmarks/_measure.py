"""What a call costs in a process of its own: CPU, wall and peak memory, medians of several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

THROTTLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # make OpenBLAS up to 4 times slower
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


# for every side as in msiscale's workers: arrays come from memory that is there, in one arena
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
}


@dataclass(frozen=True)
class Measured:
    """CPU and wall seconds inside the function, peak MiB of its process, and what it returned."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    result: dict[str, NDArray[Any]]


def measured(
    target: str, *, blas_threads: int = 1, python: str = sys.executable, **words: Any
) -> Measured:
    """Call ``module:function`` with `words` (JSON) in a fresh interpreter, that of `python`.

    One BLAS thread by default, which for every library here costs the least CPU.
    """
    env = {k: v for k, v in os.environ.items() if k not in THROTTLES}
    env |= dict.fromkeys(THREADS, str(blas_threads)) | ALLOCATOR
    with tempfile.TemporaryDirectory() as folder:
        arguments = Path(folder) / "arguments.json"
        arguments.write_text(json.dumps(words))
        command = [python, "-m", "benchmarks._child", target, str(arguments), folder]
        subprocess.run(command, env=env, check=True)
        cost = json.loads((Path(folder) / "cost.json").read_text())
        with np.load(Path(folder) / "result.npz", allow_pickle=False) as found:
            return Measured(result=dict(found), **cost)


def repeated(target: str, times: int = 3, **words: Any) -> Measured:
    """Median cost of several calls, with the result of the last; `times` of 1 for what is slow."""
    runs = [measured(target, **words) for _ in range(times)]
    middle = {n: median(getattr(r, n) for r in runs) for n in ("cpu_s", "wall_s", "peak_mib")}
    return Measured(result=runs[-1].result, **middle)


def table(rows: Sequence[tuple[str, Measured, dict[str, Any]]]) -> str:
    """Costs side by side; the extra columns are whatever the rows have."""
    extra = list(dict.fromkeys(name for _, _, facts in rows for name in facts))
    lines = [f"{'':<42}{'CPU s':>9}{'wall s':>9}{'MiB':>8}" + "".join(f"{e:>16}" for e in extra)]
    for name, cost, facts in rows:
        line = f"{name:<42}{cost.cpu_s:>9.2f}{cost.wall_s:>9.2f}{cost.peak_mib:>8.0f}"
        lines.append(line + "".join(f"{_text(facts.get(e)):>16}" for e in extra))
    return "\n".join(lines)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
