"""The linear maps of more and more patients, from sums of them that are made up.

All that is real but the sums: the tasks of `msiscale.models.fit_linear_folds`, sent as a run sends
them to two worker processes, and the store of what they make. Few different sums are on the disk;
every patient reads one of them, and its means are moved by an amount of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.measure import measured, table
from benchmarks.common.places import status_mib
from benchmarks.common.progress import Progress
from benchmarks.common.rereading import difference, rereading
from msiscale.cluster import connect
from msiscale.models import Fold, Moments, final_fold, fit_linear_folds, leave_one_group_out
from msiscale.models.fold_store import FoldStore, StoredFolds
from msiscale.models.ridge import ALPHAS
from msiscale.pipeline.tasks import Task, ordered

DISTINCT = 8  # sums on the disk
PIXELS = 3000  # of a patient
CHECKED = 100  # patients up to which some folds are fitted the plain way too
STEPS = {1: ("folds",), 3: ("blocks", "outside", "folds")}
LIBRARIES = ("msiscale.models", "distributed")


class MadeUp(Mapping[str, Moments]):
    """Sums of patients: one of a few stored ones, with means of its own."""

    def __init__(self, folder: str, patients: int, size: int) -> None:
        self.folder, self.patients, self.size, self.loads = folder, patients, size, 0

    def bytes_of(self, name: str) -> int:
        """Bytes in memory."""
        return self.size

    def __getitem__(self, name: str) -> Moments:
        i = int(name)
        self.loads += 1
        part = Moments.load(f"{self.folder}/{i % DISTINCT}")
        rng = np.random.default_rng(i)
        mean_x = part.mean_x + 0.2 * rng.standard_normal(part.p)
        return replace(part, mean_x=mean_x, mean_m=part.mean_m + 0.2 * rng.standard_normal(part.q))

    def __iter__(self) -> Iterator[str]:
        return (str(i) for i in range(self.patients))

    def __len__(self) -> int:
        return self.patients


def make(folder: Path, mz: int, channels: int) -> int:
    """Store the sums that there are; their bytes on the disk."""
    rng = np.random.default_rng(0)
    rank = min(60, mz // 4, channels // 4)
    to_x, to_m = (rng.standard_normal((rank, k)).astype("f4") for k in (channels, mz))
    falling = (5 * 0.9 ** np.arange(rank)).astype("f4")
    for i in range(DISTINCT):
        z = rng.standard_normal((PIXELS, rank)).astype("f4") * falling
        x, m = z @ to_x, z @ to_m
        for values in (x, m):  # noise of which no two axes have about the same variance
            scale = np.geomspace(1, 0.01, values.shape[1]).astype("f4")
            values += scale * rng.standard_normal(values.shape).astype("f4")
        Moments.of(x, m).save(str(folder / str(i)))
    return sum(p.stat().st_size for p in (folder / "0").rglob("*") if p.is_file())


def folds_of(patients: int) -> tuple[list[Fold], dict[str, str]]:
    """Leaving out a patient each, and all."""
    names = {str(i): str(i) for i in range(patients)}
    return [*leave_one_group_out(names), final_fold(list(names))], names


def client(
    folder: str, store: str, patients: int, mz: int, channels: int, modes: int
) -> dict[str, Any]:
    """Fit as a client does; what each step cost, on the workers and here."""
    folds, names = folds_of(patients)
    sums = MadeUp(folder, patients, 8 * (channels**2 + channels * mz + mz**2))
    place = FoldStore(store, "a")
    steps: list[dict[str, float]] = []
    began, own = time.perf_counter(), time.process_time()
    with connect(workers=2) as dask:

        def compute(tasks: Sequence[Callable[[], Any]]) -> Iterator[Any]:
            spent = {"tasks": 0.0, "cpu_s": 0.0, "wall_s": 0.0, "loads": 0.0, "peak_mib": 0.0}
            steps.append(spent)
            start = time.perf_counter()
            named = [Task(str(i), "", task) for i, task in enumerate(tasks)]
            for report in ordered(dask, named, f"step-{len(steps)}"):
                if report.failure is not None:
                    raise RuntimeError(report.traceback or report.failure)
                spent["tasks"] += 1
                spent["cpu_s"] += report.cpu_s
                spent["loads"] += report.result["loads"]
                spent["peak_mib"] = max(spent["peak_mib"], report.peak_mib)
                spent["wall_s"] = time.perf_counter() - start
                yield report.result

        began, own = time.perf_counter(), time.process_time()
        fit_linear_folds(sums, folds, names, n_components=modes, run=compute, store=place)
        fitted = StoredFolds(place, folds)
        weighted = [r2.weighted for of in fitted.scored() for r2 in of.scores.values()]
        spent = {"cpu_s": time.process_time() - own, "wall_s": time.perf_counter() - began}
    spent["peak_mib"] = status_mib("VmHWM")
    return {
        "steps": np.array(json.dumps(steps)),
        "client": np.array(json.dumps(spent)),
        "r2": np.array(weighted),
    }


def plain_difference(
    folder: str, store: str, patients: int, mz: int, channels: int, modes: int
) -> dict[str, Any]:
    """How far some of the folds are from those of the plain way."""
    folds, names = folds_of(patients)
    sums = MadeUp(folder, patients, 8 * (channels**2 + channels * mz + mz**2))
    fitted = StoredFolds(FoldStore(store, "a"), folds)
    some = [0, patients // 2, patients] if patients <= 24 else [patients // 2]
    words: dict[str, Any] = {"n_components": modes, "alphas": ALPHAS}
    found = [difference(fitted[i], rereading(sums, folds[i], names, **words)) for i in some]
    return {"difference": np.array(found)}


def measure(
    folder: Path, patients: Sequence[int], mz: int, channels: int, modes: int, progress: Progress
) -> dict[str, float]:
    """Print a table as its rows are measured; the figures."""
    progress("fit: sums")
    place = folder / "fit"
    stored = make(place, mz, channels)
    found: dict[str, float] = {
        "fit.mz": mz, "fit.channels": channels, "fit.modes": modes, "fit.bytes_a_sum": stored
    }  # fmt: skip
    for n in patients:
        progress(f"fit: {n} patients")
        rows: list[dict[str, Any]] = []
        store = folder / f"folds-{n}"
        words: dict[str, Any] = {"folder": str(place), "store": str(store), "patients": n}
        words |= {"mz": mz, "channels": channels, "modes": modes}
        result = measured("benchmarks.scaling.fit:client", **words).result
        steps, here = (json.loads(str(result[name])) for name in ("steps", "client"))
        loads = sum(step["loads"] for step in steps)
        for name, step in zip(STEPS[len(steps)], steps, strict=True):
            rows.append(_row(n, name, step, stored))
            found |= {f"fit.{name}_{k}.n{n}": v for k, v in step.items() if k != "tasks"}
        rows.append(_row(n, "client", here, stored))
        found |= {
            f"fit.cpu_s.n{n}": sum(step["cpu_s"] for step in steps) + here["cpu_s"],
            f"fit.wall_s.n{n}": here["wall_s"],
            f"fit.loads.n{n}": loads,
            f"fit.gb_read.n{n}": loads * stored / 1e9,
            f"fit.client_cpu_s.n{n}": here["cpu_s"],
            f"fit.client_peak_mib.n{n}": here["peak_mib"],
            f"fit.worker_peak_mib.n{n}": max(step["peak_mib"] for step in steps),
        }
        if n <= CHECKED:
            progress(f"fit: some of {n} folds the plain way")
            plain = measured("benchmarks.scaling.fit:plain_difference", **words).result
            key = "fit.max_relative_difference"
            found[key] = max(found.get(key, 0.0), float(plain["difference"].max()))
        print(table(rows), flush=True)  # the next may take long
    return found


def _row(n: int, name: str, spent: Mapping[str, float], stored: int) -> dict[str, Any]:
    loads = spent.get("loads")
    read = None if loads is None else loads * stored / 1e9
    costs = {"CPU s": spent["cpu_s"], "wall s": spent["wall_s"], "MiB": spent["peak_mib"]}
    return {
        "": f"fit {n}, {name}",
        "tasks": spent.get("tasks"),
        **costs,
        "loads": loads,
        "GB": read,
    }
