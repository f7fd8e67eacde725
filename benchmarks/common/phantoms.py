"""Phantoms that several benchmarks use: smooth fields and tissue, an imzML, a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyimzml.ImzMLWriter import ImzMLWriter
from scipy import ndimage

from msiscale.simulate import simulate
from msiscale.simulate.write import TILE, write_slide
from msiscale.slide.reader import open_reader

IONS = 2500  # of the imzML


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], length: float, around: int = 0
) -> NDArray[np.float64]:
    """``shape``, of mean 0 and variance 1; periodic unless it is cut out of `around` pixels."""
    large = rng.standard_normal((shape[0] + 2 * around, shape[1] + 2 * around))
    inner = tuple(slice(around, around + n) for n in shape)
    field = ndimage.gaussian_filter(large, length, mode="wrap")[inner]
    return np.asarray((field - field.mean()) / field.std())


def tissue(rng: np.random.Generator, shape: tuple[int, int], around: int = 0) -> NDArray[np.bool_]:
    """A piece of tissue with an uneven edge."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return np.asarray(x**2 + y**2 + 0.25 * smooth_field(rng, shape, 8.0, around) < 0.85)


def imzml(folder: Path, side: int) -> tuple[str, str]:
    """A processed centroid imzML of some 800 peaks a pixel, and the ions that it was made of."""
    path, axis = folder / f"s{side}.imzML", folder / "axis.npy"
    rng = np.random.default_rng(0)
    ions = np.sort(rng.uniform(100, 1000, IONS))
    y0, x0 = rng.uniform(0, 1, (2, IONS))
    np.save(axis, ions)
    if path.exists():
        return str(path), str(axis)
    with ImzMLWriter(
        str(path), mode="processed", mz_dtype=np.float64, intensity_dtype=np.float32
    ) as writer:
        for y, x in np.ndindex(side, side):
            near = 0.55 * np.exp(-3 * ((y0 - y / side) ** 2 + (x0 - x / side) ** 2))
            real = np.flatnonzero(rng.random(IONS) < near)[:640]
            ppm = rng.normal(0, 0.5) + rng.normal(0, 0.7, len(real))
            noise = rng.uniform(100, 1000, max(len(real) // 4, 800 - len(real)))
            mz = np.sort(np.concatenate([ions[real] * (1 + 1e-6 * ppm), noise]))
            intensity = rng.gamma(2, 100, len(mz)).astype(np.float32)
            writer.addSpectrum(mz, intensity, (x + 1, y + 1, 1))
    return str(path), str(axis)


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
