"""A pandas HDFStore of grine-v2, read as HDF5 and never unpickled."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.msi import open_source

FRAME = "barley101GrineV2"


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "grine.h5"
    shutil.copyfile(shared_data / "cases/msi/grine_pandas" / f"{FRAME}.h5", path)
    path.chmod(0o644)
    return path


def test_the_real_file(real: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source(str(real))))

    def whole(name: str) -> np.ndarray:
        """A data set unpacked by imagecodecs, chunk by chunk."""
        data = file[FRAME][name]
        if data.chunks is None:
            return data[...]
        out = np.zeros(data.shape, data.dtype)
        for i in range(data.id.get_num_chunks()):
            begin = data.id.get_chunk_info(i).chunk_offset
            _, packed = data.id.read_direct_chunk(begin)
            chunk = np.frombuffer(imagecodecs.blosc_decode(packed), data.dtype)
            place = tuple(slice(b, b + c) for b, c in zip(begin, data.chunks, strict=True))
            part = out[place]
            part[...] = chunk.reshape(data.chunks)[tuple(map(slice, part.shape))]
        return out

    with h5py.File(real) as file:
        x, y = (whole(f"axis1_level{i}")[whole(f"axis1_label{i}")] for i in (0, 1))
        values, mz = whole("block0_values"), whole("block0_items")
    assert source.shape == (np.ptp(y) + 1, np.ptp(x) + 1) and len(source.positions) == 3422
    np.testing.assert_array_equal(source.positions, np.stack([y - y.min(), x - x.min()], axis=1))
    np.testing.assert_array_equal(source.mz, np.sort(mz))
    some = np.random.default_rng(0).permutation(3422)[:500]
    order = np.argsort(mz)
    expected = values[some][:, order].astype(np.float32).clip(0)
    np.testing.assert_array_equal(source.read_dense(some), expected)
    assert source.pixel_um is None


def put(frame: h5py.Group, name: str, values: np.ndarray) -> None:
    del frame[name]  # which is packed by Blosc, as PyTables does
    frame[name] = values.astype(np.int8) if values.dtype.kind in "ib" else values


def level(frame: h5py.Group) -> None:
    frame["axis1_level0"].attrs["axis1_name0"] = np.bytes_(b"column")


def datasets(frame: h5py.Group) -> None:
    put(frame, "axis1_level2", np.array([b"one", b"two"]))
    frame["axis1_level2"].attrs["axis1_name2"] = np.bytes_(b"dataset")
    put(frame, "axis1_label2", np.arange(3422) < 9)


def blocks(frame: h5py.Group) -> None:
    frame.attrs["nblocks"] = np.int32(2)


def as_table(frame: h5py.Group) -> None:
    frame.attrs["pandas_type"] = np.bytes_(b"frame_table")


def second(frame: h5py.Group) -> None:
    frame.file.create_group("another").attrs["pandas_type"] = np.bytes_(b"frame")


def without_pixel(frame: h5py.Group) -> None:
    put(frame, "axis1_label0", np.arange(3422) - 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (level, r"no level grid_x \(levels: column, grid_y, dataset\)"),
        (datasets, r"2 datasets \(one, two\); write a file of each"),
        (blocks, "columns of 2 types"),
        (as_table, "format='fixed'"),
        (second, r"2 frames \(another, barley101GrineV2\)"),
        (without_pixel, "have no grid_x"),
    ],
)
def test_what_is_wrong_is_named(
    real: Path, change: Callable[[h5py.Group], None], words: str
) -> None:
    with h5py.File(real, "a") as file:
        change(file[FRAME])
    with pytest.raises(InputError, match=words):
        open_source(str(real))


def test_no_pickle_is_read(real: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    with h5py.File(real, "a") as file:
        frame = file[FRAME]
        for name in ("axis1_level0", "block0_items"):
            frame[name].attrs["name"] = np.bytes_(pickle.dumps(Bad()))
        frame.attrs["info"] = np.void(pickle.dumps(Bad()))
    assert len(open_source(str(real)).positions) == 3422
    with h5py.File(real, "a") as file:
        values = file[FRAME]
        del values["block0_values"]
        values.create_dataset("block0_values", (1,), h5py.vlen_dtype(np.uint8))
    with pytest.raises(InputError, match="block0_values"):
        open_source(str(real))
    assert not ran.exists()
