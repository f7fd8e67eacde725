"""Probabilities say what they mean: class weights undone, scores calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression as Reference

from msiscale.models import Classifier, Fold, RowBlock, fit_classifiers, leave_one_group_out
from msiscale.models.calibration import Calibration, moved, platt
from msiscale.models.joint import LinearMap, Problem, fit_many
from msiscale.models.left_out import EDGES, InnerFit, LeftOut, best_cut, score_left_out
from msiscale.models.moments import Moments

MODEL = "cancer_from_he"


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_the_prior_correction_gives_the_true_posterior(share: float) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(200_000) < share).astype(float)
    effect = np.array([1.5, -1.0])
    x = rng.normal(size=(len(y), 2)) + np.outer(y, effect)  # so that the log-odds are linear
    true = expit(x @ effect - effect @ effect / 2 + logit(share))
    mapped = LinearMap.standardised(Moments.of(x))
    block = RowBlock("a", (x, y, None))
    fit = fit_many([block], [Problem(mapped, frozenset("a"), C=1e3)]).solutions[0]
    eta = x @ fit.coef + fit.intercept
    found = Calibration.of_prior(fit.class_weight, fit.prevalence)
    assert found.prevalence[0] == pytest.approx(y.mean())
    p = found.probabilities(eta)[:, 1]
    assert np.abs(p - true).max() < 0.05 and np.abs(p - true).mean() < 0.003
    assert np.abs(expit(eta[:, 0]) - true).mean() > 0.1  # as fitted: a world half of cancer


def test_the_prior_correction_of_three_classes_is_exact() -> None:
    rng = np.random.default_rng(1)
    eta, weight = rng.normal(size=(50, 3)), np.array([0.4, 2.0, 7.0])
    weighted = softmax(eta + np.log(weight), axis=1)  # what a weighted fit says of `eta`
    found = Calibration.of_prior(weight, 1 / weight).probabilities(np.log(weighted))
    np.testing.assert_allclose(found, softmax(eta, axis=1), rtol=1e-12)


def test_slope_and_intercept_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=400) * 2, rng.uniform(0, 2, 400)
    truth = np.round(expit(0.6 * x - 1) + rng.normal(size=400) * 0.2, 1).clip(0, 1)
    both = np.concatenate([weight * truth, weight * (1 - truth)])
    reference = Reference(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(x, 2)[:, None], np.repeat([1, 0], 400), sample_weight=both
    )
    found = platt(x, truth, weight)
    assert found is not None
    np.testing.assert_allclose(found, [reference.coef_[0, 0], reference.intercept_[0]], rtol=1e-5)


@pytest.mark.parametrize(
    "truth", [np.zeros(20), np.arange(20) >= 10, np.arange(20) < 7 + np.arange(20) % 4]
)
def test_no_slope_where_scores_tell_none(truth: np.ndarray) -> None:
    """One class; classes that a score separates; scores that are upside down."""
    assert platt(np.linspace(-2, 2, 20), truth, np.ones(20)) is None


def cohort(seed: int = 3, patients: int = 6, rows: int = 300) -> dict[str, tuple[np.ndarray, ...]]:
    """Rows and labels of patients that differ, one in eight of cancer."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(size=8)
    found = {}
    for i in range(patients):
        y = rng.random(rows) < expit(logit(1 / 8) + 0.5 * rng.normal())
        shift = rng.normal(size=8) * 0.6
        x = rng.normal(size=(rows, 8)) + shift + np.outer(y, effect + 0.4 * rng.normal(size=8))
        found[f"p{i}"] = x.astype(np.float32), y.astype(np.float64)
    return found


def fitted(
    data: dict[str, tuple[np.ndarray, ...]], folds: list[Fold] | None = None, **words: object
) -> dict[str, Classifier]:
    patients = {name: name for name in data}
    folds = folds or leave_one_group_out(patients)
    blocks = [RowBlock(name, (x, y, None), len(y)) for name, (x, y) in data.items()]
    maps = {
        f.name: LinearMap.standardised(Moments.merge(Moments.of(data[s][0]) for s in f.train))
        for f in folds
    }
    found = fit_classifiers(blocks, {MODEL: maps}, folds, patients, **words)  # type: ignore[arg-type]
    return {fold: classifier for (_, fold), classifier in found.items()}


def test_nothing_of_a_held_out_patient_enters() -> None:
    data = cohort()
    fold = [leave_one_group_out({name: name for name in data})[1]]  # leaves p1 out
    before = fitted(data, fold)["p1"].calibration
    rng = np.random.default_rng(4)
    data["p1"] = (data["p1"][0] * 50, (rng.random(300) < 0.9).astype(np.float64))
    after = fitted(data, fold)["p1"].calibration
    for name in ("prior", "slope", "intercept", "prevalence", "threshold"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    data["p2"] = (data["p2"][0], (rng.random(300) < 0.9).astype(np.float64))
    assert fitted(data, fold)["p1"].calibration.slope != before.slope


def test_probabilities_of_patients_left_out_are_shares() -> None:
    data = cohort(patients=12)
    found = fitted(data)
    assert {c.calibration.by for c in found.values()} == {"patients"}
    truth = np.concatenate([y for _, y in data.values()])
    p = np.concatenate([found[name].predict(x) for name, (x, _) in data.items()])
    plain = fitted(data, calibrate="none")
    raw = np.concatenate([plain[name].predict(x) for name, (x, _) in data.items()])
    assert abs(p.mean() - truth.mean()) < 0.01 < 0.04 < raw.mean() - truth.mean()


def test_one_cost_is_calibrated_too_and_few_patients_are_not() -> None:
    data = cohort()
    one = fitted(data, costs=[0.1])["p0"]
    assert (one.C, one.C_by, one.calibration.by) == (0.1, "given", "patients")
    few = fitted(cohort(patients=3))["p0"]  # two are left to train on
    assert few.calibration.by == "prior" and few.calibration.chosen
    assert (few.calibration.slope, few.calibration.intercept) == (1, 0)
    given = fitted(data, given={MODEL: one})["p0"].calibration
    assert (given.slope, given.threshold, given.by) == (
        one.calibration.slope,
        one.calibration.threshold,
        "patients",
    )


def test_what_is_left_out_is_counted_by_patient() -> None:
    data, rng = cohort(patients=3), np.random.default_rng(5)
    coef, weight = rng.normal(size=(8, 1)), np.array([0.6, 3.0])
    blocks = [RowBlock(name, (x, y, None)) for name, (x, y) in data.items()]
    inner = [InnerFit(coef, np.ones(1), weight, frozenset(["p0", "p2"]))]
    (found,) = score_left_out(blocks, [inner], {"p0": "A", "p1": "A", "p2": "A"})
    x, y = (np.concatenate([data[n][i] for n in ("p0", "p2")]) for i in (0, 1))
    odds = (x @ coef)[:, 0] + 1 + np.log(0.6 / 3)
    (counts,) = found.counts["A"]
    assert list(found.counts) == ["A"] and counts[0].sum() == 600
    assert counts[1].sum() == counts[2].sum() == y.sum()
    assert counts[3].sum() == pytest.approx(odds.sum(), rel=1e-4)
    # by counts as by rows
    weight_of = counts[0] > 0
    n, mine, total = (c[weight_of] for c in counts[[0, 1, 3]])
    np.testing.assert_allclose(platt(total / n, mine / n, n), platt(odds, y, 0 * y + 1), atol=2e-3)


def test_the_threshold_is_the_best_for_the_patients_left_out() -> None:
    rng = np.random.default_rng(6)
    counts, raw = {}, []
    for i in range(4):
        y = rng.random(500) < 0.15
        odds = rng.normal(size=500) + 2 * y - 2
        raw.append((odds, y))
        at = np.searchsorted(EDGES, odds, side="right")
        values = (0 * odds + 1, y, y, odds)
        counts[i] = np.stack([np.bincount(at, v, len(EDGES) + 1) for v in values])[None]

    def dice(cut: float) -> float:
        called = [(odds >= cut, y) for odds, y in raw]
        return float(np.mean([2 * (c & y).sum() / (c.sum() + y.sum()) for c, y in called]))

    n, positive = (np.stack([c[0, k] for c in counts.values()]) for k in (0, 2))
    cut = best_cut(n, positive)
    assert cut is not None
    best = max(dice(edge) for edge in EDGES)
    assert dice(cut) == pytest.approx(best) and best > dice(0)
    prior = Calibration.of_prior([0.6, 3.0], [0.85, 0.15])
    found = LeftOut(counts).calibrated(prior)
    slope, intercept = found.slope[0], found.intercept[0]
    assert found.threshold[0] == pytest.approx(expit(slope * cut + intercept))
    assert best_cut(n, 0 * positive) is None


def test_another_prevalence_is_the_rule_of_bayes() -> None:
    rng = np.random.default_rng(7)
    likely = rng.uniform(0.1, 10, 20)  # how much more often cancer looks so
    before, after = (s * likely / (s * likely + 1 - s) for s in (0.2, 0.03))
    np.testing.assert_allclose(moved(before, 0.2, 0.03), after)
