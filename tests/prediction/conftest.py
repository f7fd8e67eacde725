"""A small model made by hand: random maps of a real encoder's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.models.novelty import LEVELS, Limits, Novelty
from msiscale.prediction.model import FORMAT, MAPS
from msiscale.store import join, open_group, put

CHANNELS, MODES, TRAINED_UM = 1280, 6, 96.0


@pytest.fixture(scope="session")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``model.zarr`` for efficientnet-lite0; the third m/z of four is not predicted."""
    url = str(tmp_path_factory.mktemp("model") / "model.zarr")
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    spectrum, mean = normal(MODES, 4), 1 + normal(4) ** 2
    spectrum[:, 2], mean[2] = 0, 0
    arrays = {
        "mz": (np.array([500.1, 600.2, 700.3, 798.541]), ("mz",)),
        "pca_mean": (mean, ("mz",)),
        "pca_components": (spectrum, ("component", "mz")),
        "ridge_coef": (normal(CHANNELS, MODES), ("channel", "component")),
        "ridge_intercept": (normal(MODES), ("component",)),
        "cancer_from_he_coef": (0.05 * normal(CHANNELS), ("channel",)),
        "cancer_from_he_intercept": (np.float64(0.1), ()),
        "cancer_from_predicted_msi_coef": (0.05 * normal(CHANNELS), ("channel",)),
        "cancer_from_predicted_msi_intercept": (np.float64(-0.2), ()),
    }
    group = open_group(url, "a")
    for name, (values, dims) in arrays.items():
        put(group, name, values, dims)
    as_fitted = {"slope": 1.0, "intercept": 0.0, "prevalence": 0.5, "threshold": 0.5, "by": "none"}
    calibration = {m: {"cancer": as_fitted} for m in MAPS}
    facts = {"msiscale_model": FORMAT, "digest": "by hand", "pixel_um": TRAINED_UM}
    group.attrs.update({**facts, "calibration": calibration})
    ones = np.ones(CHANNELS, np.float32)
    axes = np.linalg.qr(normal(CHANNELS, 3))[0].astype(np.float32)
    novelty = Novelty(0 * ones, ones, axes, np.ones(3, np.float32), 1.0)
    whole = dict.fromkeys(LEVELS, 1.0)
    below = open_group(join(url, "novelty"), "a")
    novelty.save(below)
    Limits(whole, whole, "training").save(below)
    return url


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom slide of 1 µm a pixel."""
    from msiscale.simulate import simulate

    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    simulate(folder, specimens=1, seed=5, pixels=(12, 14), mpp=1.0)
    return folder / "S01.tiff"
