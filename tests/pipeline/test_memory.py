"""Memory is a promise: a stage's peak does not grow with its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyimzml.ImzMLWriter import ImzMLWriter

INGEST = """
import resource
import sys
from msiscale import msi
from msiscale.grid import blocks
source = msi.open_source(sys.argv[1], pixel_um=50)
axis = msi.find_axis({"s": msi.peak_sums(source)})["mz"].values
for block in blocks(source.shape, (64, 64)):
    msi.cube_block(source, axis, block, normalise="tic")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

FEATURES = """
import resource
import sys
import numpy as np
from msiscale.features.encoders import load_encoder
from msiscale.features.extract import extract_block, whole_units
from msiscale.grid import blocks, scaling, translation
side = int(sys.argv[1])

class Slide:
    shape, downsample = (side, side), (1.0, 1.0)
    def read(self, y, x, h, w):
        return np.random.default_rng(y * 7 + x).integers(0, 255, (h, w, 3), dtype=np.uint8)

encoder = load_encoder("efficientnet-lite0")
matrix = scaling(64) @ translation(0.5, 0.5)
n = side // 64
tissue = np.ones((n, n), bool)
for block in blocks((n, n), (8, 8)):
    around = whole_units(block, (n, n))
    part = tissue[around.slices]
    extract_block(Slide(), matrix, block, part, encoder, window=512, around=around)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(script: str, *words: str) -> float:
    """MiB of a process of its own."""
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def imzml(path: Path, rows: int) -> str:
    rng = np.random.default_rng(0)
    ions = np.sort(rng.uniform(300, 1000, 1500))
    with ImzMLWriter(str(path), mode="processed") as writer:
        for y in range(rows):
            for x in range(128):
                mz = rng.choice(ions, 500, replace=False)
                writer.addSpectrum(np.sort(mz), rng.random(500).astype("f4"), (x + 1, y + 1, 1))
    return str(path)


@pytest.mark.slow(reason="writes and reads 40,000 spectra")
def test_ingest_of_four_times_the_file(tmp_path: Path) -> None:
    once = peak(INGEST, imzml(tmp_path / "one.imzML", 64))
    four = peak(INGEST, imzml(tmp_path / "four.imzML", 256))
    assert four < 600
    # the list of spectra (offsets, lengths, positions) is all that grows
    assert four - once < 60, (once, four)


@pytest.mark.slow(reason="a forward pass over 16 million pixels")
def test_features_of_four_times_the_slide() -> None:
    once, four = peak(FEATURES, "2048"), peak(FEATURES, "4096")
    assert four < 2048
    assert four < 1.1 * once, (once, four)
