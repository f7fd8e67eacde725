"""Workers, scheduler, planning and cost: how the engine scales, and what limits it next."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.common.progress import Progress

TAKES = "9 minutes; --full 15; --only cohort an hour"
FULL = {"repeat": 2, "pixels": 192}
USUAL = ("workers", "scheduler", "plan", "cost")
PARTS = (*USUAL, "fit", "classifiers", "cohort")  # which take long, and run when they are named


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from benchmarks.scaling.model import Assumed

    parser.add_argument("--pixels", type=int, default=128, help="of a specimen, a side [128]")
    parser.add_argument("--repeat", type=int, default=1, help="runs with each number of workers")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=USUAL, metavar="PART",
        help="of workers, scheduler, plan, cost (which needs the first two), fit, classifiers, "
        "cohort [the first four]",
    )  # fmt: skip
    parser.add_argument(
        "--fit-patients", type=int, nargs="+", default=[12, 24, 100, 300], metavar="N",
        help="patients of `fit` [12 24 100 300]",
    )  # fmt: skip
    parser.add_argument(
        "--classifier-pixels", type=int, nargs="+", default=[160_000, 640_000], metavar="N",
        help="pixels of `classifiers` [160000 640000]",
    )  # fmt: skip
    for name, size, what in (
        ("mz", 1000, "m/z"),
        ("channels", 1024, "features"),
        ("modes", 200, "modes"),
    ):
        parser.add_argument(f"--fit-{name}", type=int, default=size, help=f"{what} [{size}]")
    parser.add_argument(
        "--specimens", nargs="+", type=int, default=(30, 100, 300), metavar="N",
        help="of the runs of cohort [30 100 300]",
    )  # fmt: skip
    parser.add_argument(
        "--patients", type=int, metavar="N", help="that those are of [each of one of its own]"
    )
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


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a table a part; all figures together."""
    from benchmarks.scaling import classifiers, cohort, fit, plan, scheduler, workers
    from benchmarks.scaling.cost import cost

    os.environ["MSISCALE_QUIET"] = "1"
    steps = {"workers": 2 + 2 * words.repeat, "scheduler": scheduler.STEPS, "plan": plan.STEPS}
    steps["cohort"] = 1 + 2 * len(words.specimens)
    progress.total = sum(steps.get(part, 0) for part in words.only)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="msiscale-scaling-", dir=words.data) as name:
        folder = Path(name)
        durations: workers.Durations = {}
        if "workers" in words.only:
            figures, durations = workers.measure(folder, words.pixels, words.repeat, progress)
            found |= figures
        if "scheduler" in words.only:
            durations = durations or workers.recorded(folder)
            found |= scheduler.measure(folder, durations["features"], progress)
        if "plan" in words.only:
            found |= plan.measure(folder, progress)
        if "fit" in words.only:
            sizes = (words.fit_mz, words.fit_channels, words.fit_modes)
            found |= fit.measure(folder, words.fit_patients, *sizes, progress)
        if "classifiers" in words.only:
            found |= classifiers.measure(folder, words.classifier_pixels, progress)
        if "cohort" in words.only:
            found |= cohort.measure(folder, words.specimens, words.patients, progress)
    if {"workers", "scheduler", "cost"} <= set(words.only):
        found |= cost(found, words)
    return found
