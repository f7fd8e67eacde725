"""What patients have in common: an effect with its own error in each, combined over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
MIN_PATIENTS = 3
_ALIKE = 1e-9


@dataclass(frozen=True)
class Combined:
    """A random-effects summary of k columns; NaN with fewer than `MIN_PATIENTS` patients.

    Attributes
    ----------
    p : (k,) two-sided, of no mean effect
    between : (k,) standard deviation of the true effect between patients
    """

    p: Floats
    between: Floats


def random_effects(effect: Floats, sd: Floats) -> Combined:
    """Mean effect over patients, each known with its own error (DerSimonian & Laird 1986).

    The variance of a patient's effect is that of chance within the patient, ``sd**2``, plus that
    between patients, estimated from how much more the effects differ than chance would have them.
    So a few patients suffice where they agree, and an effect on which they disagree needs many.

    Parameters
    ----------
    effect, sd
        (patients, k), NaN where a patient tells nothing. An effect of 0 with an sd of 0 (an ion
        that is nowhere) is no evidence either way.

    Returns
    -------
    p of no mean effect, and how the true one differs between patients.

    Notes
    -----
    Control Clin Trials 7:177. The normal reference is that of the method. The distribution of an
    AUC within a patient is bounded, which makes it cautious; that the variance between patients is
    estimated from few makes it bold. ``python -m benchmarks biomarkers`` measures the balance.
    """
    known = np.isfinite(effect) & np.isfinite(sd) & (sd > 0)
    n = known.sum(axis=0)
    inverse = np.where(known, 1.0 / np.where(known, sd, 1.0) ** 2, 0.0)
    values = np.where(known, effect, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = inverse.sum(axis=0)
        mean = (inverse * values).sum(axis=0) / total
        excess = (inverse * (values - mean) ** 2).sum(axis=0) - (n - 1)
        between = np.maximum(0.0, excess / (total - (inverse**2).sum(axis=0) / total))
        weight = np.where(known, 1.0 / (np.where(known, sd, 1.0) ** 2 + between), 0.0)
        z = (weight * values).sum(axis=0) / np.sqrt(weight.sum(axis=0))
    # an ion that is nowhere: as many patients, none of whom says anything
    still = (np.isfinite(effect) & (sd == 0) & (np.abs(effect) < _ALIKE)).sum(axis=0)
    p = np.where(n >= MIN_PATIENTS, 2 * stats.norm.sf(np.abs(z)), np.nan)
    p = np.where((n < MIN_PATIENTS) & (n + still >= MIN_PATIENTS), 1.0, p)
    return Combined(p, np.where(n >= MIN_PATIENTS, np.sqrt(between), np.nan))


def t_test(effect: Floats) -> Floats:
    """Two-sided t-test of the mean effect over patients against 0.

    Parameters
    ----------
    effect
        (patients, k) float64, NaN where a patient tells nothing.

    Returns
    -------
    ndarray
        (k,) float64, p; of the sign test where all effects are alike, NaN with fewer than
        `MIN_PATIENTS` patients.
    """
    # It needs nothing but patients that are independent of each other, whatever goes on within them
    # (Ibragimov & Müller 2010, J Bus Econ Stat 28:453). Where all are alike there is nothing to
    # divide by, and the sign test stands in.
    p = np.full(effect.shape[1], np.nan)
    n = np.isfinite(effect).sum(axis=0)
    some = np.flatnonzero(n >= MIN_PATIENTS)
    if not some.size:
        return p
    values = effect[:, some]
    mean, spread = np.nanmean(values, axis=0), np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    differ = spread >= _ALIKE
    sign = np.where(np.abs(mean) < _ALIKE, 1.0, 2.0 * 0.5 ** n[some])
    tested = stats.ttest_1samp(values[:, differ], 0.0, axis=0, nan_policy="omit").pvalue
    p[some] = sign
    p[some[differ]] = np.ma.filled(tested, np.nan)
    return p


def false_discovery(p: Floats) -> Floats:
    """Benjamini and Hochberg's q of the p that are known.

    Parameters
    ----------
    p
        (k,) float64, NaN where unknown.

    Returns
    -------
    ndarray
        (k,) float64, NaN where `p` is not finite.
    """
    q = np.full(p.size, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q
