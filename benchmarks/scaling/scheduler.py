"""A real ``dask scheduler`` under the project's own submission loop, with simulated workers.

The tasks are those of the features stage in number, message and (scaled) duration; they sleep.
Scheduler, simulated workers and client are processes of their own on the loopback address. CPU
seconds are each process's own, so what the simulated workers take of the machine slows the wall,
not the figures a task.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from distributed import Client
from numpy.typing import NDArray

from benchmarks.common.measure import measured, table
from benchmarks.common.places import status_mib, until
from benchmarks.common.progress import Progress
from benchmarks.scaling.model import ideal_wall
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.grid import Block
from msiscale.pipeline.tasks import Task, run_tasks

BLOCKS = 16  # of a specimen: 256 x 256 MSI pixels in blocks of 64
SPECIMENS = (10, 100, 1000)
WORKERS = (10, 100, 1000)
IDEAL_S = 8.0  # of work for every worker, at the most
PROCESSES = 2  # that the simulated workers share
STEPS = len(SPECIMENS) * len(WORKERS)
SHOWN = (
    *("scheduler.tasks_s", "scheduler.cpu_ms_a_task", "client.cpu_ms_a_task"),
    *("scheduler.peak_mib", "client.peak_mib"),
)


def measure(folder: Path, durations: Sequence[float], progress: Progress) -> dict[str, float]:
    """The grid of cohorts and clusters; keys end in specimens and workers where they vary."""
    found: dict[str, float] = {"scheduler.recorded_task_s": float(np.median(durations))}
    rows: list[dict[str, Any]] = []
    for workers in WORKERS:
        found |= _cluster(folder, durations, workers, rows, progress)
    print(table(rows), end="\n\n", flush=True)
    n, w = SPECIMENS[-1], WORKERS[-1]
    most = f"{n}_specimens.{w}_workers"
    cost = found[f"scheduler.cpu_ms_a_task.{most}"]
    return found | {
        "scheduler.cpu_ms_a_task": cost,
        "scheduler.max_tasks_s": 1000 / cost,
        "client.cpu_ms_a_task": found[f"client.cpu_ms_a_task.{most}"],
        f"scheduler.peak_mib_{n}_specimens": found[f"scheduler.peak_mib.{most}"],
        f"client.peak_mib_{n}_specimens": found[f"client.peak_mib.{most}"],
    }


def _cluster(
    folder: Path,
    durations: Sequence[float],
    workers: int,
    rows: list[dict[str, Any]],
    progress: Progress,
) -> dict[str, float]:
    found: dict[str, float] = {}
    with scheduler(folder) as (address, process):
        start = status_mib("VmRSS", process.pid)
        with simulated(address, workers) as sims:
            joined = status_mib("VmRSS", process.pid)
            held = sum(status_mib("VmRSS", s.pid) for s in sims)
            before_first = cpu_s(process)
            _first(address, workers)
            first = {
                "scheduler.first_task_cpu_s": cpu_s(process) - before_first,
                "scheduler.first_task_mib": status_mib("VmRSS", process.pid) - joined,
            }
            for specimens in SPECIMENS:
                progress(f"{specimens} specimens on {workers} simulated workers")
                times = _tasks(durations, specimens, workers)
                before = cpu_s(process), sum(cpu_s(s) for s in sims)
                cost = measured(
                    "benchmarks.scaling.scheduler:submit",
                    address=address,
                    times=[round(t, 6) for t in times],
                )
                after = cpu_s(process), sum(cpu_s(s) for s in sims)
                n = len(times)
                ideal, wall = ideal_wall(times, workers), float(cost.result["wall_s"])
                key = f"{specimens}_specimens.{workers}_workers"
                here = {
                    "scheduler.cpu_ms_a_task": 1000 * (after[0] - before[0]) / n,
                    "scheduler.tasks_s": n / wall,
                    "scheduler.overhead_s": wall - ideal,
                    "scheduler.peak_mib": status_mib("VmHWM", process.pid),
                    "client.cpu_ms_a_task": 1000 * float(cost.result["cpu_s"]) / n,
                    "client.start_mib": float(cost.result["start_mib"]),
                    "client.peak_mib": float(cost.result["peak_mib"]),
                    "simulated.cpu_ms_a_task": 1000 * (after[1] - before[1]) / n,
                }
                found |= {f"{name}.{key}": value for name, value in here.items()}
                facts = {"workers": workers, "specimens": specimens, "tasks": n}
                faster = f"{sum(durations) / len(durations) / (sum(times) / n):.1f}x"
                shown = {name: here[name] for name in SHOWN}
                rows.append({**facts, "faster": faster, "ideal s": ideal, "wall s": wall, **shown})
    return found | {
        **first,
        "scheduler.start_mib": start,
        f"scheduler.joined_mib.{workers}_workers": joined,
        f"simulated.mib_a_worker.{workers}_workers": held / workers,
    }


def _first(address: str, workers: int) -> None:
    """One task a worker: whoever must import something to read a task does it here."""
    with Client(address, timeout="60s") as client:
        outcome = run_tasks(
            client, [Task(f"first/{i}", "first", pretend, (0.0,)) for i in range(workers)], "first"
        )
    if outcome.failed:
        raise RuntimeError(f"simulated workers fail: {outcome.failed['first']}")


def _tasks(durations: Sequence[float], specimens: int, workers: int) -> NDArray[np.float64]:
    """Durations of a stage, scaled down (never up) so that the workers have `IDEAL_S` of work."""
    rng = np.random.default_rng(0)
    times = rng.choice(np.asarray(durations, dtype=float), specimens * BLOCKS)
    return np.asarray(times * min(1.0, IDEAL_S / (times.sum() / workers)))


def submit(address: str, times: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The client's part, in a process of its own: `run_tasks` over a stage that sleeps."""
    matrix = np.eye(3).tolist()
    tasks = []
    for i, seconds in enumerate(times):
        name = f"S{i // BLOCKS:05d}"
        row = Specimen(name, f"msi/{name}.imzML", f"slides/{name}.svs", name)
        message = ("s3://bucket/run", row, "0123456789abcdef", matrix, Block(0, 64, 0, 64))
        block = f"{name}/{i % BLOCKS // 4 * 64}-{i % 4 * 64}"
        tasks.append(Task(block, name, pretend, (seconds, *message, RunConfig())))
    with Client(address, timeout="60s") as client:
        here = psutil.Process()
        start, cpu = status_mib("VmRSS"), cpu_s(here)
        began = time.perf_counter()
        outcome = run_tasks(client, tasks, "features")
        wall, spent = time.perf_counter() - began, cpu_s(here) - cpu
    if outcome.failed or len(outcome.results) != len(tasks):
        why = next(iter(outcome.failed.values()), "some were never sent")
        raise RuntimeError(f"{len(outcome.failed)} simulated specimens failed: {why}")
    figures = {"wall_s": wall, "cpu_s": spent, "start_mib": start, "peak_mib": status_mib("VmHWM")}
    return {name: np.asarray(value) for name, value in figures.items()}


def pretend(seconds: float, *message: Any) -> dict[str, Any]:
    """A task of the features stage, but for its work."""
    time.sleep(seconds)
    return {"pixels": 4096, "mpix": 1.0}


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A ``dask scheduler`` on the loopback address, and its process."""
    file = folder / f"scheduler-{time.monotonic_ns()}.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    command += ["--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    command += ["--idle-timeout", "10 minutes"]  # should this process be killed
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        try:
            yield _address(file, child), psutil.Process(child.pid)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


def _address(file: Path, child: subprocess.Popen[bytes]) -> str:
    def told() -> bool:
        return file.exists() and file.read_text().endswith("}")

    until(lambda: told() or child.poll() is not None, 60)
    if not told():
        raise RuntimeError(f"dask scheduler did not start within a minute; status {child.poll()}")
    return str(json.loads(file.read_text())["address"])


@contextmanager
def simulated(address: str, workers: int) -> Iterator[list[psutil.Process]]:
    """So many simulated workers, all joined; the processes that hold them."""
    share = [workers // PROCESSES + (i < workers % PROCESSES) for i in range(PROCESSES)]
    command = [sys.executable, "-m", "benchmarks.scaling.simulated", address]
    children = [
        subprocess.Popen(
            [*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in share
        if n
    ]
    try:
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise RuntimeError("simulated workers did not join; see their message above")
        yield [psutil.Process(c.pid) for c in children]
    finally:
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        for child in children:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def cpu_s(process: psutil.Process) -> float:
    """User and system seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
