"""The study's switches: test rows scaled by themselves, and one PCA for all folds."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.models import (
    Moments,
    RowBlock,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
    moments,
)
from msiscale.models.published import self_scaled

NAMES = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi", "cancer_from_colour")
ROWS = {"cancer_from_msi": 1, "cancer_from_colour": 3}  # of a specimen; else its features


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(3, 8))
    cohort = {}
    for i in range(4):
        x = rng.normal(size=(120, 6)) + i  # every specimen elsewhere
        hidden = x[:, :3]
        m = hidden @ loadings + 0.1 * rng.normal(size=(120, 8))
        y = (hidden[:, 0] - hidden[:, 0].mean() + 0.3 * rng.normal(size=120) > 0).astype(float)
        colour = x[:, :2] ** 2
        cohort[f"s{i}"] = (x.astype(np.float32), m.astype(np.float32), y, colour.astype("f4"))
    sums = {s: moments(np.hstack([x, c]), m) for s, (x, m, _, c) in cohort.items()}
    patients = {s: s for s in cohort}
    models = fit_linear_folds(
        sums, leave_one_group_out(patients), patients, n_components=3, alphas=(0.01,), colours=2
    )
    found = {}
    for rows, names in ((1, NAMES[:1]), (0, NAMES[1:3]), (3, NAMES[3:])):
        blocks = [RowBlock(s, (part[rows], part[2], None)) for s, part in cohort.items()]
        maps = {n: {m.fold.name: m.maps[n] for m in models} for n in names}
        folds = [m.fold for m in models]
        found |= fit_classifiers(blocks, maps, folds, patients, costs=(1.0,), calibrate="none")
    return cohort, sums, models, found


@pytest.mark.parametrize("name", NAMES)
def test_scaling_by_the_test_rows_is_that_of_a_second_scaler(fitted, name):
    cohort, sums, models, found = fitted
    scaled = self_scaled(found, models, sums)
    for model in models:
        (held,), fold = model.fold.test, model.fold.name
        rows = ROWS.get(name, 0)

        def seen(s, rows=rows, model=model):
            x = cohort[s][rows].astype(float)
            if name == "cancer_from_msi":
                return (x - model.mean) @ model.components.T
            return x @ model.coef.T if name == "cancer_from_predicted_msi" else x

        train = np.concatenate([seen(s) for s in model.fold.train])
        test = seen(held)
        moved = (test - test.mean(0)) / test.std(0) * train.std(0) + train.mean(0)
        # the rows that the plain classifier would have to see
        plain = found[name, fold]
        basis = {
            "cancer_from_msi": model.components.T,
            "cancer_from_he": np.eye(6),
            "cancer_from_colour": np.eye(2),
            "cancer_from_predicted_msi": model.coef.T,
        }[name]
        theta = np.linalg.lstsq(basis, plain.coef, rcond=None)[0]
        offset = plain.intercept + (model.mean @ plain.coef if rows == 1 else 0)
        want = 1 / (1 + np.exp(-(moved @ theta + offset)[:, 0]))
        got = scaled[name, fold].predict(cohort[held][rows].astype(float))
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_shared_pca_is_that_of_everyone(fitted):
    _, sums, _, _ = fitted
    patients = {s: s for s in sums}
    folds = leave_one_group_out(patients)
    shared = fit_linear_folds(sums, folds, patients, n_components=3, shared_pca=True)
    for model in shared:
        np.testing.assert_array_equal(model.components, shared[0].components)
        np.testing.assert_array_equal(model.mean, Moments.merge(sums.values()).mean_m)
