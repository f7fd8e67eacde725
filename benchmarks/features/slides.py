"""Phantom slides for the benchmarks."""

from __future__ import annotations

from pathlib import Path

from msiscale.simulate import simulate
from msiscale.simulate.write import TILE, write_slide
from msiscale.slide.reader import open_reader


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
