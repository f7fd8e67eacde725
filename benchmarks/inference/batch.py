"""What corrections between specimens are worth, with batch effects and without.

Patients of one specimen each, who differ as tissue does: in how much cancer they have and in the
mean of each ion. In one world the instrument adds a gain and an offset of each m/z in each specimen
(``shifted``), in the other it does not (``same``); pixels off the tissue have the same gain and
offset. Each patient is left out in turn, with the corrections, modes, ridge and classifiers of the
project. A cohort gives one number, the mean over its patients; intervals are by t over cohorts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.common.measure import table
from benchmarks.common.progress import Progress
from msiscale.config import CORRECTIONS
from msiscale.grid import Floats
from msiscale.models import (
    Fold,
    Moments,
    RowBlock,
    Spread,
    classification_metrics,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.models.corrections import quantile_table
from msiscale.models.patient_means import patient_mean
from msiscale.pipeline.corrections import NONE, Own, corrections_of

SUBJECT = "corrections between specimens, where the instrument shifts them and where it does not"
PATIENTS, ROWS, OFF, FEATURES, MZ = 8, 500, 300, 12, 40
MODEL = "cancer_from_msi"
GAIN, OFFSET = 0.15, 0.3  # sd of the logarithm of a gain, and of an offset in sd of the ion
TISSUE = 0.3  # sd between patients of an ion's mean, in its sd: what no correction should touch
WORLDS = {"shifted": (GAIN, OFFSET), "same": (0.0, 0.0)}


class Patient(NamedTuple):
    """Rows of a specimen: features, ions, annotation; ions off the tissue."""

    x: Floats
    ions: Floats
    cancer: Floats
    off: Floats


def options(parser: argparse.ArgumentParser) -> None:
    """How many cohorts."""
    parser.add_argument(
        "--batch-cohorts", type=int, default=20, metavar="N",
        help="Cohorts of eight patients in each world (default: 20).",
    )  # fmt: skip


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Means over cohorts without a correction, and differences with each."""
    found: dict[str, float] = {}
    rows = []
    for world, (gain, offset) in WORLDS.items():
        cohorts = [
            scores(patients(seed, gain, offset))
            for seed in progress.each(range(words.batch_cohorts), f"{world}, cohort")
        ]
        for metric in ("auc", "r2"):
            plain = np.array([cohort[NONE, metric] for cohort in cohorts])
            found[f"batch.{world}.{metric}.{NONE}"] = float(plain.mean())
            for name in CORRECTIONS:
                mean = patient_mean([c[name, metric] for c in cohorts] - plain)
                key = f"batch.{world}.{metric}.{name}_minus_none"
                found |= {key: mean.value, f"{key}.low": mean.low, f"{key}.high": mean.high}
                row = {"world": world, "metric": metric, "without": float(plain.mean())}
                row |= {"correction": name, "difference": mean.value}
                rows.append(row | {"low": mean.low, "high": mean.high})
    print(table(rows))
    return found


def patients(seed: int, gain: float, offset: float) -> dict[str, Patient]:
    """A cohort; the same tissue for the same seed, whatever the instrument does."""
    rng, instrument = np.random.default_rng([14, seed]), np.random.default_rng([15, seed])
    look = rng.normal(size=FEATURES)
    look /= np.linalg.norm(look)
    weights = rng.normal(size=(FEATURES, MZ)) / np.sqrt(FEATURES)
    marks = 0.8 * rng.normal(size=MZ) * (rng.random(MZ) < 0.3)  # of cancer
    level = rng.gamma(3.0, 3.0, MZ) + 5
    found = {}
    for i in range(PATIENTS):
        cancer = rng.random(ROWS) < rng.uniform(0.1, 0.5)
        x = rng.normal(size=(ROWS, FEATURES)) + 1.5 * np.outer(cancer, look)
        ions = level + x @ weights + np.outer(cancer, marks) + 1.5 * rng.normal(size=(ROWS, MZ))
        ions += TISSUE * rng.normal(size=MZ)
        off = 0.3 * level + rng.normal(size=(OFF, MZ))
        times, plus = np.exp(gain * instrument.normal(size=MZ)), offset * instrument.normal(size=MZ)
        found[f"P{i}"] = Patient(x, ions * times + plus, cancer.astype(float), off * times + plus)
    return found


def scores(cohort: Mapping[str, Patient]) -> dict[tuple[str, str], float]:
    """By correction and metric, the mean over the patients left out."""
    own = {name: _own(p) for name, p in cohort.items()}
    names = {name: name for name in cohort}
    found = {}
    for correction in (NONE, *CORRECTIONS):
        each = [_fold(cohort, own, fold, correction) for fold in leave_one_group_out(names)]
        for i, metric in enumerate(("auc", "r2")):
            found[correction, metric] = float(np.mean([one[i] for one in each]))
    return found


def _own(p: Patient) -> Own:
    ions = p.ions.astype(np.float32)
    spread = Spread.of(ions)
    return Own(
        spread.mean, spread.scatter, p.off.mean(axis=0), quantile_table(ions), ROWS, OFF, spread.eps
    )


def _fold(
    cohort: Mapping[str, Patient], own: Mapping[str, Own], fold: Fold, correction: str
) -> tuple[float, float]:
    """AUC of cancer from the MSI, and R² of the MSI from features, of the patient left out."""
    names = {name: name for name in cohort}
    ions = {name: p.ions.astype(np.float32) for name, p in cohort.items()}
    if correction != NONE:
        made = corrections_of(correction, fold, own, names)
        ions = {name: made[name].apply(rows) for name, rows in ions.items()}
    sums = {name: Moments.of(p.x, ions[name]) for name, p in cohort.items()}
    (model,) = fit_linear_folds(sums, [fold], names, n_components=20)
    assert model.maps is not None
    blocks = [RowBlock(n, (ions[n], p.cancer, None), len(p.cancer)) for n, p in cohort.items()]
    maps = {MODEL: {fold.name: model.maps[MODEL]}}
    fitted = fit_classifiers(blocks, maps, [fold], names, calibrate="none")[MODEL, fold.name]
    (left,) = fold.test
    auc = classification_metrics(cohort[left].cancer, fitted.predict(ions[left]))["auc"]
    return auc, model.scores[left].weighted
