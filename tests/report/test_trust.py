"""The marks of trust: each rule at its limits, from tables of known content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from msiscale.notices import COLUMNS, Notice
from msiscale.report import Results
from msiscale.report.data import State
from msiscale.report.trust import (
    AMBER,
    GREEN,
    GREY,
    RED,
    RULES,
    SHAPES,
    WORDS,
    batch,
    leakage,
    marks,
    notices,
    novelty,
    registration,
)
from msiscale.store import write_csv

LOPO = "leave_one_patient_out"
NAN = float("nan")


def put(out: Path, name: str, rows: list[dict[str, Any]]) -> Results:
    pd.DataFrame(rows).to_csv(out / f"{name}.csv", index=False)
    return Results(str(out))


@pytest.mark.parametrize(
    ("residuals", "level", "words"),
    [
        ([0.2, 1.0, 0.9], GREEN, "3 of 3 specimens lie within 1 MSI pixel."),
        ([0.2, 1.01, 0.9, 0.1, 0.3], AMBER, "4 of 5 specimens lie within 1 MSI pixel."),
        ([0.2, 1.01, 0.9, 0.1], RED, "3 of 4 specimens lie within 1 MSI pixel."),
        ([0.2, NAN], GREEN, "1 of 2 specimens lie within 1 MSI pixel; 1 has no residual."),
        ([NAN, NAN], GREY, "No residual is known, as the transforms were given."),
    ],
)
def test_registration(tmp_path: Path, residuals: list[float], level: str, words: str) -> None:
    rows = [{"specimen": f"S{i}", "residual_px": r} for i, r in enumerate(residuals)]
    mark = registration(put(tmp_path, "registration", rows))
    assert (mark.level, mark.words, mark.link) == (level, words, "registration")


def test_a_refused_and_an_automatic_registration_count(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"specimen": "A", "residual_px": NAN, "error_px": 0.4}] * 4
    assert registration(put(tmp_path, "registration", rows)).level == GREEN
    rows = [*rows, {"specimen": "B", "residual_px": NAN, "error_px": NAN, "refused": 1}]
    assert registration(put(tmp_path, "registration", rows)).level == AMBER


@pytest.mark.parametrize(
    ("msi", "features", "level", "words"),
    [
        (0.1, 0.2, GREEN, "20% of the variance of the H&E features"),
        (0.3, 0.2, AMBER, "30% of the variance of the MSI"),
        (0.3, 0.5, RED, "50% of the variance of the H&E features"),
    ],
)
def test_batch(tmp_path: Path, msi: float, features: float, level: str, words: str) -> None:
    row = {"specimen": "all", "target": "all", "metric": "between_specimens"}
    rows = [{"of": "msi", **row, "value": msi}, {"of": "features", **row, "value": features}]
    rows.append({"of": "msi", **row, "target": "mode_000", "value": 0.99})  # not of all modes
    mark = batch(put(tmp_path, "batch", rows))
    assert mark.level == level and mark.words.startswith(words)
    assert batch(Results(str(tmp_path / "none"))).level == GREY


def scores(protocol: str, auc: float, r2: float) -> list[dict[str, Any]]:
    row = {"protocol": protocol, "fold": "all", "specimen": "all"}
    cancer = {"model": "cancer_from_he", "target": "cancer", "metric": "auc", "value": auc}
    msi = {"model": "msi_from_he", "target": "weighted", "metric": "r2", "value": r2}
    return [{**row, **cancer}, {**row, **msi}]


@pytest.mark.parametrize(
    ("auc", "r2", "level"),
    [
        (0.94, 0.6, GREEN),
        (0.96, 0.6, AMBER),
        (0.9, 0.66, AMBER),
        (0.9, 0.91, RED),
        (NAN, 0.5, GREEN),
    ],
)
def test_leakage_is_the_gap_to_random_pixels(
    tmp_path: Path, auc: float, r2: float, level: str
) -> None:
    rows = scores(LOPO, 0.9, 0.5) + scores("pixel_folds", auc, r2)
    mark = leakage(put(tmp_path, "metrics", rows))
    assert mark.level == level
    assert f"R² by {r2 - 0.5:+.3f}." in mark.words


@pytest.mark.parametrize(
    ("protocol", "level"), [(LOPO, GREEN), ("spatial_blocks", AMBER), ("pixel_folds", RED)]
)
def test_what_was_held_out_decides_by_itself(tmp_path: Path, protocol: str, level: str) -> None:
    assert leakage(put(tmp_path, "metrics", scores(protocol, 0.9, 0.5))).level == level
    assert leakage(Results(str(tmp_path / "none"))).level == GREY


@pytest.mark.parametrize(
    ("shares", "level", "words"),
    [
        ([0.01, 0.02, None], GREEN, "None of 2 specimens looks"),
        ([0.01, 0.02, 0.03, 0.01, 0.1], AMBER, "1 of 5 specimens looks"),
        ([0.01, 0.02, 0.03, 0.1], RED, "1 of 4 specimens looks"),
        ([0.2, 0.3], RED, "2 of 2 specimens look"),
        ([None], GREY, "No specimen was compared"),
    ],
)
def test_novelty(shares: list[float | None], level: str, words: str) -> None:
    mark = novelty({f"S{i}": share for i, share in enumerate(shares)})
    assert mark.level == level and mark.words.startswith(words)


def states(*which: str) -> list[State]:
    return [State(f"S{i}", "", state, "", "") for i, state in enumerate(which)]


def test_notices(tmp_path: Path) -> None:
    results = Results(str(tmp_path))
    assert notices(results, states("done", "done")).level == GREEN
    assert notices(results, states("failed", "done", "done", "done", "done")).level == AMBER
    assert notices(results, states("failed", "done", "done", "done")).level == RED
    found = [Notice("", "", "mpp", "chosen", "", "note"), Notice("A", "", "slide", "odd")]
    write_csv(str(tmp_path / "notices.csv"), [found[0].row()], COLUMNS)
    assert notices(Results(str(tmp_path)), states("done")).level == GREEN  # a note is harmless
    write_csv(str(tmp_path / "notices.csv"), [n.row() for n in found], COLUMNS)
    mark = notices(Results(str(tmp_path)), states("done"))
    assert (mark.level, mark.words) == (AMBER, "1 warning, no failed specimens.")


def test_every_mark_has_a_rule_a_word_and_a_shape_of_its_own(tmp_path: Path) -> None:
    found = marks(Results(str(tmp_path)), [], {})
    assert [mark.name for mark in found] == list(RULES)
    assert all(mark.rule and mark.verdict and mark.shape for mark in found)
    assert len(set(WORDS.values())) == len(set(SHAPES.values())) == 4
    for rule in RULES.values():  # plain sentences
        assert all(len(part.split()) <= 25 for part in rule.split(". "))
