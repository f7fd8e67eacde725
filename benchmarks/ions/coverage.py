"""How many pixels of new patients lie within the margins of their predictions."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.common.progress import Progress
from benchmarks.ions.phantoms import CHANNELS, Floats, Patient, fitted, patient, predicted
from msiscale.models import FoldModel
from msiscale.models.margins import bounds, count_errors, local_scale, margins
from msiscale.models.novelty import Novelty

SUBJECT = "coverage of the 90 % margins of ions, of new patients and of another scanner's slides"
SIZES = (3, 6, 12)  # patients of a cohort
COHORT = 6  # of the headline
NEW = 4  # patients
IONS = 20
DIFFER = 0.3
GAIN, OFFSET = 0.2, 0.7  # a scanner's, sd over channels, in standard deviations of a channel


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--coverage-cohorts", type=int, default=50)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Coverage as a mean over new patients, ions and cohorts."""
    found: dict[str, float] = {}
    for n in SIZES:
        numbers = range(words.coverage_cohorts)
        shares = np.array(
            [cohort(n, i) for i in progress.each(numbers, f"coverage, {n} patients, cohort")]
        )
        names = ("interval_coverage_90", "interval_coverage_90_shifted", "unscaled_shifted")
        for name, own in zip(names, np.moveaxis(shares, 1, 0), strict=True):
            found[f"ions.{name}.n{n}"] = float(own.mean())
            if n == COHORT:
                found[f"ions.{name}"] = float(own.mean())
                found[f"ions.{name}_sd_of_patients"] = float(own.mean(axis=2).std())
    return found


def cohort(n: int, number: int) -> Floats:
    """(3, new patients, ions): coverage, that of another scanner, and that without local scale."""
    rng = np.random.default_rng([11, n, number])
    weights = rng.standard_normal((CHANNELS, IONS)) * (rng.random((CHANNELS, IONS)) < 0.3)
    weights[0] += 0.5
    share = rng.uniform(0, 0.9, IONS)
    patients = [patient(rng, weights, share, DIFFER) for _ in range(n + NEW)]
    *models, final = fitted(patients[:n], IONS)
    size = np.sqrt((final.components**2 * final.explained_variance[:, None]).sum(axis=0))
    scaled, plain = [], []
    for one, model in zip(patients, models, strict=False):
        error = one.ions - predicted(model, one.features)
        scale = scale_of(model, one.features)
        scaled.append(count_errors(error, scale, size))
        plain.append(count_errors(error, np.ones_like(scale), size))
    margin, flat = (margins(np.stack(counts)) * size for counts in (scaled, plain))
    gain, offset = 1 + GAIN * rng.standard_normal(CHANNELS), OFFSET * rng.standard_normal(CHANNELS)
    found = []
    for one in patients[n:]:
        other = one.features * gain + offset
        found.append(
            [
                covered(final, one, one.features, margin),
                covered(final, one, other, margin),
                covered(final, one, other, flat, local=False),
            ]
        )
    return np.moveaxis(np.array(found), 0, 1)


def scale_of(model: FoldModel, features: Floats) -> np.ndarray:
    """(n,) local scale."""
    novelty = Novelty.of((model.maps or {})["cancer_from_he"])
    return local_scale(novelty.measure(features.astype(np.float32))[0])


def covered(
    model: FoldModel, one: Patient, features: Floats, margin: Floats, local: bool = True
) -> Floats:
    """(k,) share of the pixels within the bounds."""
    scale = scale_of(model, features)
    lower, upper = bounds(
        predicted(model, features), margin, scale if local else np.ones_like(scale)
    )
    return np.asarray(((one.ions >= lower) & (one.ions <= upper)).mean(axis=0))
