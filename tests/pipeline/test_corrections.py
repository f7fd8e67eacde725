"""Corrections between specimens, tried on a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import CHOICES, msiscale

from msiscale.models import Fold
from msiscale.models.corrections import quantile_table
from msiscale.pipeline.corrections import NONE, Own, compared, corrections_of

TRIED = "quantile"  # a fit a patient, and as many without; each is as another is
KEY = ["correction", "model", "metric"]


def own(seed: int) -> Own:
    rng = np.random.default_rng(seed)
    rows = rng.gamma(2.0, 1.0, (300, 6)) * rng.lognormal(0, 0.5, 6)
    scatter = ((rows - rows.mean(0)) ** 2).sum(0)
    return Own(rows.mean(0), scatter, rows.mean(0) / 2, quantile_table(rows), 300, 200, 1e-7)


@pytest.mark.parametrize("name", ["background", "quantile", "combat"])
def test_a_held_out_specimen_moves_nothing_of_the_training(name: str) -> None:
    names = ["a", "b", "c", "d"]
    patients = {"a": "P1", "b": "P1", "c": "P2", "d": "P3"}
    fold = Fold("P3", ("a", "b", "c"), ("d",))
    known = {s: own(i) for i, s in enumerate(names)}
    rows = np.random.default_rng(9).gamma(2.0, 1.0, (20, 6))
    before = corrections_of(name, fold, known, patients)
    after = corrections_of(name, fold, known | {"d": own(77)}, patients)
    for s in fold.train:
        np.testing.assert_array_equal(before[s].apply(rows), after[s].apply(rows))
    assert not np.array_equal(before["d"].apply(rows), after["d"].apply(rows))


def test_differences_are_of_the_same_patients() -> None:
    what = ("cancer_from_msi", "cancer", "auc")
    without = {("P1", *what): 0.6, ("P2", *what): 0.7, ("P3", *what): np.nan}
    with_it = {("P1", *what): 0.8, ("P2", *what): 0.8, ("P3", *what): 0.9}
    _, row = compared({NONE: without, "combat": with_it}, ["P1", "P2", "P3"])
    assert (row["patients"], row["trusted"]) == (2, False)
    assert row["value"] - row["without"] == pytest.approx(row["difference"]) == pytest.approx(0.15)
    assert row["low"] < 0.15 < row["high"] and row["p_holm"] == row["p"]


@pytest.fixture(scope="module")
def tried(
    cohort: Path, finished: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("corrections") / "run"
    shutil.copytree(finished, out)
    said = msiscale("corrections", cohort, "--out", out, *CHOICES, "--correct", TRIED)
    assert said.code == 0, said.err
    return out


@pytest.mark.slow(reason="six fits of the cohort; test_stages.py makes four small ones")
def test_corrections_are_told_beside_none(tried: Path) -> None:
    table = pd.read_csv(tried / "corrections.csv").set_index(KEY).sort_index()
    assert {name for name, *_ in table.index} == {"none", "quantile"}
    assert set(table["patients"]) == {3}
    plain = table.loc["none"]
    # without a correction each fold alone is that fold of the fit
    fitted = pd.read_csv(tried / "intervals.csv")
    fitted = fitted[fitted["estimand"] == "mean_over_patients"]
    fitted = fitted[fitted["target"].isin(["cancer", "weighted"])].set_index(["model", "metric"])
    for key in (("cancer_from_msi", "auc"), ("msi_from_he", "r2")):
        assert plain.loc[key, "value"] == pytest.approx(fitted.loc[key, "value"], abs=1e-4)
    others = table.loc[["quantile"]]
    assert (others["low"] <= others["high"]).all() and (others["p_holm"] >= others["p"]).all()
    assert others["difference"].abs().max() > 1e-6


@pytest.mark.slow(reason="six fits of the cohort; test_stages.py makes four small ones")
def test_nothing_else_is_left_and_nothing_is_done_twice(cohort: Path, tried: Path) -> None:
    assert not (tried / "state.zarr" / "corrections").exists()
    assert not (tried / "state.zarr" / "protocols").exists()
    before = (tried / "corrections.csv").stat().st_mtime_ns
    said = msiscale("corrections", cohort, "--out", tried, *CHOICES, "--correct", TRIED)
    assert said.code == 0, said.err
    assert (tried / "corrections.csv").stat().st_mtime_ns == before
    said = msiscale("verify", tried)
    assert said.code == 0, said.err
