"""Sections of the cohort's page from small tables."""

from __future__ import annotations

from pathlib import Path

from msiscale.notices import COLUMNS, Notice
from msiscale.report.data import Results
from msiscale.report.sections import notices
from msiscale.store import write_csv


def test_notices_of_several_specimens_are_one_row_and_warnings_come_first(tmp_path: Path) -> None:
    found = [Notice("", "", "mpp", "chosen", "", "note")]
    found += [Notice(f"S{i}", f"{i}.tif", "slide", "no unit; taken as µm") for i in range(5)]
    write_csv(str(tmp_path / "notices.csv"), [n.row() for n in found], COLUMNS)
    shown = notices(Results(str(tmp_path)))
    assert shown.rows == [
        ["warning", "S0, S1, S2 and 2 more", "slide", "no unit", "taken as µm"],
        ["note", "", "mpp", "chosen", ""],
    ]
    assert notices(Results(str(tmp_path / "none"))).rows == []
