"""Whole runs of growing cohorts of small specimens: what each stage costs, and how that grows.

``python -m benchmarks.scaling.cohort MANIFEST OUT CONFIG`` is one run, in a process of its own:
each stage is called by itself, as ``msiscale ingest``, ``register`` and so on are, on one cluster
of two workers. It prints a JSON line a stage. Growth is told in CPU seconds of the client (with the
scheduler, which lives in it here) and of the workers, which other programs of the machine do not
change, and in the peaks of their memory.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Client

from benchmarks.common.measure import table, variables
from benchmarks.common.places import status_mib
from benchmarks.common.progress import Progress
from msiscale.cluster import Where
from msiscale.cluster.environment import dask_settings, worker_environ
from msiscale.cluster.local import local_cluster
from msiscale.cluster.settings import settings_of
from msiscale.config import load_config
from msiscale.pipeline import run
from msiscale.pipeline.stages import STAGES
from msiscale.simulate import simulate
from msiscale.simulate.chemistry import Instrument

PIXELS = (16, 20)
WORKERS = 2
CHOICES: dict[str, Any] = {
    "encoder": "stains",
    "mpp": 8.0,
    "components": 20,
    "alphas": [1.0, 100.0],
    "costs": [0.01],
    "shifts": 100,
    "protocols": ["leave_one_patient_out"],
}
# few masses, so that the files are small; annotations that take no decoding of a slide
PHANTOM: dict[str, Any] = {
    "pixels": PIXELS,
    "mpp": 4.0,
    "lipids": 40,
    "annotations": ("qupath", "imagescope", "asap"),
    "instrument": Instrument(noise_peaks=20.0),
}
Costs = dict[str, dict[str, float]]  # by stage


def measure(
    folder: Path, sizes: Sequence[int], patients: int | None, progress: Progress
) -> dict[str, float]:
    """Print a table a size, and the exponents; all figures."""
    progress(f"{max(sizes)} specimens")
    whole = simulate(
        folder / "cohort", specimens=max(sizes), patients=patients, workers=WORKERS, **PHANTOM
    )
    config = folder / "run.toml"
    config.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in CHOICES.items()) + "\n")
    found: dict[str, float] = {}
    costs: dict[int, Costs] = {}
    for n in sorted(sizes):
        progress(f"a run of {n} specimens")
        manifest, out = first(Path(whole), n), folder / f"run{n}"
        costs[n] = staged(manifest, out, config)
        again = ["run", str(manifest), "--out", str(out), "--config", str(config)]
        progress(f"{n} specimens of which all are done")
        for name, words in (("nothing", again), ("status", ["status", str(out)])):
            wall, cpu = command(words)
            found |= {f"cohort.{name}_s.n{n}": wall, f"cohort.{name}_cpu_s.n{n}": cpu}
        _tell(n, costs[n], found)
    found |= figures(costs)
    if len(costs) > 1:
        _tell_growth([*costs[min(costs)]], found)
    return found


def first(manifest: Path, n: int) -> Path:
    """A manifest of the first n specimens of another."""
    with manifest.open(newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = reader.fieldnames or (), list(reader)[:n]
    target = manifest.with_name(f"first{n}.csv")
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return target


def staged(manifest: Path, out: Path, config: Path) -> Costs:
    """The costs of one run, made in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.scaling.cohort", str(manifest), str(out)]
    done = subprocess.run(
        [*words, str(config)], env=variables(), check=True, stdout=subprocess.PIPE, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("stage"): line for line in lines}


def command(words: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a ``msiscale`` command, its workers counted."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "msiscale", *words], env=variables(), check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = os.times()
    cpu = (
        after.children_user - before.children_user + after.children_system - before.children_system
    )
    return time.perf_counter() - began, cpu


def exponents(costs: dict[int, float]) -> float:
    """How steeply a cost grows with the specimens: the steepest step between two sizes."""
    sizes = sorted(costs)
    steps = itertools.pairwise(sizes)
    return max(math.log(costs[b] / costs[a]) / math.log(b / a) for a, b in steps)


def figures(costs: dict[int, Costs]) -> dict[str, float]:
    """Flat: CPU seconds, peaks and exponents by stage, and of the whole."""
    found: dict[str, float] = {}
    for n, stages in costs.items():
        for stage, cost in stages.items():
            found |= {f"cohort.{name}.{stage}.n{n}": value for name, value in cost.items()}
        for name in ("client_peak_mib", "worker_peak_mib"):
            found[f"cohort.{name}.n{n}"] = max(cost[name] for cost in stages.values())
        for name in ("cpu_s", "client_cpu_s", "wall_s"):
            found[f"cohort.{name}.n{n}"] = sum(cost[name] for cost in stages.values())
    if len(costs) > 1:
        for stage in costs[min(costs)]:
            for name, key in (("cpu_s", "exponent"), ("client_cpu_s", "client_exponent")):
                of_stage = {n: stages[stage][name] for n, stages in costs.items()}
                found[f"cohort.{key}.{stage}"] = exponents(of_stage)
    return found


def _tell(n: int, stages: Costs, found: dict[str, float]) -> None:
    rows = [
        {
            f"{n} specimens": stage,
            "wall s": cost["wall_s"],
            "CPU s": cost["cpu_s"],
            "of it the client": cost["client_cpu_s"],
            "client MiB": cost["client_peak_mib"],
            "worker MiB": cost["worker_peak_mib"],
        }
        for stage, cost in stages.items()
    ]
    print(table(rows))
    for name, what in (("nothing", "nothing to do"), ("status", "status")):
        wall, cpu = found[f"cohort.{name}_s.n{n}"], found[f"cohort.{name}_cpu_s.n{n}"]
        print(f"{what}: {wall:.1f} s, {cpu:.1f} CPU s")
    print(flush=True)


def _tell_growth(stages: Sequence[str], found: dict[str, float]) -> None:
    rows = [
        {
            "exponent": stage,
            "CPU": found[f"cohort.exponent.{stage}"],
            "CPU of the client": found[f"cohort.client_exponent.{stage}"],
        }
        for stage in stages
    ]
    print(table(rows))


class Spent:
    """CPU seconds of this process and of its workers; peaks of memory since it was made."""

    def __init__(self) -> None:
        self.workers = psutil.Process().children(recursive=True)
        for process in ("self", *(w.pid for w in self.workers)):
            Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak begins anew
        self.client_s, self.workers_s = self._now()
        self.began = time.perf_counter()

    def _now(self) -> tuple[float, float]:
        times = [w.cpu_times() for w in self.workers]
        return time.process_time(), sum(t.user + t.system for t in times)

    def since(self) -> dict[str, float]:
        """What was spent since then; no worker may have gone."""
        client, workers = self._now()
        return {
            "wall_s": time.perf_counter() - self.began,
            "client_cpu_s": client - self.client_s,
            "cpu_s": client - self.client_s + workers - self.workers_s,
            "client_peak_mib": status_mib("VmHWM"),
            "worker_peak_mib": max(status_mib("VmHWM", w.pid) for w in self.workers),
        }


def main() -> None:
    """The stages of one run, one after the other."""
    manifest, out, config = sys.argv[1:]
    os.environ["MSISCALE_QUIET"] = "1"
    # plain, so that the stages find it by its address alone
    with (
        worker_environ(),
        dask.config.set(dask_settings(120)),
        local_cluster(settings_of(Where(workers=WORKERS)), None) as cluster,
        Client(cluster) as client,
    ):
        address = cluster.scheduler_address
        client.wait_for_workers(WORKERS)
        for stage in STAGES:
            if stage.asked_for or stage.name == "robustness":
                continue
            spent = Spent()
            result = run(
                manifest, out, config=load_config(config), scheduler=address, stages=(stage.name,)
            )
            if result.failed:
                raise RuntimeError(f"{stage.name}: set aside: {result.failed}")
            print(json.dumps({"stage": stage.name, **spent.since()}), flush=True)


if __name__ == "__main__":
    main()
