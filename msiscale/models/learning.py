"""Learning curves over patients: what the linear maps H&E -> MSI would reach with more of them.

Some patients are held out; the others join the training one after another, and at certain numbers
of them everything is fitted anew, as the fit of the run does it. A patient's sums are added when
the patient joins, so a curve reads each patient's sums once and never a pixel. Every patient is
held out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msiscale.grid import Floats
from msiscale.models.fold_model import Basis
from msiscale.models.folds import FEW_PATIENTS, MAX_INNER, Fold
from msiscale.models.moments import Moments
from msiscale.models.patient_means import patient_mean
from msiscale.models.validation import Asked, Rules, fit_fold, of_groups

ORDERS = 10  # at most: groups of patients that are held out in turn
FEWEST_SIZES = 3  # that a curve is laid through
FEWEST_PATIENTS = FEW_PATIENTS + FEWEST_SIZES  # of a cohort whose curve has as many
EXPONENTS = np.geomspace(0.25, 2.0, 25)  # of how fast the curve levels off


@dataclass(frozen=True)
class Order:
    """Patients held out, and the others in the order in which they join the training."""

    held_out: tuple[str, ...]
    joining: tuple[str, ...]


def orders(patients: Sequence[str], most: int = ORDERS, seed: int = 0) -> list[Order]:
    """Hold out every patient once, in at most `most` groups; the others join in a random order.

    Parameters
    ----------
    patients : sequence of str
        In the order of the cohort.
    most : int
        Groups.
    seed : int
        Of the random orders, which depend on nothing else.

    Returns
    -------
    list of Order
    """
    n = min(len(patients), most)
    groups = [tuple(patients[i::n]) for i in range(n)]
    found = []
    for i, group in enumerate(groups):
        others = [p for p in patients if p not in group]
        mixed = np.random.default_rng([seed, i]).permutation(len(others))
        found.append(Order(group, tuple(others[j] for j in mixed)))
    return found


def sizes(some: Sequence[Order]) -> list[int]:
    """Numbers of training patients at which to fit, some 1.5 times the one before.

    Parameters
    ----------
    some : sequence of Order
        Of one cohort.

    Returns
    -------
    list of int, ascending, from `FEW_PATIENTS` to as many as join in each order; may be empty
    """
    most = min((len(order.joining) for order in some), default=0)
    found, size = [], float(FEW_PATIENTS)
    while round(size) < most:
        found.append(round(size))
        size = max(size * 1.5, round(size) + 1)
    return [*found, most] if most >= FEW_PATIENTS else []


def learn(
    sums: Mapping[str, Moments],
    specimens: Mapping[str, Sequence[str]],
    order: Order,
    at: Iterable[int],
    rules: Rules,
) -> list[dict[str, Any]]:
    """Fit at some numbers of training patients, and score the patients held out.

    Parameters
    ----------
    sums : mapping of specimen to Moments
        Asked for one at a time: those of training once, those held out once a fit.
    specimens : mapping of patient to specimens
        Of all patients of the order.
    order : Order
        Who joins when.
    at : iterable of int
        Numbers of training patients, `FEW_PATIENTS` or more.
    rules : Rules
        What every fit shares. A penalty is chosen by leaving out fifths of the training patients.

    Returns
    -------
    list of dict with keys patients (trained on), patient (held out), r2: over all m/z of the
    spectrum, mean over the patient's specimens

    Notes
    -----
    Memory: six sums as large as a specimen's, and those of `fit_fold`.
    """
    wanted = set(at)
    groups: list[Moments] = []
    train: list[str] = []
    found = []
    for i, patient in enumerate(order.joining):
        for specimen in specimens[patient]:
            train.append(specimen)
            part = sums[specimen]
            if len(groups) == i < MAX_INNER:
                groups.append(part)
            else:
                groups[i % MAX_INNER] = groups[i % MAX_INNER] + part
        if i + 1 in wanted:
            found += _scored(sums, specimens, order, tuple(train), groups, rules, i + 1)
    return found


def _scored(
    sums: Mapping[str, Moments],
    specimens: Mapping[str, Sequence[str]],
    order: Order,
    train: tuple[str, ...],
    groups: Sequence[Moments],
    rules: Rules,
    size: int,
) -> list[dict[str, Any]]:
    training = Moments.merge(groups)
    basis = Basis.exact(training, train, None, rules.n_components)
    test = tuple(s for p in order.held_out for s in specimens[p])
    fold = Fold(str(size), train, test)
    asked = Asked(fold.name, fold, None, basis, {}, None, (), "patients", None)
    pairs = of_groups(groups, basis) if rules.choose else []
    model = fit_fold(asked, rules, basis, training, pairs, ((s, sums[s]) for s in test))
    r2 = {
        record["specimen"]: record["value"]
        for record in model.records
        if (record["target"], record["metric"]) == ("spectrum", "r2")
    }
    return [
        {"patients": size, "patient": p, "r2": float(np.mean([r2[s] for s in known]))}
        for p in order.held_out
        if (known := [s for s in specimens[p] if s in r2])
    ]


@dataclass(frozen=True)
class Expected:
    """What a curve says of a number of training patients; the interval is one of t over patients.

    Attributes
    ----------
    patients : int
        Trained on.
    value, low, high : float
    n : int
        Patients that were held out.
    """

    patients: int
    value: float
    low: float
    high: float
    n: int


def extrapolated(at: Sequence[int], values: Floats, beyond: Iterable[int]) -> list[Expected]:
    """Lay ``a - b * patients ** -c`` through a learning curve, and read it off further on.

    The curve goes through the means over the patients held out, by least squares with b >= 0. Its
    interval is from leaving out each of them in turn (jackknife), with Student's t: it says how
    sure the mean over other such patients is, if the curve has this form.

    Parameters
    ----------
    at : sequence of int
        `FEWEST_SIZES` numbers of training patients or more, ascending.
    values : (patients, sizes) float64
        Of each patient held out; a patient with a NaN is left out.
    beyond : iterable of int
        Numbers of training patients to read off.

    Returns
    -------
    list of Expected

    Raises
    ------
    ValueError
        Fewer sizes than `FEWEST_SIZES`, or fewer than three patients.

    References
    ----------
    Hestness et al. 2017, Deep learning scaling is predictable, empirically (arXiv:1712.00409), for
    the form; Efron and Tibshirani 1993, An introduction to the bootstrap, chapter 11.
    """
    known = values[np.isfinite(values).all(axis=1)]
    n, targets = len(known), np.asarray([*beyond], float)
    if len(at) < FEWEST_SIZES or n < 3:
        raise ValueError(
            f"a curve needs {FEWEST_SIZES} sizes and 3 patients, but there are {len(at)} and {n}"
        )
    mean = known.mean(axis=0)
    whole = _read_off(at, mean, targets)
    without = [_read_off(at, (n * mean - one) / (n - 1), targets) for one in known]
    pseudo = n * whole - (n - 1) * np.array(without)
    found = [patient_mean(of) for of in pseudo.T]
    return [
        Expected(int(m), float(v), float(v - e.value + e.low), float(v - e.value + e.high), n)
        for m, v, e in zip(targets, whole, found, strict=True)
    ]


def _read_off(at: Sequence[int], mean: Floats, targets: Floats) -> Floats:
    """The best of the curves, one for each of `EXPONENTS`, at the targets."""
    x = np.asarray(at, float)[None, :] ** -EXPONENTS[:, None]
    dx, dy = x - x.mean(axis=1, keepdims=True), mean - mean.mean()
    slope = np.minimum((dx @ dy) / (dx**2).sum(axis=1), 0.0)
    error = ((dy - slope[:, None] * dx) ** 2).sum(axis=1)
    best = int(error.argmin())
    return np.asarray(
        mean.mean() + slope[best] * (targets ** -EXPONENTS[best] - x[best].mean()), float
    )
