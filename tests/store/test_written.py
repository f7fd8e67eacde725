"""What a task wrote is noted, with checksums of the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.grid import Block
from msiscale.store import (
    LostChunk,
    array_of,
    create_array,
    join,
    open_group,
    put,
    read,
    remove,
    write_block,
    write_bytes,
)
from msiscale.store.written import crc, recording


@pytest.mark.parametrize("where", ["local", "memory"])
def test_writes_are_noted_below_the_root(where: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run") if where == "local" else f"memory://noted/{tmp_path.name}"
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with recording(out) as noted:
        group = open_group(join(out, "c.zarr", "s"), "a")
        array = create_array(group, "a", (3, 4), ("y", "x"), chunks=(3, 2))
        write_block(array, Block(0, 3, 2, 4), values[:, 2:])
        put(group, "b", values, ("y", "x"))
        write_bytes(join(out, "m.csv"), b"x")
        write_bytes(str(tmp_path / "elsewhere"), b"y")
    assert noted.parts == {
        "c.zarr/s/a[0:3,2:4]": crc(np.ascontiguousarray(values[:, 2:])),
        "c.zarr/s/b": crc(values),
        "m.csv": crc(b"x"),
    }
    assert noted.bytes == 6 * 4 + 12 * 4 + 1
    remove(out)


def test_the_guard_stops_a_write(tmp_path: Path) -> None:
    def stop() -> None:
        raise RuntimeError("taken over")

    with recording(str(tmp_path), stop), pytest.raises(RuntimeError, match="taken over"):
        write_bytes(str(tmp_path / "f"), b"x")
    assert not (tmp_path / "f").exists()


def test_the_same_array_is_written_over_and_never_removed(tmp_path: Path) -> None:
    group = open_group(str(tmp_path / "g.zarr"), "a")
    put(group, "v", np.arange(4.0), ("x",), attrs={"units": "m"})
    chunk = tmp_path / "g.zarr" / "v" / "c" / "0"
    (tmp_path / "g.zarr" / "v" / "left").touch()
    put(group, "v", np.arange(4.0) + 1, ("x",), attrs={"units": "km"})
    assert (tmp_path / "g.zarr" / "v" / "left").exists() and chunk.exists()
    assert read(group, "v").tolist() == [1, 2, 3, 4]
    assert array_of(open_group(str(tmp_path / "g.zarr")), "v").attrs["units"] == "km"
    put(group, "v", np.arange(5.0), ("x",))  # another shape: another array
    assert not (tmp_path / "g.zarr" / "v" / "left").exists()


def test_a_missing_chunk_never_reads_as_fill_values(tmp_path: Path) -> None:
    group = open_group(str(tmp_path / "g.zarr"), "a")
    for name, shards in (("plain", None), ("sharded", (4, 4))):
        array = create_array(group, name, (8, 8), ("y", "x"), chunks=(2, 2), shards=shards)
        array[...] = 1.0
        next(p for p in (tmp_path / "g.zarr" / name / "c").rglob("*") if p.is_file()).unlink()
        with pytest.raises(LostChunk, match=name):
            read(open_group(str(tmp_path / "g.zarr")), name)
    # the stores of others may leave chunks out
    assert np.isnan(read(open_group(str(tmp_path / "g.zarr"), whole=False), "plain")).any()
