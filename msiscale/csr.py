"""Sparse rows in Zarr: for m/z axes so long that dense chunks are nothing but zeros.

A block of rows is three arrays of one chunk each, ``blocks/<i>/{data, indices, indptr}``, which
one task writes whole; the record of what is in them is written last. What is not there, was cut
short or does not fit its record is an error that names the block, never zeros.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from zarr.codecs import ZstdCodec

from msiscale.errors import InputError
from msiscale.store import open_group

ROWS = 4096  # of a block: 64 x 64 pixels
VERSION = 1
MOST = 1 << 29  # values of a block: what fits a compressed chunk


class CsrRows:
    """Rows ``(n, p)`` float32 of a sparse matrix, in blocks in a Zarr group.

    Every fit takes it as X. `create` it, `write` every block (from any process, in any order and
    again after a failure), and `open` it to read.

    Attributes
    ----------
    shape : (n, p)
    edges : tuple of int
        Block i has the rows ``edges[i]`` to ``edges[i + 1]``.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse
    >>> import msiscale as ms
    >>> peaks = scipy.sparse.random_array((50, 2000), density=0.01, rng=0, format="csr")
    >>> rows = ms.CsrRows.save("peaks.zarr", peaks)
    >>> rows.shape, rows.nnz
    ((50, 2000), 1000)
    >>> ms.PCA(n_components=3).fit(ms.CsrRows.open("peaks.zarr")).components_.shape
    (3, 2000)
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, group: zarr.Group) -> None:
        found: dict[str, Any] = dict(group.attrs)
        if found.get("msiscale_csr") != VERSION:
            raise InputError(f"{group.store_path}: not sparse rows of version {VERSION}")
        self.group = group
        n, p = found["shape"]
        self.shape = (int(n), int(p))
        self.edges = tuple(int(e) for e in found["edges"])

    @classmethod
    def create(
        cls, where: str | zarr.Group, shape: tuple[int, int], *, edges: Sequence[int] | int = ROWS
    ) -> CsrRows:
        """Rows still to be written, in the place of whatever is in the group.

        Parameters
        ----------
        where : str or zarr.Group
            URL or open group.
        shape : (n, p)
            Rows and variables.
        edges : int or sequence of int
            Rows of a block, or the blocks' edges ``0, ..., n``.

        Returns
        -------
        CsrRows

        Raises
        ------
        ValueError
            Edges that do not go up from 0 to n, or more variables than int32 can count.
        """
        n, p = shape
        cuts = [*range(0, n, edges), n] if isinstance(edges, int) else list(edges)
        rising = all(a < b for a, b in itertools.pairwise(cuts))
        if len(cuts) < 2 or (cuts[0], cuts[-1]) != (0, n) or not rising:
            raise ValueError(f"edges={edges!r}: give blocks that go from row 0 up to row {n}")
        if not 0 < p <= np.iinfo(np.int32).max:
            raise ValueError(f"shape={shape}: give 1 to {np.iinfo(np.int32).max} variables")
        group = open_group(where, "a") if isinstance(where, str) else where
        group.create_group("blocks", overwrite=True)
        group.attrs.update(
            {"msiscale_csr": VERSION, "shape": [int(n), int(p)], "edges": [int(e) for e in cuts]}
        )
        return cls(group)

    @classmethod
    def open(cls, where: str | zarr.Group, mode: str = "r") -> CsrRows:
        """Rows that `create` made, at a URL (``mode="r+"`` to write blocks) or in an open group."""
        return cls(open_group(where, mode) if isinstance(where, str) else where)

    @classmethod
    def save(cls, where: str | zarr.Group, rows: Any, *, edges: Sequence[int] | int = ROWS) -> Any:
        """`create` rows from a scipy sparse matrix (n, p) in memory, and write them."""
        found, rows = cls.create(where, rows.shape, edges=edges), csr_array(rows)
        for i, (start, stop) in enumerate(itertools.pairwise(found.edges)):
            found.write(i, rows[start:stop])
        return found

    def __repr__(self) -> str:
        return f"CsrRows(shape={self.shape}, blocks={self.n_blocks})"

    @property
    def n_blocks(self) -> int:
        return len(self.edges) - 1

    @property
    def nnz(self) -> int:
        """Values stored, from the blocks' records."""
        return sum(self._record(i)[1] for i in range(self.n_blocks))

    def write(self, i: int, rows: Any) -> None:
        """Write a block.

        Parameters
        ----------
        i : int
            Which.
        rows : (n_i, p) scipy sparse matrix
            Values become float32, none may be NaN.

        Raises
        ------
        ValueError
            Another shape, a value that is not finite (leave out pixels that were not measured), or
            too many values for a block.
        """
        expected = (self.edges[i + 1] - self.edges[i], self.shape[1])
        if not issparse(rows) or rows.shape != expected:
            raise ValueError(f"block {i}: give a scipy sparse matrix of shape {expected}")
        block = csr_array(rows, copy=True)
        block.sum_duplicates()  # which sorts, too
        data = block.data.astype(np.float32)
        if not np.isfinite(data).all():
            raise ValueError(f"block {i}: a value is not finite in float32; leave out such rows")
        if len(data) > MOST:
            raise ValueError(f"block {i}: {len(data)} values; make blocks of fewer rows")
        group = self.group.create_group(f"blocks/{i}", overwrite=True)
        for name, values, fill in (
            ("data", data, np.nan),
            ("indices", block.indices.astype(np.int32), -1),
            ("indptr", block.indptr.astype(np.int32), -1),
        ):
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(max(len(values), 1),),
                fill_value=fill,
                compressors=[ZstdCodec(level=1, checksum=True)],
            )
            array[...] = values
        group.attrs.update({"rows": expected[0], "nnz": len(data)})

    def read(self, i: int) -> csr_array:
        """Read a block.

        Parameters
        ----------
        i : int
            Which.

        Returns
        -------
        csr_array (n_i, p) float32

        Raises
        ------
        InputError
            It was not written, or is not what was written.
        """
        rows, nnz = self._record(i)
        try:
            data, indices, indptr = (
                np.asarray(self.group[f"blocks/{i}/{name}"][...])  # type: ignore[index]
                for name in ("data", "indices", "indptr")
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise self._broken(i, f"cannot be read ({error})") from None
        whole = len(data) == len(indices) == nnz and len(indptr) == rows + 1
        if not (whole and _sound(data, indices, indptr, self.shape[1])):
            raise self._broken(i, "is not what was written")
        return csr_array((data, indices, indptr), shape=(rows, self.shape[1]))

    def to_dask(self) -> Any:
        """Dask array whose chunks are the blocks, `scipy.sparse.csr_array` each."""
        import dask.array as da

        name = f"csr-rows-{uuid.uuid4().hex}"
        graph = {(name, i, 0): (self.read, i) for i in range(self.n_blocks)}
        rows = tuple(b - a for a, b in itertools.pairwise(self.edges))
        meta = csr_array((0, 0), dtype=self.dtype)
        chunks = (rows, (self.shape[1],))
        return da.Array(graph, name, chunks, meta=meta)

    def _record(self, i: int) -> tuple[int, int]:
        if not 0 <= i < self.n_blocks:
            raise IndexError(f"block {i} of {self.n_blocks}")
        try:
            record: Any = dict(self.group[f"blocks/{i}"].attrs)
            rows, nnz = int(record["rows"]), int(record["nnz"])
        except KeyError:
            raise self._broken(i, "was not written, or not to its end") from None
        if rows != self.edges[i + 1] - self.edges[i]:
            raise self._broken(i, f"has {rows} rows")
        return rows, nnz

    def _broken(self, i: int, what: str) -> InputError:
        span = f"rows {self.edges[i]} to {self.edges[i + 1]}"
        return InputError(f"{self.group.store_path}: block {i} ({span}) {what}; write it again")


def _sound(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], columns: int) -> bool:
    """Whether these are rows with sorted columns: a chunk that is missing reads as NaN or -1."""
    if indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        return False
    if not len(data):
        return True
    inside = indices.min() >= 0 and indices.max() < columns
    starts = np.zeros(len(data), dtype=bool)
    starts[indptr[:-1][np.diff(indptr) > 0]] = True
    rising = (np.diff(indices) > 0) | starts[1:]
    return bool(inside and rising.all() and np.isfinite(data).all())
