"""Lipids of the phantom: masses, distances between ions, biomarkers, mass errors."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.biomarkers.classes import builtin_lipids
from msiscale.simulate.chemistry import (
    CARBON_13,
    Instrument,
    design,
    ion_mz,
    lipid_ions,
    matrix_clusters,
    measure,
)

# published monoisotopic m/z (LIPID MAPS calculators)
KNOWN = {
    ("PC 34:1", "[M+H]+"): 760.5851,
    ("PC 34:1", "[M+K]+"): 798.5410,
    ("PC 36:4", "[M+Na]+"): 804.5514,
    ("LPC 16:0", "[M+H]+"): 496.3398,
    ("SM 34:1;O2", "[M+H]+"): 703.5749,
    ("PE 36:2", "[M+H]+"): 744.5538,
    ("TG 52:2", "[M+Na]+"): 881.7569,
    ("Cer 34:1;O2", "[M+H]+"): 538.5194,
    ("CE 18:1", "[M+Na]+"): 673.5894,
}


def test_known_masses() -> None:
    ions = {(ion.name, ion.adduct): ion.mz for ion in lipid_ions()}
    for key, mz in KNOWN.items():
        assert ions[key] == pytest.approx(mz, abs=1e-4), key
    # dihydroxybenzoic acid, two molecules less a water: the commonest of its clusters
    assert ion_mz("C7H6O4", "H") == pytest.approx(155.0339, abs=1e-4)
    assert all(300 < mz < 1000 for mz in matrix_clusters())


def test_names_and_formulas_agree_with_the_lipid_table() -> None:
    table = builtin_lipids().set_index("name")["formula"]
    for ion in lipid_ions():
        assert table[ion.name] == ion.formula


@pytest.mark.parametrize("seed", range(8))
def test_design(seed: int) -> None:
    chemistry = design(np.random.default_rng(seed))
    assert 60 <= len(chemistry.ions) <= 150
    mz = np.sort(chemistry.mz)
    assert (np.diff(mz) / mz[1:] * 1e6 > 10).all()
    assert len(chemistry.biomarkers) == 2
    first = len(chemistry.ions)
    benign, tumour = chemistry.profile[1:3, :first]
    np.testing.assert_allclose((tumour / benign)[list(chemistry.biomarkers)], 3.0)
    for k, i in enumerate(chemistry.isotopes):
        assert chemistry.mz[first + k] - chemistry.ions[i].mz == pytest.approx(CARBON_13)


def _maps(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Half tumour, half stroma with some benign epithelium; a border of background."""
    one = np.zeros(shape, np.float32)
    tissue, cancer = one.copy(), one.copy()
    tissue[1:-1, 1:-1] = 1
    cancer[1:-1, 1 : shape[1] // 2] = 1
    return {
        "tissue": tissue,
        "cancer": cancer,
        "epithelium": 0.3 * (tissue - cancer),
        "tumour_epithelium": 0.5 * cancer,
        "stroma": tissue - 0.3 * (tissue - cancer) - 0.5 * cancer,
        "lumen": one,
        "nuclei": 0.1 * tissue,
        "immune": one,
    }


def test_biomarkers_are_raised_and_background_is_matrix() -> None:
    maps = _maps((12, 20))
    chemistry = design(np.random.default_rng(0))
    measurement = measure((0, 1), chemistry, maps)
    counts = np.stack([measurement.expected(y) for y in range(12)])
    inside, outside = maps["cancer"] > 0, (maps["tissue"] > 0) & (maps["cancer"] == 0)
    ratio = counts[inside].mean(axis=0) / np.maximum(counts[outside].mean(axis=0), 1e-9)
    lipids = ratio[: len(chemistry.ions)]
    assert set(np.argsort(-lipids)[:2]) == set(chemistry.biomarkers)
    background = counts[maps["tissue"] == 0]
    assert (background[:, : len(chemistry.ions)] == 0).all()
    assert (background[:, -5:] > counts[inside][:, -5:].mean(axis=0)).mean() > 0.9
    null = measure((0, 1), chemistry, maps, tumour=False)
    counts = np.stack([null.expected(y) for y in range(12)])
    marked = list(chemistry.biomarkers)
    ratio = counts[inside][:, marked].mean(axis=0) / counts[outside][:, marked].mean(axis=0)
    assert (np.abs(ratio - 1) < 0.3).all()


def test_spectra_have_the_errors_asked_for() -> None:
    chemistry = design(np.random.default_rng(0))
    maps = _maps((8, 30))
    quiet = Instrument(jitter_ppm=0, peak_ppm=0, drift_ppm=0, noise_peaks=0)
    for instrument, limit in ((quiet, 1e-6), (Instrument(noise_peaks=0), 8.0)):
        measurement = measure((3,), chemistry, maps, instrument)
        for mz, intensity in measurement.spectra(4):
            assert mz.dtype == np.float64 and intensity.dtype == np.float32
            assert (np.diff(mz) > 0).all() and (intensity > 0).all()
            error = np.abs(mz[:, None] / chemistry.mz - 1).min(axis=1) * 1e6
            assert error.max() <= limit
    again = measure((3,), chemistry, maps)
    other = measure((3,), chemistry, maps)
    for (a, b), (c, d) in zip(again.spectra(2), other.spectra(2), strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
