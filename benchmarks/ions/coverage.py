"""How many pixels of new patients lie within the margins of their predictions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.common.progress import Progress
from benchmarks.ions.phantoms import CHANNELS, Floats, Patient, fitted, patient
from msiscale.models import FoldModel
from msiscale.models.margins import bounds, count_errors, local_scale, margins
from msiscale.models.novelty import Novelty

SUBJECT = (
    "coverage of the 90 % margins: ions, modes, probability; new patients, another scanner's slides"
)
SIZES = (3, 6, 12)  # patients of a cohort
COHORT = 6  # of the headline
NEW = 4  # patients
IONS, MODES = 20, 5
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
            ions, *others = np.split(own, [IONS, IONS + MODES], axis=2)
            found[f"ions.{name}.n{n}"] = float(ions.mean())
            for of, part in zip(("modes", "probability"), others, strict=True):
                found[f"ions.{name}.{of}.n{n}"] = float(part.mean())
            if n == COHORT:
                found[f"ions.{name}"] = float(ions.mean())
                found[f"ions.{name}_sd_of_patients"] = float(ions.mean(axis=2).std())
    return found


def cohort(n: int, number: int) -> Floats:
    """(3, new patients, targets): coverage, another scanner's, and that without local scale."""
    rng = np.random.default_rng([11, n, number])
    weights = rng.standard_normal((CHANNELS, IONS)) * (rng.random((CHANNELS, IONS)) < 0.3)
    weights[0] += 0.5
    share = rng.uniform(0, 0.9, IONS)
    patients = [patient(rng, weights, share, DIFFER) for _ in range(n + NEW)]
    *models, final = fitted(patients[:n], IONS)
    variance = final.explained_variance
    of_ions = np.sqrt((final.components**2 * variance[:, None]).sum(axis=0))
    size = np.concatenate([of_ions, np.sqrt(variance[:MODES]), [1.0]])
    *classifiers, last = [
        classifier([p for p in patients[:n] if p is not out]) for out in (*patients[:n], None)
    ]
    scaled, plain = [], []
    for one, model, of in zip(patients, models, classifiers, strict=False):
        error = measured(model, one) - guessed(model, of, one.features)
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
                covered(final, last, one, one.features, margin),
                covered(final, last, one, other, margin),
                covered(final, last, one, other, flat, local=False),
            ]
        )
    return np.moveaxis(np.array(found), 0, 1)


def scale_of(model: FoldModel, features: Floats) -> np.ndarray:
    """(n,) local scale."""
    novelty = Novelty.of((model.maps or {})["cancer_from_he"])
    return local_scale(novelty.measure(features.astype(np.float32))[0])


def classifier(patients: Sequence[Patient]) -> LogisticRegression:
    """Cancer from the slide, as it is where the classes are not weighted."""
    features = np.concatenate([p.features for p in patients])
    return LogisticRegression().fit(features, np.concatenate([p.cancer for p in patients]))


def measured(model: FoldModel, one: Patient) -> Floats:
    """(n, k): ions, leading modes, and 1 for cancer."""
    modes = model.project(one.ions)[:, :MODES]
    return np.column_stack([one.ions, modes, one.cancer.astype(np.float64)])


def guessed(model: FoldModel, of: LogisticRegression, features: Floats) -> Floats:
    """(n, k): what is predicted of the columns of `measured`."""
    modes = model.predict(features)
    probability = of.predict_proba(features)[:, 1]
    return np.column_stack([model.spectrum(modes), modes[:, :MODES], probability])


def covered(
    model: FoldModel,
    of: LogisticRegression,
    one: Patient,
    features: Floats,
    margin: Floats,
    local: bool = True,
) -> Floats:
    """(k,) share of the pixels within the bounds."""
    scale = scale_of(model, features)
    scale = scale if local else np.ones_like(scale)
    lower, upper = bounds(guessed(model, of, features), margin, scale)
    truth = measured(model, one)
    return np.asarray(((truth >= lower) & (truth <= upper)).mean(axis=0))
