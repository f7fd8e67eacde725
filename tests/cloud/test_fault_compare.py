"""The comparison of the fault matrix sees what it is there to see."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import obstore
import pytest
import zarr
from obstore.store import LocalStore, MemoryStore

from benchmarks.common.places import names
from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.matrix import Row, totals
from msiscale.errors import InputError
from msiscale.store import create_array, open_group


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a run leaves, in little."""
    out = tmp_path / "run"
    group = open_group(str(out / "cohort.zarr"), "a")
    array = create_array(group, "values", (4, 6), ("y", "x"), chunks=(2, 3), shards=(2, 6))
    array[...] = np.array([[np.nan, -0.0, 1.5, 2, 3, 4]] * 4, np.float32)
    (out / "metrics.csv").write_text("a,b\n1,2\n")
    (out / "ledger" / "fit").mkdir(parents=True)
    (out / "ledger" / "fit" / "cohort.json").write_text('{"status": "done"}')
    (out / "run.json").write_text('{"wall_s": 1}')
    return out


def of(folder: Path) -> dict[str, str]:
    return snapshot(LocalStore(folder))


def test_a_copy_is_the_same_wherever_it_is(run: Path) -> None:
    memory = MemoryStore()
    for path in (p for p in run.rglob("*") if p.is_file()):
        obstore.put(memory, path.relative_to(run).as_posix(), path.read_bytes())
    obstore.put(memory, "run.json", b'{"wall_s": 2}')
    obstore.put(memory, "ledger/lease/cohort.json", b'{"status": "held"}')
    assert not compare(of(run), snapshot(memory))


@pytest.mark.parametrize("bits", [np.float32(0.0), np.float32(np.nan)])
def test_one_changed_bit_is_a_difference(run: Path, tmp_path: Path, bits: np.float32) -> None:
    shutil.copytree(run, tmp_path / "other")
    array = zarr.open_group(str(tmp_path / "other" / "cohort.zarr"))["values"]
    array[0, 1] = bits  # was -0.0
    found = compare(of(run), of(tmp_path / "other"))
    assert found.different == ("cohort.zarr/values",) and not found.lost


def test_a_lost_chunk_table_or_record_is_named(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "cohort.zarr/values/c/1/0").unlink()
    (other / "metrics.csv").write_text("a,b\n1,3\n")
    (other / "ledger/fit/cohort.json").write_text('{"status": "failed"}')
    found = compare(of(run), of(other))
    assert found.lost == ("cohort.zarr/values/c/1/0",)
    assert found.different == ("cohort.zarr/values", "ledger/fit/cohort.json", "metrics.csv")
    shutil.rmtree(other / "cohort.zarr")
    assert "cohort.zarr/values" in compare(of(run), of(other)).lost
    assert compare(of(other), of(run)).different  # arrays that should not be there


def test_rows_add_up() -> None:
    bad = Row("a", "fit", 1.0, 2, ("x", "y"), ("z",), 3, stuck=1)
    facts = {"mixed": 1.0, "refused": 0.0, "tracebacks": 2.0}
    mixed = Row("b", "fit", 1.0, 0, (), (), 0, facts=facts)
    found = totals([bad, mixed])
    assert found == {"cases": 2, "lost": 3, "different": 2, "survived": 1, "tracebacks": 2}
    assert bad.flat()["a.fit.redone_tasks"] == 3


def test_unknown_names_are_refused() -> None:
    assert names([], ["a", "b"], "--faults") == ["a", "b"]
    assert names(["b"], ["a", "b"], "--faults") == ["b"]
    with pytest.raises(InputError, match="--faults c: choose out of a, b"):
        names(["c"], ["a", "b"], "--faults")
