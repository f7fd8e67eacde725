"""Which ions are looked for: those of a lipid table, and the decoys that are beside them.

Each ion is there once, however many lipids or decoys are that ion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale.biomarkers.decoys import DECOYS, draw
from msiscale.biomarkers.identification import forms
from msiscale.biomarkers.isotopes import N_PEAKS, isotope_pattern
from msiscale.biomarkers.masses import Adduct, adducts_of, formula_mass, hill, ion_counts
from msiscale.ranges import between

Floats = NDArray[np.float64]
_NAMES = 5


@dataclass(frozen=True)
class Candidates:
    """What is scored.

    Attributes
    ----------
    targets : formula, adduct, mz (monoisotopic), names, n_names, prior (how likely in tissue, to
        choose between isobars), ion (row of `ions`, -1 where the axis has no peak there)
    decoys : formula, adduct, ion; only those of formulas that have a target, and with a peak
    ions : the ion as a key, e.g. ``C42H83NO8P+``
    mz, theory : (k, n) isotope peaks of each ion, NaN behind the last
    """

    targets: pd.DataFrame
    decoys: pd.DataFrame
    ions: tuple[str, ...]
    mz: Floats
    theory: Floats


def candidates(
    table: pd.DataFrame,
    axis: NDArray[np.float64] | None,
    *,
    polarity: str,
    adducts: Iterable[str] | None = None,
    ppm: float = 5.0,
    decoys: int = DECOYS,
    analyser: str = "orbitrap",
    resolving_power: float | None = None,
) -> Candidates:
    """Targets and decoys, and the isotope patterns of those that can be there.

    An ion whose monoisotopic m/z is not on the axis of peaks has no image and scores 0, target and
    decoy alike; its pattern is not computed.

    Parameters
    ----------
    table
        from `lipids`
    axis
        (n,) m/z ascending of the peaks that the cohort has; None to score every ion
    polarity, adducts
        as in `identification.identify`
    ppm
        tolerance
    decoys
        a formula
    analyser, resolving_power
        see `isotopes.isotope_pattern`

    Returns
    -------
    What is to be scored.

    Raises
    ------
    InputError
        an adduct that is unknown or of the other polarity
    """
    kinds = adducts_of(polarity, adducts)
    charge = kinds[0].charge
    targets = _targets(table, kinds)
    keys = [_key(f, a) for f, a in zip(targets["formula"], targets["kind"], strict=True)]
    real = {key[:-1] for key in keys}
    formulas = list(dict.fromkeys(targets["formula"]))
    false = pd.DataFrame(
        [(f, a) for f in formulas for a in draw(f, charge, decoys, real=real)],
        columns=["formula", "kind"],
    )
    place: dict[str, int] = {}
    patterns: list[tuple[Floats, Floats]] = []
    for rows, names in ((targets, keys), (false, None)):
        shift = np.array([a.shift for a in rows["kind"]], dtype=float)
        light = np.array([formula_mass(f) for f in rows["formula"]], float) + shift
        there = _near(light, axis, ppm)
        found = np.full(len(rows), -1)
        pairs = list(zip(rows["formula"].tolist(), rows["kind"].tolist(), strict=True))
        for i in np.flatnonzero(there).tolist():
            formula, adduct = pairs[i]
            key = names[i] if names is not None else _key(formula, adduct)
            if key not in place:
                pattern = isotope_pattern(
                    ion_counts(formula, adduct) or {},
                    charge,
                    analyser=analyser,
                    resolving_power=resolving_power,
                )
                place[key] = len(patterns)
                patterns.append((pattern.mz, pattern.intensity))
            found[i] = place[key]
        rows["ion"] = found
    mz, theory = (np.full((len(patterns), N_PEAKS), np.nan) for _ in range(2))
    for row, (at, height) in enumerate(patterns):
        mz[row, : at.size], theory[row, : at.size] = at, height
    for rows in (targets, false):
        rows["adduct"] = [a.name for a in rows["kind"]]
    columns = ["formula", "adduct", "mz", "names", "n_names", "prior", "ion"]
    false = false.loc[false["ion"] >= 0, ["formula", "adduct", "ion"]].reset_index(drop=True)
    return Candidates(targets[columns], false, tuple(place), mz, theory)


def _targets(table: pd.DataFrame, kinds: Sequence[Adduct]) -> pd.DataFrame:
    """One row a formula and adduct, with the lipids that it may be, the likeliest first."""
    parts = []
    choline = table["choline"].to_numpy(dtype=bool)
    for adduct in kinds:
        some = table[forms(adduct, choline)].sort_values(
            ["plausibility", "name"], ascending=[False, True], kind="stable"
        )
        names = some.groupby("formula", sort=True)["name"]
        part = names.agg(lambda n: "; ".join(dict.fromkeys(n.iloc[:_NAMES]))).to_frame("names")
        part["n_names"] = names.nunique()
        part["prior"] = some.groupby("formula", sort=True)["plausibility"].max() * adduct.prior
        part = part.reset_index()
        part = part[[ion_counts(f, adduct) is not None for f in part["formula"]]]
        part["mz"] = np.array([formula_mass(f) for f in part["formula"]], float) + adduct.shift
        part["kind"] = pd.Series([adduct] * len(part), index=part.index, dtype=object)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _key(formula: str, adduct: Adduct) -> str:
    return hill(ion_counts(formula, adduct) or {}) + ("+" if adduct.charge > 0 else "-")


def _near(mz: Floats, axis: Floats | None, ppm: float) -> NDArray[np.bool_]:
    """Whether the axis has an m/z within `ppm` of each."""
    if axis is None:
        return np.ones(mz.size, bool)
    first, last = between(axis, mz / (1 + ppm * 1e-6), mz / (1 - ppm * 1e-6))
    return first < last
