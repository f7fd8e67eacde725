"""AnnData, in .h5ad and in Zarr: pixels by m/z, of msiscale, Thyra, scanpy and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi.hdf5_source import Hdf5Source, grid_indices, open_matrix, whole_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.kinds.named_mz import named_mz
from msiscale.msi.sparse_rows import open_sparse
from msiscale.msi.spectra import Floats, Ints
from msiscale.msi.tree import Tree, text

_ANALYSIS = "uns/msi_metadata/ms_analysis"  # of Thyra
#: Columns of `var` that may have the m/z.
_MZ = ("mz", "m/z", "m_z", "MZ", "mzs", "mass")
_SIGNS = {"positive": "+", "+": "+", "negative": "-", "-": "-"}


def _open(tree: Tree) -> Hdf5Source:
    notes: list[str] = []
    mz, yx = var_mz(tree, notes), places(tree, notes)
    source = matrix(tree, "X", yx, mz, notes)
    describe(tree, source)
    return source


def var_mz(tree: Tree, notes: list[str]) -> Floats:
    """The m/z of the variables: `var/mz` or a column called like it, else their names."""
    column = next((f"var/{name}" for name in _MZ if f"var/{name}" in tree), None)
    if column is not None:
        if column != "var/mz":
            notes.append(f"has no var/mz; {column} is taken")
        return tree.axis(column)
    name = f"var/{tree.attr('var', '_index') or '_index'}"
    if name in tree:
        mz = named_mz(tree.column(name))
        if len(mz) and np.isfinite(mz).all():
            notes.append(f"has no var/mz; the m/z are taken from the names in {name}")
            return mz
    raise InputError(
        f"{tree.path}: has no var/mz, and the names of its variables are no m/z; "
        "write them as adata.var['mz']"
    )


def places(tree: Tree, notes: list[str]) -> Ints:
    """(y, x) pixel indices of the rows: Thyra's and msiscale's of obs, else obsm/spatial."""
    has_indices = "obs/x" in tree and "obs/y" in tree
    if "obs/z" in tree and len(np.unique(tree.column("obs/z"))) > 1:
        raise InputError(f"{tree.path}: holds several z planes; split it into one file per plane")
    if has_indices and ("obs/spatial_x" in tree or "uns/msiscale" in tree):
        names = ("obs/y", "obs/x")
        yx = [whole_indices(tree.path, tree.column(name), name) for name in names]
        return np.stack(yx, axis=1)
    if "obsm/spatial" in tree:
        xy = _spatial(tree)
        if xy.shape[1] == 3 and len(np.unique(xy[:, 2])) > 1:
            raise InputError(
                f"{tree.path}: holds several z planes; split it into one file per plane"
            )
        return grid_indices(tree.path, xy[:, :2], notes)
    if has_indices:
        notes.append("has no obsm/spatial; obs/x and obs/y are taken")
        columns = [np.asarray(tree.column(f"obs/{axis}"), np.float64) for axis in "xy"]
        return grid_indices(tree.path, np.stack(columns, axis=1), notes)
    raise InputError(
        f"{tree.path}: has no obsm/spatial, the x and y of its pixels; "
        "write them as adata.obsm['spatial']"
    )


def _spatial(tree: Tree) -> Floats:
    """`obsm/spatial`, an array or a data frame of x and y (and z)."""
    name = "obsm/spatial"
    if tree.is_array(tree.file[name]):
        xy = np.asarray(tree.whole(name, 2), np.float64)
    else:
        order = tree.attr(name, "column-order")
        columns = [text(c) for c in ([order] if isinstance(order, str) else order or [])]
        named = [c for c in ("x", "y") if c in columns]
        columns = named if len(named) == 2 else columns[:3]
        parts = [np.asarray(tree.column(f"{name}/{c}"), np.float64) for c in columns]
        xy = np.stack(parts, axis=1) if parts else np.empty((0, 0))
    if xy.shape[1] not in (2, 3):
        raise InputError(f"{tree.path}: {name} is {xy.shape}; give (n, 2), x and y")
    return xy


def matrix(tree: Tree, name: str, yx: Ints, mz: Floats, notes: list[str]) -> Hdf5Source:
    """A dense or sparse matrix (pixel, mz).

    Parameters
    ----------
    tree
        the open file
    name
        of the matrix
    yx
        (n, 2) int64, (y, x) pixel indices of the rows
    mz
        (k,) float64, of the columns
    notes
        notes of the source

    Returns
    -------
    Hdf5Source
        the source

    Raises
    ------
    InputError
        there is no such matrix, or it does not fit
    """
    if name not in tree:
        raise InputError(f"{tree.path}: has no {name}, the intensities; write the file again")
    if tree.is_array(tree.file[name]):
        return open_matrix(tree, name, yx, mz, notes)
    return open_sparse(tree, name, yx, mz, notes)


def describe(tree: Tree, source: Hdf5Source) -> None:
    """Take over what msiscale and Thyra say of an image in `uns`."""
    sign = tree.value("uns/msiscale/polarity") or tree.value(f"{_ANALYSIS}/polarity")
    source.polarity = sign_of(sign)
    if "uns/msiscale/pixel_um" in tree:  # y, x
        sizes = tree.whole("uns/msiscale/pixel_um").ravel().tolist()
        set_size(source, (sizes * 2)[:2], "uns/msiscale/pixel_um")
    size = [tree.value(f"{_ANALYSIS}/pixel_size_um/{axis}") for axis in "yx"]
    if None not in size:
        if tree.value("uns/msi_metadata/provenance/pixel_size_source") == "default":
            source.notes.append(
                f"Thyra was not told a pixel size and wrote {size[1]:g} µm; it is not believed"
            )
        else:
            set_size(source, size, f"{_ANALYSIS}/pixel_size_um")
    if tree.value("uns/essential_metadata/spectrum_type") == "profile spectrum":
        source.profile = source.mz is not None


def set_size(source: Hdf5Source, yx: Sequence[Any], said_by: str) -> None:
    """Give the pixels the size that a key of the file states, where that is one."""
    try:
        size = PixelSize(*map(float, yx))
    except (TypeError, ValueError):
        return
    if np.isfinite(size).all() and min(size) > 0:
        source.pixel_um, source.pixel_from = size, said_by


def sign_of(word: Any) -> Any:
    """'+', '-' or None."""
    return _SIGNS.get(str(word).lower())


KIND = Kind(
    "AnnData (.h5ad, Zarr) of msiscale, Thyra, scanpy",
    "`X` dense, CSR or CSC; `var/mz`, or names that are m/z; `obsm/spatial`, for Thyra and "
    "msiscale `obs/x`, `obs/y`",
    ("X", "var", "obs"),
    _open,
)
#: What older versions of msiscale took for AnnData: a file without a table of rows.
BARE = Kind("", "", ("X", "obsm/spatial", "var/mz"), _open)
