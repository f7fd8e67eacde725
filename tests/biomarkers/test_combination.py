from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from raised_ion import specimen
from scipy import stats

from msiscale.biomarkers.association import specimen_association
from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.combination import biomarker_table, combine, tidy, without_say
from msiscale.biomarkers.masses import ion_mz
from msiscale.biomarkers.patients import random_effects


def _tables(n: int) -> dict[str, pd.DataFrame]:
    tables = {}
    for i in range(n):
        intensity, cancer, tissue, mz = specimen(seed=i)
        tables[f"s{i}"] = specimen_association(intensity, cancer, tissue, mz=mz)
    return tables


def test_the_patient_is_the_unit() -> None:
    tables = _tables(4)
    patients = {"s0": "A", "s1": "A", "s2": "B", "s3": "C"}
    combined = combine(tables, patients).set_index("mz").sort_index()
    a = [tables[s]["auc"].to_numpy() for s in tables]
    by_patient = np.stack([(a[0] + a[1]) / 2, a[2], a[3]])
    np.testing.assert_allclose(combined["auc"], by_patient.mean(axis=0))
    np.testing.assert_allclose(combined["p"], stats.ttest_1samp(by_patient, 0.5, axis=0).pvalue)
    np.testing.assert_allclose(combined["q"], stats.false_discovery_control(combined["p"]))
    assert (combined["n_patients"] == 3).all()


def test_two_patients_give_no_p_value() -> None:
    combined = combine(_tables(3), {"s0": "A", "s1": "A", "s2": "B"})
    assert combined[["p", "q"]].isna().all(axis=None)
    assert (combined["n_patients"] == 2).all()


def test_strongest_first_and_missing_last() -> None:
    tables = _tables(3)
    for table in tables.values():
        table.loc[3, "auc"] = np.nan
        table.loc[5, "auc"] = 0.0  # lower in cancer is as strong as higher
    combined = combine(tables, {})
    strength = (combined["auc"] - 0.5).abs()
    assert combined["mz"][0] == tables["s0"]["mz"][5]
    assert combined["mz"][1] == tables["s0"]["mz"][7]
    assert strength.dropna().is_monotonic_decreasing
    assert np.isnan(combined["auc"].iloc[-1])


def test_patients_who_agree_exactly_fall_back_on_the_sign_test() -> None:
    tables = _tables(3)
    for table in tables.values():
        table.loc[0, "auc"], table.loc[1, "auc"] = 0.5, 1.0
    combined = combine(tables, {}).set_index("mz")
    axis = tables["s0"]["mz"]
    assert combined["p"][axis[0]] == 1
    assert combined["p"][axis[1]] == 0.25


def test_null_p_values_are_calibrated() -> None:
    rng = np.random.default_rng(5)
    axis = np.linspace(500, 900, 4000)
    tables = {
        f"s{i}": pd.DataFrame(
            {"mz": axis, "auc": rng.normal(0.5, 0.05, axis.size)}
            | dict.fromkeys(["effect", "standardized_difference", "mean_cancer", "mean_other"], 0.0)
        )
        for i in range(5)
    }
    combined = combine(tables, {})
    assert (combined["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (combined["q"] < 0.05).sum() <= 2


def test_different_axes_are_refused() -> None:
    tables = _tables(2)
    tables["s1"] = tables["s1"].iloc[:-1]
    with pytest.raises(ValueError, match="s1 has a different m/z axis"):
        combine(tables, {})


def test_the_whole_table_names_the_planted_lipid() -> None:
    tables = {}
    for i in range(3):
        intensity, cancer, tissue, mz = specimen(seed=i)
        mz[7] = ion_mz("C42H82NO8P", "[M+H]+") * (1 + 0.8e-6)
        order = np.argsort(mz)
        tables[f"s{i}"] = specimen_association(intensity[..., order], cancer, tissue, mz=mz[order])
    table = biomarker_table(tables, {}, builtin_lipids(), polarity="+")
    assert (table["annotation"][0], table["adduct"][0]) == ("PC 34:1", "[M+H]+")
    assert table["ppm_error"][0] == pytest.approx(0.8, abs=0.01)
    wanted = {"mz", "auc", "effect", "p", "q", "n_patients", "annotation", "adduct", "formula"}
    assert wanted | {"ppm_error", "alternatives", "isotope_of"} <= set(table.columns)
    per_specimen = tidy(tables, {"s0": "A"})
    assert per_specimen["patient"].unique().tolist() == ["A", "s1", "s2"]
    assert len(per_specimen) == 3 * 130


def _moved(shifts: int, n: int = 5) -> dict[str, pd.DataFrame]:
    tables = {}
    for i in range(n):
        rng = np.random.default_rng(i)
        intensity = rng.poisson(3, (20, 24, 40)).astype(np.float32)
        cancer = np.zeros((20, 24), np.float32)
        y, x = rng.integers(0, 12, 2)
        cancer[y : y + 7, x : x + 8] = 1
        intensity[cancer > 0, 7] += 2
        tables[f"s{i}"] = specimen_association(
            intensity,
            cancer,
            np.ones((20, 24), bool),
            mz=np.arange(40) + 500.0,
            shifts=shifts,
            seed=i,
            memory=1 << 18 if i % 2 else 1 << 28,
        )
    return tables


def test_the_table_of_patients_takes_the_spread_by_chance() -> None:
    tables = _moved(200)
    found = combine(tables, {"s0": "A", "s1": "A"}).set_index("mz")
    row = found.loc[507.0]
    own = [t.set_index("mz").loc[507.0] for t in tables.values()]
    patients = [own[:2], own[2:3], own[3:4], own[4:]]
    effect = np.array([np.mean([s["auc"] for s in p]) - 0.5 for p in patients])
    # sections of a patient are one witness, however many there are
    spread = np.array([np.mean([s["auc_sd"] for s in p]) for p in patients])
    expected = random_effects(effect[:, None], spread[:, None], most=0.5)
    for column in ("p", "p_dl", "p_least"):
        assert row[column] == pytest.approx(getattr(expected, column)[0], rel=1e-9)
    assert row["auc"] == pytest.approx(0.5 + expected.mean[0])
    assert row["p_t"] == pytest.approx(stats.ttest_1samp(effect, 0).pvalue)
    assert row["auc_high"] - row["auc"] == pytest.approx(stats.t.ppf(0.975, 3) * expected.error[0])
    # the other means have the weights of the AUC: each patient the same
    weight = expected.weight[:, 0] / expected.weight.sum()
    log2 = [np.mean([s["effect"] for s in p]) for p in patients]
    assert row["effect"] == pytest.approx(np.dot(weight, log2))
    assert (row["n_same_sign"], row["n_patients"]) == (4, 4)
    assert found["p"].idxmin() == found["p_dl"].idxmin() == 507.0
    assert (found["p"] >= found["p_t"]).all() and (found["p"] >= found["p_least"]).all()
    for table in tables.values():
        assert {"auc_sd", "p_shift", "n_places"} <= set(table.columns)
        assert table["p_shift"].between(1 / table["n_places"], 1).all()


def test_sections_of_a_patient_add_no_certainty() -> None:
    """The same section three times over is the section once."""
    tables = _moved(200, 3)
    serial = {f"{n}-{k}": table for n, table in tables.items() for k in range(3)}
    pd.testing.assert_frame_equal(
        combine(serial, {name: name[:2] for name in serial}), combine(tables, {}), rtol=1e-12
    )


def test_a_section_without_a_spread_is_left_out_of_its_patient_altogether() -> None:
    tables = _moved(120, 4)
    tables["s3"] = tables["s3"].assign(auc_sd=np.nan, auc=1.0, effect=9.0)
    alone = {name: table for name, table in tables.items() if name != "s3"}
    columns = ["mz", "auc", "effect", "p", "p_t", "n_patients"]
    pd.testing.assert_frame_equal(
        combine(tables, {"s3": "s0"})[columns], combine(alone, {})[columns]
    )


def test_a_specimen_needs_a_few_pixels_of_either_class() -> None:
    intensity, cancer, tissue, mz = specimen()
    one = np.zeros_like(cancer)
    one[8, 8] = 0.6
    tables = {
        "whole": specimen_association(intensity, cancer, tissue, mz=mz, shifts=120),
        "one": specimen_association(intensity, one, tissue, mz=mz, shifts=120),
        "rest": specimen_association(intensity, 1 - one, tissue, mz=mz, shifts=120),
        "none": specimen_association(intensity, np.zeros_like(cancer), tissue, mz=mz),
    }
    known = tissue & np.isfinite(cancer) & np.isfinite(intensity[..., 0]) & (cancer >= 0.5)
    held = tables["whole"]["effective_cancer"]
    np.testing.assert_allclose(held, cancer[known].sum(dtype=float))
    assert held[0] < tables["whole"]["n_cancer"][0]  # pixels at the rim are of both classes
    assert without_say(tables, 20) == {
        "one": "has 0.6 of 20 pixels of cancer",
        "rest": "has 0.6 of 20 pixels of other tissue",
        "none": "has 0 of 20 pixels of cancer",
    }
    assert without_say(tables, 0) == {"none": "has 0 of 0 pixels of cancer"}
    stuck = {"stuck": tables["whole"].assign(n_places=20)}
    assert without_say(stuck, 20) == {"stuck": "has no room to move the annotation"}


def test_without_moved_annotations_the_t_test_decides() -> None:
    found = combine(_moved(0, 3), {})
    pd.testing.assert_series_equal(found["p"], found["p_t"], check_names=False)
    assert not {"auc_between", "p_dl", "p_least"} & set(found)
