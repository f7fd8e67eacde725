"""What a call costs in a process of its own: CPU, wall and peak memory, medians of several.

``python -m benchmarks.common.measure MODULE:FUNCTION ARGUMENTS.json FOLDER`` is that process.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.places import status_mib

THROTTLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # make OpenBLAS up to 4 times slower
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# for every side as in msiscale's workers: arrays come from memory that is there, in one arena
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
}
# what any side may import counts for none of them
LIBRARIES = (
    *("msiscale.models", "sklearn.decomposition", "sklearn.linear_model"),
    *("dask.array", "dask.delayed", "distributed"),
)


@dataclass(frozen=True)
class Measured:
    """CPU and wall seconds inside the function, peak MiB of its process, and what it returned."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    result: dict[str, NDArray[Any]]

    def row(self, name: str, **facts: Any) -> dict[str, Any]:
        """Its row of a `table`."""
        costs = {"CPU s": self.cpu_s, "wall s": self.wall_s, "MiB": self.peak_mib}
        return {"": name, **costs, **facts}


def variables() -> dict[str, str]:
    """The environment of every measured process: one BLAS thread."""
    env = {k: v for k, v in os.environ.items() if k not in THROTTLES}
    return env | dict.fromkeys(THREADS, "1") | ALLOCATOR


def measured(target: str, *, python: str = sys.executable, **words: Any) -> Measured:
    """Call ``module:function`` with `words` (JSON) in a fresh interpreter, that of `python`.

    One BLAS thread, which for every library here costs the least CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = Path(folder) / "arguments.json"
        arguments.write_text(json.dumps(words))
        command = [python, "-m", "benchmarks.common.measure", target, str(arguments), folder]
        subprocess.run(command, env=variables(), check=True)
        cost = json.loads((Path(folder) / "cost.json").read_text())
        with np.load(Path(folder) / "result.npz", allow_pickle=False) as found:
            return Measured(result=dict(found), **cost)


def repeated(target: str, times: int = 3, **words: Any) -> Measured:
    """Median cost of several calls, with the result of the last; `times` of 1 for what is slow."""
    runs = [measured(target, **words) for _ in range(times)]
    middle = {n: median(getattr(r, n) for r in runs) for n in ("cpu_s", "wall_s", "peak_mib")}
    return Measured(result=runs[-1].result, **middle)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows below each other, a column a key; the first column to the left."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([_text(row.get(key)) for key in columns] for row in rows)]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        f"{line[0]:<{first}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], others, strict=True))
        for line in lines
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def main() -> None:
    """Call the function, save its arrays, and last what it cost."""
    target, arguments, folder = sys.argv[1:]
    module, name = target.split(":")
    sides = importlib.import_module(module)
    for library in getattr(sides, "LIBRARIES", LIBRARIES):
        importlib.import_module(library)
    words = json.loads(Path(arguments).read_text())
    cpu, wall = _cpu_s(), time.perf_counter()
    result = getattr(sides, name)(**words)
    cost = {"cpu_s": _cpu_s() - cpu, "wall_s": time.perf_counter() - wall}
    cost["peak_mib"] = status_mib("VmHWM")
    np.savez(Path(folder) / "result.npz", **(result or {}))
    (Path(folder) / "cost.json").write_text(json.dumps(cost))


def _cpu_s() -> float:
    """User and system seconds of this process and of the children it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usage = [resource.getrusage(w) for w in who]
    return sum(u.ru_utime + u.ru_stime for u in usage)


if __name__ == "__main__":
    main()
