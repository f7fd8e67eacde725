"""Images in trees of arrays once their layout is known: the spectra lazily, in slabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.places import near
from msiscale.msi.source import MsiSource, bounding_box
from msiscale.msi.spectra import Floats, Ints, Numbers
from msiscale.msi.tree import Tree

FARTHEST = 1e9  #: of a pixel index
IF_UM = "; if that is µm give it in the manifest column pixel_um, for example 50"


@dataclass(kw_only=True)
class Hdf5Source(MsiSource):
    """An image in HDF5 or Zarr; a subclass says how the spectra are laid out in it.

    Attributes
    ----------
    reopen : opens the file again
    names : the data sets of the layout
    address : (n, d) int64, where each spectrum lies in them
    """

    reopen: Callable[[], AbstractContextManager[Tree]] = field(repr=False)
    names: tuple[str, ...]
    address: Ints = field(repr=False)

    @classmethod
    def of(
        cls,
        h5: Tree,
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
            reopen=h5.reopen,
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
        with self.reopen() as h5:
            return self.slabs(h5, self.address[indices], int(self.lengths[0]))

    def slabs(self, h5: Tree, address: Ints, k: int) -> Numbers:
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

    def slabs(self, h5: Tree, address: Ints, k: int) -> Numbers:
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


class Spots(Hdf5Source):
    """A data set a spectrum."""

    def slabs(self, h5: Tree, address: Ints, k: int) -> Numbers:
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
        with self.reopen() as h5:
            for row in self.address[indices, 0]:
                for values, name in zip(found, self.names, strict=True):
                    values.append(h5.whole(name.format(row), 1))
        mz, intensity = (np.concatenate(values) for values in found)
        return mz, intensity


def open_matrix(h5: Tree, name: str, yx: Ints, mz: Floats, notes: list[str]) -> Hdf5Source:
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
