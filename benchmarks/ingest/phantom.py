"""A phantom imzML for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyimzml.ImzMLWriter import ImzMLWriter

IONS = 2500


def phantom(folder: Path, side: int) -> tuple[str, str]:
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
