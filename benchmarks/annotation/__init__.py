"""Lipid annotation: LMSD read whole; masses; recall and false discoveries where lipids are known.

Phantoms hold known lipids with all their isotopes, four times as many ions that are no lipid, of
random m/z (``random``) or half of them with the mass defect of lipids (``alike``), and stray peaks.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common.measure import measured
from benchmarks.common.progress import Progress

TAKES = "5 minutes"
FULL: dict[str, Any] = {}
LMSD = "../shared/data/lipids/lmsd_2017-12-12.tsv"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--lmsd", default=LMSD, help=f"the LMSD as TSV or CSV [{LMSD}]")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--specimens", type=int, default=4)
    parser.add_argument("--lipids", type=int, default=100)
    parser.add_argument("--unknown", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Reading in processes of their own; then the phantoms."""
    from benchmarks.annotation.recall import one

    found: dict[str, float] = {}
    progress.total = 2 + 2 * words.phantoms
    if Path(words.lmsd).is_file():
        found |= reading(words.lmsd, progress)
    else:
        print(f"{words.lmsd}: not here; reading is not measured")
    seeds = range(words.seed, words.seed + words.phantoms)
    for kind, alike in (("random", 0.0), ("alike", 0.5)):
        totals = [one(words, seed, alike) for seed in progress.each(seeds, f"{kind} phantom")]
        for name in totals[0]:
            values = [t[name] for t in totals]
            found[f"{kind}.{name}"] = mean(values)
            if "false" in name:
                found[f"{kind}.{name}_worst_phantom"] = max(values)
    return found


def reading(lmsd: str, progress: Progress) -> dict[str, float]:
    """Seconds and MiB of reading the table, and an SDF of the same records with all fields."""
    from benchmarks.annotation.reading import write_sdf

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        sdf = str(Path(folder) / "lmsd.sdf")
        found["sdf.mib"] = write_sdf(lmsd, sdf) / 2**20
        for kind, path in (("tsv", lmsd), ("sdf", sdf)):
            progress(f"reading {kind}")
            cost = measured("benchmarks.annotation.reading:read_table", path=path)
            found[f"{kind}.wall_s"] = cost.wall_s
            found[f"{kind}.peak_mib"] = cost.peak_mib
            found[f"{kind}.structures"] = float(cost.result["structures"])
            found[f"{kind}.rows"] = float(cost.result["rows"])
    return found
