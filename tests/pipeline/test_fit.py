"""A fit that was stopped goes on with the folds that it had fitted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import CHOICES, msiscale

from msiscale.errors import RunStopped

pytestmark = pytest.mark.usefixtures("shared_cluster")


def test_only_the_fold_under_way_is_fitted_again(
    cohort: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    words = ["fit", cohort, "--out", out, *CHOICES, "--components", "5"]
    models = out / "state.zarr" / "protocols" / "leave_one_patient_out" / "models"

    def stopped(*_: object) -> None:
        raise RunStopped("the cluster is gone")

    def stop() -> dict[str, int]:
        with monkeypatch.context() as patched:
            patched.setattr("msiscale.pipeline.evaluate.classifiers", stopped)
            said = msiscale(*words)
        assert said.code != 0 and "the cluster is gone" in said.err
        return {str(p): p.stat().st_mtime_ns for p in models.rglob("*") if p.is_file()}

    before = stop()
    assert {Path(p).relative_to(models).parts[0] for p in before} == {
        "0000",
        "0001",
        "0002",
        "0003",
    }
    facts = models / "0001" / "zarr.json"  # as when it was killed: without the mark that comes last
    document = json.loads(facts.read_text())
    del document["attributes"]["stamp"]
    facts.write_text(json.dumps(document))
    after = stop()
    assert after.keys() == before.keys()
    changed = {Path(p).relative_to(models).parts[0] for p in after if after[p] != before[p]}
    assert changed == {"0001"}
    said = msiscale(*words)
    assert said.code == 0, said.err
    assert not (out / "state.zarr" / "protocols").exists()
    record = json.loads((out / "ledger" / "fit" / "cohort.json").read_text())
    assert record["folds"] == 3
