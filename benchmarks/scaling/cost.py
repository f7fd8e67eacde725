"""What limits a growing cluster and what cohorts cost, by the measured constants."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks.common.measure import table
from benchmarks.scaling.model import (
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
from benchmarks.scaling.workers import STAGES

COHORTS = {"1000_specimens": (1000, 0), "30000_slides": (0, 30_000)}


def constants(found: Mapping[str, float]) -> Constants:
    """The measured constants of the model, from the flat figures."""
    specimens = found["work.specimens"]
    cpu = {stage: found[f"{stage}.cpu_s_1_worker"] for stage in STAGES}
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
    print(table(_limits(figures)), table(_costs(figures)), sep="\n\n", end="\n\n", flush=True)
    return figures


def _limits(f: Mapping[str, float]) -> list[dict[str, Any]]:
    kinds = {"core": "features on a core", "gpu": "features on a GPU", "ingest": "ingest"}
    limits = {"task_s": "a task, s", "scheduler": "scheduler", "client": "client", "store": "store"}
    return [
        {"workers that fill the": label}
        | {title: f[f"limit.{kind}.{name}"] for name, title in limits.items()}
        for kind, label in kinds.items()
    ]


def _costs(f: Mapping[str, float]) -> list[dict[str, Any]]:
    labels = {
        "fit_core_hours": "of them the fit: core-hours",
        "fit_read_tb": "read for the fit, TB",
        "cpu_core_hours": "CPU way: core-hours",
        "cpu_price": "CPU way: price",
        "gpu_hours": "GPU way: GPU-hours",
        "gpu_core_hours": "GPU way: core-hours",
        "gpu_price": "GPU way: price",
        "stored_tb": "stored, TB",
        "stored_price_month": "stored, price a month",
    }
    return [
        {"": label} | {cohort.replace("_", " "): f[f"cost.{cohort}.{name}"] for cohort in COHORTS}
        for name, label in labels.items()
    ]
