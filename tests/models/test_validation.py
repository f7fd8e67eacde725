"""Folds by patient, and the linear maps of each fold from sums alone."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from sklearn.decomposition import PCA as ReferencePCA
from sklearn.metrics import r2_score

from msiscale.models import (
    R2,
    Fold,
    FoldModel,
    Spread,
    final_fold,
    fit_linear_folds,
    inner_groups,
    leave_one_group_out,
)
from msiscale.models.fold_records import r2_records


def values(records, **wanted):
    return [r["value"] for r in records if all(r[k] == v for k, v in wanted.items())]


def test_a_patients_specimens_are_held_out_together():
    folds = leave_one_group_out({"a1": "a", "b1": "b", "a2": "a", "c1": "c"})
    assert folds == [
        Fold("a", ("b1", "c1"), ("a1", "a2")),
        Fold("b", ("a1", "a2", "c1"), ("b1",)),
        Fold("c", ("a1", "b1", "a2"), ("c1",)),
    ]


def test_one_patient_cannot_be_validated():
    with pytest.raises(ValueError, match="second patient"):
        leave_one_group_out({"a1": "a", "a2": "a"})


def test_inner_groups_keep_patients_whole():
    patients = {f"s{i}": f"p{i // 2}" for i in range(14)}
    groups, kind = inner_groups(list(patients), patients)
    assert kind == "patients" and len(groups) == 5
    assert sorted(s for g in groups for s in g) == sorted(patients)
    assert groups[0] == ("s0", "s1", "s10", "s11")
    assert inner_groups(["s0", "s1"], patients) == ([("s0",), ("s1",)], "specimens")
    assert inner_groups(["s0"], patients) == ([], "none")


def test_fold_models_equal_fits_on_the_training_rows(cohort):
    folds = leave_one_group_out(cohort.patients)
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=5, alphas=[0.01])
    for model in models:
        spectra = np.concatenate([cohort.intensity[s] for s in model.fold.train])
        pca = ReferencePCA(5, svd_solver="full").fit(spectra.astype(np.float64))
        np.testing.assert_allclose(
            model.explained_variance_ratio, pca.explained_variance_ratio_, rtol=1e-4
        )
        np.testing.assert_allclose(
            np.abs((model.components[:3] * pca.components_[:3]).sum(axis=1)), 1, atol=1e-5
        )
        for s in model.fold.test:
            truth = model.project(cohort.intensity[s])
            predicted = model.predict(cohort.features[s])
            expected = r2_score(truth, predicted, multioutput="raw_values")
            found = [
                values(model.records, specimen=s, target=f"mode_{i:03d}", metric="r2")[0]
                for i in range(5)
            ]
            np.testing.assert_allclose(found, expected, atol=1e-4)
            weighted = r2_score(truth, predicted, multioutput="variance_weighted")
            assert values(model.records, specimen=s, target="weighted", metric="r2")[
                0
            ] == pytest.approx(weighted, abs=1e-4)
            spectrum = r2_score(
                cohort.intensity[s], model.spectrum(predicted), multioutput="variance_weighted"
            )
            ceiling = r2_score(
                cohort.intensity[s], model.spectrum(truth), multioutput="variance_weighted"
            )
            of_spectrum = {
                r["metric"]: r["value"]
                for r in model.records
                if r["specimen"] == s and r["target"] == "spectrum"
            }
            assert of_spectrum["r2"] == pytest.approx(spectrum, abs=1e-4)
            assert of_spectrum["r2_of_measured_modes"] == pytest.approx(ceiling, abs=1e-4)
            assert of_spectrum["r2_tissue_mask"] == pytest.approx(of_spectrum["r2_mean_spectrum"])
            assert of_spectrum["r2_mean_spectrum"] <= 0


def test_the_planted_modes_are_found_and_predicted(cohort):
    folds = [*leave_one_group_out(cohort.patients), final_fold(list(cohort.patients))]
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=10)
    assert [m.fold.name for m in models] == ["s0", "s1", "s2", "s3", "final"]
    assert all(m.alpha_by == "patients" for m in models)
    assert models[-1].records == [] and models[-1].fold.train == tuple(cohort.patients)
    held_out = [m for m in models if m.scores]
    total = R2.total(r2 for m in held_out for r2 in m.scores.values())
    pooled = r2_records("all", "all", total, held_out[0].explained_variance_ratio)
    for i in range(3):
        assert values(pooled, target=f"mode_{i:03d}", metric="r2")[0] > 0.85
    for i in range(3, 10):  # noise
        assert abs(values(pooled, target=f"mode_{i:03d}", metric="r2")[0]) < 0.05
    assert values(pooled, target="weighted", metric="r2")[0] > 0.8
    assert -0.05 < values(pooled, target="weighted", metric="r2_mean_spectrum")[0] <= 0


def test_a_fold_never_sees_the_specimens_that_it_holds_out(cohort):
    folds = leave_one_group_out(cohort.patients)
    seen = []

    def columns(train):
        seen.append(train)
        return np.ones(40, bool)

    before = fit_linear_folds(cohort.sums, folds, cohort.patients, columns=columns, n_components=5)
    assert seen == [f.train for f in folds]
    rng = np.random.default_rng(9)
    cohort.features["s1"] = rng.normal(size=(50, 24)).astype(np.float32) * 1e4
    cohort.intensity["s1"] = rng.normal(size=(50, 40)).astype(np.float32) * 1e4
    after = fit_linear_folds(cohort.sums, folds, cohort.patients, columns=columns, n_components=5)
    for name in ("mean", "components", "coef", "intercept", "alpha", "explained_variance"):
        np.testing.assert_array_equal(getattr(before[1], name), getattr(after[1], name))
    for kind, mapped in before[1].maps.items():
        np.testing.assert_array_equal(mapped.matrix, after[1].maps[kind].matrix)
    assert not np.allclose(before[0].coef, after[0].coef)


def test_columns_that_training_does_not_support_are_not_used(cohort):
    for s in cohort.patients:
        if s != "s2":
            cohort.intensity[s][:, 7] = 0  # an ion that only s2 has
    folds = leave_one_group_out(cohort.patients)
    models = fit_linear_folds(cohort.sums, folds, cohort.patients, n_components=4)
    assert [bool(m.columns[7]) for m in models] == [True, True, False, True]
    held_out = models[2]
    assert held_out.mean[7] == 0 and not held_out.components[:, 7].any()
    assert not held_out.spectrum(held_out.predict(cohort.features["s2"]))[:, 7].any()
    assert not held_out.maps["cancer_from_msi"].matrix[7].any()
    with pytest.raises(ValueError, match="0 of 40 m/z columns"):
        fit_linear_folds(
            cohort.sums, folds, cohort.patients, columns=lambda train: np.zeros(40, bool)
        )


def test_penalty_with_one_training_patient_or_specimen(cohort):
    pair = {s: cohort.patients[s] for s in ("s2", "s3", "s4")}
    folds = leave_one_group_out(pair)
    with pytest.raises(ValueError, match="no part of the only specimen can be left out"):
        fit_linear_folds(cohort.sums, folds, pair, n_components=3)
    # parts of the one specimen, here those of two others, are given for it alone
    inner = {folds[1].name: [Fold("a", ("s0",), ("s1",)), Fold("b", ("s1",), ("s0",))]}
    models = fit_linear_folds(
        cohort.sums, folds, pair, n_components=3, inner=inner, inner_sums=cohort.sums
    )
    assert [m.alpha_by for m in models] == ["specimens", "blocks"]
    models = fit_linear_folds(cohort.sums, [final_fold(["s2"])], pair, n_components=3, alphas=[1.0])
    assert models[0].alpha_by == "given"


def test_the_mask_baseline_flatters_where_background_is_counted(cohort):
    background = {s: Spread.of(np.full((400, 40), 0.5, np.float32)) for s in cohort.patients}
    folds = leave_one_group_out(cohort.patients)
    args = (cohort.sums, folds, cohort.patients)
    models = fit_linear_folds(*args, n_components=3, background=background)
    found = values(models[0].records, metric="r2_tissue_mask")[0]
    spectra = np.concatenate([cohort.intensity["s0"], np.full((400, 40), 0.5)])
    train = np.concatenate([cohort.intensity[s] for s in folds[0].train]).mean(axis=0)
    guess = np.concatenate([np.broadcast_to(train, (400, 40)), np.full((400, 40), 0.5)])
    expected = r2_score(spectra, guess, multioutput="variance_weighted")
    assert found == pytest.approx(expected, abs=1e-5) and found > 0.8


def test_maps_are_standardised_modes_and_features(cohort):
    model = fit_linear_folds(
        cohort.sums, [final_fold(list(cohort.patients))], cohort.patients, n_components=5
    )[0]
    spectra = np.concatenate(list(cohort.intensity.values())).astype(np.float64)
    features = np.concatenate(list(cohort.features.values())).astype(np.float64)
    measured = model.maps["cancer_from_msi"]
    z = spectra @ measured.matrix + measured.offset
    np.testing.assert_allclose(np.cov(z.T, ddof=0), np.eye(5), atol=1e-4)
    for name, size in (("cancer_from_he", 24), ("cancer_from_predicted_msi", 5)):
        mapped = model.maps[name]
        z = features @ mapped.matrix + mapped.offset
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(np.cov(z.T, ddof=0), np.diag(mapped.variance), atol=1e-3)
        assert mapped.matrix.shape == (24, size)
    total = model.maps["cancer_from_he"].variance.sum()
    assert total == pytest.approx(24, rel=1e-5)  # of standardised features
    assert model.maps["cancer_from_predicted_msi"].variance.max() < 1.01  # shrunk, not inflated


def test_saved_and_read_back(cohort):
    model = fit_linear_folds(
        cohort.sums, leave_one_group_out(cohort.patients), cohort.patients, n_components=3
    )[1]
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    model.save(group)
    back = FoldModel.load(group)
    assert (back.fold, back.alpha, back.alpha_by) == (model.fold, model.alpha, "patients")
    features, spectra = cohort.features["s0"], cohort.intensity["s0"]
    np.testing.assert_array_equal(back.predict(features), model.predict(features))
    np.testing.assert_array_equal(back.project(spectra), model.project(spectra))


def test_sums_are_asked_for_one_at_a_time(cohort):
    sums = cohort.sums

    class Store(dict):
        def values(self):
            raise AssertionError("all at once")

    folds = leave_one_group_out(cohort.patients)
    a = fit_linear_folds(Store(sums), folds, cohort.patients, n_components=3)
    b = fit_linear_folds(sums, folds[::-1], cohort.patients, n_components=3)[::-1]
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one.coef, other.coef, atol=1e-9)
