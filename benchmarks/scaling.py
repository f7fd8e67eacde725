"""Workers, scheduler, planning and cost: how the engine scales, and what limits it next."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks import _scaling_plan, _scaling_scheduler, _scaling_workers
from benchmarks._scaling_model import (
    Assumed,
    Constants,
    bottlenecks,
    cohort_cost,
    cores_a_gpu,
    msi_pixels,
    network_mpix,
    paired_core_s,
    read_bytes,
    slide_mpix,
    stored_bytes,
    tasks_a_specimen,
)

PARTS = ("workers", "scheduler", "plan", "cost")
COHORTS = {"1000_specimens": (1000, 0), "30000_slides": (0, 30_000)}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--quick", action="store_true", help="small cohorts, one run of each")
    parser.add_argument("--repeat", type=int, default=2, help="runs with each number of workers")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
        help="of workers, scheduler, plan, cost; cost needs the first two",
    )  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="where the temporary data lie")
    for name, what in (
        ("core-hour", "price of a core for an hour"),
        ("gpu-hour", "price of a GPU for an hour"),
        ("gb-month", "price of a stored GB for a month"),
        ("gpu-mpix-s", "megapixels a second of one GPU, halo counted; not measured here"),
    ):
        default = getattr(Assumed, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{what} [{default:g}]")
    parser.add_argument(
        "--store-gb-s", type=float, default=5.0, help="GB a second of the store [5]"
    )


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a table a part; all figures together."""
    os.environ["MSISCALE_QUIET"] = "1"
    found: dict[str, float] = {}
    with _scaling_workers.scratch(words.data) as name:
        folder = Path(name)
        durations: _scaling_workers.Durations = {}
        if "workers" in words.only:
            repeat = 1 if words.quick else words.repeat
            figures, durations = _scaling_workers.measure(folder, quick=words.quick, repeat=repeat)
            found |= figures
        if "scheduler" in words.only:
            durations = durations or _scaling_workers.recorded(folder)
            found |= _scaling_scheduler.measure(folder, durations["features"], quick=words.quick)
        if "plan" in words.only:
            found |= _scaling_plan.measure(folder, quick=words.quick)
    if {"workers", "scheduler", "cost"} <= set(words.only):
        found |= cost(found, words)
    return found


def constants(found: Mapping[str, float]) -> Constants:
    """The measured constants of the model, from the flat figures."""
    specimens = found["work.specimens"]
    cpu = {stage: found[f"{stage}.cpu_s_1_worker"] for stage in _scaling_workers.STAGES}
    network = found["work.network_mpix"] / found["machine.network_mpix_s_core"]
    return Constants(
        network_mpix_s=found["machine.network_mpix_s_core"],
        other_cpu_share=max(0.0, 1 - network / cpu["features"]),
        spectra_s=found["work.spectra"] / cpu["ingest"],
        register_s=cpu["register"] / specimens,
        intensity_bytes=found["stored.intensity_bytes_a_value"],
        features_bytes=found["stored.features_bytes_a_value"],
        msi_bytes=found["stored.msi_bytes_a_spectrum"],
        scheduler_s=found["scheduler.cpu_ms_a_task"] / 1000,
        client_s=found["client.cpu_ms_a_task"] / 1000,
    )


def cost(found: Mapping[str, float], words: argparse.Namespace) -> dict[str, float]:
    """What limits a growing cluster, and what the two cohorts cost."""
    c = constants(found)
    a = Assumed(
        core_hour=words.core_hour,
        gpu_hour=words.gpu_hour,
        gb_month=words.gb_month,
        gpu_mpix_s=words.gpu_mpix_s,
    )
    per, kept = paired_core_s(a, c), stored_bytes(a, c)
    figures = {
        "model.network_mpix_s_core": c.network_mpix_s,
        "model.other_cpu_share": c.other_cpu_share,
        "model.spectra_s_core": c.spectra_s,
        "model.halo_factor": network_mpix(1.0, a) / slide_mpix(1.0, a.slide_mpp),
        "model.cores_a_gpu": cores_a_gpu(a, c),
        "specimen.tissue_mpix": slide_mpix(a.paired_mm2, a.slide_mpp),
        "specimen.network_mpix": network_mpix(a.paired_mm2, a),
        "specimen.msi_pixels": msi_pixels(a),
        "specimen.tasks": sum(tasks_a_specimen(a).values()),
        "specimen.slide_gb_read": read_bytes(a.paired_mm2, a) / 1e9,
        **{f"specimen.{name}_gb": size / 1e9 for name, size in kept.items()},
        **{f"specimen.{name}_core_s": seconds for name, seconds in per.items()},
    }
    for kind, limits in bottlenecks(a, c, words.store_gb_s * 1e9).items():
        figures |= {f"limit.{kind}.{name}": value for name, value in limits.items()}
    for cohort, (paired, slides) in COHORTS.items():
        spent = cohort_cost(paired, slides, a, c)
        figures |= {f"cost.{cohort}.{name}": value for name, value in spent.items()}
    print(_limits(figures), _costs(figures), sep="\n\n", end="\n\n", flush=True)
    return figures


def _limits(f: Mapping[str, float]) -> str:
    lines = [f"{'workers that fill the':<28}{'a task, s':>10}" + "".join(
        f"{name:>12}" for name in ("scheduler", "client", "store")
    )]  # fmt: skip
    for kind, label in (
        ("core", "features on a core"), ("gpu", "features on a GPU"), ("ingest", "ingest"),
    ):  # fmt: skip
        values = "".join(
            f"{f[f'limit.{kind}.{name}']:>12.0f}" for name in ("scheduler", "client", "store")
        )
        lines.append(f"{label:<28}{f[f'limit.{kind}.task_s']:>10.2f}{values}")
    return "\n".join(lines)


def _costs(f: Mapping[str, float]) -> str:
    lines = [f"{'':<34}" + "".join(f"{cohort.replace('_', ' '):>18}" for cohort in COHORTS)]
    for name, label in (
        ("cpu_core_hours", "CPU way: core-hours"),
        ("cpu_price", "CPU way: price"),
        ("gpu_hours", "GPU way: GPU-hours"),
        ("gpu_core_hours", "GPU way: core-hours"),
        ("gpu_price", "GPU way: price"),
        ("stored_tb", "stored, TB"),
        ("stored_price_month", "stored, price a month"),
    ):
        lines.append(
            f"{label:<34}" + "".join(f"{f[f'cost.{cohort}.{name}']:>18,.1f}" for cohort in COHORTS)
        )
    return "\n".join(lines)
