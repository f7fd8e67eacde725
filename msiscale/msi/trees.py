"""Images in HDF5 and in Zarr, their layouts told apart by their keys (`msiscale.msi.kinds`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from msiscale.errors import InputError
from msiscale.msi.as_asked import as_asked
from msiscale.msi.asked import Asked
from msiscale.msi.kinds import (
    anndata,
    general,
    ims,
    massvision,
    metaspace,
    msipl,
    openmsi,
    pandas_store,
    scils,
    spatialdata,
    study,
    uns_msi,
)
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.source import MsiSource
from msiscale.msi.tree import Tree, opened
from msiscale.msi.zarr_tree import opened_zarr

#: Most telling first.
KINDS: tuple[Kind, ...] = (
    general.KIND,
    general.SPARSE,
    study.KIND,
    msipl.KIND,
    massvision.KIND,
    openmsi.KIND,
    ims.KIND,
    uns_msi.KIND,
    metaspace.KIND,
    anndata.KIND,
    anndata.BARE,
    scils.KIND,
    spatialdata.KIND,
    spatialdata.OLD,
)


def is_hdf5(path: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    return head().startswith(b"\x89HDF\r\n\x1a\n")


def open_hdf5(path: str, asked: Asked) -> MsiSource:
    """Open an HDF5 image; see `msiscale.msi.layouts.open_source`."""
    return _opened(opened(path), asked)


def open_zarr(path: str, asked: Asked) -> MsiSource:
    """Open a Zarr image; see `msiscale.msi.layouts.open_source`."""
    return _opened(opened_zarr(path), asked)


def _opened(context: AbstractContextManager[Tree], asked: Asked) -> MsiSource:
    with context as tree:
        kind = _kind(tree)
        source = kind.open(tree)
    return as_asked(source, asked, looks_profile=not kind.says_profile)


def _kind(tree: Tree) -> Kind:
    for kind in KINDS:
        if all(name in tree for name in kind.keys):
            return kind
    if tree.kind == "HDF5" and pandas_store.frames(tree):
        return pandas_store.KIND
    there = ", ".join(tree.names()[:8]) or "none"
    raise InputError(
        f"{tree.path}: {tree.kind} of no known layout (keys: {there}{_nearly(tree)}); "
        "write it with msiscale.msi.write_hdf5"
    )


def _nearly(tree: Tree) -> str:
    """The layout that most of the keys are of, and what it lacks."""
    found = [(sum(name in tree for name in k.keys) / len(k.keys), k) for k in KINDS if k.name]
    share, kind = max(found, key=lambda pair: pair[0])
    if share == 0:
        return ""
    lacking = ", ".join(name for name in kind.keys if name not in tree)
    return f"; as {kind.name} it lacks {lacking}"
