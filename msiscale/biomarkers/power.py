"""How likely a biomarker of a given strength is found, by how many patients there are.

An m/z is tested by Student's t of one AUC a patient (`patients`), so its power follows from the
noncentral t distribution with the standard deviation of patients' AUCs (Cohen 1988). That is taken
from the cohort itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from msiscale.biomarkers.patients import MIN_PATIENTS

Floats = NDArray[np.float64]
HALF = 0.5  # AUC of no association
COLUMNS = ["between", "sd", "effect", "patients", "level", "power", "needed"]


def spread_of_patients(table: pd.DataFrame) -> Floats:
    """Standard deviation over patients of an m/z's AUC.

    Parameters
    ----------
    table
        `tidy` of the specimens: patient, mz, auc.

    Returns
    -------
    ndarray
        (k,) float64, of the m/z that `MIN_PATIENTS` patients or more say something of.
    """
    each = table.groupby(["mz", "patient"])["auc"].mean().unstack()
    enough = each.notna().sum(axis=1) >= MIN_PATIENTS
    return each[enough].std(axis=1, ddof=1).to_numpy(np.float64)


def power(auc: ArrayLike, sd: float, patients: ArrayLike, level: float) -> Floats:
    """Probability that an m/z is found.

    Parameters
    ----------
    auc
        Mean over patients that the m/z truly has; broadcast with `patients`.
    sd
        Of patients' AUCs.
    patients
        Their number, two or more.
    level
        The p at which it counts as found, two-sided.

    Returns
    -------
    ndarray
        float64, 0..1, of the shape of both together.
    """
    from scipy.stats import nct, t

    n = np.asarray(patients, np.float64)
    away = np.abs(np.asarray(auc, np.float64) - HALF) / sd * np.sqrt(n)
    bound = t.isf(level / 2, n - 1)
    # far from zero SciPy gives NaN for the other side, of which nothing is left there
    other = np.nan_to_num(nct.cdf(-bound, n - 1, away))
    return np.asarray(nct.sf(bound, n - 1, away) + other, np.float64)


def needed(
    auc: float, sd: float, level: float, wanted: float = 0.8, most: int = 1000
) -> int | None:
    """The fewest patients with which an m/z is found with a probability of `wanted`.

    Parameters
    ----------
    auc, sd, level
        As for `power`.
    wanted
        Power.
    most
        Patients to try.

    Returns
    -------
    int or None
        At least `MIN_PATIENTS`; None where `most` are not enough.
    """
    tried = np.arange(MIN_PATIENTS, most + 1)
    enough = np.flatnonzero(power(auc, sd, tried, level) >= wanted)
    return int(tried[enough[0]]) if enough.size else None


def power_table(
    spread: Floats, effects: Sequence[float], patients: Sequence[int], rate: float = 0.05
) -> pd.DataFrame:
    """Power by effect, number of patients, and how much the m/z differs between patients.

    Parameters
    ----------
    spread
        Of `spread_of_patients`: all m/z that are tested.
    effects
        AUCs, above 0.5.
    patients
        Their numbers.
    rate
        False-discovery rate. The p that counts as found is what a single m/z among all needs for
        it, ``rate / m/z``: with more true m/z less is needed, so power is larger.

    Returns
    -------
    DataFrame
        between (typical: the median of `spread`; large: its 90th percentile), sd, effect, patients,
        level, power, needed (patients for a power of 0.8; NaN above 1,000).
    """
    level = rate / len(spread)
    rows = []
    for between, share in (("typical", 0.5), ("large", 0.9)):
        sd = float(np.quantile(spread, share))
        for auc in effects:
            fewest = needed(auc, sd, level)
            for n, p in zip(patients, power(auc, sd, [*patients], level), strict=True):
                rows.append((between, sd, auc, n, level, float(p), fewest))
    return pd.DataFrame(rows, columns=COLUMNS)
