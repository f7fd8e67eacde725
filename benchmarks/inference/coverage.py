"""How often intervals of an AUC hold the truth where patients differ: t over patients, bootstrap.

A population of patients is drawn once, each with an AUC, a prevalence and a level of its own (folds
do not agree on what a score means). A cohort is some of them, so the truth is known exactly: the
mean of the population's AUCs, and the AUC of all its pixels pooled.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from benchmarks.common.progress import Progress
from msiscale.models import classification_metrics, intervals
from msiscale.models.patient_means import patient_mean

SUBJECT = "coverage of 95 % intervals of the AUC over 2 to 20 patients (a minute)"
PATIENTS = (2, 3, 4, 6, 10, 20)
POPULATION = 1000
PIXELS = 150
LOW, HIGH = 0.75, 0.99  # of a patient's AUC
# of where in between: of most cohorts, and of one that is nearly always right, where AUCs crowd
SHAPES = {"": (3.0, 1.5), "_near_one": (4.0, 1.0)}
T_COHORTS = 10_000  # by t a cohort costs microseconds
DRAWS = 100

Floats = NDArray[np.float64]


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument(
        "--coverage-cohorts", type=int, default=400, metavar="N",
        help="Number of cohorts a row of the bootstrap's coverage (default: 400).",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Population:
    """Patients, pixel by pixel.

    Attributes
    ----------
    truth, probability : (patients, pixels)
    auc : (patients,), each patient's own
    pooled : float, of all pixels of all
    """

    truth: Floats
    probability: Floats
    auc: Floats
    pooled: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, shape: tuple[float, float]) -> Population:
        """Normal scores, whose separation gives each patient its AUC."""
        auc = LOW + (HIGH - LOW) * rng.beta(*shape, POPULATION)
        separation, level = np.sqrt(2) * ndtri(auc), rng.normal(0, 1, POPULATION)
        prevalence = rng.uniform(0.15, 0.5, POPULATION)
        truth = (rng.random((POPULATION, PIXELS)) < prevalence[:, None]).astype(float)
        truth[:, :2] = 0, 1  # both classes
        score = separation[:, None] * (truth - 0.5) + level[:, None]
        probability = expit(score + rng.normal(size=truth.shape))
        own = [classification_metrics(t, p)["auc"] for t, p in zip(truth, probability, strict=True)]
        pooled = classification_metrics(truth, probability)["auc"]
        return cls(truth, probability, np.array(own), pooled)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Shares of cohorts whose interval holds the truth."""
    found: dict[str, float] = {}
    for i, (name, shape) in enumerate(SHAPES.items()):
        rng = np.random.default_rng([18, i])
        population = Population.drawn(rng, shape)
        for n in PATIENTS:
            progress(f"coverage{name} of {n} patients")
            found[f"coverage{name}.auc.n{n}"] = by_t(population, n, T_COHORTS, rng)
            if not name:
                share = by_bootstrap(population, n, words.coverage_cohorts, rng)
                found[f"coverage_bootstrap.auc.n{n}"] = share
    _tell(found)
    return found


def by_t(population: Population, n: int, cohorts: int, rng: np.random.Generator) -> float:
    """Coverage of the mean over patients."""
    mean = population.auc.mean()
    picked = population.auc[rng.integers(0, POPULATION, (cohorts, n))]
    ends = [patient_mean(values, shares=True) for values in picked]
    return float(np.mean([e.low <= mean <= e.high for e in ends]))


def by_bootstrap(population: Population, n: int, cohorts: int, rng: np.random.Generator) -> float:
    """Coverage of the AUC of all pixels pooled."""
    weights, held = intervals.draws(n, DRAWS), 0
    for _ in range(cohorts):
        picked = rng.integers(0, POPULATION, n)
        counts = intervals.tally([*population.truth[picked]], [*population.probability[picked]])
        low, high = intervals.interval(intervals.values(counts, weights)["auc"])
        held += low <= population.pooled <= high
    return held / cohorts


def _tell(found: dict[str, float]) -> None:
    print("| AUC, 95 % intervals |" + "".join(f" {n} patients |" for n in PATIENTS))
    print("|---|" + "---|" * len(PATIENTS))
    rows = {
        "coverage": "mean over patients, by t",
        "coverage_near_one": "the same, AUCs near 1",
        "coverage_bootstrap": "all pixels pooled, by bootstrap",
    }
    for key, called in rows.items():
        cells = (f" {100 * found[f'{key}.auc.n{n}']:.1f} % |" for n in PATIENTS)
        print(f"| {called} |" + "".join(cells))
