from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from msiscale.biomarkers.isotopes import isotope_pattern, isotopologues
from msiscale.biomarkers.masses import ADDUCTS, ELECTRON, ion_counts, ion_mz, parse_formula


def test_patterns_are_those_of_metaspaces_own_library(shared_data: Path) -> None:
    golden = json.loads((shared_data / "msm" / "isotope_golden.json").read_text())
    for key, expected in golden.items():
        formula, charge = key.split(" charge")
        found = isotope_pattern(parse_formula(formula), int(charge))
        np.testing.assert_allclose(found.intensity, expected["int"], atol=0.021)
        np.testing.assert_allclose(found.mz, expected["mz"], rtol=0.25e-6)


@pytest.mark.parametrize(
    ("formula", "adduct"),
    [("C42H82NO8P", "[M+H]+"), ("C39H79N2O6P", "[M+K]+"), ("C47H83O13P", "[M-H]-")],
)
def test_the_first_peak_is_the_monoisotopic_ion(formula: str, adduct: str) -> None:
    kind = ADDUCTS[adduct]
    pattern = isotope_pattern(ion_counts(formula, kind) or {}, kind.charge)
    assert pattern.mz[0] == pytest.approx(ion_mz(formula, adduct), rel=1e-9)
    assert (np.diff(pattern.mz) > 0.9).all()
    assert pattern.intensity.max() == 100


def test_isotopologues_agree_with_a_second_library() -> None:
    from molmass import Formula

    for text in ("C42H82NO8P", "C48H91NO11S", "C10H7ClNO4", "C42H82NO8PK"):
        spectrum = Formula(text).spectrum()
        mass, share = isotopologues(parse_formula(text))
        total = np.bincount(np.round(mass - mass.min()).astype(int), share)
        theirs = [spectrum[number].fraction for number in sorted(spectrum)]
        # the two libraries have natural abundances of different years
        np.testing.assert_allclose(total[:4], theirs[:4], atol=3e-3)


def test_what_the_instrument_resolves_is_two_peaks_and_else_one() -> None:
    # two bromines: 79Br81Br is no higher than all of it
    counts = {"C": 1, "H": 2, "Br": 2}
    pattern = isotope_pattern(counts, 1, resolving_power=1e5)
    assert np.argmax(pattern.intensity) == np.argmin(np.abs(pattern.mz - 173.85))
    coarse = isotope_pattern(parse_formula("C48H91NO11S"), 1, resolving_power=1e3)
    fine = isotope_pattern(parse_formula("C48H91NO11S"), 1, resolving_power=1e7)
    assert coarse.intensity[2] > fine.intensity[2]  # 34S beside two 13C


def test_elements_without_isotopes_and_with_many() -> None:
    assert isotope_pattern({"F": 1}, 1).mz.size == 1
    mercury = isotope_pattern({"Hg": 1}, 1)
    assert mercury.mz.size == 4
    assert mercury.mz[np.argmax(mercury.intensity)] == pytest.approx(201.970643 - ELECTRON)


@pytest.mark.parametrize(("analyser", "falls"), [("orbitrap", 0.5), ("ft-icr", 1.0), ("tof", 0.0)])
def test_resolving_power_falls_with_the_law_of_the_analyser(analyser: str, falls: float) -> None:
    counts = parse_formula("C48H91NO11S")
    mz = isotope_pattern(counts, 1).mz[2]  # where 34S and two 13C are one peak or two
    here = 8e4
    found = isotope_pattern(
        counts, 1, analyser=analyser, resolving_power=here * (mz / 200) ** falls
    )
    same = isotope_pattern(counts, 1, analyser="tof", resolving_power=here)
    np.testing.assert_allclose(found.intensity[2], same.intensity[2], rtol=1e-6)
    if falls:  # the power is meant at m/z 200, not at that of the ion
        other = isotope_pattern(counts, 1, analyser=analyser, resolving_power=here)
        assert other.intensity[2] > 1.001 * found.intensity[2]
