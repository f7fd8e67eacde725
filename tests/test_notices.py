"""What is noticed keeps its file, its severity and what was assumed."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from msiscale.cohort import Specimen
from msiscale.notices import COLUMNS, Notice, table

SPECIMEN = Specimen(name="S1", patient="P1", msi="/a/S1.imzML", slide="/a/S1.tif")


@pytest.mark.parametrize(
    ("warned", "row"),
    [
        (
            "/a/S1.imzML: the size has no unit; taken as µm",
            ("S1", "/a/S1.imzML", "msi", "the size has no unit", "taken as µm", "warning"),
        ),
        (
            "/a/S1.tif: note: one level",
            ("S1", "/a/S1.tif", "slide", "one level", "", "note"),
        ),
        ("odd; a; b", ("S1", "", "", "odd", "a; b", "warning")),
    ],
)
def test_a_warning_becomes_a_row_and_comes_back(warned: str, row: tuple[str, ...]) -> None:
    notice = Notice.of(SPECIMEN, warned, "peaks")
    assert tuple(notice.row().values()) == (*row, "peaks")
    assert tuple(notice.row()) == COLUMNS
    assert notice.warned == warned


def test_what_two_stages_say_is_one_row() -> None:
    notices = [Notice.of(SPECIMEN, "odd", stage) for stage in ("peaks", "cube")]
    notices.append(Notice.of(None, "odd", "fit"))
    rows = table(asdict(n) for n in notices)
    assert [(r["specimen"], r["stage"]) for r in rows] == [("S1", "peaks"), ("", "fit")]
