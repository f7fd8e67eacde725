"""Two real pairs of MSI and microscopy of one section, at the defaults that a user gets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common.progress import Progress

TAKES = "5 minutes; --full 15"
FULL = {"by_layer": True}
DATA = Path(__file__).parents[3] / "shared" / "data" / "paired"
# What a run describes the slide with, for the table of docs/real-data.md.
ENCODERS = {
    "stains": "stains",
    "last_layer": "efficientnet-lite0",
    "inner_layers": "efficientnet-lite0:stem+b0+b2+b4",
    "all_layers": "efficientnet-lite0:all",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--data", default=str(DATA), help="folder of the pairs (docs/real-data.md)")
    parser.add_argument("--by-layer", action="store_true", help="compare encoders and layers")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Errors of registration in MSI pixels; R² and correlations over blocks held out."""
    from benchmarks.common.measure import measured, table

    names = [name for name in ("msight", "roempp") if _folder(words.data, name).is_dir()]
    if not names:
        raise SystemExit(f"{words.data}: no pair there; docs/real-data.md says how to get one")
    encoders = {"": ""} | (ENCODERS if words.by_layer else {})
    progress.total = len(names) * len(encoders)
    found: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for name in names:
        for what, encoder in encoders.items():
            progress(f"{name} {what}".strip())
            folder = str(_folder(words.data, name))
            cost = measured("benchmarks.real.sides:pair", folder=folder, name=name, encoder=encoder)
            figures = {key: float(value) for key, value in cost.result.items()}
            if not what:  # the others lie where the reference says
                figures["cpu_s"] = cost.cpu_s
            found |= {
                ".".join(filter(None, ("real", name, what, k))): v for k, v in figures.items()
            }
            rows.append({"": f"{name} {what or 'default'}", **figures})
    print(table(rows))
    return found


def _folder(data: str, name: str) -> Path:
    return Path(data) / f"{name}_mouse_bladder"
