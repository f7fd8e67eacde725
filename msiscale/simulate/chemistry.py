"""Lipids, matrix and noise: from the compartments of each pixel to its peak list."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import Floats
from msiscale.simulate.tissue import Floats32

MZ_RANGE = 300.0, 1000.0
CARBON_13 = 1.0033548351  # Da heavier than carbon-12
_CARBON_13_SHARE = 0.0108157  # of carbon-13 to carbon-12 in nature
_RESOLVED_PPM = 12.0  # ions of the phantom lie at least this far apart

# of a class: what a neutral lipid with c carbons and d double bonds in its chains has beyond
# C(c) H(2c - 2d), the relative yield of its adducts in MALDI, its usual abundance, species (c:d)
_CLASSES = Path(__file__).with_name("lipid_classes.csv")
_TWO_HYDROXYLS = ("SM", "Cer", "HexCer")
# two of these are raised in the tumour: common, and with no usual lipid within 15 ppm
_BIOMARKERS = ("PC 32:0", "PC 34:1", "PC 36:1", "PC 36:2", "SM 34:1;O2", "SM 42:2;O2")
_ADDED = {"[M+H]+": "H", "[M+Na]+": "Na", "[M+K]+": "K"}

PROGRAMMES = ("stroma", "benign", "tumour", "lumen", "nuclei", "immune", "hidden_1", "hidden_2")


@dataclass(frozen=True)
class Ion:
    """A lipid ion: ``PC 34:1``, its neutral formula in Hill order, adduct, m/z, carbon atoms."""

    name: str
    formula: str
    adduct: str
    mz: float
    carbons: int
    abundance: float


@dataclass(frozen=True)
class Chemistry:
    """What a cohort is made of."""

    ions: tuple[Ion, ...]
    biomarkers: tuple[int, ...]
    isotopes: tuple[int, ...]  # index of the lipid of each carbon-13 peak
    # (n,): the lipids, carbon-13 peaks of the abundant ones, then matrix clusters
    mz: Floats
    profile: Floats  # (programme, n), mean counts of each per unit of a programme
    matrix: Floats  # (n,), mean counts of a matrix cluster outside tissue


@dataclass(frozen=True)
class Instrument:
    """Errors of a measurement: ppm of mass, counts, and what specimens differ by."""

    jitter_ppm: float = 1.0  # sd, a pixel as a whole
    peak_ppm: float = 0.3  # sd, each peak
    drift_ppm: float = 2.0  # at most, a specimen
    multiplicative: float = 0.15  # sd of the logarithm of each peak
    least_counts: float = 3.0  # weaker peaks are lost
    noise_peaks: float = 50.0  # mean a pixel
    specimen: float = 1.0  # differences in abundance and intensity; 1 is usual, 0 none


def ion_mz(formula: str, added: str = "", removed: str = "") -> float:
    """m/z of the cation of `formula` with `added` and without `removed` (formulas), one charge."""
    from pyteomics import mass  # half a second to import

    electron = mass.nist_mass["e-"][0][0]
    total = mass.calculate_mass(formula=formula)
    total += mass.calculate_mass(formula=added) if added else 0.0
    total -= mass.calculate_mass(formula=removed) if removed else 0.0
    return float(total - electron)


def lipid_ions() -> tuple[Ion, ...]:
    """Every lipid ion that a phantom may hold, from the class rules; abundances are relative."""
    found = []
    for row in csv.DictReader(_CLASSES.read_text(encoding="utf-8").splitlines()):
        name, a, b = row["class"], int(row["carbons"]), int(row["hydrogens"])
        for spec in row["species"].split():
            c, d = map(int, spec.split(":"))
            formula = f"C{c + a}H{2 * c + b - 2 * d}{row['rest']}"
            full = f"{name}{'' if name.endswith('-') else ' '}{spec}"
            full += ";O2" if name in _TWO_HYDROXYLS else ""
            for adduct, added in _ADDED.items():
                if row[adduct]:
                    abundance = float(row["abundance"]) * float(row[adduct])
                    mz = ion_mz(formula, added)
                    found.append(Ion(full, formula, adduct, mz, c + a, abundance))
    return tuple(found)


def matrix_clusters() -> tuple[float, ...]:
    """m/z of clusters of 2,5-dihydroxybenzoic acid, n (M) - k (water) + H, Na or K."""
    found = []
    for n in range(2, 7):
        for k in range(n):
            formula = f"C{7 * n}H{6 * n - 2 * k}O{4 * n - k}"
            found += [ion_mz(formula, added) for added in ("H", "Na", "K")]
    return tuple(sorted(mz for mz in found if MZ_RANGE[0] < mz < MZ_RANGE[1]))


def design(
    rng: np.random.Generator, *, lipids: int = 100, effect: float = 3.0, difference: float = 0.12
) -> Chemistry:
    """The chemistry of a cohort; `difference` is the sd of the logarithm of other lipids."""
    pool = lipid_ions()
    raised = set(rng.choice(_BIOMARKERS, 2, replace=False).tolist())
    weight = np.array([ion.abundance for ion in pool]) * np.exp(
        0.7 * rng.standard_normal(len(pool))
    )
    chosen = [i for i, ion in enumerate(pool) if ion.name in raised and ion.adduct == "[M+H]+"]
    others = [i for i in np.argsort(-weight) if pool[i].name not in raised]
    taken: list[float] = [m for i in chosen for m in (pool[i].mz, pool[i].mz + CARBON_13)]
    for i in others:
        both = pool[i].mz, pool[i].mz + CARBON_13
        if len(chosen) < lipids and _apart(both, taken):
            chosen.append(i)
            taken += both
    chosen.sort(key=lambda i: pool[i].mz)
    ions = tuple(pool[i] for i in chosen)
    clusters: list[float] = []
    for cluster in matrix_clusters():
        if _apart((cluster,), [*taken, *clusters]):
            clusters.append(cluster)
    markers = tuple(j for j, ion in enumerate(ions) if ion.name in raised)
    base = 90.0 * weight[chosen]
    base[list(markers)] = 35.0  # neither drowned nor dominant
    lipid = _profiles(rng, base, markers, effect, difference)
    carbon = np.array([ion.carbons for ion in ions])
    isotopes = np.flatnonzero(base >= np.median(base))
    isotope = lipid[:, isotopes] * carbon[isotopes] * _CARBON_13_SHARE
    blank = np.zeros((len(PROGRAMMES), len(clusters)))
    own = 220.0 * np.exp(0.7 * rng.standard_normal(len(clusters)))
    mz = [ion.mz for ion in ions] + [ions[i].mz + CARBON_13 for i in isotopes] + clusters
    return Chemistry(
        ions,
        markers,
        tuple(int(i) for i in isotopes),
        np.array(mz),
        np.concatenate([lipid, isotope, blank], axis=1),
        np.concatenate([np.zeros(len(ions) + len(isotopes)), own]),
    )


def _apart(mz: Sequence[float], taken: Sequence[float]) -> bool:
    others = np.array(taken)
    return all((np.abs(others / m - 1) * 1e6 > _RESOLVED_PPM).all() for m in mz)


def _profiles(
    rng: np.random.Generator,
    base: Floats,
    markers: Sequence[int],
    effect: float,
    difference: float,
) -> Floats:
    """Counts of each lipid per unit of each programme (programme, lipid)."""
    n = len(base)
    marked = list(markers)
    # one latent contrast between stroma and epithelium carries most of the variation
    contrast = rng.standard_normal(n)
    contrast[marked] = 0.3
    profile = {
        "stroma": base * np.exp(-0.3 * contrast + 0.15 * rng.standard_normal(n)),
        "benign": base * np.exp(0.8 * contrast + 0.15 * rng.standard_normal(n)),
        "lumen": 0.15 * base * np.exp(0.6 * rng.standard_normal(n)),
        "nuclei": base * np.exp(0.4 * contrast + 0.3 * rng.standard_normal(n)),
        "immune": base * np.exp(0.6 * rng.standard_normal(n)),
        "hidden_1": 0.11 * base * rng.standard_normal(n),
        "hidden_2": 0.08 * base * rng.standard_normal(n),
    }
    # tumour cells have lost half of what sets epithelium apart
    half = np.sqrt(profile["benign"] * profile["stroma"])
    profile["tumour"] = half * np.exp(difference * rng.standard_normal(n))
    for name in ("stroma", "benign", "nuclei", "immune"):
        profile[name][marked] = base[marked] * {"nuclei": 0.3, "immune": 0.8}.get(name, 1.0)
    profile["tumour"][marked] = effect * profile["benign"][marked]
    for name in ("hidden_1", "hidden_2"):
        profile[name][marked] *= 0.5
    return np.stack([profile[name] for name in PROGRAMMES])


def programmes(
    rng: np.random.Generator, maps: Mapping[str, Floats32], *, tumour: bool = True
) -> Floats:
    """How much of each programme is in each pixel; hidden ones do not show.

    Parameters
    ----------
    rng
        Draws the random fields.
    maps
        Compartment -> (y, x) float32, the share of each pixel that it covers.
    tumour
        Whether what is called cancer differs from other tissue.

    Returns
    -------
    NDArray
        (y, x, programme) float64, in the order of `PROGRAMMES`.
    """
    tissue = maps["tissue"].astype(np.float64)
    cancer, crowded = (maps[name].astype(np.float64) for name in ("cancer", "tumour_epithelium"))
    if not tumour:
        cancer = crowded = np.zeros_like(tissue)
    fields = [_field(rng, tissue.shape, length) for length in (3.0, 6.0, 2.5, 4.0)]
    hidden = [tissue * field for field in fields[:2]]
    # tumours are not of one kind all over, and some tissue near or far is changed before it shows
    bad = (crowded + 0.35 * np.maximum(cancer - crowded, 0)) * np.exp(0.35 * fields[2])
    if tumour:
        bad += 0.3 * (tissue - cancer) * np.clip(fields[3] - 0.8, 0, 1.5)
    epithelium = maps["epithelium"].astype(np.float64)
    if not tumour:
        epithelium = epithelium + maps["tumour_epithelium"]
    rest = (maps[name] for name in ("lumen", "nuclei", "immune"))
    layers = [maps["stroma"], epithelium, bad, *rest, *hidden]
    return np.stack([np.asarray(layer, dtype=np.float64) for layer in layers], axis=-1)


def _field(rng: np.random.Generator, shape: tuple[int, int], length: float) -> Floats:
    """Gaussian random field (y, x), mean 0 and sd 1, smooth over `length` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), length, mode="wrap")
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-9), dtype=np.float64)


@dataclass(frozen=True)
class Measurement:
    """One specimen's expected counts and mass errors, ready to be drawn row by row."""

    chemistry: Chemistry
    instrument: Instrument
    weights: Floats  # (y, x, programme)
    profile: Floats  # (programme, n), of this specimen
    matrix: Floats  # (y, x): how much of the matrix signal is left
    gain: Floats  # (y, x): crystals, laser, and the specimen's own factor
    drift_ppm: Floats  # (y,)
    seed: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.gain.shape
        return height, width

    def expected(self, row: int) -> Floats:
        """Mean counts of the ions in one row, (x, n)."""
        # einsum, not matmul: the same sum on every machine and with any number of threads
        mean = np.einsum("xk,kn->xn", self.weights[row], self.profile)
        mean = np.maximum(mean, 0) + self.matrix[row][:, None] * self.chemistry.matrix
        return np.asarray(mean * self.gain[row][:, None])

    def spectra(self, row: int) -> Iterator[tuple[Floats, NDArray[np.float32]]]:
        """Peaks (m/z ascending, intensity) of each pixel of one row, left to right."""
        rng = np.random.default_rng([*self.seed, row])
        errors = self.instrument
        mean = self.expected(row)
        counts = rng.poisson(mean * np.exp(errors.multiplicative * rng.standard_normal(mean.shape)))
        for x in range(mean.shape[0]):
            seen = counts[x] >= errors.least_counts
            count = int(rng.poisson(errors.noise_peaks))
            mz = np.concatenate([self.chemistry.mz[seen], rng.uniform(*MZ_RANGE, count)])
            noise = errors.least_counts + rng.exponential(3.0, count)
            intensity = np.concatenate([counts[x, seen].astype(np.float64), noise])
            ppm = self.drift_ppm[row] + errors.jitter_ppm * rng.standard_normal()
            mz *= 1 + 1e-6 * (ppm + errors.peak_ppm * rng.standard_normal(len(mz)))
            order = np.argsort(mz, kind="stable")
            # detector units: a count is ten
            yield mz[order], (10 * intensity[order]).astype(np.float32)


def measure(
    seed: tuple[int, ...],
    chemistry: Chemistry,
    maps: Mapping[str, Floats32],
    instrument: Instrument | None = None,
    *,
    tumour: bool = True,
) -> Measurement:
    """Set up the measurement of one specimen.

    Parameters
    ----------
    seed
        Of all that is drawn.
    chemistry
        That of the cohort.
    maps
        Compartment -> (y, x) float32, the share of each pixel that it covers (see `programmes`).
    instrument
        Its errors; by default those of `Instrument`.
    tumour
        Whether what is called cancer differs from other tissue.

    Returns
    -------
    Measurement
        Of (y, x) pixels, whose spectra are yet to be drawn.
    """
    instrument = instrument or Instrument()
    rng = np.random.default_rng([*seed, 0])
    weights = programmes(rng, maps, tumour=tumour)
    shape = weights.shape[0], weights.shape[1]
    n_ions = len(chemistry.ions)
    own = 0.15 * instrument.specimen * rng.standard_normal(n_ions)
    own = np.concatenate([own, own[list(chemistry.isotopes)], np.zeros(len(chemistry.mz))])
    profile = chemistry.profile * np.exp(own[: len(chemistry.mz)])
    gain = np.exp(
        0.35 * instrument.specimen * rng.standard_normal()
        + 0.15 * _field(rng, shape, 1.5)
        + 0.08 * rng.standard_normal(shape)
    )
    row = np.linspace(-1, 1, shape[0])
    drift = instrument.drift_ppm * (0.75 * rng.uniform(-1, 1) + 0.25 * rng.uniform(-1, 1) * row)
    matrix = 1.0 - 0.8 * maps["tissue"].astype(np.float64)
    return Measurement(chemistry, instrument, weights, profile, matrix, gain, drift, (*seed, 1))
