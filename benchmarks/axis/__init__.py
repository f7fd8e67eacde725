"""The m/z axis at default options: 40 known ions as instruments of several kinds measure them.

Ion images are compared with the truth; with ``--real``, the share of the ion current of real files
that reaches their cubes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.progress import Progress

TAKES = "2 minutes"
FULL: dict[str, Any] = {}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--only", nargs="+", metavar="KIND", help="these instruments [all]")
    parser.add_argument("--specimens", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, metavar="DIR", help="folder with imzML files, too")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Correlation of ion images, ions found, false ones and the ion current, by instrument."""
    from benchmarks.axis.cohorts import KINDS
    from benchmarks.axis.runs import real_files, real_share, scores

    found: dict[str, float] = {}
    kinds = words.only or list(KINDS)
    files = real_files(words.real) if words.real else []
    progress.total = len(kinds) + len(files)
    for kind in progress.each(kinds, ""):
        with tempfile.TemporaryDirectory() as folder:
            own = scores(Path(folder), kind, words.seed, words.specimens)
        found |= {f"axis.{kind}.{name}": value for name, value in own.items()}
    for path in progress.each(files, ""):
        with tempfile.TemporaryDirectory() as folder:
            own = real_share(Path(folder), path)
        found |= {f"real.{path.stem.lower()}.{name}": value for name, value in own.items()}
    return found
