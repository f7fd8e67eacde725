"""How far probabilities of patients that were left out are shares, and what a threshold is worth.

Simulated patients differ: in prevalence, in the place of all their rows, and in what cancer looks
like. Classifiers are those of the project, with the C that the training patients choose; each
patient is left out in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from benchmarks.common.progress import Progress
from msiscale.models import (
    Classifier,
    Moments,
    RowBlock,
    classification_metrics,
    fit_classifiers,
    leave_one_group_out,
)
from msiscale.models.calibration import Calibration
from msiscale.models.joint import LinearMap

SUBJECT = "calibration of probabilities, and the threshold of Dice, by prevalence"
PREVALENCES = (0.03, 0.1, 0.3)
PATIENTS, ROWS, COLUMNS = 10, 600, 12
MODEL = "cancer_from_he"
BETWEEN = 0.7  # sd over patients of the log-odds of cancer
AWAY = 0.5  # of the place of a patient's rows, in their sd
OWN = 0.25  # of what cancer looks like, in each variable, relative to its mean look
EFFECT = 2.4  # distance of cancer from the rest, in sd

Rows = tuple[np.ndarray, np.ndarray]


def options(parser: argparse.ArgumentParser) -> None:
    """How many cohorts."""
    parser.add_argument(
        "--calibration-cohorts", type=int, default=20, metavar="N",
        help="Cohorts of ten patients for each prevalence (default: 20).",
    )  # fmt: skip


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Errors and Dice by prevalence, means over cohorts."""
    found: dict[str, float] = {}
    for share in PREVALENCES:
        cohorts = []
        for seed in progress.each(
            range(words.calibration_cohorts), f"prevalence {share:g}, cohort"
        ):
            cohorts.append(scores(patients(seed, share)))
        for name in cohorts[0]:
            found[f"{name}.prevalence_{share:g}"] = float(np.mean([c[name] for c in cohorts]))
    return found


def patients(seed: int, share: float) -> dict[str, Rows]:
    """Rows (n, variables) float32 and labels (n,) of patients that differ."""
    rng = np.random.default_rng([seed, round(share * 1000)])
    look = rng.normal(size=COLUMNS)
    look /= np.linalg.norm(look)
    found = {}
    for i in range(PATIENTS):
        own = expit(logit(share) + BETWEEN * rng.normal())
        y = rng.random(ROWS) < own
        cancer = EFFECT * (look + OWN * rng.normal(size=COLUMNS))
        x = rng.normal(size=(ROWS, COLUMNS)) + AWAY * rng.normal(size=COLUMNS)
        found[f"P{i}"] = (x + np.outer(y, cancer)).astype(np.float32), y.astype(np.float64)
    return found


def scores(data: Mapping[str, Rows]) -> dict[str, float]:
    """Of one cohort: the error as fitted, with the prior undone and calibrated; Dice by patient."""
    names = {name: name for name in data}
    folds = leave_one_group_out(names)
    blocks = [RowBlock(name, (x, y, None), len(y)) for name, (x, y) in data.items()]
    maps = {
        fold.name: LinearMap.standardised(Moments.merge(Moments.of(data[s][0]) for s in fold.train))
        for fold in folds
    }
    fitted = fit_classifiers(blocks, {MODEL: maps}, folds, names)
    each = {name: fitted[MODEL, name] for name in data}
    prior = {n: _with(c, Calibration.of_prior(c.class_weight, _shares(c))) for n, c in each.items()}
    plain = {n: _with(c, Calibration.none(1)) for n, c in each.items()}
    as_fitted, dice = _dice(data, plain), _dice(data, each)
    return {
        "calibration.ece": _error(data, each),
        "calibration.ece_prior": _error(data, prior),
        "calibration.ece_as_fitted": _error(data, plain),
        "dice.as_fitted": as_fitted["dice"],
        "dice.at_half": dice["dice"],
        "dice.chosen": dice["dice_chosen"],
    }


def _dice(data: Mapping[str, Rows], by: Mapping[str, Classifier]) -> dict[str, float]:
    """Mean over patients, at 0.5 and at the threshold."""
    found = [
        classification_metrics(y, by[name].predict(x), by[name].threshold)
        for name, (x, y) in data.items()
    ]
    return {
        name: float(np.nanmean([one[name] for one in found])) for name in ("dice", "dice_chosen")
    }


def _with(classifier: Classifier, calibration: Calibration) -> Classifier:
    return replace(classifier, calibration=calibration)


def _shares(classifier: Classifier) -> np.ndarray:
    """Shares of the classes in training, of which their weights are the inverse."""
    return np.asarray(1 / classifier.class_weight / (1 / classifier.class_weight).sum())


def _error(data: Mapping[str, Rows], by: Mapping[str, Classifier]) -> float:
    """Mean distance of predicted and observed over ten bins, all patients together."""
    truth = np.concatenate([y for _, y in data.values()])
    p = np.concatenate([by[name].predict(x) for name, (x, _) in data.items()])
    return classification_metrics(truth, p)["calibration_error"]
