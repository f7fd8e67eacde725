"""The model of a growing cluster: what limits it, and what a cohort costs. Pure functions."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msiscale.config import BANDED_WINDOW
from msiscale.pipeline.protocols import GROUPS, MOST_ALONE

CHANNELS = 1024  # of the default encoder, resnet50:layer3
HALO = 144  # working pixels that the window of that encoder gets on each side
FLOAT = 4  # bytes


def efficiency(one_s: float, many_s: float, workers: int) -> float:
    """Parallel efficiency ``t1 / (n tn)`` of the same work: 1 is perfect."""
    return one_s / (workers * many_s)


def ideal_wall(durations: Iterable[float], workers: int) -> float:
    """Seconds that `workers` need for tasks taken in order, were sending them free."""
    free = [0.0] * workers
    # all zero, so already a heap
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def most_workers(task_s: float, cost_s: float) -> float:
    """Workers that a serial part can keep busy, which spends `cost_s` on a task of `task_s`."""
    return math.inf if cost_s <= 0 else task_s / cost_s


def most_by_bandwidth(task_s: float, task_bytes: float, bytes_s: float) -> float:
    """Workers whose reads and writes fill a store or a network of `bytes_s`."""
    return math.inf if task_bytes <= 0 else bytes_s * task_s / task_bytes


def halo_factor(window: float, halo: int = HALO) -> float:
    """Area that the network sees over the area of the window it is for."""
    return (1 + 2 * halo / window) ** 2


def window_px(block_px: float, window: int) -> float:
    """Side of the windows that a block of `block_px` working pixels a side is cut into."""
    return block_px / math.ceil(block_px / window)


@dataclass(frozen=True)
class Assumed:
    """A cohort. Lengths in µm, areas in mm², prices in one currency an hour or a GB-month."""

    msi_pixel_um: float = 50.0
    slide_mpp: float = 0.5  # at which the network sees the slide
    paired_mm2: float = 100.0  # tissue of a specimen that has MSI
    slide_mm2: float = 200.0  # tissue of a slide without MSI
    frame: float = 1.6  # area of the MSI rectangle over that of its tissue
    mz: int = 1000  # columns of the axis
    block: int = 64
    window: int = BANDED_WINDOW
    slide_bytes_a_pixel: float = 0.25  # JPEG at the scanner's resolution
    scan_mpp: float = 0.25
    core_hour: float = 0.04
    gpu_hour: float = 1.0
    gb_month: float = 0.02
    gpu_mpix_s: float = 60.0  # an assumption: no GPU was measured
    # of the fit, as measured by `--only fit classifiers`; CPU seconds
    load_s: float = 0.06  # a specimen's sums, read and added
    fold_s: float = 2.8  # the linear maps of a fold
    pixel_fold_s: float = 4.2e-5  # classifiers of a tissue pixel and fold, all models and C
    passes: int = 16  # times that the classifiers read all rows, those kept in memory counted


@dataclass(frozen=True)
class Constants:
    """What was measured here (`python -m benchmarks scaling`), a core or a task."""

    network_mpix_s: float  # working pixels through the encoder a second and core, halo counted
    other_cpu_share: float  # of a features task, beside the network: decoding, regridding, writing
    spectra_s: float  # spectra a second and core, both readings of the MSI
    register_s: float  # CPU seconds a specimen
    intensity_bytes: float  # stored bytes a value of (y, x, mz)
    features_bytes: float  # stored bytes a value of (y, x, channel)
    msi_bytes: float  # bytes of an input file a spectrum
    scheduler_s: float  # CPU seconds of the scheduler a task
    client_s: float  # CPU seconds of the client a task


def slide_mpix(mm2: float, mpp: float) -> float:
    """Megapixels of `mm2` of tissue at `mpp` µm a pixel."""
    return mm2 / mpp**2


def network_mpix(mm2: float, a: Assumed) -> float:
    """Megapixels that the network sees for `mm2` of tissue, the halo counted."""
    block_px = a.block * a.msi_pixel_um / a.slide_mpp
    return slide_mpix(mm2, a.slide_mpp) * halo_factor(window_px(block_px, a.window))


def msi_pixels(a: Assumed) -> float:
    """MSI pixels of a paired specimen's rectangle."""
    return a.paired_mm2 * a.frame * 1e6 / a.msi_pixel_um**2


def tasks_a_specimen(a: Assumed) -> dict[str, float]:
    """Tasks of each stage for a specimen: one, or one a block of its rectangle."""
    side = math.sqrt(msi_pixels(a)) / a.block
    blocks = float(math.ceil(side) ** 2)
    return {"peaks": 1.0, "ingest": blocks, "register": 1.0, "features": blocks}


def stored_bytes(a: Assumed, c: Constants) -> dict[str, float]:
    """Bytes of a paired specimen in ``cohort.zarr``, by array."""
    n = msi_pixels(a)
    return {"intensity": n * a.mz * c.intensity_bytes, "features": n * CHANNELS * c.features_bytes}


def read_bytes(mm2: float, a: Assumed) -> float:
    """Bytes of a slide that are read for `mm2` of tissue, shared windows counted."""
    again = network_mpix(mm2, a) / slide_mpix(mm2, a.slide_mpp)
    return mm2 / a.scan_mpp**2 * 1e6 * a.slide_bytes_a_pixel * again


def features_core_s(mm2: float, a: Assumed, c: Constants) -> float:
    """CPU seconds of the features of `mm2` of tissue."""
    return network_mpix(mm2, a) / c.network_mpix_s / (1 - c.other_cpu_share)


def features_gpu_s(mm2: float, a: Assumed) -> float:
    """GPU seconds of the same."""
    return network_mpix(mm2, a) / a.gpu_mpix_s


def cores_a_gpu(a: Assumed, c: Constants) -> float:
    """Cores that decode, regrid and write for one GPU that never waits."""
    beside_s = c.other_cpu_share / (1 - c.other_cpu_share) / c.network_mpix_s  # a network Mpix
    return a.gpu_mpix_s * beside_s


def paired_core_s(a: Assumed, c: Constants) -> dict[str, float]:
    """CPU seconds of a paired specimen, by stage."""
    return {
        "ingest": msi_pixels(a) / c.spectra_s,
        "register": c.register_s,
        "features": features_core_s(a.paired_mm2, a, c),
    }


def folds_of(patients: int) -> int:
    """Folds of a cohort by default, that of all patients counted."""
    return (patients if patients <= MOST_ALONE else GROUPS) + 1


def fit_core_s(patients: int, a: Assumed) -> dict[str, float]:
    """CPU seconds of the fit of as many patients, a specimen each, by part."""
    folds, pixels = folds_of(patients), a.paired_mm2 * 1e6 / a.msi_pixel_um**2
    loads = 3 if patients <= MOST_ALONE else 4
    return {
        "linear": patients * loads * a.load_s + folds * a.fold_s,
        "classifiers": patients * pixels * folds * a.pixel_fold_s,
    }


def fit_bytes(patients: int, a: Assumed) -> float:
    """Bytes of rows (float32, uncompressed) that the fit of as many patients goes over."""
    pixels = a.paired_mm2 * 1e6 / a.msi_pixel_um**2
    # the sums and the maps of what is held out read them once each
    return patients * pixels * (a.mz + CHANNELS) * FLOAT * (a.passes + 2)


def cohort_cost(paired: int, slides: int, a: Assumed, c: Constants) -> dict[str, float]:
    """Core-hours, GPU-hours, terabytes and money of a cohort; the CPU way and the GPU way."""
    per = paired_core_s(a, c)
    light = paired * (per["ingest"] + per["register"])
    heavy = paired * per["features"] + slides * features_core_s(a.slide_mm2, a, c)
    gpu_s = paired * features_gpu_s(a.paired_mm2, a) + slides * features_gpu_s(a.slide_mm2, a)
    feeding = gpu_s * cores_a_gpu(a, c)
    stored = paired * sum(stored_bytes(a, c).values()) / 1e12
    fit = sum(fit_core_s(paired, a).values()) if paired else 0.0
    core_h, gpu_h = (light + heavy + fit) / 3600, gpu_s / 3600
    beside_h = (light + feeding + fit) / 3600
    return {
        "fit_core_hours": fit / 3600,
        "fit_read_tb": fit_bytes(paired, a) / 1e12,
        "cpu_core_hours": core_h,
        "cpu_price": core_h * a.core_hour,
        "gpu_hours": gpu_h,
        "gpu_core_hours": beside_h,
        "gpu_price": gpu_h * a.gpu_hour + beside_h * a.core_hour,
        "stored_tb": stored,
        "stored_price_month": stored * 1000 * a.gb_month,
    }


def bottlenecks(a: Assumed, c: Constants, store_bytes_s: float) -> dict[str, Mapping[str, float]]:
    """Workers at which scheduler, client and store are full, for blocks on a core and on a GPU.

    One task is a block of the features stage. A worker with a GPU is one process that does it in
    the time of its network alone (its cores decode ahead).
    """
    blocks = tasks_a_specimen(a)["features"]
    bytes_task = (read_bytes(a.paired_mm2, a) + stored_bytes(a, c)["features"]) / blocks
    found: dict[str, Mapping[str, float]] = {}
    for kind, seconds in (
        ("core", features_core_s(a.paired_mm2, a, c) / blocks),
        ("gpu", features_gpu_s(a.paired_mm2, a) / blocks),
    ):
        found[kind] = {
            "task_s": seconds,
            "scheduler": most_workers(seconds, c.scheduler_s),
            "client": most_workers(seconds, c.client_s),
            "store": most_by_bandwidth(seconds, bytes_task, store_bytes_s),
        }
    ingest_s = msi_pixels(a) / c.spectra_s / tasks_a_specimen(a)["ingest"]
    ingest_bytes = (msi_pixels(a) * c.msi_bytes * 2 + stored_bytes(a, c)["intensity"]) / (
        tasks_a_specimen(a)["ingest"]
    )
    found["ingest"] = {
        "task_s": ingest_s,
        "scheduler": most_workers(ingest_s, c.scheduler_s),
        "client": most_workers(ingest_s, c.client_s),
        "store": most_by_bandwidth(ingest_s, ingest_bytes, store_bytes_s),
    }
    return found
