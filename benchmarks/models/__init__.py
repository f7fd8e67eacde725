"""PCA, ridge, logistic regression and their cross-validation beside scikit-learn and dask-ml.

Everybody gets the same rows. The slow sides cost in proportion to them and msiscale a little less
than that, so ratios of fewer rows are a little lower: the size stands beside each.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from benchmarks.common.measure import table
from benchmarks.common.progress import Progress

TAKES = "9 minutes; --full 45"
FULL: dict[str, Any] = {"share": 1.0, "repeat": 3}
PARTS = ("pca", "ridge", "crossval", "logistic", "sparse")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--share", type=float, default=0.25, help="of each part's rows [0.25]")
    parser.add_argument("--rows", type=int, help="of every part [each part's own]")
    parser.add_argument("--columns", type=int, help="of every part [each part's own]")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--components", type=int, default=200)
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
        size = {"rows": float(plan.rows), "columns": float(plan.columns)}
        print(f"{plan.part}, {plan.rows:,} x {plan.columns:,}\n{table(lines)}\n", flush=True)
        found |= {f"{plan.part}.{name}": value for name, value in {**size, **figures}.items()}
    return found
