"""PCA, ridge, logistic regression and their cross-validation beside scikit-learn and dask-ml."""

from __future__ import annotations

import argparse
from importlib import import_module

from benchmarks._measure import table

PARTS = ("pca", "ridge", "crossval", "logistic", "sparse")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--rows", type=int, help="of every part [each part's own]")
    parser.add_argument("--columns", type=int, help="of every part [each part's own]")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3, help="medians of so many runs of ours")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--data", metavar="DIR", help="where the Zarr data are made and kept")


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a table a part; all figures together."""
    found: dict[str, float] = {}
    for part in words.only:
        lines, figures = import_module(f"benchmarks.models_{part}").run(words)
        print(table(lines), end="\n\n", flush=True)
        found |= figures
    return found
