"""HDF5 images once their layout is known: what is small read whole, the spectra lazily in slabs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import h5py
import numpy as np

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.places import near
from msiscale.msi.source import MsiSource, bounding_box
from msiscale.msi.spectra import Floats, Ints, Numbers

#: Bytes of a chunk, which is unpacked whole, and values of what is read whole.
MOST_CHUNK, MOST_WHOLE = 1 << 29, 1 << 25
FARTHEST = 1e9  #: of a pixel index
IF_UM = "; if that is µm give it as pixel_um"


@dataclass(frozen=True)
class Hdf5File:
    """An open HDF5 file; what is asked of it is checked, and refused in a line that names it."""

    path: str
    file: h5py.File

    def __contains__(self, name: str) -> bool:
        return name in self.file

    def dataset(self, name: str, ndim: int | None = None) -> h5py.Dataset:
        """Numbers in this file, and of so many dimensions."""
        found, path = self.file.get(name), self.path
        if not isinstance(found, h5py.Dataset):
            raise InputError(f"{path}: has no data set {name}; export the image again")
        if found.is_virtual or found.external or found.file.filename != self.file.filename:
            raise InputError(f"{path}: {name} points into other files; repack it with h5repack")
        if ndim is not None and found.ndim != ndim:
            raise InputError(
                f"{path}: {name} has {found.ndim} dimensions instead of {ndim}; mend it"
            )
        if found.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} holds {found.dtype}, not numbers; mend it")
        if found.chunks is not None and math.prod(found.chunks) * found.dtype.itemsize > MOST_CHUNK:
            raise InputError(
                f"{path}: {name} has chunks of {found.chunks}; repack it with h5repack"
            )
        return found

    def whole(self, name: str, ndim: int | None = None) -> Numbers:
        """All values of a data set that is small in any image (an axis, coordinates)."""
        found = self.dataset(name, ndim)
        if found.size > MOST_WHOLE:
            raise InputError(
                f"{self.path}: {name} is said to have {found.size} values; export the image again"
            )
        return np.asarray(found[...])

    def axis(self, name: str) -> Floats:
        """An m/z axis, (k,) in whatever order."""
        mz = np.asarray(self.whole(name), np.float64).ravel()
        if len(mz) == 0:
            raise InputError(f"{self.path}: the m/z axis {name} is empty; mend it")
        return mz

    def numbered(self, name: str) -> list[int]:
        """The members of a group that are called by numbers, ascending."""
        group = self.file[name]
        if not isinstance(group, h5py.Group):
            raise InputError(
                f"{self.path}: {name} is not a group of spectra; export the image again"
            )
        names = (key for key in group if key.isascii() and key.isdecimal() and len(key) < 18)
        return sorted(int(key) for key in names)

    def csr_rows(self, indptr: str, data: str, n: int) -> Ints:
        """(n, 2) begin and end of every row of a CSR matrix, checked."""
        ends = np.asarray(self.whole(indptr, 1), np.int64)
        size = self.dataset(data, 1).shape[0]
        if len(ends) != n + 1 or ends[0] != 0 or ends[-1] != size or np.any(np.diff(ends) < 0):
            raise InputError(
                f"{self.path}: {indptr} does not cut {data} into {n} rows; write the matrix again"
            )
        return np.stack([ends[:-1], ends[1:]], axis=1)


@contextmanager
def opened(path: str) -> Iterator[Hdf5File]:
    """The HDF5 file at a path or URL; a damaged one is refused in a line."""
    try:
        if store.is_url(path):
            with store.open_file(path) as remote, h5py.File(remote, "r") as file:
                yield Hdf5File(path, file)
        else:
            with h5py.File(store.local_path(path), "r") as file:
                yield Hdf5File(path, file)
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged HDF5 ({reason}); copy the file again") from None


@dataclass(kw_only=True)
class Hdf5Source(MsiSource):
    """An HDF5 image; a subclass says how the spectra are laid out in it.

    Attributes
    ----------
    names : the data sets of the layout
    address : (n, d) int64, where each spectrum lies in them
    """

    names: tuple[str, ...]
    address: Ints = field(repr=False)

    @classmethod
    def of(
        cls,
        h5: Hdf5File,
        names: Sequence[str],
        yx: Ints,
        address: Ints,
        mz: Floats | None,
        notes: list[str],
        lengths: Ints | None = None,
        **more: Any,
    ) -> Self:
        """Make a source of spectra at given pixels.

        Parameters
        ----------
        h5
            the open file
        names
            the data sets of the layout
        yx
            (n, 2) int64, (y, x) pixel indices of the spectra
        address
            (n, d) int64, where each spectrum lies in the data sets
        mz
            (k,) float64, the shared m/z axis; None where each spectrum has its own
        notes
            what was odd and how it was read
        lengths
            (n,) int64, values of every spectrum; None where all have as many as the axis
        **more
            other attributes of the class

        Returns
        -------
        Self
            the source

        Raises
        ------
        InputError
            there are no spectra
        """
        if len(yx) == 0:
            raise InputError(f"{h5.path}: holds no spectra with any signal; export the image again")
        kept = near(yx, notes)
        if not kept.all():
            yx, address = yx[kept], address[kept]
            lengths = None if lengths is None else lengths[kept]
        positions, shape, origin = bounding_box(h5.path, yx)
        if lengths is None:
            lengths = np.full(len(yx), 0 if mz is None else len(mz), np.int64)
        return cls(
            path=h5.path,
            shape=shape,
            positions=positions,
            origin=origin,
            mz=mz,
            lengths=lengths,
            notes=notes,
            names=tuple(names),
            address=address,
            **more,
        )

    def take(self, which: Ints) -> None:
        """Keep only some spectra.

        Parameters
        ----------
        which
            (m,) int64, those that are kept
        """
        self.positions, self.address = self.positions[which], self.address[which]
        self.lengths = self.lengths[which]

    def stored_values(self, indices: Ints) -> Numbers:
        """Read intensities on the shared axis.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        ndarray
            (m, k), in that order
        """
        with opened(self.path) as h5:
            return self.slabs(h5, self.address[indices], int(self.lengths[0]))

    def slabs(self, h5: Hdf5File, address: Ints, k: int) -> Numbers:
        """Read the intensities of spectra from an open file.

        Parameters
        ----------
        h5
            the open file
        address
            (m, d) int64, rows of the attribute `address`
        k
            number of m/z of the shared axis

        Returns
        -------
        ndarray
            (m, k) intensities, in the order of `address`

        Raises
        ------
        NotImplementedError
            the layout does not override this
        """
        raise NotImplementedError


def _runs(sorted_rows: Ints) -> Iterator[tuple[int, int]]:
    """Ranges [a, b) of positions in which consecutive rows follow closely upon another."""
    cuts = np.flatnonzero(np.diff(sorted_rows) > 8) + 1
    edges = np.concatenate([[0], cuts, [len(sorted_rows)]])
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


@dataclass(kw_only=True)
class Dense(Hdf5Source):
    """An array of the pixels (one or two axes) and m/z, which is the last axis or the first."""

    mz_first: bool

    def slabs(self, h5: Hdf5File, address: Ints, k: int) -> Numbers:
        """Read intensities in runs of neighbouring pixels.

        Parameters
        ----------
        h5
            the open file
        address
            (m, 1) or (m, 2) int64, indices along the pixel axes
        k
            number of m/z

        Returns
        -------
        ndarray
            (m, k) of the type of the data set
        """
        data = h5.dataset(self.names[0], address.shape[1] + 1)
        out = np.empty((len(address), k), data.dtype)
        # line by line of the first pixel axis where there are two, in runs along the last
        for line in sorted(set(map(tuple, address[:, :-1].tolist()))):
            at = np.flatnonzero((address[:, :-1] == line).all(axis=1))
            at = at[np.argsort(address[at, -1], kind="stable")]
            for a, b in _runs(address[at, -1]):
                some = address[at[a:b], -1]
                part = slice(int(some[0]), int(some[-1]) + 1)
                slab = data[(slice(None), *line, part)].T if self.mz_first else data[(*line, part)]
                out[at[a:b]] = slab[some - some[0]]
        return out


class Csr(Hdf5Source):
    """A CSR matrix (pixel, mz): its data and column indices."""

    def slabs(self, h5: Hdf5File, address: Ints, k: int) -> Numbers:
        """Read rows of the matrix.

        Parameters
        ----------
        h5
            the open file
        address
            (m, 2) int64, begin and end of the rows
        k
            number of m/z

        Returns
        -------
        ndarray
            (m, k) float64 where the file has float64, else float32

        Raises
        ------
        InputError
            a column index is not on the axis
        """
        data, columns = h5.dataset(self.names[0], 1), h5.dataset(self.names[1], 1)
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
                raise InputError(f"{self.path}: {self.names[1]} names an m/z that is not there")
            row = np.repeat(order[part], end[part] - begin[part])
            np.add.at(out, (row, column), data[low:high])  # entries written twice add up
        return out


class Spots(Hdf5Source):
    """A data set a spectrum."""

    def slabs(self, h5: Hdf5File, address: Ints, k: int) -> Numbers:
        """Read the data sets of spectra.

        Parameters
        ----------
        h5
            the open file
        address
            (m, 1) int64, numbers of the spots
        k
            number of m/z

        Returns
        -------
        ndarray
            (m, k) float64

        Raises
        ------
        InputError
            a spot does not have k intensities
        """
        out = np.empty((len(address), k), np.float64)
        for i, row in enumerate(address[:, 0]):
            values = h5.whole(self.names[0].format(row)).ravel()
            if len(values) != k:
                raise InputError(
                    f"{self.path}: spot {row} has {len(values)} intensities on an axis of "
                    f"{k} m/z; export it again"
                )
            out[i] = values
        return out


class RaggedSpots(Hdf5Source):
    """A data set of m/z and one of intensities a spectrum."""

    def stored_spectra(self, indices: Ints) -> tuple[Numbers, Numbers]:
        """Read spectra, each with its own m/z.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        tuple of ndarray
            m/z and intensities, one spectrum after another
        """
        found: tuple[list[Numbers], ...] = ([np.empty(0)], [np.empty(0, np.float32)])
        with opened(self.path) as h5:
            for row in self.address[indices, 0]:
                for values, name in zip(found, self.names, strict=True):
                    values.append(h5.whole(name.format(row), 1))
        mz, intensity = (np.concatenate(values) for values in found)
        return mz, intensity


def open_matrix(h5: Hdf5File, name: str, yx: Ints, mz: Floats, notes: list[str]) -> Hdf5Source:
    """Open a dense matrix, (pixel, mz) or (mz, pixel).

    Parameters
    ----------
    h5
        the open file
    name
        data set of the matrix
    yx
        (n, 2) int64, (y, x) pixel indices of the spectra
    mz
        (k,) float64, the m/z axis
    notes
        notes of the source; one is added where the matrix is square

    Returns
    -------
    Hdf5Source
        a `Dense` source

    Raises
    ------
    InputError
        the matrix does not fit the pixels and the m/z
    """
    data, n, k = h5.dataset(name, 2), len(yx), len(mz)
    if data.shape not in ((n, k), (k, n)):
        raise InputError(
            f"{h5.path}: {data.name} is {data.shape} with {n} pixels and {k} m/z; they do not fit"
        )
    if data.shape == (k, k):
        notes.append("as many pixels as m/z: rows are taken as pixels")
    address, mz_first = np.arange(n)[:, None], data.shape != (n, k)
    return Dense.of(h5, (name,), yx, address, mz, notes, mz_first=mz_first)


def whole_indices(path: str, values: Any, what: str) -> Ints:
    """Coordinates that are pixel indices already."""
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all() or np.any(values != np.rint(values)):
        raise InputError(f"{path}: {what} are not whole pixel indices; give them as such")
    if len(values) and np.abs(values).max() > FARTHEST:
        raise InputError(f"{path}: {what} reach beyond {FARTHEST:g}; give pixel indices")
    return np.asarray(values.astype(np.int64))


def grid_indices(path: str, xy: Numbers, notes: list[str]) -> Ints:
    """(y, x) pixel indices from coordinates that may be in another unit."""
    whole_numbers = bool(len(xy)) and np.isfinite(xy).all() and np.all(xy == np.rint(xy))
    if whole_numbers and np.abs(xy).max() < FARTHEST:
        values = xy.astype(np.int64)
        strides = [int(np.gcd.reduce(np.diff(np.unique(column)))) for column in values.T]
        if max(strides) <= 1:
            return values[:, ::-1].copy()
    (x, step_x), (y, step_y) = (_snapped(path, column) for column in xy.T)
    steps = " and ".join(dict.fromkeys([f"{step_x:g}", f"{step_y:g}"]))
    notes.append(f"coordinates in steps of {steps} taken as pixels{IF_UM}")
    return np.stack([y, x], axis=1)


def _snapped(path: str, values: Numbers) -> tuple[Ints, float]:
    """Indices of coordinates that lie on a regular grid, and its step in the file's unit."""
    values = np.asarray(values, np.float64)
    distinct = np.unique(values)
    if not np.isfinite(distinct).all():
        raise InputError(f"{path}: a pixel coordinate is not finite; export them anew")
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-4 * np.ptp(distinct)]  # smaller ones are noise
    if len(gaps) == 0:
        return np.zeros(len(values), np.int64), 1.0
    rough = float(gaps.min())
    step = float(np.mean(gaps[gaps < 1.5 * rough]))
    scaled = (values - distinct[0]) / step
    index = np.rint(scaled).astype(np.int64)
    if np.abs(scaled - index).max() > 0.25:
        raise InputError(
            f"{path}: the pixel coordinates lie on no regular grid; give them as pixel indices"
        )
    return index, step
