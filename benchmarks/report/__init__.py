"""The HTML report: size, time and memory to write, time to open; of the demo and of 300 specimens.

The large cohort has the demo's specimens many times over, under names of their own. Opening is
measured in Chromium, from the file to the moment at which every plot of the page is drawn.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.common.measure import Measured, measured, table
from benchmarks.common.places import folder_of
from benchmarks.common.progress import Progress

TAKES = "7 minutes; with the --run of a demo 2"
FULL: dict[str, Any] = {}
PAGES = 6  # of the large cohort, written and measured
SIDES = "benchmarks.report.sides"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--run", type=Path, metavar="DIR", help="run of msiscale demo [made anew]")
    parser.add_argument("--specimens", type=int, default=300, help="of the large cohort")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Both cohorts; sizes in MB, times in seconds, memory in MiB."""
    from benchmarks.report.sides import in_chromium, multiplied

    progress.total = 6
    with folder_of(None) as folder:
        progress("msiscale demo, unless there is one")
        source = words.run or made(folder / "demo")
        out, many = folder / "one", folder / "many"
        shutil.copytree(source, out)
        progress("report of the demo")
        small = measured(f"{SIDES}:write", out=str(out))
        progress(f"a cohort of {words.specimens} specimens")
        names = multiplied(out, many, words.specimens)
        progress("its first page")
        index = measured(f"{SIDES}:write_index", out=str(many))
        progress("pages of specimens")
        pages = measured(f"{SIDES}:write_pages", out=str(many), names=names[:PAGES])
        files = {
            "demo": out / "report.html",
            "index": many / "report.html",
            "page": many / "report" / f"{names[0]}.html",
        }
        progress("opening them in Chromium")
        opened = in_chromium(files)
        sizes = {name: path.stat().st_size / 1e6 for name, path in files.items()}
    page = Measured(pages.cpu_s / PAGES, pages.wall_s / PAGES, pages.peak_mib, pages.result)
    costs = {"demo": small, "index": index, "page": page}
    facts = {n: {"MB": sizes[n], **opened.get(n, {})} for n in files}
    print(table([cost.row(n, **facts[n]) for n, cost in costs.items()]))
    found = {f"{n}.cpu_s": c.cpu_s for n, c in costs.items()}
    found |= {f"{n}.peak_mib": c.peak_mib for n, c in costs.items()}
    found |= {f"{n}.{key}": value for n, values in facts.items() for key, value in values.items()}
    return {key.replace(" ", "_"): float(value) for key, value in sorted(found.items())}


def made(folder: Path) -> Path:
    """A run of the demo."""
    from msiscale.demo import demo

    demo(str(folder))
    return folder / "run"
