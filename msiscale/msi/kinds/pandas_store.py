"""A pandas HDFStore of grine-v2: a frame of m/z, its rows named by (grid_x, grid_y, dataset).

It is read as what it is in HDF5. What pandas pickles in such a file is never read.
"""

from __future__ import annotations

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Dense, Hdf5Source, grid_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.kinds.named_mz import named_mz
from msiscale.msi.spectra import Floats, Numbers
from msiscale.msi.tree import Tree, text


def frames(tree: Tree) -> list[str]:
    """The frames that are in a store, by name."""
    return [name for name in tree.names() if tree.attr(name, "pandas_type") is not None]


def _open(tree: Tree) -> Hdf5Source:
    path, names = tree.path, frames(tree)
    if len(names) > 1:
        raise InputError(f"{path}: holds {len(names)} frames ({', '.join(names[:8])}); keep one")
    frame = names[0]
    kind = tree.attr(frame, "pandas_type")
    if kind != "frame":
        raise InputError(
            f"{path}: {frame} is written as {kind!r}; write it with df.to_hdf(…, format='fixed')"
        )
    blocks = tree.attr(frame, "nblocks")
    if blocks != 1:
        raise InputError(
            f"{path}: {frame} has columns of {blocks} types; write df.astype('float32')"
        )
    notes: list[str] = []
    mz, levels = _mz(tree, frame), _levels(tree, frame)
    of = "" if {"x", "y"} <= levels.keys() else "grid_"
    xy = np.stack([_level(tree, frame, levels, f"{of}{axis}") for axis in "xy"], axis=1)
    if "dataset" in levels:
        _one_dataset(tree, frame, levels["dataset"])
    yx = grid_indices(path, xy, notes)
    name = f"{frame}/block0_values"
    data = tree.dataset(name, 2)
    by_pixel = bool(tree.attr(name, "transposed"))  # pandas holds the columns first
    shape = (len(yx), len(mz)) if by_pixel else (len(mz), len(yx))
    if data.shape != shape:
        raise InputError(f"{path}: {name} is {data.shape} instead of {shape}; write it again")
    address = np.arange(len(yx))[:, None]
    return Dense.of(tree, (name,), yx, address, mz, notes, mz_first=not by_pixel)


def _mz(tree: Tree, frame: str) -> Floats:
    names = tree.column(f"{frame}/block0_items")
    if names.dtype.kind in "fiu":
        return np.asarray(names, np.float64)
    mz = named_mz(names)
    if not np.isfinite(mz).all():
        bad = names[~np.isfinite(mz)][0]
        raise InputError(
            f"{tree.path}: {frame} has the column {bad!r}, which is no m/z; leave it out"
        )
    return mz


def _levels(tree: Tree, frame: str) -> dict[str, int]:
    """The levels of the rows' index, by name."""
    n = tree.attr(frame, "axis1_nlevels") or 0
    return {
        str(text(tree.attr(f"{frame}/axis1_level{i}", f"axis1_name{i}"))): i for i in range(int(n))
    }


def _level(tree: Tree, frame: str, levels: dict[str, int], wanted: str) -> Numbers:
    if wanted not in levels:
        there = ", ".join(levels) or "none"
        raise InputError(
            f"{tree.path}: the index of {frame} has no level {wanted} (levels: {there}); "
            "give it grid_x and grid_y"
        )
    i = levels[wanted]
    values = np.asarray(tree.whole(f"{frame}/axis1_level{i}", 1), np.float64)
    codes = np.asarray(tree.whole(f"{frame}/axis1_label{i}", 1), np.int64)
    if codes.size and (codes.min() < 0 or codes.max() >= len(values)):
        raise InputError(f"{tree.path}: rows of {frame} have no {wanted}; leave them out")
    return values[codes]


def _one_dataset(tree: Tree, frame: str, i: int) -> None:
    used = np.unique(tree.whole(f"{frame}/axis1_label{i}", 1))
    if len(used) > 1:
        known = tree.column(f"{frame}/axis1_level{i}")
        names = ", ".join(str(known[u]) for u in used[:8])
        raise InputError(
            f"{tree.path}: {frame} holds {len(used)} datasets ({names}); write a file of each"
        )


KIND = Kind(
    "grine-v2 (pandas HDFStore, fixed)",
    "a frame of m/z whose rows are indexed by `grid_x`, `grid_y`, `dataset`",
    (),
    _open,
)
