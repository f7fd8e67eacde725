"""Automatic registration on phantoms and real sections: accepted, refused, wrong, error."""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.common.progress import Progress

TAKES = "6 minutes; --full 12"
FULL = {"pairs": 40}
DATA = Path(__file__).parents[3] / "shared" / "data"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command line."""
    parser.add_argument("--pairs", type=int, default=20, help="phantom specimens [20]")
    parser.add_argument("--seed", type=int, default=606, help="of the phantoms and their cuts")
    parser.add_argument("--real", type=int, default=10, help="warped copies of the real slide")
    slide = DATA / "slides" / "cmu-1-small-region.svs"
    parser.add_argument("--slide", default=str(slide), metavar="FILE", help="that real slide")
    sections = DATA / "registration" / "lung3"
    words = "three stained sections with landmarks; without it they are left out"
    parser.add_argument("--sections", default=str(sections), metavar="FOLDER", help=words)
    words = "real pairs of MSI and slide; without it they are left out"
    pairs = DATA / "paired"
    parser.add_argument("--paired", default=str(pairs), metavar="FOLDER", help=words)
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Errors over the tissue, root mean square in MSI pixels, and CPU seconds of each pair."""
    from benchmarks.registration import paired
    from benchmarks.registration.pairs import CASES, PIXEL_UM, phantom, real, summary
    from benchmarks.registration.sections import SIZES, STAINS, section
    from msiscale.pipeline import run
    from msiscale.simulate import simulate

    rows = []
    stains = len(STAINS) if Path(words.sections).is_dir() else 0
    pairs = len(paired.PAIRS) if Path(words.paired).is_dir() else 0
    slides = [f"{words.paired}/{p[2]}" for p in paired.PAIRS.values()][: 2 * bool(pairs)]
    slides += [words.slide] * Path(words.slide).is_file()
    sections = [f"{words.sections}/{s}.jpg" for s in STAINS] * bool(stains)
    progress.total = 1 + words.pairs + words.real + stains + pairs
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(words.workers, mp_context=spawn) as pool,
    ):
        progress("a cohort of phantoms")
        cohort = {"specimens": words.pairs, "seed": words.seed, "workers": words.workers}
        manifest = simulate(Path(folder) / "cohort", mpp=4.0, pixel_um=PIXEL_UM, **cohort)
        run(manifest, f"{folder}/run", stages=("ingest",))
        if pairs:
            own = paired.manifest(words.paired, Path(folder) / "pairs.csv")
            run(own, f"{folder}/pairs", stages=("ingest",))
        known = {"folder": words.paired, "run": f"{folder}/pairs"}
        for what, count, job in (
            ("phantom", words.pairs, partial(phantom, folder=folder, pairs=words.pairs)),
            ("real slide", words.real, partial(real, path=words.slide)),
            ("real sections", stains, partial(section, folder=words.sections, others=slides)),
            ("real pairs", pairs, partial(paired.pair, **known, others=slides + sections)),
        ):
            if not count:
                continue
            found = pool.map(partial(job, seed=words.seed), range(count))
            for _ in progress.each(range(count), what):
                rows += next(found)
    figures: dict[str, float] = {}
    cases: dict[str, tuple[str, ...]]
    cases = {r["case"]: (r["case"],) for r in rows} | {"all": CASES}
    cases["all_real"] = (*SIZES, "paired", "paired_half")
    for case, these in cases.items():
        some = [r for r in rows if r["case"] in these]
        figures |= {f"{case}.{k}": v for k, v in summary(some).items()}
    return figures | {f"{r['case']}.{r['pair']}.cpu_s": r["cpu_s"] for r in rows}
