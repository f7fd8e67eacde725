"""A run at the default window: ion images are right, and what was chosen is said and recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import msiscale as ms
from benchmarks.axis.cohorts import write
from benchmarks.axis.runs import judged
from msiscale.pipeline.windows import said_of_shares
from msiscale.store import Ledger, StoredSpecimen, read_json


def test_tof_centroids_at_the_defaults(tmp_path: Path, scheduler: str) -> None:
    manifest, known = write(tmp_path, "tof_centroids_25", 0, 2)
    out = tmp_path / "out"

    def run(**choices: object) -> dict[str, float]:
        assert not ms.run(
            str(manifest), str(out), stages=("ingest",), scheduler=scheduler, **choices
        ).failed
        return judged(str(out), known)

    found = run()
    assert found["found"] == 40 and found["false"] <= 2 and found["correlation"] > 0.98
    assert found["captured"] > 0.9
    document = read_json(str(out / "run.json"))
    assert document["mz_window"]["ppm"] == pytest.approx(3 * 25, rel=0.1)
    (notice,) = document["notices"]
    assert "scatter of the centroids" in notice["text"] and "--tolerance-ppm" in notice["text"]
    stored = StoredSpecimen.of(str(out), "S0")
    assert stored.facts["captured"] == document["captured"]["S0"]
    intensity = stored.group["intensity"]
    assert intensity.attrs["window"] == document["mz_window"]
    # normalised by the TIC, what is in the cube is that share of it
    share = float(np.nanmean(intensity[...].sum(axis=2)))
    assert share == pytest.approx(document["captured"]["S0"], abs=2e-3)

    # a second run changes nothing; a number fixes the window, and does not read the peaks again
    before = Ledger(str(out)).read("peaks", "S0")
    run()
    assert read_json(str(out / "run.json"))["notices"] == document["notices"]
    narrow = run(tolerance_ppm=5.0)
    assert Ledger(str(out)).read("peaks", "S0") == before
    assert narrow["captured"] < 0.6 and narrow["window_ppm"] == 5
    first, second = (n["text"] for n in read_json(str(out / "run.json"))["notices"])
    assert "±5 ppm holds only part" in first and "--tolerance-ppm auto" in first
    assert "of the ion current is on the m/z axis" in second

    # bins leave nothing out, whatever the tolerance
    assert run(axis="ppm:599:1001:100", tolerance_ppm=5.0)["captured"] > 0.9999


def test_shares_are_said_once_for_all() -> None:
    assert said_of_shares({"a": 0.95, "b": 1.0}, []) == []
    low, middle = said_of_shares({"a": 0.1, "b": 0.32, "c": 0.8, "d": 0.99}, ["c"])
    assert low.startswith("a, b: 10 to 32 % of the ion current") and "--snr" in low
    assert middle.startswith("c: 80 %") and "baseline" in middle and "--snr" not in middle
