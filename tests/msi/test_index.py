"""A source from its saved index is the source that was opened."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np

from msiscale import msi
from msiscale.errors import InputError
from msiscale.msi.imzml import ImzmlSource
from msiscale.msi.index import load_index, save_index
from msiscale.store import open_group


def test_every_real_file(shared_data: Path, tmp_path: Path) -> None:
    sound = 0
    for i, path in enumerate(sorted(shared_data.glob("imzml/*/*.[iI]mz*"))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                source = msi.open_source(str(path))
            except InputError:
                continue
            sound += 1
            group = open_group(str(tmp_path / f"{i}.zarr"), "a")
            save_index(source, group)
            again = load_index(open_group(str(tmp_path / f"{i}.zarr")), str(path))
            assert isinstance(source, ImzmlSource) and again is not None
            for field in fields(source):
                if field.name not in ("mz_arrays", "intensity_arrays"):
                    np.testing.assert_array_equal(
                        getattr(again, field.name), getattr(source, field.name), err_msg=field.name
                    )
            some = np.arange(len(source.positions))
            np.testing.assert_array_equal(again.read(some).mz, source.read(some).mz)
            np.testing.assert_array_equal(again.read(some).intensity, source.read(some).intensity)
    assert sound >= 11


def test_of_another_format_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    msi.write_hdf5(path, [100.0, 200.0], [[0, 0]], [[1.0, 2.0]], pixel_um=10.0)
    group = open_group(str(tmp_path / "a.zarr"), "a")
    save_index(msi.open_source(str(path)), group)
    assert load_index(group, str(path)) is None
