"""Lipid species from class rules: a class, a head and fatty acids give the formula.

Exact mass cannot tell isomers apart, so species are named at the level that it can support, in the
shorthand of Liebisch et al. 2020 (J Lipid Res 61:1539): total carbons and double bonds,
``PC 34:1``, ``PC O-34:1``, ``SM 34:1;O2``. The formula is that of the head plus `chains` fatty
acids less one water for each ester (or amide) bond; an ether has two hydrogens for an oxygen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pandas as pd

from msiscale.biomarkers.masses import formula_mass, hill, parse_formula


@dataclass(frozen=True)
class LipidClass:
    """A rule: `head` (formula), fatty acids, and the species that tissue can be expected to hold.

    Attributes
    ----------
    name : abbreviation of the class.
    head : formula of what the fatty acids are bound to. For sphingolipids the sphingoid base is
        one of the two chains, so the head is what remains of it (``H3NO2``).
    chains : fatty acids; 0 is a single molecule.
    carbons : least and greatest total of carbons.
    prior : abundance in tissue as imaging sees it, relative; see `Adduct.prior`.
    codes : LIPID MAPS sub-classes (the first eight characters of an LM_ID) of this class.
    ether : whether one chain is an alkyl (O-) instead of an acyl.
    bases : 1 where one chain is a sphingoid base (two hydroxyls: ``;O2``).
    choline : a quaternary amine: no [M-H]-, but [M-CH3]-.
    """

    name: str
    head: str
    chains: int
    carbons: tuple[int, int]
    prior: float
    codes: tuple[str, ...] = ()
    ether: bool = False
    bases: int = 0
    choline: bool = False

    def formula(self, carbons: int = 0, double_bonds: int = 0) -> str:
        """Formula (Hill) of the species with these totals."""
        counts = dict(parse_formula(self.head))
        n = self.chains
        for element, more in (
            ("C", carbons),
            # a fatty acid is CxH2(x-y)O2; each bond gives off H2O
            ("H", 2 * (carbons - double_bonds) - 2 * n + 2 * self.ether),
            ("O", n - self.ether),
        ):
            counts[element] = counts.get(element, 0) + more
        return hill(counts)

    def species_name(self, carbons: int, double_bonds: int) -> str:
        """Shorthand name of the species."""
        if not self.chains:
            return self.name
        ether, base = "O-" * self.ether, ";O2" * self.bases
        return f"{self.name} {ether}{carbons}:{double_bonds}{base}"

    def species(self) -> Iterator[tuple[int, int]]:
        """Totals (carbons, double bonds) that real chains can add up to."""
        if not self.chains:
            yield 0, 0
            return
        chains = self.chains + self.bases
        for carbons in range(self.carbons[0], self.carbons[1] + 1):
            # a chain of y double bonds has about 10 + 2y carbons or more, and 6 at the most
            for double_bonds in range(min(6 * chains, max(0, carbons - 10 * chains) // 2) + 1):
                yield carbons, double_bonds

    def plausibility(self, carbons: int, double_bonds: int) -> float:
        """Prior of one species: even chains and few double bonds a chain are the common ones."""
        if not self.chains:
            return self.prior
        chains = self.chains + self.bases
        odd = 0.1 if carbons % 2 else 1.0
        usual = 1.0 if abs(carbons / chains - 18) <= 2 else 0.4
        return self.prior * odd * usual * (1.0 if double_bonds <= 3 * chains else 0.3)


_GPC, _GPE, _GPS = "C8H20NO6P", "C5H14NO6P", "C6H14NO8P"
_GPG, _GPI, _GPA = "C6H15O8P", "C9H19O11P", "C3H9O6P"


def _phospholipids(
    name: str, head: str, prior: float, code: str, choline: bool = False
) -> list[LipidClass]:
    """Diacyl, ether, lyso and lyso-ether of one head group; `code` is LMGP and the main class."""
    ether = tuple(code + sub for sub in ("02", "03"))
    lyso_ether = tuple(code + sub for sub in ("06", "07"))
    more = {"choline": choline}
    return [
        LipidClass(name, head, 2, (24, 48), prior, (code + "01",), **more),
        LipidClass(name, head, 2, (28, 44), 0.3 * prior, ether, ether=True, **more),
        LipidClass("L" + name, head, 1, (12, 26), 0.6 * prior, (code + "05",), **more),
        LipidClass("L" + name, head, 1, (14, 24), 0.1 * prior, lyso_ether, ether=True, **more),
    ]


CLASSES: tuple[LipidClass, ...] = (
    *_phospholipids("PC", _GPC, 1.0, "LMGP01", choline=True),
    *_phospholipids("PE", _GPE, 0.5, "LMGP02"),
    *_phospholipids("PS", _GPS, 0.3, "LMGP03"),
    *_phospholipids("PG", _GPG, 0.15, "LMGP04"),
    *_phospholipids("PI", _GPI, 0.4, "LMGP06"),
    *_phospholipids("PA", _GPA, 0.3, "LMGP10"),
    LipidClass("CL", "C9H22O13P2", 4, (60, 84), 0.2, ("LMGP1201",)),
    LipidClass("SM", "C5H15N2O5P", 1, (30, 46), 0.9, ("LMSP0301", "LMSP0302"), False, 1, True),
    LipidClass("Cer", "H3NO2", 1, (30, 46), 0.3, ("LMSP0201", "LMSP0202"), bases=1),
    LipidClass("CerP", "H4NO5P", 1, (30, 46), 0.1, ("LMSP0205",), bases=1),
    LipidClass("HexCer", "C6H13NO7", 1, (30, 46), 0.3, ("LMSP0501",), bases=1),
    LipidClass("Hex2Cer", "C12H23NO12", 1, (30, 46), 0.15, ("LMSP0501",), bases=1),
    LipidClass("SHexCer", "C6H13NO10S", 1, (30, 46), 0.3, ("LMSP0602",), bases=1),
    LipidClass("GM3", "C23H40N2O20", 1, (30, 46), 0.1, ("LMSP0601",), bases=1),
    LipidClass("MG", "C3H8O3", 1, (12, 24), 0.1, ("LMGL0101",)),
    LipidClass("DG", "C3H8O3", 2, (26, 44), 0.3, ("LMGL0201",)),
    LipidClass("TG", "C3H8O3", 3, (36, 66), 0.4, ("LMGL0301",)),
    LipidClass("CE", "C27H46O", 1, (12, 24), 0.3, ("LMST0102",)),
    LipidClass("FA", "H2O", 1, (10, 28), 0.4, ("LMFA0101", "LMFA0102", "LMFA0103")),
    LipidClass("CAR", "C7H15NO3", 1, (2, 26), 0.3, ("LMFA0707",), choline=True),
    LipidClass("Cholesterol", "C27H46O", 0, (0, 0), 0.5, ("LMST0101",)),
)


_CLASS = re.compile(r"([^\s(;,]+)(?:[ (]([OP]-)(?=\d))?")


def class_of(identification: str) -> str:
    """Class of lipid that a name begins with.

    Parameters
    ----------
    identification
        As ``ions.csv`` has it: ``PC O-34:1 [M+H]+``, ``SM 34:1;O2 [M+Na]+``; of several names with
        commas or semicolons between them the first counts.

    Returns
    -------
    str
        ``PC O-``, ``SM``; a name without chains is its own class; "" of no name.
    """
    found = _CLASS.match(identification.strip())
    return " ".join(filter(None, found.groups())) if found else ""


@cache  # a second to make
def _builtin() -> pd.DataFrame:
    rows = []
    for kind in CLASSES:
        for carbons, double_bonds in kind.species():
            formula = kind.formula(carbons, double_bonds)
            name = kind.species_name(carbons, double_bonds)
            prior = kind.plausibility(carbons, double_bonds)
            rows.append((name, formula, formula_mass(formula), prior, kind.choline, kind.name))
    columns = ["name", "formula", "mass", "plausibility", "choline", "lipid_class"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(0, "id", "")
    return table


def builtin_lipids() -> pd.DataFrame:
    """A few thousand species of the common tissue-lipid classes, generated from class rules.

    Returns
    -------
    DataFrame with the columns id (empty), name, formula (Hill), mass (Da, monoisotopic, neutral),
    plausibility (0...1, for ordering isobars), choline (bool), lipid_class.
    """
    return _builtin().copy()


@cache  # asked for with every record of a lipid table
def by_subclass() -> dict[tuple[str, str], tuple[str, float, bool, str]]:
    """(LIPID MAPS sub-class, Hill formula) -> name, plausibility, choline, class: the likeliest."""
    found: dict[tuple[str, str], tuple[str, float, bool, str]] = {}
    for kind in CLASSES:
        for carbons, double_bonds in kind.species():
            entry = (
                kind.species_name(carbons, double_bonds),
                kind.plausibility(carbons, double_bonds),
                kind.choline,
                kind.name,
            )
            formula = kind.formula(carbons, double_bonds)
            for code in kind.codes:
                if (code, formula) not in found or found[code, formula][1] < entry[1]:
                    found[code, formula] = entry
    return found
