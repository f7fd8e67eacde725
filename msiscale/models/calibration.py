"""What a classifier's number means: class weights undone, and scores made to say what they mean.

A classifier whose classes are weighted speaks of a world where they are as frequent as the weights
make them. By Bayes' rule that moves its log-odds by the log of the ratio of the weights alone, so
that moving them back is exact (Elkan 2001, IJCAI 17:973): log-odds of a class come to stand for its
share in the training. What is left, that a fit is surer of itself on patients that it has seen, is
read off patients that the inner fits left out, by two numbers a class (Platt 1999, Advances in
Large Margin Classifiers): ``slope * log-odds + intercept``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, logsumexp

from msiscale.grid import Floats

STEPS, SMALL = 50, 1e-10  # of Newton's method
HALF = 0.5


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
