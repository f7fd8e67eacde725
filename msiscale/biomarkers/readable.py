"""Which ions can be read from H&E: patients as witnesses, a test, and a tier with its rules.

An ion's image is as autocorrelated as tissue is, so that a prediction agrees with it somewhat by
chance. A patient's witness is the excess of the correlation of both images over what the same
prediction has when it is laid elsewhere over the tissue (`moved_images`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from msiscale.biomarkers.patients import MIN_PATIENTS, false_discovery

Floats = NDArray[np.float64]

RATE = 0.05  # of false discoveries among the ions that are read, A and B
READ = 0.3  # A: least mean R² within patients
PARTLY = 0.2  # B: least mean correlation within patients
LEVEL = 0.95  # of the intervals over patients
A, B, C = "A", "B", "C"


def mean_over_patients(values: Floats) -> dict[str, Floats]:
    """Mean over patients, with what tells how sure it is.

    Parameters
    ----------
    values
        (patients, k) float64, NaN where a patient tells nothing.

    Returns
    -------
    dict of str to (k,) float64
        ``mean``; ``sd`` between patients; ``low`` and ``high``, the 95 % t interval of the mean;
        ``n`` patients. NaN of none, the interval and sd of fewer than two.
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    square = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
    sd = np.sqrt(np.divide(square, n - 1, out=np.full(len(n), np.nan), where=n > 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * sd / np.sqrt(n)
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "n": n.astype(float)}


def excess_test(excess: Floats) -> tuple[Floats, Floats]:
    """One-sided t-test over patients that the mean excess is above zero.

    Each patient is predicted from all others, so that two patients' scores share what both of them
    have in common: where there is nothing to read, scores of n patients are correlated by
    ``1 / (n - 1)``. The variance of their mean is corrected for it, by
    ``2 (n - 1) / (n - 2)``, as Nadeau & Bengio (2003, Machine Learning 52:239-281) do for
    cross-validation.

    Parameters
    ----------
    excess
        (patients, k) float64, of a patient's correlation over that of moved predictions.

    Returns
    -------
    p, q : ndarray
        (k,) float64, q by Benjamini and Hochberg over the k; NaN with fewer than `MIN_PATIENTS`.
    """
    of = mean_over_patients(excess)
    enough = (of["n"] >= MIN_PATIENTS) & (of["sd"] > 0)
    n, mean, sd = (of[name][enough] for name in ("n", "mean", "sd"))
    error = sd * np.sqrt(2 * (n - 1) / (n - 2) / n)
    p = np.full(len(enough), np.nan)
    p[enough] = stats.t.sf(mean / error, n - 1)
    return p, false_discovery(p)


def tiers(r2: Floats, pearson: Floats, q: Floats) -> list[str]:
    """The tier of each ion.

    A, read from H&E: q at most `RATE`, a mean R² within patients of `READ` or more, whose interval
    over patients lies above 0. B, partly: q at most `RATE` and a mean correlation of `PARTLY` or
    more. C, not: all others. Where no q is known, as of fewer than three patients, nothing is A,
    and B is an ion whose R² reaches `READ` in every patient.

    Parameters
    ----------
    r2, pearson
        (patients, k) float64, within each patient.
    q
        (k,) float64, of `excess_test`.

    Returns
    -------
    list of str
        `A`, `B` or `C`; empty where no patient tells anything.
    """
    explained, correlated = mean_over_patients(r2), mean_over_patients(pearson)
    found = []
    least = np.where(np.isfinite(r2), r2, np.inf).min(axis=0, initial=np.inf)
    for i, rate in enumerate(q):
        sure = rate <= RATE
        if not explained["n"][i]:
            found.append("")
        elif sure and explained["mean"][i] >= READ and explained["low"][i] > 0:
            found.append(A)
        elif sure and correlated["mean"][i] >= PARTLY:
            found.append(B)
        else:
            found.append(B if np.isnan(rate) and least[i] >= READ else C)
    return found


def counted(found: list[str]) -> Mapping[str, int]:
    """How many ions each tier has."""
    return {tier: found.count(tier) for tier in (A, B, C)}
