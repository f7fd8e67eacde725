"""Monoisotopic masses of formulas, and m/z of singly charged ions.

Element masses are NIST's, by way of `pyteomics.mass`. An ion's m/z is
``M + added - removed - z * electron``: a cation has lost an electron, an anion gained one, and
leaving that out is an error of 0.7 ppm at m/z 800.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

from msiscale.errors import InputError

ELECTRON = 0.000548579909065
"""Mass of the electron in Da (CODATA 2018)."""

ISOTOPE_STEP = 1.00335483507
"""Mass difference of carbon-13 and carbon-12 in Da."""

# AME 2016, as NIST lists them now; pyteomics has the values of 2003, which differ by up to 0.2 µDa
_NEWER = {"H": 1.00782503223, "Na": 22.9897692820, "K": 38.9637064864, "Cl": 34.968852682}
_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")


@dataclass(frozen=True)
class Adduct:
    """A way in which a neutral molecule becomes a singly charged ion.

    `prior` is how readily tissue lipids take this form, relative to the commonest of the polarity;
    it only orders candidates that the mass cannot tell apart.
    """

    name: str
    charge: int
    added: str
    removed: str
    prior: float

    @property
    def polarity(self) -> str:
        return "+" if self.charge > 0 else "-"

    @cached_property
    def shift(self) -> float:
        """Da to add to the neutral mass to have the m/z."""
        shift = -self.charge * ELECTRON
        if self.added:
            shift += formula_mass(self.added)
        if self.removed:
            shift -= formula_mass(self.removed)
        return float(shift)


ADDUCTS: dict[str, Adduct] = {
    adduct.name: adduct
    for adduct in (
        Adduct("[M+H]+", 1, "H", "", 1.0),
        Adduct("[M+Na]+", 1, "Na", "", 0.6),
        Adduct("[M+K]+", 1, "K", "", 0.6),
        Adduct("[M+NH4]+", 1, "NH4", "", 0.2),
        Adduct("[M+H-H2O]+", 1, "H", "H2O", 0.2),
        Adduct("[M-H]-", -1, "", "H", 1.0),
        Adduct("[M-CH3]-", -1, "", "CH3", 0.4),
        Adduct("[M+Cl]-", -1, "Cl", "", 0.3),
        Adduct("[M+2Na-H]+", 1, "Na2", "H", 0.1),
        Adduct("[M+Na+K-H]+", 1, "NaK", "H", 0.1),
        Adduct("[M+2K-H]+", 1, "K2", "H", 0.1),
        Adduct("[M-H-H2O]-", -1, "", "H3O", 0.1),
        Adduct("[M+Na-2H]-", -1, "Na", "H2", 0.1),
        Adduct("[M+K-2H]-", -1, "K", "H2", 0.1),
        Adduct("[M+HCOO]-", -1, "HCOO", "", 0.1),
        Adduct("[M+CH3COO]-", -1, "C2H3O2", "", 0.1),
    )
}
_DEFAULT = {
    "+": ("[M+H]+", "[M+Na]+", "[M+K]+", "[M+NH4]+", "[M+H-H2O]+"),
    "-": ("[M-H]-", "[M-CH3]-", "[M+Cl]-"),
}


def as_polarity(polarity: str) -> str:
    """``'+'`` or ``'-'`` from those or from ``'positive'`` or ``'negative'``."""
    sign = {"+": "+", "-": "-", "positive": "+", "negative": "-"}.get(polarity.strip().lower())
    if sign is None:
        raise InputError(f"polarity {polarity!r} is not '+', '-', 'positive' or 'negative'")
    return sign


def adducts_of(polarity: str, names: Iterable[str] | None = None) -> list[Adduct]:
    """The adducts `names` (``[M+Na]+``, ``M+Na``, ``+Na``), or the usual ones; else InputError."""
    sign = as_polarity(polarity)
    if names is None:
        return [ADDUCTS[name] for name in _DEFAULT[sign]]
    known = {adduct.name[2:-2]: adduct for adduct in ADDUCTS.values() if adduct.polarity == sign}
    chosen = []
    for name in names:
        bare = name.strip().removesuffix(sign) if "]" in name else name.strip()
        adduct = known.get(bare.strip("[]").removeprefix("M"))
        if adduct is None:
            choices = ", ".join(adduct.name for adduct in known.values())
            raise InputError(f"adduct {name!r} is not known for polarity {sign}; use {choices}")
        chosen.append(adduct)
    return chosen


def parse_formula(formula: str) -> dict[str, int]:
    """Element counts of a plain formula such as ``C42H82NO8P`` (D: deuterium); else ValueError."""
    text = formula.strip()
    if not _FORMULA.fullmatch(text):
        raise ValueError(f"{formula!r} is not a chemical formula")
    counts: dict[str, int] = {}
    for element, count in _TERM.findall(text):
        if element not in _elements():
            raise ValueError(f"{formula!r} has {element!r}, which is not an element")
        counts[element] = counts.get(element, 0) + int(count or 1)
    return counts


def hill(counts: dict[str, int]) -> str:
    """A formula in Hill order (C, H, then alphabetical); elements with no atoms are left out."""
    first = [element for element in ("C", "H") if counts.get(element) and counts.get("C")]
    rest = sorted(element for element in counts if element not in first and counts[element])
    return "".join(f"{e}{counts[e] if counts[e] != 1 else ''}" for e in [*first, *rest])


@cache  # the same parts, adducts above all, are weighed again and again
def formula_mass(formula: str) -> float:
    """Monoisotopic mass of a neutral formula in Da; ValueError when it cannot be read."""
    elements = _elements()
    return sum(elements[element] * n for element, n in parse_formula(formula).items())


def ion_mz(formula: str, adduct: str | Adduct) -> float:
    """m/z of the singly charged ion that `adduct` makes of `formula`."""
    if isinstance(adduct, str):
        sign = adduct.strip()[-1]
        adduct = adducts_of(sign, [adduct])[0]
    return formula_mass(formula) + adduct.shift


def ion_counts(formula: str, adduct: Adduct) -> dict[str, int] | None:
    """Atoms of the ion that `adduct` makes of a formula; None if it takes more than there is."""
    counts = dict(parse_formula(formula))
    for part, sign in ((adduct.added, 1), (adduct.removed, -1)):
        for element, n in parse_formula(part).items() if part else ():
            counts[element] = counts.get(element, 0) + sign * n
    if min(counts.values()) < 0:
        return None
    return {element: n for element, n in counts.items() if n}


def element_mass(element: str) -> float:
    """Mass of the commonest (or, of an element without stable isotopes, the usual) isotope, Da."""
    return _elements()[element]


def isotopes_of(element: str) -> tuple[tuple[float, float], ...]:
    """Masses (Da) and natural shares of an element's isotopes, the commonest first."""
    from pyteomics.mass import nist_mass

    if element == "D":
        return ((element_mass("D"), 1.0),)
    known = sorted(
        (i for n, i in nist_mass[element].items() if n and i[1] > 0), key=lambda i: -i[1]
    )
    # the commonest as in the ion's monoisotopic mass
    return tuple((element_mass(element), s) if k == 0 else (m, s) for k, (m, s) in enumerate(known))


@cache  # made from a thousand isotopes
def _elements() -> dict[str, float]:
    from pyteomics.mass import nist_mass  # half a second to import

    masses = {name: isotopes[0][0] for name, isotopes in nist_mass.items() if name.isalpha()}
    masses["D"] = nist_mass["H"][2][0]
    return masses | _NEWER
