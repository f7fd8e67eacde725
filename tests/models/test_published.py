"""The study's switches: test rows scaled by themselves, and one PCA for all folds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as SkLogisticRegression
from sklearn.preprocessing import StandardScaler

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


def test_with_a_plain_scaler_the_classifiers_are_the_studys():
    rng = np.random.default_rng(1)
    names, patients = [f"s{i}" for i in range(3)], {f"s{i}": f"s{i}" for i in range(3)}
    x = {s: rng.normal(size=(300, 6)) * np.geomspace(1, 1e-2, 6) for s in names}
    m = {s: x[s] @ rng.normal(size=(6, 8)) + 0.1 * rng.normal(size=(300, 8)) for s in names}
    y = {s: (x[s][:, 0] + rng.normal(size=300) > 1).astype(float) for s in names}
    sums = {s: moments(x[s], m[s]) for s in names}
    folds = leave_one_group_out(patients)
    models = fit_linear_folds(sums, folds, patients, n_components=3, alphas=(0.0,), least_scale=0.0)
    for name in ("cancer_from_he", "cancer_from_predicted_msi"):
        blocks = [RowBlock(s, (x[s], y[s], None)) for s in names]
        maps = {name: {f.fold.name: f.maps[name] for f in models}}
        found = fit_classifiers(
            blocks, maps, folds, patients, costs=(1.0,), tol=1e-8, calibrate="none"
        )
        for model in models:
            fold = model.fold

            def seen(rows, model=model, name=name):
                return rows if name == "cancer_from_he" else rows @ model.coef.T

            scaler = StandardScaler()
            train = scaler.fit_transform(seen(np.concatenate([x[s] for s in fold.train])))
            labels = np.concatenate([y[s] for s in fold.train])
            theirs = SkLogisticRegression(class_weight="balanced", C=1.0, max_iter=5000, tol=1e-10)
            theirs.fit(train, labels)
            held = x[fold.test[0]]
            expected = theirs.predict_proba(scaler.transform(seen(held)))[:, 1]
            np.testing.assert_allclose(found[name, fold.name].predict(held), expected, atol=1e-4)
