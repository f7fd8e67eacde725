"""The headline in words: means over patients first, doubt wherever an interval is of few."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from msiscale.report import Results, write_report
from msiscale.report.evidence import comparisons, protocols
from msiscale.report.headline import DOUBT, lines, table
from msiscale.report.sections import headline, pooled

LOPO = "leave_one_patient_out"
MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")
INTERVALS = [
    *("protocol", "model", "target", "metric", "value", "low", "high"),
    *("estimand", "patients", "of", "trusted", "why"),
]


def run(
    out: Path,
    patients: int = 6,
    folds: int = 0,
    *,
    of: int = 0,
    why: str = "",
    trained: bool = True,
    within: str = "",
) -> Results:
    """Tables of a run: AUC 0.9 over patients, 0.8 of all pixels; no means for one `within`."""
    out.mkdir(exist_ok=True)
    values, found, of = [], [], of or patients
    number = float if trained else lambda _: float("nan")
    for i in range(folds or patients):
        fold = f"fold {i + 1} of {folds}" if folds else f"P{i}"
        key = [within or LOPO, fold, f"S{i}", "cancer_from_he", "cancer", "auc"]
        values.append([*key, number(0.9)])
    for model in MODELS:
        for metric, value in (("auc", 0.8), ("average_precision", 0.7), ("prevalence", 0.25)):
            key = [within or LOPO, "all", "all", model, "cancer", metric]
            values.append([*key, number(value)])
        if not within:
            key = [LOPO, model, "cancer", "auc"]
            ends = [number(0.9), number(0.7), number(1.1)]
            if patients == 1:
                ends[1:] = [float("nan")] * 2
            found.append([*key, *ends, "mean_over_patients", patients, of, patients >= 4, why])
            ends = [number(0.8), number(0.75), number(0.85)]
            found.append([*key, *ends, "pooled", patients, of, patients >= 10, ""])
    columns = ["protocol", "fold", "specimen", "model", "target", "metric", "value"]
    pd.DataFrame(values, columns=columns).to_csv(out / "metrics.csv", index=False)
    pd.DataFrame(found, columns=INTERVALS).to_csv(out / "intervals.csv", index=False)
    return Results(str(out))


def text(results: Results) -> str:
    """The first screen of the page, without its tags."""
    page = Path(write_report(results.out)).read_text(encoding="utf-8")
    first = page[page.index("<h1>") : page.index('id="specimens"')]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", first))


def test_the_mean_comes_first_and_pooled_beside_it(tmp_path: Path) -> None:
    results = run(tmp_path)
    first, he, *_ = (line for line in lines(results) if "cancer_from_msi" not in line)
    assert first == (
        "each patient held out in turn: mean over 6 patients (95 % interval) | all pixels pooled"
    )
    assert re.sub(" +", " ", he) == (
        " cancer_from_he AUC 0.900 (0.700 to 1.000) | AUC 0.800 AP 0.700 (prevalence 0.250)"
    )
    assert DOUBT not in "".join(lines(results))
    row = table(results).rows[1]
    assert row == ["cancer from H&E", "AUC", "0.900 (0.700 to 1.000)", "6 of 6", "0.800"]
    shown = text(results)
    assert "Each patient held out in turn." in shown and "0.900 (0.700 to 1.000)" in shown
    assert headline(results).rows[0][1] == "0.900 (0.700 to 1.000)"
    assert pooled(results).rows[0][1] == "0.800"  # a bootstrap of six patients is not shown
    assert "0.900 (0.700 to 1.000)" in protocols(results).rows[0]


def test_words_follow_the_folds(tmp_path: Path) -> None:
    results = run(tmp_path, 12, folds=4)
    assert next(lines(results)).startswith("patients held out in 4 groups: mean over 12 patients")
    assert "Patients held out in 4 groups." in text(results)
    assert results.left_out == "patients left out in 4 groups"
    assert pooled(results).rows[0][1] == "0.800 (0.750 to 0.850)"


@pytest.mark.parametrize("patients", [2, 3])
def test_no_interval_of_few_patients_without_doubt(tmp_path: Path, patients: int) -> None:
    results = run(tmp_path, patients)
    said = [*lines(results)]
    remark = f"An interval over fewer than 4 patients cannot be trusted; here there are {patients}."
    assert f"  {remark}" in said and remark in text(results)
    page = Path(write_report(results.out)).read_text(encoding="utf-8")
    for words in (*said, page):
        # wherever an interval stands, doubt stands beside it
        assert words.count("0.700 to 1.000") == words.count(f"0.700 to 1.000, {DOUBT}")
    assert "0.750 to 0.850" not in page


def test_one_patient_has_a_value_and_no_interval(tmp_path: Path) -> None:
    said = "\n".join(
        lines(run(tmp_path, 1, of=3, why="P1, P2: annotated pixels of one class only"))
    )
    assert "AUC 0.900 over 1 of 3 | AUC 0.800" in said and "no interval can be given" in said
    assert (
        "Some means are over 1 of 3 patients; the others have no value: P1, P2: annotated" in said
    )


def test_a_fold_that_could_not_be_trained_is_named(tmp_path: Path) -> None:
    why = "fold P3: its training pixels are of one class only, so it could not be trained"
    results = run(tmp_path, 6, why=why, trained=False)
    said = [*lines(results)]
    assert f"  No score of cancer: {why}." in said and f"No score of cancer: {why}." in text(
        results
    )
    assert any("cancer_from_he" in line and "AUC – | AUC –" in line for line in said)


def test_blocks_of_one_patient_are_pooled(tmp_path: Path) -> None:
    results = run(tmp_path, 2, within="spatial_blocks")
    said = [*lines(results)]
    assert said[0] == "blocks held out of one patient: all pixels pooled"
    assert "AUC 0.800" in said[1] and "0.900" not in said[1]
    assert table(results).rows == [] and pooled(results).rows == []
    assert headline(results).rows[0][1] == "0.800"


def test_differences_carry_doubt_and_both_estimands(tmp_path: Path) -> None:
    results = run(tmp_path, 3)
    row = {"protocol": LOPO, "model": "cancer_from_msi", "against": "cancer_from_he"}
    row |= {"metric": "auc", "difference": 0.1, "low": -0.2, "high": 0.4, "unit": "patients"}
    row |= {"units": 3, "patients": 3, "trusted": False, "p": 0.2, "p_holm": 0.4}
    row |= {"pooled_difference": 0.05}
    pd.DataFrame([row]).to_csv(tmp_path / "comparisons.csv", index=False)
    (shown,) = comparisons(results).rows
    assert shown[3:] == [
        *("+0.100", f"-0.200 to +0.400, {DOUBT}", "3 patients", "0.200", "0.400", "+0.050")
    ]


def test_a_run_that_held_nothing_out_says_nothing(tmp_path: Path) -> None:
    assert [*lines(Results(str(tmp_path)))] == []
