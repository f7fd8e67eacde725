"""``python -m benchmarks.common.child MODULE:FUNCTION ARGUMENTS.json FOLDER``: a measured call."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common.places import status_mib

# what any side may import counts for none of them
LIBRARIES = (
    *("msiscale.models", "sklearn.decomposition", "sklearn.linear_model"),
    *("dask.array", "dask.delayed", "distributed"),
)


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
