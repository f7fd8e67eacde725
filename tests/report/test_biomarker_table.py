from __future__ import annotations

from pathlib import Path

import pandas as pd

from msiscale.report.biomarker_table import biomarker_certainty, biomarkers
from msiscale.report.data import Results
from msiscale.store import Ledger


def _results(folder: Path, **columns: object) -> Results:
    table = pd.DataFrame({"mz": [700.5, 701.5], "auc": 0.9, "annotation": "", **columns})
    table.to_csv(folder / "biomarkers.csv", index=False)
    return Results(str(folder))


def test_the_smallest_p_and_who_has_no_say_stand_under_the_table(tmp_path: Path) -> None:
    Ledger(str(tmp_path)).write("biomarkers", "cohort", "d", "done", notices=["S3 has no say"])
    p = {"p": [0.01, 0.5], "p_t": [0.02, 0.5], "p_dl": [1e-5, 0.5], "p_least": [0.002, 0.003]}
    results = _results(tmp_path, n_patients=6, auc_low=[0.8, 0.7], auc_high=1.0, **p)
    silent, least, signs = biomarker_certainty(results)
    assert silent == "S3 has no say."
    assert "smallest p that 6 patients can give here is 0.0025" in least
    assert "among 2 needs p ≤ 0.025, which these patients can give" in least
    assert "no p below 0.031" in signs
    shown = biomarkers(results)
    assert {"p", "p of the t-test", "p of DerSimonian and Laird"} <= set(shown.columns)
    assert shown.rows[0][1] == "0.900 (0.800 to 1)"


def test_without_a_p_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert biomarker_certainty(_results(tmp_path, n_patients=2, p=float("nan"))) == []
    assert biomarker_certainty(_results(tmp_path)) == []
