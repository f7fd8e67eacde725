"""Runs side by side: paired differences as scipy gives them, and what makes runs unlike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from msiscale.cli import cli
from msiscale.errors import InputError
from msiscale.models.patient_means import patient_mean
from msiscale.report.side_by_side import compare_runs
from msiscale.store import write_json

LOPO = "leave_one_patient_out"
KEY = {"protocol": LOPO, "model": "cancer_from_he", "target": "cancer", "metric": "auc"}


def run(folder: Path, scores: dict[str, float], protocol: str = LOPO, **parameters: object) -> str:
    folder.mkdir(parents=True)
    write_json(
        str(folder / "run.json"),
        {
            "specimens": [f"{p}_A" for p in scores],
            "patients": {f"{p}_A": p for p in scores},
            "failed": {"bad": "no slide"} if parameters.get("fails") else {},
            "parameters": {"encoder": "stains", "mpp": 0.5, **parameters},
            "versions": {"msiscale": "0.1.0"},
            "manifest": "m.csv",
        },
    )
    key = {**KEY, "protocol": protocol}
    rows = [{**key, "patient": p, "value": v} for p, v in scores.items()]
    pd.DataFrame(rows).to_csv(folder / "patients.csv", index=False)
    mean = patient_mean(np.array([*scores.values()]), shares=True)
    facts = {"value": mean.value, "low": mean.low, "high": mean.high, "patients": mean.n}
    more = {"estimand": "mean_over_patients", "of": len(scores), "trusted": True, "why": ""}
    pd.DataFrame([{**key, **facts, **more}]).to_csv(folder / "intervals.csv", index=False)
    whole = {**key, "fold": "all", "specimen": "all", "value": mean.value, "why": ""}
    pd.DataFrame([whole]).to_csv(folder / "metrics.csv", index=False)
    return str(folder)


A = {f"P{i}": 0.8 + 0.02 * i for i in range(6)}
B = {p: v + d for (p, v), d in zip(A.items(), (0.05, 0.01, 0.03, 0.02, 0.04, 0.0), strict=True)}


def test_differences_are_paired_over_the_patients_of_both(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", A), run(tmp_path / "b", {**B, "P9": 0.1}, mpp=1.0)]
    said = compare_runs(runs, str(tmp_path / "out"))
    assert any("P9 in b but not in a" in line for line in said)
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    (row,) = table[table["run"] == "b"].to_dict("records")
    known = stats.ttest_rel([*B.values()], [*A.values()])
    low, high = known.confidence_interval(0.95)
    assert row["difference"] == pytest.approx(0.025)
    assert row["p"] == pytest.approx(known.pvalue) == row["p_holm"]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high))
    assert row["paired"] == 6 and row["patients"] == 7
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "Content-Security-Policy" in page and "<script" not in page
    assert "mpp" in page and "All versions are the same." in page
    assert page.count("<circle") == 1


def test_the_first_run_beside_itself_differs_by_nothing(tmp_path: Path) -> None:
    one = run(tmp_path / "x" / "run", A)
    other = run(tmp_path / "y" / "run", A)
    compare_runs([one, other], str(tmp_path / "out"))
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert [*table["run"]] == ["x/run", "y/run"]  # names that differ
    assert table["difference"].iloc[1] == 0 and table["p"].iloc[1] == 1


def test_other_protocols_are_not_compared(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", A), run(tmp_path / "b", B, "spatial_blocks", fails=True)]
    said = compare_runs(runs, str(tmp_path / "out"))
    assert any("no difference is computed" in line for line in said)
    assert any("1 specimens failed (bad)" in line or "bad" in line for line in said)
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["difference"].isna().all()


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    one = run(tmp_path / "a", A)
    with pytest.raises(InputError, match="two runs or more"):
        compare_runs([one], str(tmp_path / "out"))
    with pytest.raises(InputError, match="no run there"):
        compare_runs([one, str(tmp_path / "none")], str(tmp_path / "out"))
    old = run(tmp_path / "old", A)
    Path(old, "patients.csv").unlink()
    with pytest.raises(InputError, match="run msiscale fit again"):
        compare_runs([one, old], str(tmp_path / "out"))
    assert CliRunner().invoke(cli, ["compare-runs", one, "--out", str(tmp_path)]).exit_code != 0
