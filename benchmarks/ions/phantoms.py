"""Cohorts of ion images of which it is known what the slide tells, predicted out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.phantoms import smooth_field, tissue
from msiscale.models import Fold, FoldModel, Moments, fit_linear_folds
from msiscale.models.folds import final_fold

Floats = NDArray[np.float64]
SHAPE = (40, 44)
CHANNELS = 24  # of the slide: smooth fields, in which patients differ
_AROUND = 40  # pixels around a specimen, so that fields are not periodic


@dataclass(eq=False)
class Patient:
    """One specimen of one patient.

    Attributes
    ----------
    held : (y, x) bool, tissue
    features : (n, channel) of the slide, at the pixels of the tissue
    ions : (n, k) intensities
    cancer : (n,) bool
    """

    held: NDArray[np.bool_]
    features: Floats
    ions: Floats
    cancer: NDArray[np.bool_]


def patient(rng: np.random.Generator, weights: Floats, share: Floats, differ: float) -> Patient:
    """Draw a patient.

    Parameters
    ----------
    rng
        Of the patient.
    weights
        (channel, k), what the slide tells of each ion.
    share
        (k,) 0..1, the part of each ion's variance that the slide tells. The rest is smooth fields
        of its own and noise, half each.
    differ
        Standard deviation, between patients, of the logarithm of the noise's size and of the
        offset of an ion, in standard deviations of its image.

    Returns
    -------
    Patient
    """
    held = tissue(rng, SHAPE, _AROUND)
    fields = [
        smooth_field(rng, SHAPE, float(rng.uniform(1.5, 5)), _AROUND)[held] for _ in range(CHANNELS)
    ]
    features = np.stack(fields, axis=1)
    told = features @ weights
    told /= told.std(axis=0)
    k = weights.shape[1]
    rest = np.stack(
        [smooth_field(rng, SHAPE, float(rng.uniform(1.5, 5)), _AROUND)[held] for _ in range(k)], 1
    )
    rest = (rest / rest.std(axis=0) + rng.standard_normal(rest.shape)) / np.sqrt(2)
    rest *= np.exp(differ * rng.standard_normal(k))
    ions = np.sqrt(share) * told + np.sqrt(1 - share) * rest + differ * rng.standard_normal(k)
    cancer = features[:, 0] > np.quantile(features[:, 0], 0.7)
    return Patient(held, features, 10 + 2 * ions, cancer)


def fitted(patients: Sequence[Patient], components: int) -> list[FoldModel]:
    """Fit to all patients but each in turn, and at last to all.

    Parameters
    ----------
    patients
        Whose ions are predicted.
    components
        Of the principal components that are predicted.

    Returns
    -------
    list of FoldModel
        In the order of the patients, then that of all.
    """
    names = [f"P{i}" for i in range(len(patients))]
    sums = {n: Moments.of(p.features, p.ions) for n, p in zip(names, patients, strict=True)}
    folds = [Fold(n, tuple(m for m in names if m != n), (n,)) for n in names]
    folds.append(final_fold(names))
    found = fit_linear_folds(sums, folds, {n: n for n in names}, n_components=components)
    return list(found)


def predicted(model: FoldModel, features: Floats) -> Floats:
    """(n, k) intensities."""
    return model.spectrum(model.predict(features)).astype(np.float64)
