"""Classifiers of every fold together: choice of C, no leaks, the planted signal."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from sklearn.metrics import roc_auc_score

from msiscale.models import (
    Classifier,
    Problem,
    final_fold,
    fit_classifiers,
    fit_linear_folds,
    fit_many,
    leave_one_group_out,
)
from msiscale.models.ridge import ALPHAS

MSI, HE, PREDICTED = "cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"


def fit_all(cohort, folds=None, alphas=ALPHAS, **options):
    folds = leave_one_group_out(cohort.patients) if folds is None else folds
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=6, alphas=alphas)
    maps = {name: {m.fold.name: m.maps[name] for m in models} for name in (MSI, HE, PREDICTED)}
    found = fit_classifiers(
        cohort.blocks("intensity"), {MSI: maps.pop(MSI)}, folds, cohort.patients, **options
    )
    return found | fit_classifiers(
        cohort.blocks("features"), maps, folds, cohort.patients, **options
    )


def out_of_fold_auc(cohort, found, name):
    rows = cohort.intensity if name == MSI else cohort.features
    p = np.concatenate([found[name, q].predict(rows[s]) for s, q in cohort.patients.items()])
    return roc_auc_score(np.concatenate(list(cohort.cancer.values())) >= 0.5, p)


def test_the_planted_signal_is_found(cohort):
    folds = [*leave_one_group_out(cohort.patients), final_fold(list(cohort.patients))]
    found = fit_all(cohort, folds)
    assert set(found) == {(m, f.name) for m in (MSI, HE, PREDICTED) for f in folds}
    assert all(c.converged and c.C_by == "patients" for c in found.values())
    assert out_of_fold_auc(cohort, found, MSI) > 0.97
    assert out_of_fold_auc(cohort, found, HE) > 0.93
    assert out_of_fold_auc(cohort, found, PREDICTED) > 0.93


def test_shuffled_labels_leave_nothing(cohort):
    rng = np.random.default_rng(0)
    aucs = []
    for _ in range(5):
        for s in cohort.cancer:
            cohort.cancer[s] = rng.permutation(cohort.cancer[s])
        aucs.append(out_of_fold_auc(cohort, fit_all(cohort, costs=[0.01]), HE))
    assert 0.45 < np.mean(aucs) < 0.55


def test_a_fold_never_sees_the_specimens_that_it_holds_out(cohort):
    before = fit_all(cohort, tol=1e-7)  # so near the optimum that rounding is all
    rng = np.random.default_rng(1)
    cohort.features["s1"] = rng.normal(size=(50, 24)).astype(np.float32) * 100
    cohort.intensity["s1"] = rng.normal(size=(50, 40)).astype(np.float32) * 100
    cohort.cancer["s1"] = rng.uniform(size=50).astype(np.float32)
    after = fit_all(cohort, tol=1e-7)
    for name in (MSI, HE, PREDICTED):
        a, b = before[name, "s1"], after[name, "s1"]
        assert a.C == b.C
        # which problems share a product decides its rounding, hence not to the last bit
        np.testing.assert_allclose(a.coef, b.coef, atol=1e-4 * np.abs(a.coef).max())
        assert not np.allclose(before[name, "s0"].coef, after[name, "s0"].coef, rtol=1e-2)


def test_c_is_the_best_on_the_training_patients_left_out(cohort):
    costs = (1e-4, 1e-2, 1.0)
    folds = leave_one_group_out(cohort.patients)
    found = fit_all(cohort, costs=costs)
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=6)
    mapped, fold = models[0].maps[HE], folds[0]
    blocks = cohort.blocks("features")
    losses = []
    for cost in costs:
        loss = weight = 0.0
        for out in (("s1",), ("s2",), ("s3", "s4")):
            groups = frozenset(fold.train) - frozenset(out)
            fit = fit_many(blocks, [Problem(mapped, groups, cost)]).solutions[0]
            for s in out:
                eta = cohort.features[s] @ fit.coef[:, 0] + fit.intercept[0]
                a = cohort.cancer[s] * fit.class_weight[1]
                b = (1 - cohort.cancer[s]) * fit.class_weight[0]
                loss += (a * np.logaddexp(0, -eta) + b * np.logaddexp(0, eta)).sum()
                weight += (a + b).sum()
        losses.append(loss / weight)
    assert costs[int(np.argmin(losses))] == found[HE, "s0"].C


def test_too_little_to_choose_from(cohort):
    one = fit_all(cohort, costs=[0.1])
    assert {c.C_by for c in one.values()} == {"given"}
    alone = [final_fold(["s0"])]
    assert {(c.C, c.C_by) for c in fit_all(cohort, alone, [1.0]).values()} == {(1e-2, "default")}


def test_training_specimens_of_one_class_give_no_map(cohort):
    for s in ("s0", "s1", "s2"):
        cohort.cancer[s][:] = 0
    found = fit_all(cohort)  # only the patient s3 has cancer
    held_out = found[HE, "s3"]
    assert np.isnan(held_out.predict(cohort.features["s3"])).all()
    assert np.isfinite(found[HE, "s0"].predict(cohort.features["s0"])).all()
    check_saved(held_out, cohort.features["s3"])


def check_saved(classifier, rows):
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    classifier.save(group)
    back = Classifier.load(group)
    assert (back.C, back.C_by, back.fold) == (classifier.C, classifier.C_by, classifier.fold)
    np.testing.assert_array_equal(back.predict(rows), classifier.predict(rows))


def test_saved_and_read_back(cohort):
    found = fit_all(cohort, costs=[0.1])
    check_saved(found[MSI, "s0"], cohort.intensity["s0"])
    with pytest.raises(ValueError, match="no classifier"):
        Classifier.load(zarr.open_group(zarr.storage.MemoryStore(), mode="w"))


def test_more_classes_than_two(cohort):
    from msiscale.models import RowBlock

    folds = leave_one_group_out(cohort.patients)
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=6)
    blocks = []
    for s, f in cohort.cancer.items():
        fractions = np.stack([1 - f, f * 0.75, f * 0.25], axis=1)
        blocks.append(RowBlock(s, (cohort.intensity[s], fractions, None)))
    maps = {MSI: {m.fold.name: m.maps[MSI] for m in models}}
    found = fit_classifiers(blocks, maps, folds, cohort.patients, costs=[0.01, 1.0])
    p = found[MSI, "s0"].predict(cohort.intensity["s0"])
    assert p.shape == (400, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert roc_auc_score(cohort.cancer["s0"] >= 0.5, 1 - p[:, 0]) > 0.95
