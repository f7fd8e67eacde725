"""What chance, a misplaced slide and the study's choices give, as tables and plots."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from msiscale.report.data import PROTOCOL, Results
from msiscale.report.evidence import batch, corrections, jitter, nulls, switches
from msiscale.report.plots import cohort_plots

COLUMNS = ["test", "level", "draw", "model", "target", "metric", "value"]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    rows: list[list[object]] = []
    for draw, more in enumerate((0.0, 0.1)):
        for level in (0.0, 2.0):
            auc = 0.9 - 0.2 * level + more
            rows.append(["jitter", level, draw, "cancer_from_he", "cancer", "auc", auc])
        for test in ("null_labels", "null_registration"):
            for model in ("cancer_from_msi", "cancer_from_he"):
                rows.append([test, 0, draw, model, "cancer", "auc", 0.5 + more])
            rows.append([test, 0, draw, "msi_from_he", "weighted", "r2", -0.1])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "robustness.csv", index=False)
    key = [PROTOCOL, "cancer_from_he", "cancer", "auc", 0.8, 0.9, -0.1]
    columns = ["protocol", "model", "target", "metric", "value", "base", "change"]
    table = pd.DataFrame([["pooled_pixels", *key]], columns=["switch", *columns])
    table.to_csv(tmp_path / "switches.csv", index=False)
    columns = ["of", "specimen", "target", "metric", "value"]
    found = [
        ["msi", "all", "all", "between_specimens", 0.25],
        ["msi", "all", "all", "within_patients", 1e-33],
        ["features", "all", "all", "between_specimens", 0.125],
        ["msi", "all", "mode_000", "mostly_batch", 1],
        ["msi", "all", "mode_001", "mostly_batch", 0],
    ]
    pd.DataFrame(found, columns=columns).to_csv(tmp_path / "batch.csv", index=False)
    row = dict.fromkeys(("low", "high", "p", "p_holm"), 0.25)
    row |= {"model": "cancer_from_msi", "target": "cancer", "metric": "auc", "patients": 3}
    row |= {"trusted": False, "value": 0.75, "without": 0.5, "difference": 0.25}
    tried = [{**row, "correction": name} for name in ("none", "combat")]
    pd.DataFrame(tried).to_csv(tmp_path / "corrections.csv", index=False)
    return Results(str(tmp_path))


def test_jitter_is_the_mean_of_its_draws(results: Results) -> None:
    table = jitter(results)
    assert table.columns[2:] == ["0 px away", "2 px away"]
    assert table.rows == [["cancer from H&E", "AUC", "0.950", "0.550"]]
    drawn = [r for r in cohort_plots(results)["jitter"].renderers if "x" in r.data_source.data]
    assert list(drawn[0].data_source.data["y"]) == pytest.approx([0.95, 0.55])


def test_chance_is_shown_only_where_the_test_changes_something(results: Results) -> None:
    rows = nulls(results).rows
    assert [row[:2] for row in rows] == [
        ["annotation moved over the tissue", "cancer from MSI"],
        ["annotation moved over the tissue", "cancer from H&E"],
        ["slide mirrored under the MSI", "cancer from H&E"],
        ["slide mirrored under the MSI", "MSI from H&E, all modes by variance"],
    ]
    assert rows[0][4:] == ["0.550", "0.500 to 0.600", "2"]


def test_choices_stand_beside_what_is_had_without(results: Results) -> None:
    (row,) = switches(results).rows
    assert row[0] == "pooled pixels"
    assert row[-3:] == ["0.900", "0.800", "-0.100"]


def test_differences_between_specimens(results: Results) -> None:
    assert batch(results).rows == [
        ["share of the variance between specimens", "0.250", "0.125"],
        ["of which between specimens of a patient", "0", "–"],
        ["modes mostly of batch", "1 of 2", "–"],
    ]


def test_a_correction_stands_beside_none(results: Results) -> None:
    (row,) = corrections(results).rows
    assert row[:6] == ["combat", "cancer from MSI", "AUC", "0.500", "0.750", "+0.250"]
    assert row[6].startswith("+0.250 to +0.250") and "not to be trusted" in row[6]
