"""A small cohort with a planted signal, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from msiscale.models import Moments, RowBlock

P, Q, MODES = 24, 40, 3


@dataclass
class Cohort:
    """Specimens as arrays: features (n, P), intensities (n, Q), cancer fraction (n,)."""

    features: dict[str, np.ndarray]
    intensity: dict[str, np.ndarray]
    cancer: dict[str, np.ndarray]
    patients: dict[str, str]

    @property
    def sums(self):
        return {s: Moments.of(self.features[s], self.intensity[s]) for s in self.patients}

    def blocks(self, name):
        rows = getattr(self, name)
        return [RowBlock(s, (rows[s], self.cancer[s], None)) for s in self.patients]


def make_cohort(seed=0, specimens=5, n=400):
    """Three hidden factors drive features, intensities and cancer; s4 is s3's patient too."""
    rng = np.random.default_rng(seed)
    to_features = rng.normal(size=(MODES, P))
    to_msi = np.linalg.qr(rng.normal(size=(Q, MODES)))[0].T * np.array([[9.0], [6.0], [4.0]])
    slopes = np.array([2.0, -1.0, 1.0])
    names = [f"s{i}" for i in range(specimens)]
    cohort = Cohort({}, {}, {}, {s: "s3" if s == "s4" else s for s in names})
    for s in names:
        z = rng.normal(size=(n, MODES))
        features = z @ to_features + rng.normal(size=(n, P)) + 2
        spectra = z @ to_msi + rng.normal(size=(n, Q)) * 0.5 + 10
        cohort.features[s] = features.astype(np.float32)
        cohort.intensity[s] = spectra.astype(np.float32)
        cohort.cancer[s] = (1 / (1 + np.exp(-3 * (z @ slopes - 1)))).astype(np.float32)
    return cohort


@pytest.fixture
def cohort():
    return make_cohort()
