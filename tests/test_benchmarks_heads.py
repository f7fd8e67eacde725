"""The benchmark of heads: all sides see what there is, in units that say the same."""

from __future__ import annotations

import numpy as np

from benchmarks.ions.heads import SIDES, Rows, compare
from msiscale.models import leave_one_group_out


def test_every_side_predicts_patients_whom_it_has_not_seen() -> None:
    parts = {}
    weights = np.random.default_rng(9).normal(size=(4, 8))
    for i in range(3):
        rng = np.random.default_rng(i)
        x = rng.normal(size=(300, 4)).astype(np.float32)
        m = x @ weights + 0.3 * rng.normal(size=(300, 8))
        cancer = np.where(rng.random(300) < 0.9, x[:, 0] > 0.5, np.nan)
        parts[f"P{i}"] = Rows(x, m.astype(np.float32), cancer.astype(np.float32))
    own = {name: name for name in parts}
    found = compare(parts, leave_one_group_out(own), own, features=32)
    scores = np.array([found[side] for side in SIDES])  # (side, patient, R² and AUC)
    assert scores.shape == (3, 3, 2)
    assert scores[:2, :, 0].min() > 0.9 and scores[2, :, 0].min() > 0.7  # trees cut a line in steps
    assert scores[..., 1].min() > 0.95
    bare = {name: Rows(p.features, p.intensity, p.cancer * np.nan) for name, p in parts.items()}
    unknown = compare(bare, leave_one_group_out(own), own, features=32)
    assert np.isnan([s[1] for side in SIDES for s in unknown[side]]).all()
