"""Columns of one m/z: read once where they repeat one another, summed where they differ."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pyimzml.ImzMLWriter import ImzMLWriter

from msiscale import msi
from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.msi.index import load_index, save_index
from msiscale.msi.source import MsiSource
from msiscale.store import open_group

# as of a real export: descends at places, one m/z twice with the same intensities (columns 1 and
# 5), one twice with different ones (2 and 6), an ion that is nearly never there (3 and 7)
MZ = np.array([700.0, 881.26, 657.09, 1500.5, 650.0, 881.26, 657.09, 1500.5, 1450.54577])
RIGHT = [650.0, 657.09, 700.0, 881.26, 1450.54577, 1500.5]
XY = [(x, y) for y in range(1, 21) for x in range(1, 16)]


def values() -> np.ndarray:
    """Intensities (300, 9)."""
    found = np.random.default_rng(1).integers(1, 50, (len(XY), len(MZ))).astype(np.float32)
    found[:, 5] = found[:, 1]
    found[:, [3, 7]] = 0
    found[200, 7] = 9  # so that only a look at nearly all of them tells that they differ
    return found


def expected(stored: np.ndarray) -> np.ndarray:
    own = [4, 2, 0, 1, 8, 3]
    found = stored[:, own].copy()
    found[:, 1] += stored[:, 6]
    found[:, 5] += stored[:, 7]
    return found


def imzml(folder: Path, mz: np.ndarray, stored: np.ndarray) -> Path:
    with ImzMLWriter(str(folder / "image"), mode="continuous", polarity="positive") as writer:
        for place, intensity in zip(XY, stored, strict=True):
            writer.addSpectrum(mz, intensity, place)
    return folder / "image.imzML"


def dense(folder: Path, mz: np.ndarray, stored: np.ndarray) -> Path:
    msi.write_hdf5(
        str(folder / "image.h5"), np.arange(1.0, 1 + len(mz)), np.array(XY), stored, pixel_um=25.0
    )
    with h5py.File(folder / "image.h5", "a") as file:
        file["mz"][...] = mz
    return folder / "image.h5"


def sparse(folder: Path, mz: np.ndarray, stored: np.ndarray) -> Path:
    path = dense(folder, mz, stored)
    row, column = np.nonzero(stored)
    with h5py.File(path, "a") as file:
        del file["intensity"]
        file["data"], file["indices"] = stored[row, column], column
        file["indptr"] = np.searchsorted(row, np.arange(len(XY) + 1))
    return path


def study(folder: Path, mz: np.ndarray, stored: np.ndarray) -> Path:
    """The cube of the published study: (mz, x, y)."""
    with h5py.File(folder / "image.h5", "w") as file:
        file["common_mz"] = mz
        file["interpolated_intensities"] = stored.T.reshape(len(mz), 20, 15).transpose(0, 2, 1)
    return folder / "image.h5"


def everything(source: MsiSource) -> np.ndarray:
    """Intensities in raster order."""
    order = np.lexsort(source.positions.T[::-1])
    return source.read_dense(np.arange(len(source.positions)))[order]


@pytest.mark.parametrize("write", [imzml, dense, sparse, study])
def test_every_layout(tmp_path: Path, write: Any) -> None:
    stored = values()
    source = msi.open_source(str(write(tmp_path, MZ, stored)))
    assert source.mz is not None and source.mz.tolist() == RIGHT
    np.testing.assert_array_equal(everything(source), expected(stored))
    odd = [note for note in source.notes if "m/z" in note and "named" not in note]
    assert odd == [
        "note: the m/z axis does not ascend; sorted",
        "m/z 881.26000 is stored more than once, with the same intensities; the copies are left "
        "out",
        "m/z 657.09000, 1500.50000 are stored more than once, with different intensities, which "
        "are summed",
    ]
    read = source.read(np.array([7, 3]))
    assert len(read) == 2 and read[0][0].tolist() == RIGHT
    cube, _ = msi.cube_block(source, None, Block(0, 4, 0, 5))
    assert cube.shape == (4, 5, len(RIGHT))
    binned, _ = msi.cube_block(source, source.mz, Block(0, 4, 0, 5))
    np.testing.assert_array_equal(binned, cube)
    assert msi.open_msi(source.path).intensity.shape == (20, 15, len(RIGHT))


def test_a_sorted_axis_with_one_copy(tmp_path: Path) -> None:
    """And copies of an ion that is never there, which are as good as the original."""
    mz, stored = np.array([100.0, 200.0, 200.0, 300.0, 300.0]), values()[:, [0, 1, 5, 8, 8]]
    stored[:, 3:] = 0
    source = msi.open_source(str(dense(tmp_path, mz, stored)))
    np.testing.assert_array_equal(everything(source), stored[:, [0, 1, 3]])
    assert source.notes == [
        "m/z 200.00000, 300.00000 are stored more than once, with the same intensities; the copies "
        "are left out"
    ]


def test_a_copy_that_differs_where_nobody_looked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not dropped in silence."""
    monkeypatch.setattr("msiscale.msi.source._LOOK_VALUES", 30)  # ten spectra at a time
    mz, stored = np.array([100.0, 200.0, 200.0]), values()[:, [0, 1, 5]]
    stored[299, 2] += 1
    source = msi.open_source(str(dense(tmp_path, mz, stored)))
    source.read_dense(np.arange(299))
    with pytest.raises(InputError, match=r"image\.h5: column 2 has an m/z that another column has"):
        source.read_dense(np.arange(300))


def test_the_saved_index_knows_them(tmp_path: Path) -> None:
    stored = values()
    source = msi.open_source(str(imzml(tmp_path, MZ, stored)))
    group = open_group(str(tmp_path / "kept.zarr"), "a")
    save_index(source, group)
    again = load_index(open_group(str(tmp_path / "kept.zarr")), source.path)
    assert again is not None
    np.testing.assert_array_equal(everything(again), expected(stored))


def test_what_is_read_of_an_axis_in_order_is_not_copied(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = msi.open_source(str(dense(tmp_path, np.arange(1.0, 10.0), values())))
    assert (source.mz_order, source.mz_start, source.mz_same, source.notes) == (None,) * 3 + ([],)
