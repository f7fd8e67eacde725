"""Means over patients, pooled values and differences of models: against pixels taken by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t, ttest_rel
from sklearn.metrics import average_precision_score, roc_auc_score

from msiscale.models import R2
from msiscale.models.metrics import POOLED
from msiscale.models.patient_means import ALL_PIXELS
from msiscale.models.patient_means import OVER_PATIENTS as MEAN
from msiscale.pipeline.metrics import Evaluation, classification, regression
from msiscale.pipeline.over_patients import over_patients

MODELS = {
    "cancer_from_msi": 2.0,
    "cancer_from_he": 1.5,
    "cancer_from_predicted_msi": 1.4,
    "cancer_from_he_modes": 1.3,
    "cancer_from_colour": 0.5,
}
# P1 has two specimens, P5 no cancer, P6 no annotation
PATIENTS = {"a": "P1", "b": "P1", "c": "P2", "d": "P3", "e": "P4", "f": "P5", "g": "P6"}


def cohort(untrained: str = "", only: str = "") -> Evaluation:
    """Maps of seven specimens; a fold `untrained` has none; `only` one patient has cancer."""
    rng = np.random.default_rng(0)
    truth, maps = {}, {model: {} for model in MODELS}
    for name, patient in PATIENTS.items():
        t = (rng.random((8, 9)) < 0.4).astype(float)
        if patient == "P5" or (only and patient != only):
            t[:] = 0.0
        shift, harder = rng.normal(), rng.uniform(0.6, 1.0)
        for model, effect in MODELS.items():
            logit = harder * effect * t + rng.normal(size=t.shape) + shift
            maps[model][name] = 1 / (1 + np.exp(-logit))
            if patient == untrained:
                maps[model][name][:] = np.nan
        truth[name] = np.full(t.shape, np.nan) if patient == "P6" else t
    why = {untrained: f"fold {untrained}: one class"} if untrained else {}
    scores = {name: [R2(9, *rng.random((3, 4)))] for name in PATIENTS}
    colour = {name: [R2(9, *rng.random((3, 4)))] for name in PATIENTS}
    return Evaluation(
        "leave_one_patient_out",
        PATIENTS,
        truth,
        maps,
        scores,
        colour,
        {},
        np.ones(4) / 4,
        untrained=dict.fromkeys(MODELS, why) if why else {},
    )


def tables(one: Evaluation) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rows = pd.DataFrame([*regression(one), *classification(one)])
    keys = ["model", "target", "metric"]
    pooled = rows[rows["specimen"] == POOLED].set_index(keys)["value"].to_dict()
    found, compared, _ = over_patients(one, PATIENTS, pooled)
    keys = ["estimand", *keys]
    return rows, pd.DataFrame(found).set_index(keys), pd.DataFrame(compared)


def by_patient(one: Evaluation, model: str, score) -> list[float]:
    """Of P1 to P4, pixels of a patient's specimens together."""
    members: dict[str, list[str]] = {}
    for name, patient in PATIENTS.items():
        members.setdefault(patient, []).append(name)
    return [
        score(*(np.concatenate([of[n].ravel() for n in members[p]]) for of in (one.truth, maps)))
        for maps in (one.maps[model],)
        for p in ("P1", "P2", "P3", "P4")
    ]


def test_the_headline_is_the_mean_over_patients_by_t() -> None:
    one = cohort()
    _, found, _ = tables(one)
    values = np.array(by_patient(one, "cancer_from_he", roc_auc_score))
    row = found.loc[(MEAN, "cancer_from_he", "cancer", "auc")]
    assert row["value"] == pytest.approx(values.mean(), abs=1e-12)
    mean, error = values.mean(), values.std(ddof=1) / 2
    ends = expit(t.interval(0.95, 3, logit(mean), error / (mean * (1 - mean))))
    assert [row["low"], row["high"]] == pytest.approx(ends)
    assert (row["patients"], row["of"], row["trusted"]) == (4, 5, True)
    assert row["why"] == "P5: annotated pixels of one class only"
    # P5 has an accuracy: without cancer there is one
    assert found.loc[(MEAN, "cancer_from_he", "cancer", "accuracy"), "patients"] == 5


def test_every_patient_has_a_row_of_its_own() -> None:
    one = cohort()
    rows = pd.DataFrame([*regression(one), *classification(one)])
    at = ["model", "target", "metric"]
    pooled = rows[rows["specimen"] == POOLED].set_index(at)["value"].to_dict()
    found, _, own = over_patients(one, PATIENTS, pooled)
    values = pd.DataFrame(own).set_index([*at, "patient"])["value"]
    assert {*values["cancer_from_he", "cancer", "auc"].index} == {"P1", "P2", "P3", "P4", "P5"}
    assert np.isnan(values["cancer_from_he", "cancer", "auc", "P5"])  # one class only
    for row in found:
        if row["estimand"] == MEAN:
            mine = values[row["model"], row["target"], row["metric"]]
            assert mine.mean() == pytest.approx(row["value"], nan_ok=True)


def test_the_pooled_value_stands_beside_under_its_own_name() -> None:
    one = cohort()
    rows, found, _ = tables(one)
    pooled = rows[(rows["specimen"] == POOLED) & (rows["model"] == "cancer_from_he")]
    value = pooled.set_index("metric")["value"]["auc"]
    row = found.loc[(ALL_PIXELS, "cancer_from_he", "cancer", "auc")]
    assert row["value"] == value and row["low"] <= row["high"]
    assert not row["trusted"]  # a bootstrap of five patients
    r2 = found.loc[(MEAN, "msi_from_he", "weighted", "r2")]
    each = [R2.total(s for n, p in PATIENTS.items() if p == who for s in one.scores[n]).weighted
            for who in dict.fromkeys(PATIENTS.values())]  # fmt: skip
    assert (r2["value"], r2["patients"]) == (pytest.approx(np.mean(each)), 6)
    assert (MEAN, "msi_from_colour", "mode_003", "r2") in found.index


def test_a_difference_its_interval_and_its_p_are_of_one_estimand() -> None:
    one = cohort()
    _, found, compared = tables(one)
    for metric, score in (("auc", roc_auc_score), ("average_precision", average_precision_score)):
        family = compared[compared["metric"] == metric].set_index(["model", "against"])
        row = family.loc[("cancer_from_he", "cancer_from_colour")]
        a, b = (by_patient(one, m, score) for m in ("cancer_from_he", "cancer_from_colour"))
        want = ttest_rel(a, b)
        interval = want.confidence_interval(0.95)
        assert row["difference"] == pytest.approx(np.subtract(a, b).mean(), abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        assert row["p"] == pytest.approx(want.pvalue)
        # P5 has no cancer: no difference, and no unit
        assert (row["units"], row["patients"]) == (4, 4)
        ends = [found.loc[(ALL_PIXELS, m, "cancer", metric), "value"]
                for m in ("cancer_from_he", "cancer_from_colour")]  # fmt: skip
        assert row["pooled_difference"] == pytest.approx(ends[0] - ends[1])
        assert row["pooled_low"] <= row["pooled_high"]
        outside = (family["low"] > 0) | (family["high"] < 0)
        assert ((family["p"] < 0.05) == outside).all()
        smallest = family["p"].idxmin()
        assert family.loc[smallest, "p_holm"] == pytest.approx(min(1, 7 * family["p"].min()))
        assert (family["p_holm"] >= family["p"]).all() and len(family) == 7
    (modes,) = compared[compared["metric"] == "r2"].to_dict("records")
    assert modes["p_holm"] == modes["p"] and modes["units"] == 6


def test_a_patient_of_cancer_alone_has_no_difference_either() -> None:
    one = cohort()
    one.truth["f"][:] = 1.0
    _, _, compared = tables(one)
    assert (compared.loc[compared["metric"] != "r2", "units"] == 4).all()


def test_a_fold_that_could_not_be_trained_has_no_score_and_says_why() -> None:
    one = cohort(untrained="P2", only="P2")
    rows, found, compared = tables(one)
    cancer = rows[rows["target"] == "cancer"]
    lost = cancer[cancer["specimen"].isin(["c", POOLED]) & (cancer["metric"] != "n")]
    assert lost["value"].isna().all() and (lost["why"] == "fold P2: one class").all()
    # each of the others is what it is, and says nothing
    accuracy = cancer[(cancer["metric"] == "accuracy") & (cancer["specimen"] == "d")]
    assert accuracy["value"].notna().all() and accuracy["why"].isna().all()
    cancer = found.xs("cancer", level="target")
    assert cancer[["value", "low", "high"]].isna().all(axis=None)
    assert (cancer["why"] == "fold P2: one class").all() and not cancer["trusted"].any()
    cancer = compared[compared["metric"] != "r2"]
    assert cancer[["difference", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert (cancer["units"] == 0).all()


def test_one_annotated_patient_of_several_has_no_interval() -> None:
    one = cohort()
    for name in set(PATIENTS) - {"c"}:
        one.truth[name][:] = np.nan
    _, found, compared = tables(one)
    row = found.loc[(MEAN, "cancer_from_he", "cancer", "auc")]
    assert np.isfinite(row["value"]) and np.isnan([row["low"], row["high"]]).all()
    assert (row["patients"], row["of"], row["trusted"]) == (1, 1, False)
    cancer = compared[compared["metric"] != "r2"]
    assert cancer["p"].isna().all() and not cancer["trusted"].any()
