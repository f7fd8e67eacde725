"""Ions absent from training, predicted by chemistry from those of a phantom of lipid classes."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.common.progress import Progress
from benchmarks.ions.phantoms import CHANNELS, Floats, fitted, patient, predicted
from msiscale.biomarkers.absent import Chemistry, absent_image

SUBJECT = "ions absent from training, by chemistry, against the mean of their class"
PATIENTS = 6
KINDS = ("PC", "PE", "SM", "TG", "PI")
SPECIES = [(c, d) for c in (32, 34, 36, 38, 40) for d in (0, 1, 2, 3, 4)]
SHARE = 0.8  # of an ion's variance, told by the slide
LENGTHS = (4.0, 1.5)  # carbons and double bonds, over which maps of a class change


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--absent-cohorts", type=int, default=5)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Mean correlation with the measured image of held-out patients."""
    numbers = range(words.absent_cohorts)
    found = np.array([cohort(i) for i in progress.each(numbers, "leave-ion-out, cohort")])
    names = ("leave_ion_out_r", "class_mean_r", "trained_ion_r")
    return {f"ions.{name}": float(r) for name, r in zip(names, found.mean(axis=0), strict=True)}


def cohort(number: int) -> Floats:
    """(3,) mean r of ions left out, of the mean of their class, and of ions in training."""
    rng = np.random.default_rng([15, number])
    ions = [Chemistry(kind, c, d) for kind in KINDS for c, d in SPECIES]
    weights = np.concatenate([_of_class(rng) for _ in KINDS], axis=1)
    patients = [patient(rng, weights, np.full(len(ions), SHARE), 0.2) for _ in range(PATIENTS)]
    rows = []
    models = fitted(patients, len(ions))[:PATIENTS]
    for one, model in zip(patients, models, strict=True):
        guess = predicted(model, one.features)
        for i, ion in enumerate(ions):
            others = [j for j in range(len(ions)) if j != i]
            trained, images = [ions[j] for j in others], guess[:, others]
            own = np.array([t.kind == ion.kind for t in trained])
            scaled = images[:, own] / images[:, own].std(axis=0)
            by_chemistry = absent_image(ion, trained, images)
            guesses = (by_chemistry, scaled.mean(axis=1), guess[:, i])
            rows.append([np.corrcoef(one.ions[:, i], g)[0, 1] for g in guesses])
    return np.asarray(np.mean(rows, axis=0))


def _of_class(rng: np.random.Generator) -> Floats:
    """(channel, species) maps of a class, the more alike the nearer the chains are."""
    at = np.array(SPECIES) / LENGTHS
    square = ((at[:, None] - at[None]) ** 2).sum(axis=2)
    root = np.linalg.cholesky(np.exp(-square / 2) + 1e-9 * np.eye(len(at)))
    shared = 0.5 * rng.standard_normal((CHANNELS, 1))
    return np.asarray(shared + rng.standard_normal((CHANNELS, len(at))) @ root.T)
