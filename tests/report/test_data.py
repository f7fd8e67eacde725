from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from msiscale.report.data import Results
from msiscale.store import Ledger


def test_states_of_specimens(results_folder: Path) -> None:
    states = {s.specimen: s for s in Results(str(results_folder)).states()}
    assert states["s1"].state == "done"
    assert states["s1"].patient == "P1"
    broken = states["broken"]
    assert (broken.state, broken.stage) == ("failed", "register")
    assert broken.reason.startswith("slides/<b>")


def test_a_run_cut_short_is_incomplete(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.write("peaks", "a", "d", "done")
    ledger.write("ingest", "a", "d", "started")
    ledger.write("fit", "cohort", "d", "done")
    (state,) = Results(str(tmp_path)).states()
    assert (state.specimen, state.state, state.stage) == ("a", "incomplete", "peaks")


def test_the_caller_says_which_records_count_and_in_which_order(tmp_path: Path) -> None:
    for part in ("association", "fit"):
        Ledger(str(tmp_path)).write(part, "a", "d", "failed", reason=part)
    for parts, stage in ((None, "association"), (["fit", "association"], "fit"), (["peaks"], "")):
        results = Results(str(tmp_path), parts)
        assert [s.stage for s in results.states(["a"])] == [stage]


def test_metrics_are_looked_up(results_folder: Path) -> None:
    results = Results(str(results_folder))
    assert results.metric("s1", "cancer_from_he", "cancer", "auc") == pytest.approx(0.92)
    assert math.isnan(results.metric("s3", "cancer_from_he", "cancer", "auc"))
    assert results.metric("all", "msi_from_he", "weighted", "r2") == 0.45


def test_maps_are_lazy(results_folder: Path) -> None:
    data = Results(str(results_folder)).cohort("s1")
    assert data is not None
    assert not isinstance(data.intensity, np.ndarray)
    assert data.tissue.dtype == bool
    assert Results(str(results_folder)).cohort("nobody") is None


def test_names_like_numbers_and_na_stay_text(tmp_path: Path) -> None:
    header = "protocol,fold,specimen,model,target,metric,value\n"
    rows = (
        "leave_one_patient_out,NA,007,cancer_from_msi,cancer,auc,0.75\n"
        "leave_one_patient_out,1,NA,cancer_from_msi,cancer,auc,\n"
    )
    (tmp_path / "metrics.csv").write_text(header + rows)
    results = Results(str(tmp_path))
    assert results.metric("007", "cancer_from_msi", "cancer", "auc") == 0.75
    assert math.isnan(results.metric("NA", "cancer_from_msi", "cancer", "auc"))
