"""HDF5 data sets that PyTables compressed with Blosc, which HDF5 itself cannot read.

A chunk is one frame of Blosc [1]_; it is read as it is and unpacked here.

.. [1] https://www.blosc.org
"""

from __future__ import annotations

import itertools
from typing import Any

import h5py
import numpy as np
from numcodecs.blosc import decompress

BLOSC = 32001  #: its number among the filters of HDF5


def is_blosc(data: h5py.Dataset) -> bool:
    """Whether Blosc, and nothing else, packs the chunks of a data set.

    Parameters
    ----------
    data
        of any shape and type

    Returns
    -------
    bool
        False where it is not packed
    """
    facts = data.id.get_create_plist()
    return [facts.get_filter(i)[0] for i in range(facts.get_nfilters())] == [BLOSC]


class BloscArray:
    """A data set that is read as one of h5py is.

    Parameters
    ----------
    data
        of which `is_blosc` is true
    """

    def __init__(self, data: h5py.Dataset) -> None:
        self._data = data
        self.shape: tuple[int, ...] = data.shape
        self.chunks: tuple[int, ...] = data.chunks
        self.dtype: np.dtype[Any] = data.dtype
        self.ndim: int = data.ndim
        self.name: str = data.name
        self.attrs = data.attrs

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            keys = (slice(None),) * self.ndim
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        spans = [
            range(*k.indices(n)) if isinstance(k, slice) else range(k, k + 1)
            for k, n in zip(keys, self.shape, strict=True)
        ]
        out = np.empty([len(span) for span in spans], self.dtype)
        whole = [
            range(s.start - s.start % c, s.stop, c) for s, c in zip(spans, self.chunks, strict=True)
        ]
        for corner in itertools.product(*whole) if out.size else ():
            source, target = [], []
            for low, c, span in zip(corner, self.chunks, spans, strict=True):
                begin, end = max(low, span.start), min(low + c, span.stop)
                source.append(slice(begin - low, end - low))
                target.append(slice(begin - span.start, end - span.start))
            out[tuple(target)] = self._chunk(corner)[tuple(source)]
        return out[tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)]

    def _chunk(self, corner: tuple[int, ...]) -> Any:
        values = np.full(self.chunks, self._data.fillvalue, self.dtype)
        if self._data.id.get_chunk_info_by_coord(corner).byte_offset is None:
            return values
        skipped, packed = self._data.id.read_direct_chunk(corner)
        if skipped:
            if len(packed) != values.nbytes:
                raise OSError(f"a chunk of {self.name} has {len(packed)} bytes")
            return np.frombuffer(packed, self.dtype).reshape(self.chunks)
        decompress(packed, values)  # which refuses a frame of another size
        return values
