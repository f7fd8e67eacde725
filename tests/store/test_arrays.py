"""The store: whole shards, checksums, labels that xarray reads, and a ledger that is believed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.store import (
    Ledger,
    create_array,
    divisor,
    join,
    listing,
    open_group,
    put,
    read,
    read_json,
    remove,
    write_block,
    write_bytes,
)


def cube(folder: Path) -> tuple[str, np.ndarray]:
    url = str(folder / "c.zarr")
    group = open_group(url, "a").require_group("s1")
    values = np.random.default_rng(0).random((50, 70, 6), dtype=np.float32)
    array = create_array(
        group, "v", values.shape, ("y", "x", "mz"), chunks=(16, 16, 3), shards=(32, 32, 6)
    )
    for y in range(0, 50, 32):
        for x in range(0, 70, 32):
            block = Block(y, min(y + 32, 50), x, min(x + 32, 70))
            write_block(array, block, values[block.slices])
    put(group, "mz", np.arange(6.0), ("mz",))
    return url, values


def test_xarray_opens_what_is_written(tmp_path: Path) -> None:
    url, values = cube(tmp_path)
    tree = xr.open_datatree(url, engine="zarr", consolidated=False)
    np.testing.assert_array_equal(tree["s1/v"], values)
    assert tree["s1/v"].dims == ("y", "x", "mz")


def test_a_block_that_is_not_whole_shards_is_refused(tmp_path: Path) -> None:
    url, _ = cube(tmp_path)
    array = open_group(join(url, "s1"), "r+")["v"]
    with pytest.raises(ValueError, match="whole"):
        write_block(array, Block(0, 16, 0, 32), np.zeros((16, 32, 6), np.float32))  # type: ignore


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    url, _ = cube(tmp_path)
    shard = next(p for p in Path(url, "s1", "v", "c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 4
    shard.write_bytes(data)
    with pytest.raises(Exception, match=r"(?i)checksum|crc|corrupt|restored data"):
        open_group(url)["s1/v"][...]  # type: ignore[index]


def test_empty_chunks_are_written(tmp_path: Path) -> None:
    array = create_array(open_group(str(tmp_path / "e.zarr"), "a"), "v", (4, 4), ("y", "x"))
    write_block(array, Block(0, 4, 0, 4), np.full((4, 4), np.nan, np.float32))
    assert array.nchunks_initialized == 1


def test_names_cannot_climb_out() -> None:
    for part in ("../x", "/etc", "a/../../b", ""):
        with pytest.raises(ValueError, match="not a name"):
            join("out", part)


def test_the_ledger_believes_only_its_digest(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    assert not ledger.done("ingest", "a", "k1")
    ledger.write("ingest", "a", "k1", "done", spectra=3)
    assert ledger.done("ingest", "a", "k1") and not ledger.done("ingest", "a", "k2")
    ledger.write("ingest", "a", "k1", "failed", reason="no")
    assert not ledger.done("ingest", "a", "k1")
    ledger.write("ingest", "b.json", "k1", "done")
    ledger.write("ingest", "b/0-0", "k1", "done")  # of a block
    assert ledger.stages() == ["ingest"] and ledger.names("ingest") == ["a", "b.json"]
    ledger.forget("ingest", ["a", "never"])
    assert ledger.read("ingest", "a") is None
    assert ledger.names("never") == [] and Ledger(str(tmp_path / "none")).stages() == []


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_bytes(str(path), b"{}")
    assert read_json(str(path)) == {} and [p.name for p in tmp_path.iterdir()] == ["x.json"]
    path.write_text("{cut")
    with pytest.raises(InputError, match=r"x\.json"):
        read_json(str(path))


def test_remove_says_whether_there_was_anything(tmp_path: Path) -> None:
    write_bytes(str(tmp_path / "a" / "b" / "c"), b"")
    write_bytes(str(tmp_path / "a" / "d"), b"")
    assert listing(str(tmp_path / "a")) == ["b", "d"] and listing(str(tmp_path / "a" / "d")) == []
    assert remove(str(tmp_path / "a" / "b")) and remove(str(tmp_path / "a" / "d"))
    assert not remove(str(tmp_path / "a" / "d"))
    assert listing(str(tmp_path / "a")) == [] and listing(str(tmp_path / "none")) == []


def test_divisor() -> None:
    assert [divisor(s, 32) for s in (64, 48, 7, 96)] == [32, 24, 7, 32]


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Zarr store"):
        open_group(str(tmp_path / "none"))


def test_workers_that_make_one_group_at_once_all_have_it(tmp_path: Path) -> None:
    for turn in range(20):
        url = str(tmp_path / f"{turn}.zarr")
        with ThreadPoolExecutor(8) as pool:
            groups = list(pool.map(lambda _, url=url: open_group(url, "a"), range(8)))
        assert all(group.read_only is False for group in groups)


def test_a_single_number_and_an_array_of_one_chunk_are_read_as_they_are(tmp_path: Path) -> None:
    group = open_group(str(tmp_path / "g.zarr"), "a")
    for name, value in {"one": np.float64(3.5), "many": np.arange(6, dtype=">i4")[::-1]}.items():
        put(group, name, value, tuple("ab"[: np.ndim(value)]))
        found = read(group, name)
        np.testing.assert_array_equal(found, value)
        found[...] = 0  # the caller's own
        np.testing.assert_array_equal(read(group, name), value)
