"""Cohorts of 40 known ions as instruments of several kinds would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyimzml.ImzMLWriter import ImzMLWriter

from benchmarks.common.phantoms import smooth_field

Floats = NDArray[np.float64]
Spectra = Iterator[tuple[Floats, Floats]]

IONS = 40
LOW, HIGH = 600.0, 1000.0
DRIFT_PPM = 1.0  # of a specimen, at most
STRAY = 100  # peaks of a pixel that are of no ion


@dataclass(frozen=True)
class Truth:
    """The m/z of the ions (k,), and what each pixel holds of them (specimen, pixel, k)."""

    mz: Floats
    images: Floats
    side: int


def truth(seed: int, specimens: int, side: int) -> Truth:
    """Ions at least 1 Da apart, each with a smooth image of its own in every specimen."""
    rng = np.random.default_rng(seed)
    room = np.sort(rng.uniform(LOW + 5, HIGH - 5 - IONS, IONS))
    mz = room + np.arange(IONS)
    strength = rng.uniform(100, 500, IONS)
    images = np.empty((specimens, side * side, IONS))
    for one in images:
        for ion in range(IONS):
            field = smooth_field(rng, (side, side), 3.0)
            one[:, ion] = strength[ion] * np.clip(1 + 0.5 * field, 0, 2).ravel()
    return Truth(mz, images, side)


def _centroids(peak_ppm: float, power: float) -> Callable[..., Spectra]:
    """One centroid an ion, of a scatter that goes with a power of m/z, and stray peaks."""

    def spectra(rng: np.random.Generator, mz: Floats, images: Floats) -> Spectra:
        drift = rng.uniform(-DRIFT_PPM, DRIFT_PPM)
        for mean in images:
            seen = rng.poisson(mean)
            here = seen > 0
            ppm = drift + peak_ppm * (mz / 800) ** power * rng.standard_normal(len(mz))
            own = (mz * (1 + 1e-6 * ppm))[here]
            stray = rng.uniform(LOW, HIGH, STRAY)
            yield _sorted(
                np.concatenate([own, stray]),
                np.concatenate([seen[here], 1 + rng.exponential(5.0, STRAY)]),
            )

    return spectra


def _own_profile(rng: np.random.Generator, mz: Floats, images: Floats) -> Spectra:
    """Counts on m/z 20 ppm apart that start anywhere, zeros left out; peaks 70 ppm wide."""
    n = int(np.log(HIGH / LOW) / 20e-6)
    drift = rng.uniform(-DRIFT_PPM, DRIFT_PPM)
    for mean in images:
        grid = LOW * np.exp((np.arange(n) + rng.random()) * 20e-6)
        centres = mz * (1 + 1e-6 * (drift + 3 * rng.standard_normal(len(mz))))
        counts = rng.poisson(0.15 + _peaks(grid, centres, mean * 2, 70e-6))
        yield grid[counts > 0], counts[counts > 0].astype(float)


def _tof_profile(rng: np.random.Generator, mz: Floats, images: Floats) -> Spectra:
    """Peaks 100 ppm wide on a baseline with noise, on one grid of even flight times."""
    grid = np.linspace(np.sqrt(LOW), np.sqrt(HIGH), 12_000) ** 2
    for mean in images:
        clean = _peaks(grid, mz, mean, 100e-6) + 20 * np.exp(-(grid - LOW) / 200)
        noise = 5 * np.abs(rng.standard_normal(len(grid)))
        yield grid, rng.poisson(clean) + noise


def _binned(rng: np.random.Generator, mz: Floats, images: Floats) -> Spectra:
    """12,000 even bins with counts in most of them, which call themselves centroids."""
    grid = np.linspace(LOW, HIGH, 12_000)
    for mean in images:
        clean = _peaks(grid, mz, mean, 130e-6)
        yield grid, rng.poisson(clean + 3.0).astype(float)


def _fticr_profile(rng: np.random.Generator, mz: Floats, images: Floats) -> Spectra:
    """Peaks of resolving power 100,000 at m/z 800 on one long grid, with noise all over."""
    grid = 1 / np.linspace(1 / LOW, 1 / HIGH, 200_000)
    for mean in images:
        clean = _peaks(grid, mz, mean, 10e-6, power=1.0)
        yield grid, clean + 5 * np.hypot(*rng.standard_normal((2, len(grid))))


def _peaks(grid: Floats, mz: Floats, height: Floats, wide: float, power: float = 0.0) -> Floats:
    """Gaussian peaks of a relative full width at half maximum, at m/z 800, and its growth."""
    out = np.zeros(len(grid))
    for centre, top in zip(mz, height, strict=True):
        sigma = wide * (centre / 800) ** power / 2.3548
        first, last = np.searchsorted(grid, centre * (1 + sigma * np.array([-5, 5])))
        distance = (grid[first:last] / centre - 1) / sigma
        out[first:last] += top * np.exp(-0.5 * distance**2)
    return out


def _sorted(mz: Floats, intensity: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(mz)
    return mz[order], intensity[order]


@dataclass(frozen=True)
class Kind:
    """How the spectra of an instrument come about, and are written."""

    spectra: Callable[..., Spectra]
    mode: str = "processed"
    spec_type: str = "centroid"
    side: int = 20


KINDS = {
    "fticr_centroids": Kind(_centroids(1.0, 1.0)),
    "orbitrap_centroids": Kind(_centroids(2.0, 0.5)),
    "tof_centroids_12": Kind(_centroids(12.0, 0.0)),
    "tof_centroids_25": Kind(_centroids(25.0, 0.0)),
    "processed_profile": Kind(_own_profile, spec_type="profile"),
    "tof_profile": Kind(_tof_profile, "continuous", "profile"),
    "binned_12k": Kind(_binned, "continuous"),
    "fticr_profile": Kind(_fticr_profile, "continuous", "profile", side=8),
}


def write(folder: Path, name: str, seed: int, specimens: int) -> tuple[Path, Truth]:
    """The files of a cohort, and their manifest; the same for the same seed."""
    kind = KINDS[name]
    known = truth(seed, specimens, kind.side)
    rows = []
    for i, images in enumerate(known.images):
        rng = np.random.default_rng([seed, i])
        path = folder / f"S{i}.imzML"
        with ImzMLWriter(
            str(path),
            mode=kind.mode,
            mz_dtype=np.float64,
            intensity_dtype=np.float32,
            spec_type=kind.spec_type,
        ) as writer:
            for pixel, (mz, intensity) in enumerate(kind.spectra(rng, known.mz, images)):
                y, x = divmod(pixel, kind.side)
                writer.addSpectrum(mz, intensity.astype(np.float32), (x + 1, y + 1, 1))
        rows.append(f"S{i},P{i},{path.name},50")
    return manifest(folder, rows), known


def manifest(folder: Path, rows: list[str]) -> Path:
    """A manifest of rows (specimen, patient, msi, pixel_um), with a slide that is never opened."""
    (folder / "slide.tif").write_bytes(b"")
    path = folder / "manifest.csv"
    lines = ["specimen,patient,msi,pixel_um,slide", *(f"{row},slide.tif" for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
