"""Identifications as tables: scores, a false-discovery rate for each adduct, what may mislead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale.biomarkers.candidates import Candidates
from msiscale.biomarkers.decoys import cohort_score, false_discovery_rate, match_ratio
from msiscale.biomarkers.ion_scores import COLUMNS
from msiscale.ranges import between

Floats = NDArray[np.float64]
MEASURES = ("chaos", "spatial", "spectral")
_FIRST = ["formula", "adduct", "mz", "ion", "msm", *MEASURES]
_SURE = 0.1  # FDR of the ions that tell a specimen's mass error
_SHARE = 0.3  # of an ion's intensity that another's isotope must account for
_SPREAD = 3.0  # standard deviations of the mass error within the tolerance


def identification_tables(
    found: Candidates,
    scores: Mapping[str, Floats],
    *,
    ppm: float,
    decoys: int,
    matrix: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Identified ions of the cohort and of every specimen, surest first.

    Parameters
    ----------
    found
        what was scored
    scores
        specimen -> (ions, 5) of `score_ions`
    ppm
        tolerance
    decoys
        a formula
    matrix
        from `read_matrix_ions`

    Returns
    -------
    cohort : DataFrame of the targets with a score: formula, adduct, mz, names (the likeliest
        lipids of the formula), n_names, msm, chaos, spatial, spectral (means over specimens; msm is
        the mean of the specimens' products, not the product of the means), fdr (decoys weighed by
        `match_ratio`), fdr_metaspace (not weighed), n_specimens (with a score), ppm_error (mean
        over specimens, of the first isotope peak), intensity (mean), flags (``isotope``,
        ``isobar``, ``matrix``, between semicolons), primary (bool: nothing better explains its
        peak), isotope_of, isobars (other identified ions within the tolerance, the best first),
        matrix_ion
    by_specimen : specimen, then the same without flags, of the specimen alone
    """
    single = {name: _measured(found, values, decoys) for name, values in scores.items()}
    parts = []
    for name, table in single.items():
        part = table[table["msm"] > 0].sort_values(
            ["fdr", "msm", "mz"], ascending=[True, False, True], kind="stable"
        )
        part.insert(0, "specimen", name)
        parts.append(part.drop(columns=["ion"]))
    by_specimen = pd.concat(parts, ignore_index=True)
    cohort = _over_specimens(found, list(scores.values()), decoys)
    cohort = cohort[cohort["msm"] > 0].sort_values(
        ["fdr", "msm", "prior", "mz"],
        ascending=[True, False, False, True],
        kind="stable",
        ignore_index=True,
    )
    flags = _flags(found, cohort, ppm, matrix)
    return pd.concat([cohort, flags], axis=1).drop(columns=["ion", "prior"]), by_specimen


def _measured(found: Candidates, values: Floats, decoys: int) -> pd.DataFrame:
    """Targets with the scores of one specimen."""
    msm = values[:, :3].prod(axis=1)
    table = found.targets[["formula", "adduct", "mz", "ion"]].copy()
    at = table["ion"].to_numpy()
    there = at >= 0
    columns = {"msm": msm} | dict(zip(COLUMNS, values.T, strict=True))
    for name, column in columns.items():
        blank = np.nan if name == "ppm_error" else 0.0
        table[name] = np.where(there, column[at] if column.size else blank, blank)
    table["fdr_metaspace"], table["fdr"] = _rates(found, msm, values[:, 4], decoys)
    return table[[*_FIRST, "fdr", "fdr_metaspace", "ppm_error", "intensity"]]


def _over_specimens(found: Candidates, values: list[Floats], decoys: int) -> pd.DataFrame:
    """Targets with the scores of the cohort."""
    each = [v[:, :3].prod(axis=1) for v in values]
    msm = cohort_score(each)
    stack = np.stack(values)
    means = stack.mean(axis=0)
    seen = np.isfinite(stack[:, :, 3])
    means[:, 3] = np.where(seen, stack[:, :, 3], 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        means[:, 3] /= seen.sum(axis=0)
    table = found.targets.copy()
    at = table["ion"].to_numpy()
    there = at >= 0
    if not len(found.ions):
        return table[there].assign(msm=0.0)
    table["msm"] = np.where(there, msm[at], 0.0)
    for name in MEASURES:
        table[name] = np.where(there, means[at, COLUMNS.index(name)], 0.0)
    table["fdr_metaspace"], table["fdr"] = _rates(found, msm, means[:, 4], decoys)
    table["n_specimens"] = np.where(there, (np.stack(each) > 0).sum(axis=0)[at], 0)
    table["ppm_error"] = np.where(there, means[at, 3], np.nan)
    table["intensity"] = np.where(there, means[at, 4], 0.0)
    return table


def _rates(found: Candidates, msm: Floats, intensity: Floats, decoys: int) -> tuple[Floats, Floats]:
    """FDR of every target by adduct, and the same with the decoys weighed by `match_ratio`."""
    plain, weighed = np.ones(len(found.targets)), np.ones(len(found.targets))
    seen = intensity > 0
    against = found.decoys
    for _, rows in found.targets.groupby("adduct", sort=False):
        at = rows["ion"].to_numpy()
        scores = np.where(at >= 0, msm[at] if msm.size else 0.0, 0.0)
        mine = against[against["formula"].isin(rows["formula"])]["ion"].to_numpy()
        own = at[at >= 0]
        ratio = match_ratio(msm[own[seen[own]]], msm[mine[seen[mine]]], decoys)
        place = rows.index.to_numpy()
        plain[place] = false_discovery_rate(scores, msm[mine], decoys)
        weighed[place] = false_discovery_rate(scores, msm[mine], decoys, ratio=ratio)
    return plain, weighed


def _flags(
    found: Candidates, table: pd.DataFrame, ppm: float, matrix: pd.DataFrame | None
) -> pd.DataFrame:
    """flags, primary, isotope_of, isobars and matrix_ion of the identified ions of a cohort."""
    mz = table["mz"].to_numpy(float)
    labels = (table["formula"] + " " + table["adduct"]).tolist()
    isotopes = _isotopes(found, table, labels, ppm)
    rivals, beaten = _isobars(table, labels, ppm)
    ions = [""] * len(mz)
    if matrix is not None:
        at = matrix["mz"].to_numpy(float)
        for i, value in enumerate(mz):
            near = np.flatnonzero(np.abs(at / value - 1) <= ppm * 1e-6)
            ions[i] = "; ".join(dict.fromkeys(matrix["name"].iloc[near]))
    columns = {"isotope": isotopes, "isobar": rivals, "matrix": ions}
    words = [
        "; ".join(flag for flag, said in zip(columns, row, strict=True) if said)
        for row in zip(*columns.values(), strict=True)
    ]
    primary = [not (b or i or m) for b, i, m in zip(beaten, isotopes, ions, strict=True)]
    return pd.DataFrame(
        {"flags": words, "primary": primary, "isotope_of": isotopes, "isobars": rivals}
        | {"matrix_ion": ions},
        index=table.index,
    )


def _isotopes(found: Candidates, table: pd.DataFrame, labels: list[str], ppm: float) -> list[str]:
    """The identified ion whose isotope peak accounts for much of each ion's own first peak."""
    mz, intensity = table["mz"].to_numpy(float), table["intensity"].to_numpy(float)
    order = np.argsort(mz, kind="stable")
    ascending = mz[order]
    account = np.zeros(len(mz))
    source = [""] * len(mz)
    for row, ion in enumerate(table["ion"].to_numpy()):
        at, theory = found.mz[ion], found.theory[ion]
        for k in range(1, int(np.isfinite(at).sum())):
            start, stop = between(ascending, at[k] / (1 + ppm * 1e-6), at[k] / (1 - ppm * 1e-6))
            expected = intensity[row] * theory[k] / theory[0]
            for other in order[start:stop]:
                if expected >= max(_SHARE * intensity[other], account[other]) and other != row:
                    account[other], source[other] = expected, labels[row]
    return source


def _isobars(table: pd.DataFrame, labels: list[str], ppm: float) -> tuple[list[str], list[bool]]:
    """Other identified ions within the tolerance, the best first, and whether any is better."""
    # They share a peak and so its score; better is what combines a high score, a mass error like
    # that of the surest ones, and a formula and adduct that tissue is likely to give.
    mz = table["mz"].to_numpy(float)
    error = table["ppm_error"].to_numpy(float)
    sure = error[(table["fdr"] <= _SURE).to_numpy() & np.isfinite(error)]
    usual = float(np.median(sure)) if sure.size else 0.0
    off = np.nan_to_num(error - usual, nan=ppm) / (ppm / _SPREAD)
    merit = table["msm"].to_numpy(float) * np.exp(-0.5 * off**2) * table["prior"].to_numpy(float)
    order = np.argsort(mz, kind="stable")
    ascending = mz[order]
    found, beaten = [], []
    windows = between(ascending, mz * (1 - ppm * 1e-6), mz * (1 + ppm * 1e-6))
    for i, (start, stop) in enumerate(zip(*windows, strict=True)):
        near = sorted((j for j in order[start:stop] if j != i), key=lambda j: (-merit[j], j))
        found.append("; ".join(labels[j] for j in near))
        beaten.append(bool(near) and (merit[near[0]], -near[0]) > (merit[i], -i))
    return found, beaten
