"""Ion images degraded and restored by each fusion method: a phantom cohort, and a real image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common.progress import Progress

TAKES = "5 minutes"
FULL: dict[str, Any] = {}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    here = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=here, help="folder of msi_other [beside]")
    parser.add_argument("--specimens", type=int, default=2, help="of the phantom; 0: none")
    parser.add_argument("--pixels", type=int, default=64, help="of the phantom's MSI, a side")
    parser.add_argument("--ions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Mean scores of each method and factor, and of how many ions it is the best."""
    from benchmarks.fusion.images import bladder, figures, phantom

    found: dict[str, float] = {}
    progress.total = 3
    if words.specimens:
        progress("phantom cohort")
        found |= figures("phantom", phantom(words))
    file = words.data / "msi_other" / "bladder_79ions.npz"
    if not file.is_file():
        print(f"bladder: skipped, {file} is not there (--data FOLDER)")
        return found
    for guide in ("one_channel", "modes"):
        progress(f"bladder, {guide}")
        found |= figures(f"bladder_{guide}", bladder(file, words.ions, guide))
    return found
