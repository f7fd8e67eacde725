"""Whatever is lost or altered in a finished run is found, named with its stage, and made anew."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from commands import CHOICES, Said, msiscale
from obstore.store import LocalStore

from benchmarks.faults.compare import compare, snapshot
from msiscale.pipeline.stages import stage_named

pytestmark = pytest.mark.usefixtures("shared_cluster")


def chunks(out: Path) -> list[Path]:
    """Every chunk and shard of a run."""
    files = (p for p in out.rglob("*") if p.is_file() and ".zarr" in p.as_posix())
    return sorted(p for p in files if p.name != "zarr.json")


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "lost":
        file.unlink()
    elif how == "short":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def verify(out: Path, *words: str) -> Said:
    return msiscale("verify", out, *words)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def cube(run: Path, chunk: Path, specimens: tuple[str, ...]) -> bool:
    """Whether it is of what `ingest` writes of one of these."""
    name = chunk.relative_to(run).as_posix()
    owned = stage_named("ingest").parts
    paths = (path for part in owned for path in part.owns)
    return any(name.startswith(f"{p.format(s)}/") for p in paths for s in specimens)


def test_damage_is_found_and_only_that_is_redone(run: Path, finished: Path, cohort: Path) -> None:
    sound = verify(run)
    assert sound.code == 0 and "as they were written" in sound.out
    hit = {"ingest": "cohort.zarr/S01/intensity", "features": "cohort.zarr/S02/coverage"}
    everything = chunks(run)
    kinds = ("lost", "short", "flipped")
    # the cubes of the other specimens stay as they are, to see that they are not made again
    spared = [p for p in everything if "axis" in p.parts or cube(run, p, ("S02", "S03"))]
    picked = random.Random(0).sample([p for p in everything if p not in spared], 24)
    picked += [p for p in everything if any(name in p.as_posix() for name in hit.values())]
    for i, file in enumerate(picked):
        damage(file, kinds[i % 3])
    (run / "metrics.csv").write_text("protocol\n")
    found = verify(run)
    assert found.code == 1 and "verify" in found.err
    for file in picked:
        array = file.relative_to(run).as_posix().partition("/c")[0]
        assert array in found.out, file
    assert "stage fit: metrics.csv: altered" in found.out
    for stage, array in hit.items():
        assert any(f"stage {stage}: {array}" in line for line in found.out.splitlines())
    assert verify(run, "--redo").code == 0
    again = msiscale("run", cohort, "--out", run, *CHOICES)
    assert again.code == 0, again.err
    assert not compare(snapshot(LocalStore(finished)), snapshot(LocalStore(run)))
    stages = json.loads((run / "run.json").read_text())["stages"]
    assert stages["ingest"]["blocks"] == 1  # of three
    assert verify(run).code == 0


def test_a_cut_record_is_as_good_as_none(
    run: Path, finished: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msiscale.store.lease.CUT_S", 0.3)
    newest = max((run / "lease").iterdir())
    cut = [run / f"ledger/{name}.json" for name in ("peaks/S01", "fit/cohort", "features/S02")]
    block = next((run / "ledger/features/S03").iterdir())
    for i, file in enumerate([newest, run / "run.json", block, *cut]):
        data = file.read_bytes()
        file.write_bytes(data[: i % 2 * len(data) // 2])
    status = msiscale("status", run)
    assert status.code == 0 and {"S01", "S02", "S03"} <= {*status.out.split()}
    assert "peaks: S01.json is empty or cut; it counts as not written" in status.err
    found = verify(run)
    assert found.code == 1
    for file in (block, *cut):
        assert f"{file.relative_to(run)}: empty or cut" in found.out, found.out
    assert f"S03: stage features: {block.relative_to(run)}" in found.out
    assert verify(run, "--redo").code == 0 and not block.exists()
    (run / "cohort.zarr/zarr.json").write_text("")
    (run / "ledger/register/S01.json").write_text('{"sta')
    again = msiscale("run", cohort, "--out", run, *CHOICES)
    assert again.code == 0, again.err
    assert "cohort.zarr/zarr.json: empty or cut" in again.err
    assert "register: S01.json is empty or cut" in again.err
    assert not compare(snapshot(LocalStore(finished)), snapshot(LocalStore(run)))
    stages = json.loads((run / "run.json").read_text())["stages"]
    assert (stages["peaks"]["redone"], stages["register"]["redone"]) == (1, 1)
    assert verify(run).code == 0


def test_no_run_is_said(tmp_path: Path) -> None:
    said = verify(tmp_path)
    assert said.code == 1 and "no run there" in said.err
