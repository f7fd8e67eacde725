"""`msiscale power` on a finished run: tables, lines, and what is refused."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from msiscale.cluster import Where
from msiscale.errors import InputError
from msiscale.pipeline.power import power
from msiscale.report.data import Results
from msiscale.report.enough import learning_curve, power_by_effect
from msiscale.store import Ledger


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_tables_of_a_finished_run(run, scheduler):
    lines = power(str(run), effects=[0.8], patients=[3, 30], where=Where(scheduler=scheduler))
    learning, found = pd.read_csv(run / "learning.csv"), pd.read_csv(run / "power.csv")
    patients = len(set(Results(str(run)).run["patients"].values()))
    assert (learning["patients"] == 3).sum() == (patients > 3)
    assert set(found["patients"]) == {3, 30} and (found["effect"] == 0.8).all()
    assert found["power"].between(0, 1).all()
    assert any("learning curve" in line for line in lines)
    assert any(line.startswith("power: an m/z with an AUC of 0.8") for line in lines)
    written = Ledger(str(run)).read("power", "cohort")["written"]
    assert set(written) == {"learning.csv", "power.csv"}
    results = Results(str(run))
    assert len(power_by_effect(results).rows) == 1
    assert len(learning_curve(results).rows) == len(learning)


def test_what_it_cannot_be_asked(run, tmp_path):
    with pytest.raises(InputError, match=r"--effect: give AUCs above 0\.5"):
        power(str(run), effects=[0.4])
    with pytest.raises(InputError, match="--patients: give whole numbers of 3"):
        power(str(run), patients=[2.5])
    with pytest.raises(InputError, match="no finished fit there"):
        power(str(tmp_path / "elsewhere"))
