"""m/z of well-known lipid ions, from a table, from this package and from a second library."""

from __future__ import annotations

import pytest
from molmass import Formula

from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.identification import identify
from msiscale.biomarkers.masses import ADDUCTS, ELECTRON, ion_counts, ion_mz

# name, formula, adduct, m/z as in the literature; to 0.1 ppm by hand from elements' masses
KNOWN = [
    ("PC 34:1", "C42H82NO8P", "[M+H]+", 760.5851),
    ("PC 34:1", "C42H82NO8P", "[M+Na]+", 782.5670),
    ("PC 34:1", "C42H82NO8P", "[M+K]+", 798.5410),
    ("PC 36:4", "C44H80NO8P", "[M+H]+", 782.5694),
    ("PC 38:6", "C46H80NO8P", "[M+H]+", 806.5694),
    ("LPC 16:0", "C24H50NO7P", "[M+H]+", 496.3398),
    ("SM 34:1;O2", "C39H79N2O6P", "[M+H]+", 703.5748),
    ("SM 42:2;O2", "C47H93N2O6P", "[M+Na]+", 835.6663),
    ("PE 36:2", "C41H78NO8P", "[M+H]+", 744.5538),
    ("PE 36:2", "C41H78NO8P", "[M-H]-", 742.5392),
    ("PS 36:1", "C42H80NO10P", "[M-H]-", 788.5447),
    ("PI 38:4", "C47H83O13P", "[M-H]-", 885.5499),
    ("PG 34:1", "C40H77O10P", "[M-H]-", 747.5182),
    ("PA 34:1", "C37H71O8P", "[M-H]-", 673.4814),
    ("PC 34:1", "C42H82NO8P", "[M+Cl]-", 794.5472),
    ("PC 34:1", "C42H82NO8P", "[M+HCOO]-", 804.5760),
    ("PC 34:1", "C42H82NO8P", "[M+CH3COO]-", 818.5917),
    ("FA 20:4", "C20H32O2", "[M-H]-", 303.2330),
    ("TG 52:2", "C55H102O6", "[M+NH4]+", 876.8015),
    ("TG 52:2", "C55H102O6", "[M+Na]+", 881.7569),
    ("DG 34:1", "C37H70O5", "[M+Na]+", 617.5115),
    ("Cer 34:1;O2", "C34H67NO3", "[M+H]+", 538.5194),
    ("SHexCer 42:2;O2", "C48H91NO11S", "[M-H]-", 888.6240),
    ("CE 18:1", "C45H78O2", "[M+NH4]+", 668.6340),
]


@pytest.mark.parametrize(("name", "formula", "adduct", "mz"), KNOWN)
def test_known_lipids(name: str, formula: str, adduct: str, mz: float) -> None:
    kind = ADDUCTS[adduct]
    table = builtin_lipids().set_index("name")
    assert table["formula"][name] == formula
    found = ion_mz(formula, adduct)
    assert found == pytest.approx(mz, abs=6e-5)  # the digits that are printed
    ion = "".join(f"{e}{n}" for e, n in (ion_counts(formula, kind) or {}).items())
    second = Formula(ion).monoisotopic_mass - kind.charge * ELECTRON
    assert found == pytest.approx(second, rel=0.1e-6)


@pytest.mark.parametrize(("name", "formula", "adduct", "mz"), KNOWN)
def test_each_is_among_what_its_m_z_may_be(name: str, formula: str, adduct: str, mz: float) -> None:
    row = identify(
        [ion_mz(formula, adduct)], builtin_lipids(), polarity=adduct[-1], adducts=[adduct]
    ).iloc[0]
    assert row["formula"] == formula
    assert abs(row["ppm_error"]) < 1e-3
