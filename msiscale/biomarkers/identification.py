"""Which lipid an m/z may be: matches by polarity, adduct and ppm, the best one first.

A match is a claim about a formula and an adduct, never about a structure. The false-discovery rate
of the claims is not estimated here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from msiscale.biomarkers.masses import ISOTOPE_STEP, Adduct, adducts_of
from msiscale.ranges import between

Floats = NDArray[np.float64]
_LISTED = 5


def identify(
    mz: ArrayLike,
    table: pd.DataFrame,
    *,
    polarity: str,
    adducts: Iterable[str] | None = None,
    tolerance_ppm: float = 5.0,
    intensity: ArrayLike | None = None,
) -> pd.DataFrame:
    """Match m/z to the ions of a lipid table.

    Candidates (formula and adduct) within `tolerance_ppm` are ordered by
    ``(ppm / (tolerance_ppm / 3))**2 / 2 - ln(plausibility * adduct prior)``, least first: the mass
    error as a normal deviate whose three standard deviations are the tolerance, and, between ions
    that the mass cannot tell apart (PC 34:1 and PE 37:1 are one formula), what tissue is likelier
    to hold. Lipids with choline make no [M-H]-, and only they make [M-CH3]-.

    Parameters
    ----------
    mz
        (n,) measured m/z
    table
        from `builtin_lipids` or `read_lipids`
    polarity
        '+' or '-'
    adducts
        names such as ``[M+Na]+``; the usual ones of the polarity when None
    tolerance_ppm
        greatest mass error
    intensity
        (n,) mean intensities; with them an m/z that lies one or two carbon-13 steps above a
        stronger one is marked as its isotope.

    Returns
    -------
    DataFrame of n rows, in the order of `mz`: mz, annotation (name, empty when nothing matches),
    adduct, formula, ppm_error (measured less theoretical, NaN when nothing matches),
    theoretical_mz, lipid_id, alternatives (int, further names or ions within the tolerance),
    alternative_names (the best five of them), isotope_of (m/z of the stronger peak, or NaN).

    Raises
    ------
    ValueError
        a tolerance that is not above 0
    InputError
        an adduct that is unknown or of the other polarity
    """
    measured = np.asarray(mz, dtype=np.float64).ravel()
    if not tolerance_ppm > 0:
        raise ValueError(f"tolerance_ppm={tolerance_ppm}: give a number above 0")
    ions = ions_of(table, adducts_of(polarity, adducts))
    theory = ions["mz"].to_numpy()
    part = tolerance_ppm * 1e-6
    near = zip(*between(theory, measured / (1 + part), measured / (1 - part)), strict=True)
    rows = [
        _best(value, ions.iloc[start:stop], tolerance_ppm)
        for value, (start, stop) in zip(measured, near, strict=True)
    ]
    columns = ["annotation", "adduct", "formula", "ppm_error", "theoretical_mz", "lipid_id"]
    columns += ["alternatives", "alternative_names"]
    found = pd.DataFrame(rows, columns=columns)
    found.insert(0, "mz", measured)
    found["isotope_of"] = (
        np.full(measured.size, np.nan)
        if intensity is None
        else isotope_of(measured, intensity, tolerance_ppm=tolerance_ppm)
    )
    return found


def isotope_of(mz: ArrayLike, intensity: ArrayLike, *, tolerance_ppm: float = 5.0) -> Floats:
    """The stronger peak that each m/z may be an isotope of, one or two carbon-13 steps below it.

    Parameters
    ----------
    mz, intensity
        (n,) in any order
    tolerance_ppm
        of an m/z

    Returns
    -------
    (n,) float64, m/z of that peak; NaN where there is none.
    """
    values = np.asarray(mz, dtype=np.float64).ravel()
    heights = np.asarray(intensity, dtype=np.float64).ravel()
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    parent = np.full(values.size, np.nan)
    for step in (2 * ISOTOPE_STEP, ISOTOPE_STEP):
        wanted = values - step
        tolerance = values * tolerance_ppm * 1e-6
        start, stop = between(ascending, wanted - tolerance, wanted + tolerance)
        for i in np.flatnonzero(stop > start):
            near = order[start[i] : stop[i]]
            best = near[np.argmax(heights[near])]
            if heights[best] > heights[i]:
                parent[i] = values[best]
    return parent


def forms(adduct: Adduct, choline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which lipids form an adduct: those with choline lose a methyl and no proton, only they do.

    Parameters
    ----------
    adduct
        Of either polarity.
    choline
        (n,) bool, which lipids have choline.

    Returns
    -------
    ndarray
        (n,) bool.
    """
    if adduct.name == "[M-CH3]-":
        return choline
    if adduct.name in ("[M-H]-", "[M-H-H2O]-"):
        return ~choline
    return np.ones(choline.size, dtype=bool)


def ions_of(table: pd.DataFrame, adducts: list[Adduct]) -> pd.DataFrame:
    """Every ion of a lipid table by ascending m/z: its columns, mz, adduct and prior."""
    parts = []
    choline = table["choline"].to_numpy(dtype=bool)
    for adduct in adducts:
        keep = forms(adduct, choline)
        part = table.loc[keep, ["id", "name", "formula", "mass", "plausibility"]].copy()
        part["mz"] = part["mass"] + adduct.shift
        part["adduct"] = adduct.name
        part["prior"] = part["plausibility"] * adduct.prior
        parts.append(part)
    return pd.concat(parts).sort_values(["mz", "name"], kind="stable", ignore_index=True)


def _best(mz: float, near: pd.DataFrame, tolerance_ppm: float) -> tuple[Any, ...]:
    if near.empty:
        return "", "", "", np.nan, np.nan, "", 0, ""
    ppm = (mz / near["mz"].to_numpy() - 1) * 1e6
    cost = 0.5 * (ppm / (tolerance_ppm / 3)) ** 2 - np.log(near["prior"].to_numpy())
    order = np.lexsort((near["name"].to_numpy(), cost))
    first = near.iloc[order[0]]
    others = [f"{near.iloc[i]['name']} {near.iloc[i]['adduct']}" for i in order[1 : 1 + _LISTED]]
    return (
        first["name"],
        first["adduct"],
        first["formula"],
        float(ppm[order[0]]),
        float(first["mz"]),
        first["id"],
        len(near) - 1,
        "; ".join(others),
    )
