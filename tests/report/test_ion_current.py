"""The section on the m/z axis: the window in words, and specimens with little ion current first."""

from __future__ import annotations

from pathlib import Path

from msiscale.msi.window import Window
from msiscale.report.data import Results
from msiscale.report.ion_current import ION_CURRENT, ion_current, mz_window
from msiscale.store import Ledger


def test_window_and_shares(tmp_path: Path) -> None:
    assert ION_CURRENT.unless(Results(str(tmp_path)))
    facts = {"window": Window(12.5, 1.0, 800.0).facts(), "captured": {"a": 0.93, "b": 0.12}}
    Ledger(str(tmp_path)).write("axis", "cohort", "d", "done", **facts)
    results = Results(str(tmp_path))
    assert not ION_CURRENT.unless(results)
    assert ion_current(results).rows == [["b", "0.120"], ["a", "0.930"]]
    assert mz_window(results) == "±12.5 ppm at m/z 800, growing with m/z, as of an FT-ICR"
