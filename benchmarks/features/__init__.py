"""Slide decoding and feature extraction beside OpenSlide, a tile loop and the bare network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from benchmarks.common.measure import repeated, table
from benchmarks.common.places import folder_of
from benchmarks.common.progress import Progress

TAKES = "7 minutes; --full 25"
FULL = {"side": 10_000, "units": 4, "repeat": 3}
STRIDES = {"": 224, "_half_overlap": 112}  # of the tile loop
READERS = ("openslide", "msiscale")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--pixel-um", type=float, default=50.0, help="of the MSI [50]")
    parser.add_argument(
        "--side", type=int, default=6_400, help="pixels of the slide: two whole windows [6400]"
    )
    parser.add_argument("--units", type=int, default=2, help="of one of four times the pixels [2]")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs")
    parser.add_argument("--data", metavar="DIR", help="where the slides are made and kept")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print a table; all figures together."""
    from benchmarks.common.phantoms import slide

    with folder_of(words.data) as folder:
        progress.total = 2 + len(READERS) + words.repeat + len(STRIDES) + 2
        progress("a slide")
        once = slide(folder, words.side)
        progress("one of four times the pixels")
        large = slide(folder, 2 * words.side)
        return _compared(words, once, large, progress)


def _compared(
    words: argparse.Namespace, once: str, large: str, progress: Progress
) -> dict[str, float]:

    def side(function: str, times: int = words.repeat, **arguments: Any) -> Callable[[], Any]:
        return partial(repeated, f"benchmarks.features.sides:{function}", times, **arguments)

    square = 1024 * (words.side // 1024 - 1)
    decoding = {"path": once, "side": square, "region": 1024}
    grid = {"precision": words.precision, "pixel_um": words.pixel_um}
    steps = {
        f"decode {square}², {n}": side("decode", max(words.repeat, 5), reader=n, **decoding)
        for n in READERS
    }
    for i in range(words.repeat):
        name = f"msiscale, {words.precision}, whole slide, run {i + 1}"
        steps[name] = side("dense", 1, path=once, **grid)
    for stride in STRIDES.values():
        name = f"tile loop, float32, stride {stride}"
        steps[name] = side("tile_loop", path=once, side=1792, stride=stride)
    steps["float32 and bfloat16, 144 pixels"] = side("precisions", 1, path=once, pixel_um=50.0)
    name = f"msiscale, four times the slide, {words.units} units"
    steps[name] = side("dense", 1, path=large, units=words.units, **grid)
    got = progress.run(steps)
    rows = []
    for name, cost in got.items():
        speeds = {k: float(v) for k, v in cost.result.items() if k.endswith("mpix_s")}
        rows.append(cost.row(name, **speeds))
    print(table(rows), end="\n\n")
    theirs, mine, *dense = got.values()
    *ours, loop, loop_half, effect, four = dense
    if (theirs.result["pixels"] != mine.result["pixels"]).any():
        raise RuntimeError("the two readers do not give the same pixels")
    rates = [(float(o.result["mpix_s"]), float(o.result["bare_mpix_s"])) for o in ours]
    speed = median(rate for rate, _ in rates)
    return {
        "decode.side_px": float(square),
        "features.side_px": float(words.side),
        "decode.ratio_vs_openslide": theirs.cpu_s / mine.cpu_s,
        "features.mpix_s": speed,
        "features.efficiency": median(rate / bare for rate, bare in rates),
        "features.ratio_vs_tile_loop": speed / float(loop.result["mpix_s"]),
        "features.ratio_vs_tile_loop_half_overlap": speed / float(loop_half.result["mpix_s"]),
        "features.peak_mib": max(o.peak_mib for o in ours),
        "features.bfloat16_cosine_min": float(effect.result["cosine_min"]),
        "features.bfloat16_error_of_sd": float(effect.result["error_of_sd"]),
        "features.peak_mib_4x": four.peak_mib,
    }
