"""What the benchmark of levels draws is what `specimen_association` finds where nothing differs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.common.phantoms import smooth_field, tissue
from benchmarks.inference.levels import PLANTED, drawn
from msiscale.biomarkers import combine, specimen_association

SHAPE, IONS = (36, 40), 24


def _measured(seed: int) -> pd.DataFrame:
    """Smooth ion images and an annotation that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    part = tissue(rng, SHAPE, 40)
    label = smooth_field(rng, SHAPE, float(rng.uniform(3, 6)), 40)
    cancer = part & (label > np.quantile(label[part], rng.uniform(0.7, 0.9)))
    lengths = rng.choice([2.5, 4.0, 6.0], IONS)
    images = np.stack([smooth_field(rng, SHAPE, float(n), 40) for n in lengths], axis=-1)
    images += rng.uniform(0.2, 1.0, IONS) * rng.standard_normal(images.shape)
    return specimen_association(
        images.astype(np.float32),
        cancer.astype(np.float32),
        part,
        mz=np.arange(1.0, IONS + 1),
        shifts=200,
        seed=seed,
    )


def test_drawn_aucs_and_spreads_are_like_those_of_smooth_images() -> None:
    real = pd.concat([_measured(seed) for seed in range(40)])
    simulated = pd.concat(drawn("null", 40, 200, 0).tables.values())
    spread = [table["auc_sd"].quantile([0.1, 0.5, 0.9]) for table in (real, simulated)]
    np.testing.assert_allclose(spread[0], spread[1], rtol=0.25)
    z = [((t["auc"] - 0.5) / t["auc_sd"]).abs() for t in (real, simulated)]
    for level in (0.5, 0.95, 0.99):
        assert z[1].quantile(level) == pytest.approx(z[0].quantile(level), rel=0.2)
    assert z[1].quantile(0.999) > z[0].quantile(0.999)  # and no less extreme


def test_kinds_of_cohorts_are_what_they_say() -> None:
    null, torn = (
        pd.concat(drawn(k, 60, 400, 1).tables.values()) for k in ("null", "heterogeneous")
    )
    size = [((t["auc"] - 0.5) / t["auc_sd"]).std() for t in (null, torn)]
    assert size[1] / size[0] == pytest.approx(2**0.5, rel=0.1)  # as much again between patients
    serial = drawn("serial", 20, 400, 1)
    sections = np.stack([t["auc"].to_numpy() for t in serial.tables.values()]).reshape(20, 3, -1)
    assert np.corrcoef(sections[:, 0].ravel(), sections[:, 1].ravel())[0, 1] > 0.9
    planted = combine(*drawn("null", 20, 200, 1, effect=1.0)).sort_values("mz")
    auc = planted["auc"].to_numpy()
    assert auc[:PLANTED].mean() == pytest.approx(0.76, abs=0.03)
    assert auc[PLANTED:].mean() == pytest.approx(0.5, abs=0.02)
