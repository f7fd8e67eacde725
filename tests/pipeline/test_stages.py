"""Every file and array of a finished run belongs to one part of one stage, from birth to death."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import CHOSEN

from msiscale.cluster import Where
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.pipeline import ablate as ablations
from msiscale.pipeline.driver import run
from msiscale.pipeline.fuse import fuse
from msiscale.pipeline.power import power
from msiscale.pipeline.rank import rank
from msiscale.pipeline.stages import PARTS, STAGES, owners, stage_of
from msiscale.pipeline.status import status
from msiscale.pipeline.verify import verify
from msiscale.pipeline.withdraw import withdraw
from msiscale.place import place
from msiscale.report import apart
from msiscale.simulate import simulate
from msiscale.store import Ledger

NOT_OWNED = ("run.json", "notices.csv", "ledger/", "lease/")  # of the run itself


def kept_paths(out: Path) -> set[str]:
    """Files, and arrays in place of the files that they are made of, below the output."""
    found = set()
    for file in out.rglob("*"):
        path = file.relative_to(out).as_posix()
        if file.is_dir() or path.startswith(NOT_OWNED):
            continue
        if file.name == "zarr.json" and json.loads(file.read_text())["node_type"] == "group":
            continue
        found.add(re.sub(r"/(zarr\.json|c(/.*)?)$", "", path) if ".zarr/" in path else path)
    return found


def noted_paths(out: Path) -> set[str]:
    """What the records of the ledger vouch for."""
    ledger, found = Ledger(str(out)), set()
    for stage in ledger.stages():
        names = [*ledger.read_all(stage).items()]
        for folder in ledger.folders(stage):
            names += ledger.read_all(stage, folder).items()
        for _, record in names:
            found |= {re.sub(r"\[.*\]$", "", name) for name in record.get("written", {})}
    return found


@pytest.fixture(scope="module")
def everything(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two specimens with every stage, and the pages that a large cohort has."""
    folder = tmp_path_factory.mktemp("everything")
    simulate(folder / "cohort", specimens=2, seed=1, pixels=(12, 14), mpp=4.0)
    manifest, out = str(folder / "cohort" / "manifest.csv"), str(folder / "run")
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(apart, "TOGETHER", 1)
        patched.setattr(ablations, "SWITCHES", {})  # the profile alone: one run more
        patched.setattr(ablations, "STUDY", {"alphas": (0.0,)})
        where = {"scheduler": scheduler}
        protocols = ("leave_one_patient_out", "pixel_folds")  # as `ablate` asks for
        chosen = {**CHOSEN, "protocols": protocols}
        config = RunConfig(
            **chosen, recalibrate="builtin:lipids", jitter=(1.0,), correct=("combat",)
        )
        run(manifest, out, config=config, **where)
        run(manifest, out, config=config, stages=("annotate",), **where)
        with pytest.raises(InputError, match="is code that would be run here"):
            fuse(manifest, out, factors=(2,), ions=2, **where)
        fuse(manifest, out, factors=(2,), ions=2, encoder=CHOSEN["encoder"], **where)
        ablations.ablate(manifest, out, config, **where)
        power(out, where=Where(**where))
        assert place(manifest, out, **where).failed == {}
        said = rank(manifest, out, config, [CHOSEN["encoder"]], ("centred",), **where)
        assert said[-1].endswith("rank.html")
    return Path(out)


def test_encoders_are_ranked_beside_the_stains(everything: Path) -> None:
    table = pd.read_csv(everything / "rank.csv")
    assert {*table["encoder"]} == {CHOSEN["encoder"], "stains"} and {*table["mode"]} == {"centred"}
    assert {*table["score"]} == {"R² of MSI", "AUC of cancer"}
    mine = table[(table["encoder"] != "stains") & (table["against"] == "stains")]
    assert mine["difference"].notna().all() and (mine["patients"] == 2).all()
    own = pd.read_csv(next((everything / "rank").glob("own_*")) / "patients.csv")
    base = pd.read_csv(next((everything / "rank").glob("stains-*")) / "patients.csv")
    keys = ["protocol", "model", "target", "metric", "patient"]
    both = own.merge(base, on=keys)
    both = both[both["protocol"] == "leave_one_patient_out"]
    both = both[(both["model"] == "msi_from_he") & (both["target"] == "weighted")]
    (row,) = mine[mine["score"] == "R² of MSI"].to_dict("records")
    assert row["difference"] == pytest.approx((both["value_x"] - both["value_y"]).mean())
    assert "<svg" in (everything / "rank.html").read_text()


def test_every_path_has_one_owner_and_a_record(everything: Path) -> None:
    paths = kept_paths(everything)
    for path in paths:
        assert len(list(owners(path))) == 1, path
    made = {part.name for path in paths for part in owners(path)}
    assert made == {part.name for part in PARTS.values() if part.owns}
    assert noted_paths(everything) == paths


def test_status_lists_every_part(everything: Path) -> None:
    lines = status(str(everything))
    columns = lines[0].split()[1:]
    assert columns == [p.name for s in STAGES for p in s.parts if p.specimens]
    assert set(lines[1].split()[1:]) == {"done"}
    whole = re.findall(r"[\w]+", lines[3])[2:]
    assert whole == [p.name for s in STAGES for p in s.parts if p.cohort]


def test_a_part_that_failed_is_not_shown_as_done(everything: Path) -> None:
    ledger = Ledger(str(everything))
    kept = ledger.read("association", "S02")
    assert kept is not None
    ledger.write("association", "S02", "", "failed", reason="no room")
    try:
        lines = status(str(everything))
        at = lines[0].split().index("association")
        assert lines[2].split()[at] == "failed"
        assert "S02: association failed: no room" in lines
    finally:
        kept.pop("status")
        ledger.write("association", "S02", kept.pop("digest"), "done", **kept)


def test_verify_sees_the_loss_of_any_part(copy_of_everything: Path, scheduler: str) -> None:
    lost = {}
    for path in sorted(kept_paths(copy_of_everything)):
        for part in owners(path):
            lost.setdefault(part.name, path)
    for path in lost.values():
        file = copy_of_everything / path
        (file / "zarr.json" if file.is_dir() else file).unlink()
    found = verify(str(copy_of_everything), where=Where(scheduler))
    assert {damage.stage for damage in found.damages} == set(lost)
    for part, path in lost.items():
        assert any(d.stage == part and path in d.what for d in found.damages), (part, path)
        assert all(stage_of(part) in str(d) for d in found.damages if d.stage == part)


def test_nothing_of_a_withdrawn_patient_is_left(copy_of_everything: Path) -> None:
    withdraw(str(copy_of_everything), ["S02"])
    left = kept_paths(copy_of_everything)
    assert not [path for path in left if "S02" in path]
    assert not list(copy_of_everything.rglob("*S02*"))
    for path in left:  # what is left is of one other specimen alone, or of none
        (part,) = owners(path)
        assert path in part.stays or (not part.pooled and "S01" in path), path
    assert {"report", "report.html"}.isdisjoint(left)


@pytest.fixture
def copy_of_everything(everything: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(everything, tmp_path / "run"))
