"""An HDF5 image once its layout is known: its spectra, read lazily as slabs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from msiscale import store
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi.source import as_indices
from msiscale.msi.spectra import (
    Floats,
    Intensities,
    Ints,
    Repairs,
    Spectra,
    clean,
    sort_mz,
    starts,
)
from msiscale.store import is_url, local_path

#: Bytes of a chunk, which is unpacked whole, and values of what is read whole.
MOST_CHUNK, MOST_WHOLE = 1 << 29, 1 << 25


@dataclass
class Hdf5Source:
    """An HDF5 image; see `msiscale.msi.source.MsiSource` for the attributes they share.

    ``layout`` names a row of the table in `msiscale.msi.hdf5`. ``address`` (n, d) says where in
    ``names``, the data sets of the layout, each spectrum lies; how is a matter of the function in
    `_READ`.
    """

    path: str
    layout: str
    shape: tuple[int, int]
    pixel_um: tuple[float, float] | None
    positions: NDArray[np.int32]
    origin: tuple[int, int]
    mz: Floats | None
    lengths: Ints
    profile: bool
    polarity: str | None
    mode: str
    notes: list[str]
    storage: str
    names: tuple[str, ...]
    address: Ints = field(repr=False)
    mz_order: Ints | None = field(default=None, repr=False)

    def read(self, indices: NDArray[np.integer]) -> Spectra:
        """The spectra `indices`, in that order; m/z ascending. Warns of values read as 0."""
        indices = as_indices(indices)
        start = starts(self.lengths[indices])
        if self.mz is not None:
            dense, repairs = self._dense(indices)
            return Spectra(np.tile(self.mz, len(indices)), dense.ravel(), start, repairs)
        mzs, values = [np.empty(0)], [np.empty(0, np.float32)]
        with open_file(self.path) as file:
            for row in self.address[indices, 0]:
                mzs.append(whole(self.path, file, self.names[0].format(row), 1))
                values.append(whole(self.path, file, self.names[1].format(row), 1))
        intensity, repairs = clean(np.concatenate(values))
        try:
            mz, intensity, unsorted = sort_mz(
                np.concatenate(mzs).astype(np.float64), intensity, start
            )
        except ValueError as error:
            raise InputError(f"{self.path}: {error}; export the image again") from None
        repairs += Repairs(unsorted=unsorted)
        _warn(self.path, repairs)
        return Spectra(mz, intensity, start, repairs)

    def read_dense(self, indices: NDArray[np.integer]) -> Intensities:
        """(m, k) float32 intensities on the shared axis, in the order of `indices`."""
        return self._dense(as_indices(indices))[0]

    def _dense(self, indices: Ints) -> tuple[Intensities, Repairs]:
        if self.mz is None:
            raise TypeError(f"{self.path}: its spectra share no m/z axis")
        with open_file(self.path) as file:
            found = _READ[self.storage](self, file, self.address[indices])
        values, repairs = clean(found)
        if self.mz_order is not None:
            values = values[:, self.mz_order]
        _warn(self.path, repairs)
        return values, repairs


@contextmanager
def open_file(path: str) -> Iterator[h5py.File]:
    try:
        if is_url(path):
            with store.open_file(path) as remote, h5py.File(remote, "r") as file:
                yield file
        else:
            with h5py.File(local_path(path), "r") as file:
                yield file
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged HDF5 ({reason}); copy the file again") from None


def dataset(path: str, file: h5py.File, name: str, ndim: int | None = None) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{path}: has no data set {name}; export the image again")
    if found.is_virtual or found.external or found.file.filename != file.filename:
        raise InputError(f"{path}: {name} points into other files; repack it with h5repack")
    if ndim is not None and found.ndim != ndim:
        raise InputError(f"{path}: {name} has {found.ndim} dimensions instead of {ndim}; mend it")
    if found.dtype.kind not in "fiub":
        raise InputError(f"{path}: {name} holds {found.dtype}, not numbers; mend it")
    if found.chunks is not None and math.prod(found.chunks) * found.dtype.itemsize > MOST_CHUNK:
        raise InputError(f"{path}: {name} has chunks of {found.chunks}; repack it with h5repack")
    return found


def whole(path: str, file: h5py.File, name: str, ndim: int | None = None) -> NDArray:
    """All values of a data set that is small in any image (an axis, coordinates)."""
    found = dataset(path, file, name, ndim)
    if found.size > MOST_WHOLE:
        raise InputError(
            f"{path}: {name} is said to have {found.size} values; export the image again"
        )
    return np.asarray(found[...])


def _runs(sorted_rows: Ints) -> Iterator[tuple[int, int]]:
    """Ranges [a, b) of positions in which consecutive rows follow closely upon another."""
    cuts = np.flatnonzero(np.diff(sorted_rows) > 8) + 1
    edges = np.concatenate([[0], cuts, [len(sorted_rows)]])
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _read_matrix(source: Hdf5Source, file: h5py.File, address: Ints, by_row: bool) -> NDArray:
    data = dataset(source.path, file, source.names[0], 2)
    assert source.mz is not None
    out = np.empty((len(address), len(source.mz)), data.dtype)
    rows = address[:, 0]
    order = np.argsort(rows, kind="stable")
    if len(rows) == 0:
        return out
    for a, b in _runs(rows[order]):
        some = rows[order[a:b]]
        low, high = int(some[0]), int(some[-1]) + 1
        slab = data[low:high] if by_row else data[:, low:high].T
        out[order[a:b]] = slab[some - low]
    return out


def _read_rows(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    return _read_matrix(source, file, address, by_row=True)


def _read_columns(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    return _read_matrix(source, file, address, by_row=False)


def _read_cube(source: Hdf5Source, file: h5py.File, address: Ints, mz_first: bool) -> NDArray:
    """Line by line of the first pixel axis, in runs along the second."""
    data = dataset(source.path, file, source.names[0], 3)
    assert source.mz is not None
    out = np.empty((len(address), len(source.mz)), data.dtype)
    for line in np.unique(address[:, 0]).tolist():
        at = np.flatnonzero(address[:, 0] == line)
        at = at[np.argsort(address[at, 1], kind="stable")]
        for a, b in _runs(address[at, 1]):
            some = address[at[a:b], 1]
            low, high = int(some[0]), int(some[-1]) + 1
            slab = data[:, line, low:high].T if mz_first else data[line, low:high]
            out[at[a:b]] = slab[some - low]
    return out


def _read_cube_mz_first(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    return _read_cube(source, file, address, mz_first=True)


def _read_cube_mz_last(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    return _read_cube(source, file, address, mz_first=False)


def _read_csr(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    data = dataset(source.path, file, source.names[0], 1)
    columns = dataset(source.path, file, source.names[1], 1)
    assert source.mz is not None
    k = len(source.mz)
    out = np.zeros((len(address), k), np.float64 if data.dtype == np.float64 else np.float32)
    order = np.argsort(address[:, 0], kind="stable")
    begin, end = address[order].T
    cuts = np.flatnonzero(begin[1:] != end[:-1]) + 1
    for part in np.split(np.arange(len(order)), cuts):
        if len(part) == 0 or begin[part[0]] == end[part[-1]]:
            continue
        low, high = int(begin[part[0]]), int(end[part[-1]])
        column = np.asarray(columns[low:high], np.int64)
        if column.min() < 0 or column.max() >= k:
            raise InputError(f"{source.path}: {source.names[1]} names an m/z that is not there")
        row = np.repeat(order[part], end[part] - begin[part])
        np.add.at(out, (row, column), data[low:high])  # entries written twice add up
    return out


def _read_spots(source: Hdf5Source, file: h5py.File, address: Ints) -> NDArray:
    assert source.mz is not None
    out = np.empty((len(address), len(source.mz)), np.float64)
    for i, row in enumerate(address[:, 0]):
        values = whole(source.path, file, source.names[0].format(row)).ravel()
        if len(values) != len(source.mz):
            raise InputError(
                f"{source.path}: spot {row} has {len(values)} intensities on an axis of "
                f"{len(source.mz)} m/z; export it again"
            )
        out[i] = values
    return out


_READ: dict[str, Callable[[Hdf5Source, h5py.File, Ints], NDArray]] = {
    "rows": _read_rows,
    "columns": _read_columns,
    "cube_mz_first": _read_cube_mz_first,
    "cube_mz_last": _read_cube_mz_last,
    "csr": _read_csr,
    "spots": _read_spots,
}


def _warn(path: str, repairs: Repairs) -> None:
    if repairs:
        warnings.warn(f"{path}: {repairs}", MsiscaleWarning, stacklevel=3)
