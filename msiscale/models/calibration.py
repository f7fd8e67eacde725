"""What a classifier's number means: class weights undone, and scores made to say what they mean.

A classifier whose classes are weighted speaks of a world where they are as frequent as the weights
make them. By Bayes' rule that moves its log-odds by the log of the ratio of the weights alone, so
that moving them back is exact (Elkan 2001, IJCAI 17:973): log-odds of a class come to stand for its
share in the training. What is left, that a fit is surer of itself on patients that it has seen, is
read off patients that the inner fits left out, by two numbers a class (Platt 1999, Advances in
Large Margin Classifiers): ``slope * log-odds + intercept``.

Scores of the patients left out are kept as counts over bins of the log-odds, which add up: no row
is kept, and the order of the rows does not matter.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, logsumexp

from msiscale.grid import Floats
from msiscale.models.moments import merge_groups
from msiscale.models.passes import RowBlock, over, rows_of
from msiscale.models.rowblocks import Run

LEAST = 3  # patients with both classes, from which on scores say more than the prior alone
EDGES = np.sinh(np.linspace(-4, 4, 127))  # of bins of the log-odds: 0.06 wide at 0, 1.7 at the ends
STEPS, SMALL = 50, 1e-10  # of Newton's method
HALF, SURE = 0.5, 1e-6  # thresholds lie between the latter and 1 less it

Groups = frozenset[Hashable]


@dataclass(frozen=True, eq=False)
class Calibration:
    """From linear predictors to probabilities, one value an output of the classifier.

    Two classes have one output, the log-odds of the positive one; more classes one each.

    Attributes
    ----------
    prior : (outputs,) added to the linear predictors: undoes the class weights
    slope, intercept : (outputs,) of the log-odds of a class against the others, after that
    prevalence : (outputs,) share of the class for which the probabilities hold
    threshold : (outputs,) probability from which on to call a pixel
    by : what the slope was found by: "patients"; "prior" (the class weights alone are undone);
        "none" (nothing is)
    chosen : whether pixels that were left out chose the threshold; else it is 0.5
    """

    prior: Floats
    slope: Floats
    intercept: Floats
    prevalence: Floats
    threshold: Floats
    by: str
    chosen: bool = False

    @property
    def facts(self) -> dict[str, float | str]:
        """Of two classes: what is stored with a model, as plain numbers.

        Calibrated log-odds are ``slope * fitted log-odds + intercept``.
        """
        return {
            "slope": float(self.slope[0]),
            "intercept": float(self.slope[0] * self.prior[0] + self.intercept[0]),
            "prevalence": float(self.prevalence[0]),
            "threshold": float(self.threshold[0]),
            "by": self.by,
        }

    @classmethod
    def none(cls, outputs: int) -> Calibration:
        """Probabilities as fitted, with balanced classes."""
        one, share = np.ones(outputs), 1 / max(outputs, 2)
        return cls(0 * one, one, 0 * one, share * one, HALF * one, "none")

    @classmethod
    def of_prior(cls, class_weight: ArrayLike, prevalence: ArrayLike) -> Calibration:
        """The exact correction for the class weights of a fit.

        Parameters
        ----------
        class_weight : (classes,)
            Of the fit.
        prevalence : (classes,)
            Their shares of the training rows.

        Returns
        -------
        Calibration
            With slope 1, intercept 0 and threshold 0.5.
        """
        prior = prior_of(class_weight)
        share, one = np.asarray(prevalence, np.float64)[-len(prior) :], np.ones(len(prior))
        return cls(prior, one, 0 * one, share, HALF * one, "prior")

    def like(self, other: Calibration) -> Calibration:
        """The slope, intercept and threshold of another, for the class weights of this fit."""
        return replace(other, prior=self.prior)

    def log_odds(self, eta: Floats) -> Floats:
        """Calibrated log-odds of each class against the others.

        Parameters
        ----------
        eta
            (n, outputs) float64, linear predictors of the fit.

        Returns
        -------
        ndarray
            (n, outputs) float64.
        """
        return np.asarray(against_others(eta + self.prior) * self.slope + self.intercept)

    def probabilities(self, eta: Floats) -> Floats:
        """Probability of each class, which add up to 1.

        Parameters
        ----------
        eta
            (n, outputs) float64, linear predictors of the fit.

        Returns
        -------
        ndarray
            (n, classes) float64; of two classes the positive one is the last.
        """
        odds = self.log_odds(eta)
        if odds.shape[1] == 1:
            return np.concatenate([expit(-odds), expit(odds)], axis=1)
        p = expit(odds)
        # each class was set against the others by itself (Zadrozny and Elkan 2002, KDD 8:694)
        return np.asarray(p / p.sum(axis=1, keepdims=True))


def prior_of(class_weight: ArrayLike) -> Floats:
    """What undoes class weights when it is added to linear predictors.

    Parameters
    ----------
    class_weight
        (classes,).

    Returns
    -------
    ndarray
        (outputs,) float64.
    """
    log = np.log(np.asarray(class_weight, np.float64))
    return log[:1] - log[1:] if len(log) == 2 else log.mean() - log


def against_others(eta: Floats) -> Floats:
    """Log-odds of each class against all others.

    Parameters
    ----------
    eta
        (n, outputs) float64, linear predictors.

    Returns
    -------
    ndarray
        (n, outputs) float64.
    """
    if eta.shape[1] == 1:
        return eta
    found = [eta[:, k] - logsumexp(np.delete(eta, k, axis=1), axis=1) for k in range(eta.shape[1])]
    return np.stack(found, axis=1)


def platt(log_odds: ArrayLike, truth: ArrayLike, weight: ArrayLike) -> tuple[float, float] | None:
    """Slope and intercept with which log-odds fit the truth best, by logistic regression.

    Parameters
    ----------
    log_odds, truth, weight : (n,)
        Fractions of the class as truth.

    Returns
    -------
    slope, intercept : float; None where there is no such optimum, or it turns the order around
    """
    x, y, w = (np.asarray(a, np.float64) for a in (log_odds, truth, weight))
    known = w > 0
    x, y, w = x[known], y[known], w[known] / max(w.sum(), np.finfo(float).tiny)
    design = np.stack([x, np.ones_like(x)], axis=1)
    at = np.array([1.0, 0.0])

    def loss(theta: Floats) -> float:
        eta = design @ theta
        return float(w @ (np.logaddexp(0, eta) - y * eta))

    for _ in range(STEPS):
        p = expit(design @ at)
        gradient = design.T @ (w * (p - y))
        hessian = (design * (w * p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(hessian) > 1e12:
            return None  # one class, one score, or classes that a score separates
        step, now = np.linalg.solve(hessian, gradient), loss(at)
        while loss(at - step) > now + SMALL and np.abs(step).max() > SMALL:
            step = step / 2
        at = at - step
        if np.abs(step).max() < SMALL:
            return (float(at[0]), float(at[1])) if at[0] > 0 else None
    return None


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Counts of rows that inner fits left out, over bins of their log-odds, by patient.

    Attributes
    ----------
    counts : mapping of patient to (outputs, 4, bins) float64: sums of the weight, of the weight
        times the fraction of the class, of the weight of rows of half or more of it, and of the
        weight times the log-odds
    """

    counts: Mapping[Hashable, Floats]

    def calibrated(self, prior: Calibration, *, threshold_only: bool = False) -> Calibration:
        """Slope, intercept and threshold by the patients left out, where they tell them.

        Parameters
        ----------
        prior : Calibration
            Of the fit whose inner fits these are.
        threshold_only : bool
            Whether what was left out is no whole patient, which is no witness of the others.

        Returns
        -------
        Calibration
            With the threshold alone where fewer than `LEAST` patients have both classes, too.
        """
        if not self.counts:
            return prior
        each = np.stack(list(self.counts.values()))  # (patients, outputs, 4, bins)
        slope, intercept, share, cut = (
            a.copy() for a in (prior.slope, prior.intercept, prior.prevalence, prior.threshold)
        )
        by, chosen = prior.by, prior.chosen
        for k in range(each.shape[1]):
            n, mine, most, odds = np.moveaxis(each[:, k], 1, 0)
            fitted = None if threshold_only else _by_patients(n, mine, odds)
            if fitted is not None:
                slope[k], intercept[k], share[k] = fitted
                by = "patients"
            threshold = best_cut(n, most)
            if threshold is not None:
                p = expit(slope[k] * threshold + intercept[k])
                cut[k], chosen = np.clip(p, SURE, 1 - SURE), True
        return Calibration(prior.prior, slope, intercept, share, cut, by, chosen)


def _by_patients(n: Floats, mine: Floats, odds: Floats) -> tuple[float, float, float] | None:
    """Slope, intercept and prevalence of a class by counts (patients, bins), patients equally."""
    total, of_class = n.sum(axis=1), mine.sum(axis=1)
    if ((of_class > 0) & (of_class < total)).sum() < LEAST:
        return None
    alike = 1 / total[total > 0]
    weight, y, x = (alike @ a[total > 0] for a in (n, mine, odds))
    kept = weight > 0
    weight, y, x = weight[kept], y[kept], x[kept]
    found = platt(x / weight, y / weight, weight)
    return None if found is None else (*found, float(y.sum() / weight.sum()))


def best_cut(n: Floats, positive: Floats) -> float | None:
    """Log-odds from which on to call a pixel, for the largest mean Dice over patients.

    Parameters
    ----------
    n, positive : (patients, bins) float64
        Pixels, and those of the class, over the bins of `EDGES`.

    Returns
    -------
    float; None where no patient has the class
    """
    some = positive.sum(axis=1) > 0
    if not some.any():
        return None
    # called from an edge on: all bins above it
    called, agreed = (a[some][:, :0:-1].cumsum(axis=1)[:, ::-1] for a in (n, positive))
    dice = 2 * agreed / (called + positive[some].sum(axis=1, keepdims=True))
    mean = dice.mean(axis=0)
    best = np.flatnonzero(mean == mean.max())
    return float(EDGES[best[len(best) // 2]])  # the middle, where nothing lies between


@dataclass(frozen=True, eq=False)
class Inner:
    """A fit that left groups out: its predictor (D, outputs), and who may be scored by it."""

    coef: Floats
    intercept: Floats
    class_weight: Floats
    left_out: Groups


def score_left_out(
    blocks: Sequence[RowBlock],
    cases: Sequence[Sequence[Inner]],
    patients: Mapping[Hashable, Hashable],
    *,
    run: Run | None = None,
) -> list[LeftOut]:
    """Score the rows that inner fits left out, in one reading.

    Parameters
    ----------
    blocks : sequence of RowBlock
        All labelled rows.
    cases : sequence of sequences of Inner
        The inner fits of each case, which leave out different groups.
    patients : mapping of group to patient
        A group that is not in it is a patient by itself.
    run : callable, optional
        Computes a list of picklable tasks in order.

    Returns
    -------
    list of LeftOut, one a case
    """
    inner = [fit for case in cases for fit in case]
    if not inner:
        return [LeftOut({})] * len(cases)
    coef = np.concatenate([fit.coef for fit in inner], axis=1)
    shift = np.concatenate([fit.intercept + prior_of(fit.class_weight) for fit in inner])
    groups = [fit.left_out for fit in inner]
    step = partial(_scored, coef=coef, shift=shift, groups=groups)
    found: dict[Hashable, dict[int, Floats]] = over(blocks, step, _merged, run)
    owner = [i for i, case in enumerate(cases) for _ in case]
    counts: list[dict[Hashable, Floats]] = [{} for _ in cases]
    for group, by_fit in found.items():
        patient = patients.get(group, group)
        for j, values in by_fit.items():
            mine = counts[owner[j]]
            mine[patient] = mine[patient] + values if patient in mine else values
    return [LeftOut(of) for of in counts]


Scores = dict[Hashable, dict[int, Floats]]


def _merged(a: Scores, b: Scores) -> Scores:
    return {
        g: merge_groups(a.get(g, {}), b.get(g, {})) for g in [*a, *(g for g in b if g not in a)]
    }


def _scored(
    total: Scores | None,
    group: Hashable,
    rows: Any,
    *,
    coef: Floats,
    shift: Floats,
    groups: Sequence[Groups],
) -> Scores:
    """`total` and the counts of one block, for the fits that left its group out."""
    total = {} if total is None else total
    fits = [j for j, left_out in enumerate(groups) if group in left_out]
    if not fits:
        return total
    x, y, w = rows_of(rows)
    outputs = len(shift) // len(groups)
    truth = y[:, -1:] if outputs == 1 else y
    columns = (np.array(fits)[:, None] * outputs + np.arange(outputs)).ravel()
    eta = np.asarray(x @ coef[:, columns].astype(x.dtype), np.float64) + shift[columns]
    found = {}
    for i, j in enumerate(fits):
        odds = against_others(eta[:, i * outputs : (i + 1) * outputs])
        found[j] = np.stack([_counted(odds[:, k], truth[:, k], w) for k in range(outputs)])
    return _merged(total, {group: found})


def _counted(odds: Floats, truth: Floats, weight: Floats) -> NDArray[np.float64]:
    """(4, bins) of `LeftOut.counts`."""
    at = np.searchsorted(EDGES, odds, side="right")
    most = weight * (truth >= HALF)
    values = (weight, weight * truth, most, weight * odds)
    return np.stack([np.bincount(at, v, len(EDGES) + 1) for v in values])


def moved(probability: ArrayLike, prevalence: float, to: float) -> NDArray[Any]:
    """Probabilities that hold at one prevalence, as they are at another.

    Parameters
    ----------
    probability : array of any shape
        0 to 1.
    prevalence, to : float
        Share of the class for which they hold, and are to hold; what a pixel of each class looks
        like is taken to be the same.

    Returns
    -------
    ndarray of that shape
    """
    with np.errstate(divide="ignore"):
        return np.asarray(expit(logit(probability) + logit(to) - logit(prevalence)))
