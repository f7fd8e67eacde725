"""Biomarkers: false discoveries over null phantoms, planted ions found, and what both cost.

A phantom is a cohort of smooth ion images that share a few patterns, and a smooth annotation in
each specimen that has nothing to do with them, or with all but the planted ions.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.common.progress import Progress

TAKES = "6 minutes"
FULL: dict[str, Any] = {}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--phantoms", type=int, default=200, help="null ones")
    parser.add_argument("--planted-phantoms", type=int, default=50)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--ions", type=int, default=500)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--effect", type=float, default=1.0, help="standard deviations of an ion")
    parser.add_argument("--shifts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """False discoveries by the run's q, by those that stand beside it, and by one of pixels."""
    from benchmarks.biomarkers.cohorts import cohort, figures

    found: dict[str, float] = {}
    progress.total, began = words.phantoms + words.planted_phantoms, time.perf_counter()
    for kind, count, planted in (
        ("null", words.phantoms, 0),
        ("planted", words.planted_phantoms, words.planted),
    ):
        numbers = progress.each(range(count), f"{kind} cohort")
        tables = [cohort(words, planted, number) for number in numbers]
        found |= {f"{kind}.{name}": value for name, value in figures(tables, planted).items()}
    return found | {"wall_s": time.perf_counter() - began}
