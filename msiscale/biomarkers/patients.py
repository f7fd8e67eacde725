"""What patients have in common: an effect with its own error in each, combined over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
MIN_PATIENTS = 3
_ALIKE = 1e-9
_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Combined:
    """A summary over patients of k columns; all but `mean` and `weight` need `MIN_PATIENTS`.

    Attributes
    ----------
    mean : (k,) mean effect of the patients that tell something
    weight : (patients, k) of each patient in it: 1, or 0 where it tells nothing
    error : (k,) standard error of `mean`, to be read with t of one degree less than patients: its
        95 % interval is the wider of that of the t-test and that of chance
    p : (k,) two-sided, of no mean effect: the larger of theirs
    p_dl : (k,) of the weighted mean, by the normal distribution, as DerSimonian and Laird had it
    p_least : (k,) `p` if the effect were `most` in every patient: there is no smaller one
    between : (k,) standard deviation of the true effect between patients
    """

    mean: Floats
    weight: Floats
    error: Floats
    p: Floats
    p_dl: Floats
    p_least: Floats
    between: Floats


def random_effects(effect: Floats, sd: Floats, *, most: float = np.inf) -> Combined:
    """Mean effect over patients, each known with its own error, and what is sure of it.

    The p of the mean is that of the t-test over patients, which holds whether they differ or not;
    but never below what chance within the patients allows, as few patients who agree by luck would
    be too sure of it: the variance of a patient's effect is ``sd**2`` plus that between patients,
    estimated from how much more the effects differ than chance would have them (DerSimonian & Laird
    1986), and the mean of n of them is read by the normal distribution.

    Parameters
    ----------
    effect, sd
        (patients, k), NaN where a patient tells nothing. An effect of 0 with an sd of 0 (an ion
        that is nowhere) is no evidence either way.
    most
        Largest possible effect, for `Combined.p_least`.

    Returns
    -------
    Combined
        Where fewer than `MIN_PATIENTS` have an sd above 0, patients have equal weights, and p is 1
        if they would be enough with those where the ion is nowhere.

    Notes
    -----
    DerSimonian & Laird 1986, Control Clin Trials 7:177. With equal weights the t-test is Hartung
    and Knapp's (2001, Stat Med 20:3875), whose unequal weights hold the level less well with many
    patients. The more cautious of both: Jackson, Law, Rücker & Schwarzer 2017, Stat Med 36:3923.
    ``python -m benchmarks inference --only levels`` measures what holds.
    """
    known = np.isfinite(effect) & np.isfinite(sd) & (sd > 0)
    n = known.sum(axis=0)
    size = np.where(known, sd, 1.0)
    inverse = np.where(known, 1.0 / size**2, 0.0)
    values = np.where(known, effect, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = inverse.sum(axis=0)
        mean = (inverse * values).sum(axis=0) / total
        excess = (inverse * (values - mean) ** 2).sum(axis=0) - (n - 1)
        between = np.maximum(0.0, excess / (total - (inverse**2).sum(axis=0) / total))
        weight = np.where(known, 1.0 / (size**2 + between), 0.0)
        weighted = (weight * values).sum(axis=0) / weight.sum(axis=0)
        p_dl = 2 * stats.norm.sf(np.abs(weighted) * np.sqrt(weight.sum(axis=0)))
        mean = values.sum(axis=0) / n
        by_t = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / (n - 1) / n)
        within = np.where(known, size**2, 0.0).sum(axis=0)
        chance = np.sqrt(within + n * between) / n
        p = np.maximum(_by_t(mean / by_t, n), 2 * stats.norm.sf(np.abs(mean) / chance))
        normal_by_t = stats.norm.isf(_TAIL) / stats.t.isf(_TAIL, np.maximum(n - 1, 1))
        error = np.maximum(by_t, chance * normal_by_t)
        p_least = 2 * stats.norm.sf(most * n / np.sqrt(within))
    # an ion that is nowhere: as many patients, none of whom says anything
    still = np.isfinite(effect) & (sd == 0) & (np.abs(effect) < _ALIKE)
    few = n < MIN_PATIENTS
    nothing = few & (n + still.sum(axis=0) >= MIN_PATIENTS)
    some = known | still
    p, p_dl, p_least = np.where(nothing, 1.0, np.where(few, np.nan, [p, p_dl, p_least]))
    return Combined(
        mean=np.where(few, _mean(np.where(some, effect, np.nan)), mean),
        weight=np.where(few, some, known).astype(np.float64),
        error=np.where(few, np.nan, error),
        p=p,
        p_dl=p_dl,
        p_least=p_least,
        between=np.where(few, np.nan, np.sqrt(between)),
    )


def alike(effect: Floats) -> Combined:
    """Mean effect over patients of whom nothing but the effect is known, by `t_test`.

    Parameters
    ----------
    effect
        (patients, k) float64, NaN where a patient tells nothing.

    Returns
    -------
    Combined
        With equal weights; `p_dl`, `p_least` and `between` are NaN.
    """
    known = np.isfinite(effect)
    n, mean = known.sum(axis=0), _mean(effect)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(known, effect - mean, 0.0) ** 2
        error = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
    error = np.where(n < MIN_PATIENTS, np.nan, error)
    unknown = np.full(n.size, np.nan)
    p = t_test(effect)
    return Combined(mean, known.astype(np.float64), error, p, unknown, unknown, unknown)


def _by_t(t: Floats, n: NDArray[np.int_]) -> Floats:
    """Two-sided p of `t` over `n` patients."""
    return np.asarray(2 * stats.t.sf(np.abs(t), np.maximum(n - 1, 1)))


def _mean(values: Floats) -> Floats:
    """Mean over the first axis, NaN left out; NaN where there is nothing."""
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))


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
