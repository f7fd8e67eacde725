"""Ions absent from training, predicted by chemistry from those of a phantom of lipid classes."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.common.progress import Progress
from benchmarks.ions.phantoms import CHANNELS, Floats, fitted, patient, predicted
from msiscale.biomarkers.absent import Chemistry, absent_image
from msiscale.models import Moments
from msiscale.prediction.absent import Trained

SUBJECT = "ions absent from training, by chemistry, against the mean of their class"
PATIENTS = 6
KINDS = ("PC", "PE", "SM", "TG", "PI")
SPECIES = [(c, d) for c in (32, 34, 36, 38, 40) for d in (0, 1, 2, 3, 4)]
SHARE = 0.8  # of an ion's variance, told by the slide
SKIPPED = 6  # ions of which one is asked what it expects
LENGTHS = (4.0, 1.5)  # carbons and double bonds, over which maps of a class change


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--absent-cohorts", type=int, default=5)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Mean correlation with the measured image of held-out patients."""
    numbers = range(words.absent_cohorts)
    found = np.array([cohort(i) for i in progress.each(numbers, "leave-ion-out, cohort")])
    names = ("leave_ion_out_r", "class_mean_r", "trained_ion_r", "leave_ion_out_r_expected")
    return {f"ions.{name}": float(r) for name, r in zip(names, found.mean(axis=0), strict=True)}


def cohort(number: int) -> Floats:
    """(4,) mean r of ions left out, of the mean of their class, of ions in training, expected."""
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
    found = np.reshape(rows, (PATIENTS, len(ions), 3))
    expected = [
        _expected(ions, predicted(model, one.features), np.delete(found[..., 2], k, axis=0))
        for k, (one, model) in enumerate(zip(patients, models, strict=True))
    ]
    return np.append(found.mean(axis=(0, 1)), np.mean(expected))


def _expected(ions: list[Chemistry], guess: Floats, r: Floats) -> float:
    """Mean of what is said of some ions left out, by the r (patient, ion) of other patients."""
    sums, found = Moments.of(None, guess, dtype=np.float64), []
    for i in range(0, len(ions), SKIPPED):
        others = [j for j in range(len(ions)) if j != i]
        spectra = np.eye(len(ions))[:, others]
        trained = tuple(ions[j] for j in others)
        names = tuple(f"{ion.kind} {ion.carbons}:{ion.double_bonds}" for ion in ions)
        known = Trained(names, trained, r.mean(axis=0)[others], spectra, sums)
        found.append(known.infer(names[i]).expected_r)
    return float(np.mean(found))


def _of_class(rng: np.random.Generator) -> Floats:
    """(channel, species) maps of a class, the more alike the nearer the chains are."""
    at = np.array(SPECIES) / LENGTHS
    square = ((at[:, None] - at[None]) ** 2).sum(axis=2)
    root = np.linalg.cholesky(np.exp(-square / 2) + 1e-9 * np.eye(len(at)))
    shared = 0.5 * rng.standard_normal((CHANNELS, 1))
    return np.asarray(shared + rng.standard_normal((CHANNELS, len(at))) @ root.T)
