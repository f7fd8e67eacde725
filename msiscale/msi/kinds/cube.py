"""Full cubes: they have no list of their pixels; one without any signal is not measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE, InputError
from msiscale.grid import blocks
from msiscale.msi.hdf5_source import Dense, Hdf5Source
from msiscale.msi.tree import MOST_WHOLE, Tree

#: Values of a cube that are looked at in one go for pixels with signal.
SCAN = 8_000_000


def open_cube(
    h5: Tree, name: str, mz_name: str, *, mz_first: bool = False, y_first: bool = False
) -> Hdf5Source:
    """A full cube, its pixels (x, y) or (y, x), before or behind them m/z."""
    mz, data = h5.axis(mz_name), h5.dataset(name, 3)
    depth_axis = 0 if mz_first else 2
    if data.shape[depth_axis] != len(mz):
        raise InputError(f"{h5.path}: {name} is {data.shape} but {mz_name} has {len(mz)} values")
    measured = _with_signal(h5, data, depth_axis)
    address = np.argwhere(measured)
    yx = address if y_first else address[:, ::-1]
    notes = []
    if not measured.all():
        notes.append(
            f"{NOTE}{int((~measured).sum())} pixels without any signal taken as not measured"
        )
    return Dense.of(h5, (name,), yx, address, mz, notes, mz_first=mz_first)


def _with_signal(h5: Tree, data: Any, depth_axis: int) -> NDArray[np.bool_]:
    """Pixels of a cube with any value that is neither zero nor NaN."""
    shape = data.shape[1:] if depth_axis == 0 else data.shape[:2]
    if np.prod(shape, dtype=float) > MOST_WHOLE:
        raise InputError(
            f"{h5.path}: {data.name} is said to have {shape[0]} x {shape[1]} pixels; "
            "export the image again"
        )
    found = np.zeros(shape, bool)
    for piece in _pieces(data):
        pixel = tuple(part for i, part in enumerate(piece) if i != depth_axis)
        if found[pixel].all():  # what is known to have signal is not read again
            continue
        values = data[piece]
        found[pixel] |= ((values != 0) & (values == values)).any(axis=depth_axis)
    return found


def _pieces(data: Any) -> Iterator[tuple[slice, ...]]:
    """Slices that cover what is written of a data set, whole chunks, each of a bearable size."""
    if data.chunks is not None:
        for offset in _offsets(data):
            yield tuple(
                slice(o, min(o + c, s))
                for o, c, s in zip(offset, data.chunks, data.shape, strict=True)
            )
        return
    step = max(1, SCAN // max(1, int(np.prod(data.shape[1:]))))
    across = max(1, min(data.shape[1], SCAN // max(1, data.shape[2])))
    for part in blocks(data.shape[:2], (step, across)):
        yield *part.slices, slice(None)


def _offsets(data: Any) -> Iterator[tuple[int, ...]]:
    """Where the chunks begin: in HDF5 of those that were written, in Zarr of all."""
    if isinstance(data, h5py.Dataset):
        for i in range(data.id.get_num_chunks()):
            yield data.id.get_chunk_info(i).chunk_offset
        return
    steps = (range(0, s, c) for s, c in zip(data.shape, data.chunks, strict=True))
    yield from itertools.product(*steps)
