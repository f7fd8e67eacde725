"""Shards written at once are those that Zarr reads, and reads back to the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.grid import blocks
from msiscale.store import create_array, open_group, write_block
from msiscale.store.shards import codec_of


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["f4", "f8", "u1", "i8"]),
    st.integers(0, 2**32 - 1),
)
def test_zarr_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    times: tuple[int, int],
    dtype: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * 100).astype(dtype)
    values[rng.random(shape) < 0.3] = 0
    if dtype[0] == "f":
        values[: shape[0] // 2] = np.nan
    url = str(tmp_path_factory.mktemp("s") / "a.zarr")
    group = open_group(url, "a")
    size = chunk[0] * times[0], chunk[1] * times[1]
    array = create_array(
        group, "v", shape, ("y", "x", "z"), dtype, chunks=chunk, shards=(*size, shape[2])
    )
    assert codec_of(array) is not None
    assert array.shards is not None
    step = array.shards[:2]
    for block in blocks(shape[:2], step):
        write_block(array, block, values[block.slices])
    found = np.asarray(open_group(url)["v"][...])  # type: ignore[index]
    np.testing.assert_array_equal(found, values)
    corner = np.asarray(open_group(url)["v"][-1:, -1:, -1:])  # type: ignore[index]
    np.testing.assert_array_equal(corner, values[-1:, -1:, -1:])


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    group = open_group(str(tmp_path / "a.zarr"), "a")
    array = create_array(group, "v", (8, 8, 6), ("y", "x", "z"), chunks=(4, 4, 3), shards=(8, 8, 6))
    values = np.random.default_rng(0).normal(size=(8, 8, 6)).astype(np.float32)
    write_block(array, next(blocks((8, 8), (8, 8))), values)
    (shard,) = (tmp_path / "a.zarr" / "v" / "c").rglob("0/0/0")
    sound = shard.read_bytes()
    for at in np.linspace(0, len(sound) - 1, 60).astype(int):
        broken = bytearray(sound)
        broken[at] ^= 4
        shard.write_bytes(bytes(broken))
        with pytest.raises(Exception):  # noqa: B017 - whichever codec notices
            np.asarray(open_group(str(tmp_path / "a.zarr"))["v"][...])  # type: ignore[index]


def test_an_array_without_shards_is_left_to_zarr(tmp_path: Path) -> None:
    group = open_group(str(tmp_path / "a.zarr"), "a")
    array = create_array(group, "v", (8, 8), ("y", "x"), chunks=(4, 4))
    assert codec_of(array) is None
