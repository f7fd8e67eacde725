"""Peaks of a phantom whose lipids are known: all their isotopes, and much that is no lipid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.common.phantoms import smooth_field, tissue
from msiscale.biomarkers import ADDUCTS, formula_mass
from msiscale.biomarkers.ion_scores import Peaks
from msiscale.biomarkers.isotopes import isotope_pattern
from msiscale.biomarkers.masses import ion_counts

Floats = NDArray[np.float64]
RANGE = 400.0, 1000.0
ADDUCT_SHARE = {"[M+H]+": 0.5, "[M+Na]+": 0.25, "[M+K]+": 0.25}


@dataclass(frozen=True)
class Phantom:
    """`lipids` (formula, adduct, mz) are in it; so are ions of the m/z `unknown`."""

    lipids: pd.DataFrame
    unknown: Floats
    shape: tuple[int, int]
    seed: int

    def peaks(self, specimen: int, part: int = 400) -> Iterator[Peaks]:
        """The peaks of a specimen, some pixels at a time; the same at each call.

        Ions are smooth over the tissue and Poisson counted; unknown ions are as smooth, half of
        them with a carbon isotope of their own; each pixel has 100 stray peaks, a mass error of
        0.7 ppm as a whole and 0.3 ppm a peak.
        """
        rng = np.random.default_rng([self.seed, specimen])
        seen = tissue(rng, self.shape)
        columns, means = [], []
        for row in self.lipids.itertuples():
            pattern = isotope_pattern(
                ion_counts(str(row.formula), ADDUCTS[str(row.adduct)]) or {}, 1
            )
            image = seen * _image(rng, self.shape) * rng.lognormal(4.0, 0.7)
            for mz, share in zip(pattern.mz, pattern.intensity, strict=True):
                columns.append(mz)
                means.append(image * share / 100)
        for i, mz in enumerate(self.unknown):
            image = seen * _image(rng, self.shape) * rng.lognormal(4.0, 0.7)
            columns.append(mz)
            means.append(image)
            if i % 2:
                columns.append(mz + 1.00335)
                means.append(image * 0.1)
        mz = np.array(columns)
        mean = np.stack([m.ravel() for m in means], axis=1)
        for start in range(0, len(mean), part):
            yield self._counted(rng, mz, mean[start : start + part], start)

    def _counted(self, rng: np.random.Generator, mz: Floats, mean: Floats, first: int) -> Peaks:
        counts = rng.poisson(mean)
        counts[counts < 2] = 0  # below what a detector tells from noise
        pixel, ion = np.nonzero(counts)
        shift = rng.normal(0, 0.7, len(mean))[pixel] + rng.normal(0, 0.3, pixel.size)
        stray = rng.integers(0, len(mean), 100 * len(mean))
        at = np.concatenate([mz[ion] * (1 + 1e-6 * shift), rng.uniform(*RANGE, stray.size)])
        height = np.concatenate([counts[pixel, ion], 2 + rng.exponential(3.0, stray.size)])
        where = np.concatenate([pixel, stray]) + first
        return Peaks(at, where.astype(np.int64), height.astype(np.float32))


def phantom(
    table: pd.DataFrame,
    *,
    lipids: int,
    unknown: int,
    alike: float,
    seed: int,
    shape: tuple[int, int],
) -> Phantom:
    """Lipids drawn from a table by how likely they are, no two closer than 12 ppm; and m/z of
    ions that are no lipid, anywhere, a share `alike` with the mass defect that lipids have."""
    rng = np.random.default_rng(seed)
    weight = table["plausibility"].to_numpy(float)
    order = rng.choice(len(table), 6 * lipids, replace=False, p=weight / weight.sum())
    chosen: list[tuple[str, str, float]] = []
    taken: list[float] = []
    for i in order:
        formula = str(table["formula"].iat[i])
        adduct = str(rng.choice(list(ADDUCT_SHARE), p=list(ADDUCT_SHARE.values())))
        mz = formula_mass(formula) + ADDUCTS[adduct].shift
        own = [mz + 1.00335 * k for k in range(3)]
        apart = all((np.abs(np.array(taken) / m - 1) > 12e-6).all() for m in own)
        if len(chosen) < lipids and RANGE[0] < mz < RANGE[1] - 4 and apart:
            chosen.append((formula, adduct, mz))
            taken += own
    like_lipids = round(alike * unknown)
    anywhere = rng.uniform(*RANGE, unknown - like_lipids)
    nominal = rng.integers(int(RANGE[0]), int(RANGE[1]), like_lipids)
    likely = nominal + nominal * rng.normal(7.2e-4, 6e-5, nominal.size)
    others = np.concatenate([anywhere, likely])
    far = np.array([(np.abs(np.array(taken) / m - 1) > 12e-6).all() for m in others])
    frame = pd.DataFrame(chosen, columns=["formula", "adduct", "mz"])
    return Phantom(frame, others[far], shape, seed)


def _image(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    field = smooth_field(rng, shape, float(rng.choice([2.5, 4.0, 6.0])))
    return np.asarray(np.exp(0.6 * field))
