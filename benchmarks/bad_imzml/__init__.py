"""Odd and damaged imzML: which are read right, refused, or read wrong in silence, and by whom."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common.places import environment, folder_of
from benchmarks.common.progress import Progress

TAKES = "1 minute; --peers 25"
FULL: dict[str, Any] = {}
PEERS = ("pyimzml", "imzy", "thyra")  # packages, each of which needs an environment of its own


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--peers", action="store_true", help="install other readers, each apart, and ask them too"
    )
    parser.add_argument("--only", nargs="+", choices=PEERS, help="these peers [all]")
    parser.add_argument("--python", default=sys.executable, help="of the peers' environments")
    parser.add_argument("--data", metavar="DIR", help="where environments are kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a Markdown table, a row a file and a column a reader; counts of each outcome."""
    from benchmarks.bad_imzml.files import FILES
    from benchmarks.bad_imzml.readers import ours, theirs

    counts = Counter[str]()
    with folder_of(words.data) as folder, tempfile.TemporaryDirectory() as scratch:
        peers = (words.only or PEERS) if words.peers else ()
        pythons = {name: environment(folder / name, [name], words.python) for name in peers}
        readers = ["msiscale", *pythons]
        print(f"| file | {' | '.join(readers)} |\n|---|{'---|' * len(readers)}")
        for id in progress.each(FILES, ""):
            make, found = FILES[id], []
            for reader in readers:
                # each reader has files of its own: some write beside them
                with tempfile.TemporaryDirectory(dir=scratch) as place:
                    bad = make(Path(place))
                    word = ours(bad) if reader == "msiscale" else theirs(reader, pythons, bad)
                found.append(word)
                counts[f"bad_imzml.{reader}.{word.replace(' ', '_').strip('*')}"] += 1
            print(f"| {(make.__doc__ or id).strip()} | {' | '.join(found)} |", flush=True)
    print()
    return dict(counts)
