"""One and two worker processes on this machine, on a simulated cohort and the real stages.

The stages run through `msiscale.run` on workers that are up and have their imports; the wall is
that of the whole call, planning and records included, so whatever the client does alone counts.
A worker has one core to itself, as a cluster's job has; client and scheduler take what they find.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import psutil
import zarr
from distributed import Client, Worker, get_task_stream

from benchmarks.common.measure import measured, table
from benchmarks.common.progress import Progress
from benchmarks.scaling.model import efficiency
from msiscale.cluster import connect
from msiscale.cohort import read_manifest
from msiscale.config import RunConfig
from msiscale.features.encoders import load_encoder
from msiscale.features.extract import to_cells, units, windows_of
from msiscale.grid import Block
from msiscale.pipeline import run
from msiscale.regridding import overlap
from msiscale.simulate import simulate
from msiscale.simulate.chemistry import Instrument
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working
from msiscale.store import join, open_group, read

STAGES = ("ingest", "register", "features")
PIXEL_UM = 25.0
CHOICES: dict[str, Any] = {
    "encoder": "resnet50:layer3",
    "weights": "random:0",
    "mpp": 4.0,
    "window": 640,
}
Durations = dict[str, list[float]]  # seconds of tasks, by their kind
QUIET_CORES = 0.1  # that others may use while a run counts as undisturbed


@dataclass
class Stage:
    """One stage of one run: seconds, and those of its tasks by name of the task's kind."""

    wall_s: float
    cpu_s: float  # of the machine, less what others used
    busy_s: float  # of the workers, in tasks
    tail_s: float  # between the first worker without work and the end of the last task
    others: float  # cores used by processes that are not ours
    tasks: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Machine:
    """CPU seconds of the whole machine and of this process with all its descendants."""

    wall: float
    whole: float
    ours: float

    @classmethod
    def now(cls) -> Machine:
        times = psutil.cpu_times()
        mine = 0.0
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            mine += spent.user + spent.system
        busy = sum(times) - times.idle - times.iowait - getattr(times, "guest", 0.0)
        return cls(time.perf_counter(), busy, mine)

    def since(self, earlier: Machine) -> tuple[float, float, float]:
        """Wall seconds, CPU seconds of ours, and the cores that others used."""
        wall, ours = self.wall - earlier.wall, self.ours - earlier.ours
        return wall, ours, max(0.0, self.whole - earlier.whole - ours) / wall


def measure(
    folder: Path, pixels: int, repeat: int, progress: Progress
) -> tuple[dict[str, float], Durations]:
    """Efficiencies, rates and shares; and the durations of tasks by kind, on one worker."""
    progress("a cohort")
    manifest = simulate(
        folder / "cohort",
        specimens=4,
        pixels=(pixels, pixels),
        pixel_um=PIXEL_UM,
        lipids=600,  # with the noise about 750 peaks a pixel, as a real instrument records
        instrument=Instrument(noise_peaks=450),
        workers=2,
    )
    runs: dict[int, list[dict[str, Stage]]] = {1: [], 2: []}
    outs: list[Path] = []
    for turn in range(repeat):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            progress(f"the stages with {workers} worker{'s'[: workers - 1]}")
            outs.append(folder / f"run-{turn}-{workers}")
            runs[workers].append(once(manifest, str(outs[-1]), workers))
    found = summary(runs)
    progress("plain processes that share nothing")
    found |= machine(6)
    found |= stored(outs[-1], folder / "cohort")
    found["work.network_mpix"] = network_mpix(Path(manifest), outs[-1])
    print(table(rows(runs)), table(medians(found)), sep="\n\n", end="\n\n", flush=True)
    return found, {k: times for s in runs[1][-1].values() for k, times in s.tasks.items()}


def recorded(folder: Path) -> Durations:
    """Durations of tasks by kind, of a small cohort on one worker."""
    manifest = simulate(folder / "small", specimens=2, pixels=(64, 64), pixel_um=PIXEL_UM)
    stages = once(manifest, str(folder / "run-small"), 1)
    return {kind: times for s in stages.values() for kind, times in s.tasks.items()}


def once(manifest: str, out: str, workers: int) -> dict[str, Stage]:
    """The stages in an empty folder, with so many workers."""
    with connect(workers=workers) as client:
        client.wait_for_workers(workers)
        client.run(imports)
        client.run(_pin, sorted(client.scheduler_info(n_workers=-1)["workers"]))
        return {stage: staged(client, manifest, out, stage) for stage in STAGES}


def staged(client: Client, manifest: str, out: str, stage: str) -> Stage:
    """One stage; the workers' tasks as the scheduler saw them."""
    address = client.scheduler_info()["address"]
    before = Machine.now()
    with get_task_stream(client) as stream:
        run(manifest, out, config=RunConfig(**CHOICES), scheduler=address, stages=(stage,))
    wall, cpu, others = Machine.now().since(before)
    spans = [
        (record["key"], record["worker"], part["start"], part["stop"])
        for record in stream.data
        for part in record["startstops"]
        if part["action"] == "compute"
    ]
    tasks: dict[str, list[float]] = defaultdict(list)
    ends: dict[str, float] = {}
    for key, worker, start, stop in spans:
        tasks[key.split("-")[0]].append(stop - start)
        ends[worker] = max(stop, ends.get(worker, stop))
    tail = max(ends.values()) - min(ends.values())
    return Stage(wall, cpu, sum(map(sum, tasks.values())), tail, others, dict(tasks))


def summary(runs: Mapping[int, list[dict[str, Stage]]]) -> dict[str, float]:
    """The flat figures of all runs: medians."""
    found: dict[str, float] = {}
    for stage in STAGES:
        one, two = ([r[stage] for r in runs[n]] for n in (1, 2))
        t1, t2 = (_middle(s, lambda s: s.wall_s) for s in (one, two))
        b1, b2 = (_middle(s, lambda s: s.busy_s) for s in (one, two))
        c1, c2 = (_middle(s, lambda s: s.cpu_s) for s in (one, two))
        found |= {
            f"{stage}.efficiency_2_workers": efficiency(t1, t2, 2),
            f"{stage}.efficiency_2_workers_cpu": c1 / c2,  # the work itself, contention included
            f"{stage}.wall_s_1_worker": t1,
            f"{stage}.wall_s_2_workers": t2,
            f"{stage}.cpu_s_1_worker": c1,
            f"{stage}.cpu_s_2_workers": c2,
            f"{stage}.tasks_slower_2_workers": b2 / b1,
            f"{stage}.client_alone_s_1_worker": t1 - b1,
            f"{stage}.idle_s_2_workers": 2 * t2 - b2,
            f"{stage}.tail_s_2_workers": _middle(two, lambda s: s.tail_s),
            f"{stage}.others_cores": _middle([*one, *two], lambda s: s.others),
        }
        for kind, times in one[-1].tasks.items():
            found[f"{stage}.{kind}.tasks"] = len(times)
            found[f"{stage}.{kind}.task_s"] = median(times)
            if len(times) > 9:
                low, *_, high = quantiles(times, n=10)
                found[f"{stage}.{kind}.task_s_p10"], found[f"{stage}.{kind}.task_s_p90"] = low, high
    return found


def stored(out: Path, cohort: Path) -> dict[str, float]:
    """What the run read and wrote, a unit, and the rates of the work of one worker."""
    values = {"intensity": 0, "features": 0}
    size = dict.fromkeys(values, 0)
    for folder in (out / "cohort.zarr").iterdir():
        if not folder.is_dir():
            continue
        group = open_group(str(folder))
        for name in values:
            array = group[name]
            assert isinstance(array, zarr.Array)
            values[name] += array.size
            files = (folder / name).rglob("*")
            size[name] += sum(f.stat().st_size for f in files if f.is_file())
    names = json.loads((out / "run.json").read_text())["specimens"]
    ledger = [
        json.loads((out / "ledger" / stage / f"{name}.json").read_text())
        for stage in ("ingest", "features")
        for name in names
    ]
    spectra = sum(r.get("spectra", 0) for r in ledger)
    msi = sum(f.stat().st_size for f in cohort.iterdir() if f.suffix.lower() in (".imzml", ".ibd"))
    return {
        "stored.intensity_bytes_a_value": size["intensity"] / values["intensity"],
        "stored.features_bytes_a_value": size["features"] / values["features"],
        "stored.msi_bytes_a_spectrum": msi / spectra,
        "work.spectra": float(spectra),
        "work.tissue_mpix": sum(r.get("slide_mpix", 0.0) for r in ledger),
        "work.specimens": float(len(names)),
    }


def network_mpix(manifest: Path, out: Path) -> float:
    """Megapixels that the network saw in a run: every window of every unit, with its halo."""
    choices, pixels = RunConfig(**CHOICES), 0
    encoder = load_encoder(choices.encoder, choices.weights)
    halo, stride = encoder.halo // encoder.stride, encoder.stride
    for specimen in read_manifest(str(manifest)):
        image = working(open_reader(specimen.slide, mpp=specimen.mpp), CHOICES["mpp"])
        whole = tuple(-(-n // stride) for n in image.shape)
        record = json.loads((out / "ledger" / "register" / f"{specimen.name}.json").read_text())
        matrix = np.asarray(record["matrix"], dtype=float)
        tissue = read(open_group(join(str(out), "cohort.zarr", specimen.name)), "tissue") > 0
        placed = to_cells(matrix, image, stride)
        for unit in units(Block(0, tissue.shape[0], 0, tissue.shape[1])):
            shared = overlap(placed, unit, (whole[0], whole[1]), wanted=tissue[unit.slices])
            for core in windows_of(shared, choices.pixels_a_window, stride):
                side = [
                    min(n + 2 * halo, w) * stride for n, w in zip(core.shape, whole, strict=True)
                ]
                pixels += side[0] * side[1]
    return pixels / 1e6


def forward(times: int) -> dict[str, Any]:
    """Wall and CPU seconds of twice 0.64 megapixels through the network, again and again."""
    encoder = load_encoder("resnet50:layer3", "random:0")
    tile = np.random.default_rng(0).integers(0, 255, (800, 800, 3), dtype=np.uint8)
    encoder(tile)
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        encoder(tile)
        encoder(tile)
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"seconds": np.array(found)}


def machine(times: int) -> dict[str, float]:
    """What two processes that share nothing get of this machine: the bound of any engine on it."""

    def median_of(processes: int) -> Any:
        with ThreadPoolExecutor(processes) as pool:
            target = "benchmarks.scaling.workers:forward"
            jobs = [pool.submit(measured, target, times=times) for _ in range(processes)]
            return np.median([job.result().result["seconds"] for job in jobs], axis=(0, 1))

    (wall1, cpu1), (wall2, cpu2) = median_of(1), median_of(2)
    return {
        "machine.efficiency_2_processes": float(wall1 / wall2),
        "machine.efficiency_2_processes_cpu": float(cpu1 / cpu2),
        "machine.network_mpix_s_core": float(2 * 0.64 / cpu1),
    }


def rows(runs: Mapping[int, list[dict[str, Stage]]]) -> list[dict[str, Any]]:
    """Every stage of every run."""
    return [
        {
            "stage": stage,
            "workers": workers,
            "wall s": s.wall_s,
            "CPU s": s.cpu_s,
            "busy s": s.busy_s,
            "tail s": s.tail_s,
            "others": s.others,
            "": "disturbed" if s.others > QUIET_CORES else "",
        }
        for stage in STAGES
        for workers, some in runs.items()
        for s in (run[stage] for run in some)
    ]


def medians(found: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the medians say; two plain loops are what this machine allows."""
    columns = {
        "efficiency by wall": "efficiency_2_workers",
        "by CPU": "efficiency_2_workers_cpu",
        "tasks beside another take": "tasks_slower_2_workers",
        "workers idle s": "idle_s_2_workers",
    }
    of = "machine.efficiency_2_processes"
    plain = {"efficiency by wall": found[of], "by CPU": found[f"{of}_cpu"]}
    return [
        *(
            {"": s} | {title: found[f"{s}.{name}"] for title, name in columns.items()}
            for s in STAGES
        ),
        {"": "two plain forward-pass loops", **plain},
    ]


def imports() -> None:
    """What a worker imports with its first task is its start, not the stage's."""
    import_module("msiscale.pipeline")


def _pin(addresses: list[str], dask_worker: Worker) -> None:
    # else the threads beside a lone worker's tasks had the second core to themselves
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        core = cores[addresses.index(dask_worker.address) % len(cores)]
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {core})


def _middle(stages: list[Stage], of: Callable[[Stage], float]) -> float:
    """Median over the runs that nobody disturbed, or over all if there are none."""
    quiet = [s for s in stages if s.others <= QUIET_CORES]
    return median(of(s) for s in (quiet or stages))
