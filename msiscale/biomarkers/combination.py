"""How each m/z differs over the patients of a cohort: the rows of ``biomarkers.csv``.

The patient is the unit of what is tested. Sections of one patient are one witness: their AUCs are
averaged, and so is how far chance takes them, as if it took all of them the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from msiscale.biomarkers.identification import identify
from msiscale.biomarkers.patients import alike, false_discovery, random_effects, t_test
from msiscale.biomarkers.shifting import FEWEST

Floats = NDArray[np.float64]
HALF = 0.5  # the AUC of no association, and the farthest that an AUC can be from it
_MEANS = ("effect", "standardized_difference")
_INTENSITIES = ("mean_cancer", "mean_other")


def without_say(tables: Mapping[str, pd.DataFrame], min_pixels: float) -> dict[str, str]:
    """The specimens that are no witness, and why.

    Parameters
    ----------
    tables
        specimen -> result of `specimen_association`.
    min_pixels
        of cancer, and of other tissue, that a specimen must have: ``effective_cancer`` and
        ``effective_other``.

    Returns
    -------
    dict
        specimen -> the reason, as what a sentence says of it.
    """
    found: dict[str, str] = {}
    for name, table in tables.items():
        if table.empty:
            continue
        first = table.iloc[0]  # they are the same for every m/z
        for column, called in (("effective_cancer", "cancer"), ("effective_other", "other tissue")):
            if not first[column] >= min_pixels or not first[column]:
                found.setdefault(
                    name, f"has {first[column]:.3g} of {min_pixels:g} pixels of {called}"
                )
        if "n_places" in table and first["n_places"] <= FEWEST:
            found.setdefault(name, "has no room to move the annotation")
    return found


def combine(tables: Mapping[str, pd.DataFrame], patients: Mapping[str, str]) -> pd.DataFrame:
    """Combine specimens over patients, the strongest m/z first.

    Values are averaged over the specimens of a patient and then over patients. Where the tables
    have ``auc_sd``, p is that of `random_effects`, over those that it knows of; a patient's
    sd is the mean of that of its specimens, which is right where chance moves them all alike and
    cautious where it does not. Without ``auc_sd`` the weights are equal and p is that of `t_test`.
    q is Benjamini and Hochberg's over the m/z. With fewer than three patients p and q are NaN.

    Parameters
    ----------
    tables
        specimen -> result of `specimen_association`, all on one m/z axis.
    patients
        specimen -> patient; a specimen that is not in it is its own patient.

    Returns
    -------
    DataFrame: mz, auc, effect, standardized_difference (means over patients, of the same weights),
    p, q, n_patients (who say something of the m/z), auc_low, auc_high (95 % interval of auc, by t),
    p_t, q_t (t-test of these patients' AUCs, with nothing else to go by), n_same_sign (patients
    whose AUC is on the same side of 0.5 as the mean); with ``auc_sd`` also p_dl (by the normal
    distribution, as DerSimonian and Laird had it: too small where patients differ), p_least (p if
    each patient's AUC were 1, the smallest that they can give), auc_between (standard deviation of
    the AUC between patients, beyond chance); mean_intensity. In descending order of ``|auc - 0.5|``
    (ties: of ``|effect|``, then ascending m/z; NaN last).

    Raises
    ------
    ValueError
        no specimen, or m/z axes that differ
    """
    if not tables:
        raise ValueError("there is no specimen to combine")
    axis = next(iter(tables.values()))["mz"].to_numpy()
    for name, table in tables.items():
        if not np.array_equal(table["mz"].to_numpy(), axis):
            raise ValueError(f"specimen {name} has a different m/z axis from the others")
    groups: dict[str, list[pd.DataFrame]] = {}
    for name, table in tables.items():
        groups.setdefault(patients.get(name, name), []).append(table)
    moved = all("auc_sd" in table for table in tables.values())

    def per_patient(column: str) -> Floats:
        return np.stack([_of_patient(group, column, moved) for group in groups.values()])

    deviation = per_patient("auc") - HALF
    found = (
        random_effects(deviation, per_patient("auc_sd"), most=HALF) if moved else alike(deviation)
    )
    used = found.weight > 0
    n = used.sum(axis=0)
    by_t = t_test(np.where(used, deviation, np.nan))
    reach = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * found.error
    combined = pd.DataFrame({"mz": axis, "auc": HALF + found.mean})
    combined = combined.assign(
        **{name: _weighted(per_patient(name), found.weight) for name in _MEANS},
        p=found.p,
        q=false_discovery(found.p),
        n_patients=n,
        auc_low=np.clip(HALF + found.mean - reach, 0, 1),
        auc_high=np.clip(HALF + found.mean + reach, 0, 1),
        p_t=by_t,
        q_t=false_discovery(by_t),
        n_same_sign=(used & (np.sign(deviation) == np.sign(found.mean))).sum(axis=0),
    )
    if moved:
        combined = combined.assign(
            p_dl=found.p_dl, p_least=found.p_least, auc_between=found.between
        )
    both = np.stack([per_patient(name) for name in _INTENSITIES])
    combined["mean_intensity"] = _average(_average(both))
    strength = np.abs(found.mean)
    effect = np.abs(combined["effect"].to_numpy())
    order = np.lexsort((axis, -np.nan_to_num(effect), -np.nan_to_num(strength, nan=-1.0)))
    return combined.iloc[order].reset_index(drop=True)


def biomarker_table(
    tables: Mapping[str, pd.DataFrame],
    patients: Mapping[str, str],
    lipids: pd.DataFrame,
    *,
    polarity: str,
    adducts: Iterable[str] | None = None,
    tolerance_ppm: float = 5.0,
) -> pd.DataFrame:
    """`combine` and `annotate` together: the rows of biomarkers.csv, strongest first."""
    combined = combine(tables, patients)
    names = identify(
        combined["mz"],
        lipids,
        polarity=polarity,
        adducts=adducts,
        tolerance_ppm=tolerance_ppm,
        intensity=combined["mean_intensity"],
    )
    return pd.concat([combined, names.drop(columns="mz")], axis=1)


def tidy(tables: Mapping[str, pd.DataFrame], patients: Mapping[str, str]) -> pd.DataFrame:
    """Every specimen's table below each other, with the columns specimen and patient in front."""
    parts = []
    for name, table in tables.items():
        part = table.copy()
        part.insert(0, "specimen", name)
        part.insert(1, "patient", patients.get(name, name))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _of_patient(specimens: list[pd.DataFrame], column: str, moved: bool) -> Floats:
    """(mz,) mean of a column over those that have an AUC, and its sd where `moved`."""
    values = np.stack([table[column].to_numpy(float) for table in specimens])
    for needed in ("auc", "auc_sd") if moved else ("auc",):
        known = np.stack([np.isfinite(table[needed].to_numpy(float)) for table in specimens])
        values = np.where(known, values, np.nan)
    return _average(values)


def _average(values: Floats) -> Floats:
    """Mean over the first axis, NaN left out; NaN where there is nothing."""
    return _weighted(values, np.isfinite(values).astype(np.float64))


def _weighted(values: Floats, weight: Floats) -> Floats:
    """Mean over the first axis; a NaN of no weight is left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.where(weight > 0, values * weight, 0.0).sum(axis=0)
        return np.asarray(total / weight.sum(axis=0))
