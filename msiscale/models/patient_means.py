"""Means over patients with Student's t: the interval and the p of the same estimate, and Holm's.

The unit is the patient: one number each, whatever its pixels and specimens. A 95 % interval of t
holds the mean of such patients in some 95 % of cohorts from two patients up, where a bootstrap of
few patients is far too narrow (``python -m benchmarks inference --only coverage``). Scores between
0 and 1 crowd at 1 and are skewed there: their interval is that of the log-odds of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from msiscale.grid import Floats
from msiscale.models.intervals import LEVEL

OVER_PATIENTS, ALL_PIXELS = "mean_over_patients", "pooled"  # estimands, as the tables call them
TRUSTED = 4  # patients from which an interval by t is more than its few patients' word


@dataclass(frozen=True)
class PatientMean:
    """A mean over patients.

    Attributes
    ----------
    value : float
        NaN where no patient has a value.
    low, high : float
        Interval by t with `n` - 1 degrees of freedom; NaN for fewer than two patients.
    p : float
        Two-sided, of the mean against zero, of the same t: below 0.05 exactly where a 95 %
        interval leaves zero out. NaN for shares, which are never zero by chance.
    n : int
        Patients that have a value.
    """

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def trusted(self) -> bool:
        """Whether the interval is over enough patients to be believed."""
        return self.n >= TRUSTED


def patient_mean(values: ArrayLike, level: float = LEVEL, *, shares: bool = False) -> PatientMean:
    """The mean of one value a patient, its t interval and its p against zero (Student 1908).

    Parameters
    ----------
    values : (patients,)
        NaN for a patient without a value, who is left out.
    level : float
        Of the interval.
    shares : bool
        Values are between 0 and 1, as an AUC is. The mean is the same; the interval is the one of
        its log-odds, mean's standard error / (mean (1 - mean)) by the delta method, turned back.

    Returns
    -------
    PatientMean
    """
    from scipy.special import expit, logit, stdtr, stdtrit

    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    n = len(known)
    if n < 2:
        return PatientMean(float(known[0]) if n else np.nan, np.nan, np.nan, np.nan, n)
    mean, error = float(known.mean()), float(known.std(ddof=1) / np.sqrt(n))
    reach = float(stdtrit(n - 1, (1 + level) / 2)) * error
    if shares and 0 < mean < 1:
        centre, wide = logit(mean), reach / (mean * (1 - mean))
        low, high = float(expit(centre - wide)), float(expit(centre + wide))
        return PatientMean(mean, low, high, np.nan, n)
    if not error:
        return PatientMean(mean, mean, mean, 0.0 if mean else 1.0, n)
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return PatientMean(mean, mean - reach, mean + reach, p, n)


def holm(p: ArrayLike) -> Floats:
    """p adjusted for a family of tests: any of them at most so often by chance (Holm 1979).

    Parameters
    ----------
    p : (tests,)
        NaN for what was not tested, which does not count.

    Returns
    -------
    (tests,) float64, NaN where `p` is
    """
    given = np.asarray(p, float)
    adjusted = np.full(given.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    times = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * times), 1.0)
    return adjusted
