from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.identification import identify, isotope_of
from msiscale.biomarkers.masses import ISOTOPE_STEP, ion_mz


@pytest.mark.parametrize(
    ("polarity", "mz", "name", "adduct"),
    [
        ("+", 760.5851, "PC 34:1", "[M+H]+"),
        ("+", 782.5670, "PC 34:1", "[M+Na]+"),
        ("+", 798.5410, "PC 34:1", "[M+K]+"),
        ("+", 703.5749, "SM 34:1;O2", "[M+H]+"),
        ("+", 369.3516, "Cholesterol", "[M+H-H2O]+"),
        ("+", 496.3398, "LPC 16:0", "[M+H]+"),
        ("-", 885.5499, "PI 38:4", "[M-H]-"),
        ("-", 303.2330, "FA 20:4", "[M-H]-"),
        ("-", 687.5446, "SM 34:1;O2", "[M-CH3]-"),
        ("-", 778.5145, "SHexCer 34:1;O2", "[M-H]-"),
    ],
)
def test_well_known_ions_are_named(polarity: str, mz: float, name: str, adduct: str) -> None:
    row = identify([mz], builtin_lipids(), polarity=polarity, tolerance_ppm=5).iloc[0]
    assert (row["annotation"], row["adduct"]) == (name, adduct)
    assert abs(row["ppm_error"]) < 0.2


def test_isobars_are_counted_and_the_likelier_comes_first() -> None:
    row = identify([760.5851], builtin_lipids(), polarity="+").iloc[0]
    assert row["alternatives"] >= 1
    assert "PE 37:1 [M+H]+" in row["alternative_names"]  # the same formula, an odd chain


def test_nothing_within_the_tolerance() -> None:
    table = identify([111.11111, 760.5851], builtin_lipids(), polarity="+", tolerance_ppm=1)
    assert table["annotation"].tolist() == ["", "PC 34:1"]
    assert np.isnan(table["ppm_error"][0])
    assert table["alternatives"][0] == 0


def test_choline_makes_no_deprotonated_ion() -> None:
    pc = builtin_lipids().query("name == 'PC 34:1'")
    theory = {a: ion_mz("C42H82NO8P", a) for a in ("[M-H]-", "[M-CH3]-")}
    found = identify(list(theory.values()), pc, polarity="-")["adduct"].tolist()
    assert found == ["", "[M-CH3]-"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5000), st.sampled_from(["[M+H]+", "[M+Na]+", "[M+K]+"]), st.floats(-4.9, 4.9))
def test_the_true_ion_is_always_among_the_candidates(i: int, adduct: str, ppm: float) -> None:
    lipids = builtin_lipids()
    lipid = lipids.iloc[i % len(lipids)]
    mz = ion_mz(lipid["formula"], adduct) * (1 + ppm * 1e-6)
    alone = identify([mz], lipids[lipids["name"] == lipid["name"]], polarity="+", adducts=[adduct])
    assert alone["annotation"][0] == lipid["name"]
    assert alone["ppm_error"][0] == pytest.approx(ppm, abs=1e-3)
    assert identify([mz], lipids, polarity="+")["annotation"][0] != ""


def test_isotopes_need_a_stronger_peak_below() -> None:
    mz = np.array([761.5885, 760.5851, 762.5918, 703.5749, 704.5783])
    strong = isotope_of(mz, [40, 100, 10, 5, 50])
    assert strong[0] == 760.5851
    assert strong[2] == 761.5885  # the nearer step
    assert np.isnan(strong[[1, 3, 4]]).all()  # nothing below, or something weaker
    assert abs(ISOTOPE_STEP - 1.00335) < 1e-5


def test_identification_keeps_order_and_length() -> None:
    mz = np.array([782.5670, 100.0, 760.5851])
    table = identify(mz, builtin_lipids(), polarity="+", intensity=[1, 1, 1])
    assert table["mz"].tolist() == mz.tolist()
    assert isinstance(table, pd.DataFrame)
    assert identify([], builtin_lipids(), polarity="+").empty
