"""m/z of ions that a specimen can be recalibrated with: matrix clusters, common tissue lipids.

Generated from formulas. The cluster rules give the ions of METASPACE's tables of matrix ions that
are seen most (singly charged, at most two alkali atoms); the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.identification import ions_of
from msiscale.biomarkers.masses import adducts_of, as_polarity, formula_mass
from msiscale.errors import InputError

Floats = NDArray[np.float64]

APART_PPM = 10.0  #: a lipid ion nearer to a likelier one is left out
LIPID_IONS = 200  #: of the likeliest

# one charge: what the cluster takes up, and the hydrogens that it gives for it
_CATIONS = (("H", 0), ("Na", 0), ("K", 0), ("Na2", 1), ("NaK", 1), ("K2", 1))


def _dhb() -> Iterator[float]:
    """2,5-dihydroxybenzoic acid: n molecules that have lost about as many waters."""
    for n in range(1, 8):
        for added, given in _CATIONS:
            for waters in (n - 1, n) if added == "H" else (n - 2, n - 1, n):
                if waters >= 0:
                    yield _mass("C7H6O4", n) - waters * formula_mass("H2O") + _gain(added, given)


def _chca() -> Iterator[float]:
    """alpha-cyano-4-hydroxycinnamic acid: n molecules, with or without a carbon dioxide less."""
    for n in range(1, 4):
        for added, given in _CATIONS:
            for lost in (0.0, formula_mass("CO2")):
                yield _mass("C10H7NO3", n) - lost + _gain(added, given)


def _9aa() -> Iterator[float]:
    """9-aminoacridine: n molecules less a proton, and less hydrogen where they have joined."""
    for n, least, most in ((1, 0, 2), (2, 1, 4), (3, 2, 3)):
        for pairs in range(least, most + 1):
            yield _mass("C13H10N2", n) - (2 * pairs + 1) * formula_mass("H") + _electron()


def _mass(formula: str, n: int) -> float:
    return n * formula_mass(formula)


def _gain(added: str, given: int) -> float:
    return formula_mass(added) - given * formula_mass("H") - _electron()


def _electron() -> float:
    # [M+H]+ is M and a hydrogen atom without its electron
    return formula_mass("H") - adducts_of("+", ["[M+H]+"])[0].shift


MATRICES = {"dhb": ("+", _dhb), "chca": ("+", _chca), "9aa": ("-", _9aa)}


def lock_masses(name: str, polarity: str) -> Floats:
    """m/z of a built-in list of ions.

    Parameters
    ----------
    name
        'lipids', or a matrix of `MATRICES`
    polarity
        '+' or '-'

    Returns
    -------
    (n,) float64 ascending

    Raises
    ------
    InputError
        No such list, or none of this polarity.
    """
    sign = as_polarity(polarity)
    if name == "lipids":
        return _lipids(sign)
    if name not in MATRICES:
        known = ", ".join(f"builtin:{n}" for n in ("lipids", *MATRICES))
        raise InputError(f"recalibrate = 'builtin:{name}': no such list; give {known} or a file")
    own, ions = MATRICES[name]
    if sign != own:
        raise InputError(f"builtin:{name} has ions of polarity {own} only; give another list")
    return np.unique(list(ions()))


def _lipids(sign: str) -> Floats:
    """The likeliest ions of the built-in lipids, none near to a likelier one."""
    ions = ions_of(builtin_lipids(), adducts_of(sign))
    kept: list[float] = []
    for value in ions.sort_values(["prior", "mz"], ascending=[False, True])["mz"]:
        if all(abs(value / other - 1) * 1e6 > APART_PPM for other in kept):
            kept.append(float(value))
        if len(kept) == LIPID_IONS:
            break
    return np.sort(kept)
