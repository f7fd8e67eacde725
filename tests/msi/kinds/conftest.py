"""One image, and files of arrays by name that hold it: HDF5, Zarr of format 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from scipy.sparse import csc_array, csr_array

from msiscale.msi import open_source
from msiscale.msi.source import MsiSource

NY, NX, K = 5, 4, 7
SUFFIX = {"hdf5": "a.h5ad", "zarr2": "a.zarr", "zarr3": "b.zarr"}


@dataclass
class Image:
    """Known spectra: two in three values are zero, a pixel has none, one was not measured."""

    mz: np.ndarray
    yx: np.ndarray
    rows: np.ndarray

    @classmethod
    def made(cls) -> Image:
        rng = np.random.default_rng(5)
        rows = rng.integers(1, 100, (NY * NX - 1, K)) * (rng.random((NY * NX - 1, K)) < 0.4)
        rows[:, 0] = 1
        rows[6] = 0
        yx = rng.permutation(np.argwhere(np.ones((NY, NX), bool)))[:-1]
        return cls(np.sort(rng.uniform(100, 1000, K)), yx, rows.astype(np.float32))

    @property
    def xy(self) -> np.ndarray:
        return self.yx[:, ::-1]

    def check(self, source: MsiSource, measured: np.ndarray | None = None) -> None:
        """Every spectrum of a source is on its pixel, read in any order."""
        keep = np.ones(len(self.yx), bool) if measured is None else measured
        yx, rows = self.yx[keep], self.rows[keep]
        assert len(source.positions) == len(yx)
        np.testing.assert_array_equal(source.positions, yx - yx.min(axis=0))
        order = np.random.default_rng(1).permutation(len(yx))
        for i, (mz, intensity) in zip(order, source.read(order), strict=True):
            full = np.zeros(len(self.mz), np.float32)
            full[np.searchsorted(self.mz, mz)] = intensity
            np.testing.assert_array_equal(full, rows[i])
            np.testing.assert_array_equal(self.mz[np.searchsorted(self.mz, mz)], mz)
        assert len(source.read(np.array([], np.int64))) == 0


@dataclass
class Arrays:
    """What goes into a file: arrays and text by name, and attributes."""

    kind: str
    path: Path
    arrays: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def sparse(self, name: str, rows: np.ndarray, by: str = "csr") -> None:
        """A sparse matrix as AnnData writes it."""
        matrix = (csr_array if by == "csr" else csc_array)(rows)
        for part in ("data", "indices", "indptr"):
            self.arrays[f"{name}/{part}"] = getattr(matrix, part)
        self.attrs[name] = {"encoding-type": f"{by}_matrix", "shape": list(rows.shape)}

    def category(self, name: str, values: list[str]) -> None:
        """A column of few texts as AnnData writes it."""
        known, codes = np.unique(values, return_inverse=True)
        self.arrays |= {f"{name}/categories": known.tolist(), f"{name}/codes": codes.astype("i1")}

    def open(self, **options: Any) -> MsiSource:
        """Write the file and open it."""
        self.write()
        return open_source(str(self.path), **options)

    def write(self) -> None:
        """Write the file."""
        root: Any = (
            h5py.File(self.path, "w")
            if self.kind == "hdf5"
            else zarr.open_group(self.path, mode="w", zarr_format=int(self.kind[-1]))
        )
        for name, value in self.arrays.items():
            values = np.asarray(value)
            if values.dtype.kind in "US" and self.kind == "hdf5":
                root.create_dataset(name, data=value, dtype=h5py.string_dtype())
            elif values.dtype.kind in "US":
                array = root.create_array(name, shape=values.shape, dtype=str)
                array[...] = values.astype(object)
            elif self.kind == "hdf5":
                root[name] = values
            else:
                chunks = tuple(max(1, n // 2) for n in values.shape)
                root.create_array(name, data=values, chunks=chunks)
        for name, attrs in self.attrs.items():
            found = root if name == "" else root.require_group(name)
            found.attrs.update(attrs)
        if self.kind == "hdf5":
            root.close()


@pytest.fixture(scope="session")
def image() -> Image:
    return Image.made()


@pytest.fixture(params=list(SUFFIX))
def arrays(request: pytest.FixtureRequest, tmp_path: Path) -> Arrays:
    """An empty file of each kind."""
    return Arrays(request.param, tmp_path / SUFFIX[request.param])


@pytest.fixture
def zarrs(tmp_path: Path) -> Callable[[str], Arrays]:
    """An empty Zarr of a format."""
    return lambda kind: Arrays(kind, tmp_path / SUFFIX[kind])
