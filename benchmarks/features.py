"""Slide decoding and feature extraction beside OpenSlide, a tile loop and the bare network."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._measure import Measured, repeated, table
from msiscale.simulate import simulate
from msiscale.simulate.write import TILE, write_slide
from msiscale.slide.reader import open_reader

SIDES = "benchmarks._features_sides"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--pixel-um", type=float, default=50.0, help="of the MSI [50]")
    parser.add_argument("--repeat", type=int, default=3, help="medians of so many runs")
    parser.add_argument("--quick", action="store_true", help="a small slide, and no larger one")
    parser.add_argument("--data", metavar="DIR", help="where the slides are made and kept")


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Print a table; all figures together."""
    with tempfile.TemporaryDirectory(prefix="msiscale-features-") as scratch:
        folder = Path(words.data or scratch)
        once = slide(folder, 2048 if words.quick else 10_000)
        large = None if words.quick else slide(folder, 20_000)
        return compared(words, once, large)


def slide(folder: Path, side: int) -> str:
    """A phantom slide of `side` x `side` px at 0.5 µm, JPEG tiles."""
    path = folder / f"slide-{side}.tiff"
    if not path.exists():
        pixels = -(-side // 100)  # of 50 µm; a border of slide comes with them
        name = folder / f"simulated-{side}"
        simulate(name, specimens=1, pixels=(pixels, pixels), pixel_um=50.0, mpp=0.5, lipids=10)
        whole = open_reader(name / "S01.tiff")
        bands = (whole.read(0, y, 0, min(TILE, side - y), side) for y in range(0, side, TILE))
        write_slide(path, bands, (side, side), 0.5)
    return str(path)


def compared(words: argparse.Namespace, once: str, large: str | None) -> dict[str, float]:
    """The sides, in turn."""
    rows: list[tuple[str, Measured, dict[str, Any]]] = []
    side = 2048 if words.quick else 8192

    def run(name: str, function: str, times: int = words.repeat, **arguments: Any) -> Measured:
        found = repeated(f"{SIDES}:{function}", times, **arguments)
        facts: dict[str, Any] = {
            k: float(found.result[k]) for k in ("mpix_s", "bare_mpix_s") if k in found.result
        }
        rows.append((name, found, facts))
        return found

    readers = {
        name: run(
            f"decode {side}², {name}",
            "decode",
            max(words.repeat, 5),
            path=once,
            reader=name,
            side=side,
            region=1024,
        )
        for name in ("openslide", "msiscale")
    }
    if (readers["openslide"].result["pixels"] != readers["msiscale"].result["pixels"]).any():
        raise RuntimeError("the two readers do not give the same pixels")
    grid = {"precision": words.precision, "pixel_um": words.pixel_um}
    ours = [
        run(f"msiscale, {words.precision}, whole slide", "dense", 1, path=once, **grid)
        for _ in range(words.repeat)
    ]
    loops = {
        stride: run(
            f"tile loop, float32, stride {stride}", "tile_loop", path=once, side=1792, stride=stride
        )
        for stride in (224, 112)
    }
    effect = run("float32 and bfloat16, 144 pixels", "precisions", 1, path=once, pixel_um=50.0)
    speed = median(float(o.result["mpix_s"]) for o in ours)
    found = {
        "decode.ratio_vs_openslide": readers["openslide"].cpu_s / readers["msiscale"].cpu_s,
        "features.mpix_s": speed,
        "features.efficiency": median(
            float(o.result["mpix_s"]) / float(o.result["bare_mpix_s"]) for o in ours
        ),
        "features.ratio_vs_tile_loop": speed / float(loops[224].result["mpix_s"]),
        "features.ratio_vs_tile_loop_half_overlap": speed / float(loops[112].result["mpix_s"]),
        "features.peak_mib": max(o.peak_mib for o in ours),
        "features.bfloat16_cosine_min": float(effect.result["cosine_min"]),
        "features.bfloat16_error_of_sd": float(effect.result["error_of_sd"]),
    }
    if large is not None:
        four = run(
            "msiscale, four times the slide, 4 units", "dense", 1, path=large, units=4, **grid
        )
        found["features.peak_mib_4x"] = four.peak_mib
    print(table(rows), end="\n\n")
    return found
