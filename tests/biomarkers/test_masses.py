from __future__ import annotations

import pytest

from msiscale.biomarkers.masses import (
    ADDUCTS,
    adducts_of,
    formula_mass,
    hill,
    ion_mz,
    parse_formula,
)
from msiscale.errors import InputError

ELECTRON = 0.000548579909
SHIFTS = {  # from the elements' masses as NIST and METASPACE give them
    "[M+H]+": 1.00782503223 - ELECTRON,
    "[M+Na]+": 22.9897692820 - ELECTRON,
    "[M+K]+": 38.9637064864 - ELECTRON,
    "[M+NH4]+": 14.00307400443 + 4 * 1.00782503223 - ELECTRON,
    "[M-H]-": -1.00782503223 + ELECTRON,
    "[M+Cl]-": 34.968852682 + ELECTRON,
}


@pytest.mark.parametrize("name", SHIFTS)
def test_adduct_shifts_count_the_electron(name: str) -> None:
    assert ADDUCTS[name].shift == pytest.approx(SHIFTS[name], abs=1e-9)


@pytest.mark.parametrize(
    ("formula", "adduct", "mz"),
    [  # LIPID MAPS' own ion masses of well-known lipids
        ("C42H82NO8P", "[M+H]+", 760.58508),  # PC 34:1
        ("C42H82NO8P", "[M+Na]+", 782.56703),
        ("C42H82NO8P", "[M+K]+", 798.54096),
        ("C39H79N2O6P", "[M+H]+", 703.57485),  # SM 34:1;O2
        ("C27H46O", "[M+H-H2O]+", 369.35158),  # cholesterol
        ("C55H102O6", "[M+NH4]+", 876.80147),  # TG 52:2
        ("C47H83O13P", "[M-H]-", 885.54985),  # PI 38:4
        ("C42H82NO8P", "[M-CH3]-", 744.55488),
        ("C20H32O2", "[M-H]-", 303.23295),  # arachidonic acid
    ],
)
def test_ion_masses_of_known_lipids_to_a_tenth_of_a_ppm(
    formula: str, adduct: str, mz: float
) -> None:
    assert ion_mz(formula, adduct) == pytest.approx(mz, rel=1e-7)


def test_matrix_ions_agree_with_the_published_tables(shared_data) -> None:
    import pandas as pd

    table = pd.read_csv(shared_data / "lipids" / "matrix_9aa_neg.csv")
    for row in table.itertuples():
        assert ion_mz(row.formula, "[M-H]-") == pytest.approx(row.mz, rel=1e-7)


def test_formulas() -> None:
    assert parse_formula("CH3CH2OH") == {"C": 2, "H": 6, "O": 1}
    assert hill(parse_formula("O2C20H32")) == "C20H32O2"
    assert hill({"H": 4, "N": 1}) == "H4N"
    assert formula_mass("C20D1H31O2") > formula_mass("C20H32O2")
    for bad in ("", "C20H32O2-", "Xx2", "C(CH3)4", "12"):
        with pytest.raises(ValueError, match=r"formula|element"):
            parse_formula(bad)


def test_adducts_by_any_spelling() -> None:
    assert [a.name for a in adducts_of("positive", ["+H", "M+Na", "[M+K]+"])] == [
        "[M+H]+",
        "[M+Na]+",
        "[M+K]+",
    ]
    assert {a.polarity for a in adducts_of("-")} == {"-"}
    with pytest.raises(InputError, match=r"\[M-H\]-.*polarity \+.*\[M\+H\]\+"):
        adducts_of("+", ["[M-H]-"])
    with pytest.raises(InputError, match="polarity 'up'"):
        adducts_of("up")
