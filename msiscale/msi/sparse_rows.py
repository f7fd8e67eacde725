"""Sparse matrices (pixel, mz) in a tree: by rows, or by columns and then laid out by rows first."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.spectra import Floats, Ints, Numbers
from msiscale.msi.spill import Spill, held
from msiscale.msi.tree import Tree

#: Entries that are looked at together, and of a band of rows that is sorted in memory.
STEP, BAND = 1 << 20, 1 << 21
#: Of a longer axis of which less than an eighth is stored, each spectrum has its own m/z.
LONG = 20_000


@dataclass(kw_only=True)
class Csr(Hdf5Source):
    """A CSR matrix: its data and column indices.

    Attributes
    ----------
    axis : (k,) float64, m/z of the columns, where the spectra are read with m/z of their own
    """

    axis: Floats | None = field(default=None, repr=False)

    def entries(self, tree: Tree, low: int, high: int) -> tuple[Ints, Numbers]:
        """Columns and values of stored entries.

        Parameters
        ----------
        tree
            the open file
        low, high
            the first entry, and the one after the last

        Returns
        -------
        tuple of ndarray
            (high - low,) int64 columns, and values of the type of the file
        """
        data, columns = tree.dataset(self.names[0], 1), tree.dataset(self.names[1], 1)
        return np.asarray(columns[low:high], np.int64), np.asarray(data[low:high])

    def _rows(self, tree: Tree, address: Ints, k: int) -> tuple[Ints, Ints, Numbers]:
        """Row (in `address`), column and value of every entry of some rows."""
        order = np.argsort(address[:, 0], kind="stable")
        begin, end = address[order].T
        cuts = np.flatnonzero(begin[1:] != end[:-1]) + 1
        found: list[tuple[Ints, Ints, Numbers]] = []
        for part in np.split(np.arange(len(order)), cuts):
            if len(part) == 0 or begin[part[0]] == end[part[-1]]:
                continue
            column, value = self.entries(tree, int(begin[part[0]]), int(end[part[-1]]))
            if column.min() < 0 or column.max() >= k:
                raise InputError(f"{self.path}: {self.names[1]} names an m/z that is not there")
            found.append((np.repeat(order[part], end[part] - begin[part]), column, value))
        if not found:
            none = np.empty(0, np.int64)
            return none, none, np.empty(0, np.float32)
        row, column, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return row, column, value

    def slabs(self, h5: Tree, address: Ints, k: int) -> Numbers:
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
        row, column, value = self._rows(h5, address, k)
        out = np.zeros((len(address), k), np.float64 if value.dtype == np.float64 else np.float32)
        np.add.at(out, (row, column), value)  # entries written twice add up
        return out

    def stored_spectra(self, indices: Ints) -> tuple[Numbers, Numbers]:
        """Read what is stored of spectra, with the m/z of their columns.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        tuple of ndarray
            m/z and intensities, one spectrum after another
        """
        assert self.axis is not None
        with self.reopen() as tree:
            row, column, value = self._rows(tree, self.address[indices], len(self.axis))
        order = np.argsort(row, kind="stable")
        return self.axis[column[order]], value[order]


@dataclass(kw_only=True)
class Csc(Csr):
    """A CSC matrix, as Thyra writes it: laid out by rows in a temporary file when it is first read.

    Memory: `BAND` entries; disk: 16 bytes an entry at most, once a process.

    Attributes
    ----------
    token : of this opening, by which its rows are found again
    ends : (n + 1,) int64, where the rows begin and end once they are laid out
    """

    token: str
    ends: Ints = field(repr=False)

    def entries(self, tree: Tree, low: int, high: int) -> tuple[Ints, Numbers]:
        """Columns and values of entries, in the order of rows.

        Parameters
        ----------
        tree
            the open file
        low, high
            the first entry, and the one after the last

        Returns
        -------
        tuple of ndarray
            (high - low,) int64 columns, and values of the type of the file
        """
        spill = held(self.token, self.path, lambda: self._by_rows(tree))
        found = spill.read(low, high)
        return found["column"].astype(np.int64), found["value"]

    def _by_rows(self, tree: Tree) -> Spill:
        data, rows = tree.dataset(self.names[0], 1), tree.dataset(self.names[1], 1)
        columns = np.asarray(tree.whole(self.names[2], 1), np.int64)
        size = int(columns[-1])
        begins = self.ends[:-1]
        # bands of rows whose entries fit in memory, and where the next entry of each goes
        firsts = np.unique(np.searchsorted(begins, np.arange(0, max(size, 1), BAND)))
        firsts = firsts[firsts < len(begins)]
        free = begins[firsts].copy()
        bounds = np.append(free.copy(), size)
        record = [("row", "<i4"), ("column", "<i4"), ("value", data.dtype.newbyteorder("="))]
        spill = Spill(record)
        for low in range(0, size, STEP):
            high = min(low + STEP, size)
            part = np.empty(high - low, record)
            part["row"], part["value"] = rows[low:high], data[low:high]
            part["column"] = np.searchsorted(columns, np.arange(low, high), "right") - 1
            band = np.searchsorted(firsts, part["row"], "right") - 1
            order = np.argsort(band, kind="stable")
            cuts = np.searchsorted(band[order], np.arange(len(firsts) + 1))
            for i in np.flatnonzero(np.diff(cuts)).tolist():
                some = part[order[cuts[i] : cuts[i + 1]]]
                spill.write(int(free[i]), some)
                free[i] += len(some)
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            part = spill.read(begin, end)
            spill.write(begin, part[np.argsort(part["row"], kind="stable")])
        return spill


def open_sparse(tree: Tree, name: str, yx: Ints, mz: Floats, notes: list[str]) -> Hdf5Source:
    """Open a sparse matrix (pixel, mz), a group of data, indices and indptr as AnnData has it.

    Parameters
    ----------
    tree
        the open file
    name
        of the group
    yx
        (n, 2) int64, (y, x) pixel indices of the spectra
    mz
        (k,) float64, the m/z axis
    notes
        notes of the source

    Returns
    -------
    Hdf5Source
        on the shared axis; with m/z of their own where that is long and few of it are stored

    Raises
    ------
    InputError
        it is neither CSR nor CSC, or does not fit
    """
    kind = tree.attr(name, "encoding-type") or tree.attr(name, "h5sparse_format")
    names = (f"{name}/data", f"{name}/indices", f"{name}/indptr")
    n, k = len(yx), len(mz)
    shape = tree.attr(name, "shape") or tree.attr(name, "h5sparse_shape")
    if shape is not None and tuple(shape) != (n, k):
        raise InputError(
            f"{tree.path}: {name} is {tuple(shape)} with {n} pixels and {k} m/z; they do not fit"
        )
    if kind in ("csr_matrix", "csr"):
        make: type[Csr] = Csr
        ends = tree.cuts(names[2], names[0], n)
        more: dict[str, Any] = {}
    elif kind in ("csc_matrix", "csc"):
        tree.cuts(names[2], names[0], k)
        ends = np.append(0, np.cumsum(_counts(tree, names[1], n)))
        make, more = Csc, {"token": uuid.uuid4().hex, "ends": ends}
    else:
        raise InputError(
            f"{tree.path}: {name} is neither dense nor CSR nor CSC; "
            "save it with adata.X = adata.X.tocsr()"
        )
    address, lengths = np.stack([ends[:-1], ends[1:]], axis=1), np.diff(ends)
    if k > LONG and 8 * int(ends[-1]) < n * k:
        return make.of(tree, names, yx, address, None, notes, lengths, axis=mz, **more)
    return make.of(tree, names, yx, address, mz, notes, **more)


def _counts(tree: Tree, name: str, n: int) -> Ints:
    """How many entries each row of a CSC matrix has; its row indices are read in steps."""
    rows, found = tree.dataset(name, 1), np.zeros(n, np.int64)
    for low in range(0, rows.shape[0], STEP):
        part = np.asarray(rows[low : low + STEP], np.int64)
        if part.size and (part.min() < 0 or part.max() >= n):
            raise InputError(f"{tree.path}: {name} names a pixel that is not there; write it again")
        found += np.bincount(part, minlength=n)
    return found
