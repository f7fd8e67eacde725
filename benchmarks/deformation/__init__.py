"""Deformation beyond the affine map: landmarks before and after it, on real sections."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

from benchmarks.common.progress import Progress

TAKES = "1 minute; --full 3"
FULL = {"repeats": 4}
DATA = Path(__file__).parents[3] / "shared" / "data"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command line."""
    parser.add_argument("--repeats", type=int, default=1, help="pseudo-MSI of each pair [1]")
    parser.add_argument("--pixel-um", type=float, default=50.0, help="MSI pixel [50]")
    parser.add_argument("--seed", type=int, default=606, help="of turn, mixtures and counts")
    sections = DATA / "registration" / "lung3"
    words = "three stained sections with landmarks"
    parser.add_argument("--sections", default=str(sections), metavar="FOLDER", help=words)
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Root mean square of the landmarks, in MSI pixels, and what speaks for the deformation."""
    from benchmarks.deformation.pairs import STAINS, left_over, summary

    pairs = list(product(range(words.repeats), STAINS, STAINS))
    progress.total = len(pairs)
    job = partial(left_over, folder=words.sections, pixel_um=words.pixel_um, seed=words.seed)
    with ProcessPoolExecutor(words.workers, mp_context=get_context("spawn")) as pool:
        found = pool.map(job, pairs)
        rows = [next(found) for _ in progress.each(pairs, "real sections")]
    return summary(rows)
