"""PCA, ridge, logistic regression and their cross-validation beside scikit-learn and dask-ml.

Everybody gets the same data. By default rows, columns and components are 0.4 of those in
docs/models.md: products, decompositions and their ratios then cost 0.4³ of it together, which is
what keeps ratios stable (fewer rows alone would not). The size stands beside each ratio.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from benchmarks.common.measure import table
from benchmarks.common.progress import Progress

TAKES = "8 minutes; --full 45"
FULL: dict[str, Any] = {"scale": 1.0, "repeat": 3}
PARTS = ("pca", "ridge", "crossval", "logistic", "sparse")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--scale", type=float, default=0.4, help="of each part's sizes [0.4]")
    parser.add_argument("--rows", type=int, help="of every part [its own]")
    parser.add_argument("--columns", type=int, help="of every part [its own]")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--components", type=int, help="[200 times the scale]")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs of ours")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--data", metavar="DIR", help="where the Zarr data are made and kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a table a part; all figures together."""
    plans = [import_module(f"benchmarks.models.{part}").plan(words) for part in words.only]
    progress.total = sum(len(plan.steps) for plan in plans)
    found: dict[str, float] = {}
    for plan in plans:
        lines, figures = plan.figures(progress.run(plan.steps))
        size = {n: float(getattr(plan, n)) for n in ("rows", "columns")}
        print(f"{plan.part}, {plan.rows:,} x {plan.columns:,}\n{table(lines)}\n", flush=True)
        found |= {f"{plan.part}.{name}": value for name, value in {**size, **figures}.items()}
    return found
