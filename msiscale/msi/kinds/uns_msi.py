"""AnnData of genes that holds the metabolites of the same spots in `uns`, as MetaSpatial's does."""

from __future__ import annotations

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source, whole_indices
from msiscale.msi.kinds.anndata import matrix, places
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.kinds.named_mz import named_mz
from msiscale.msi.spectra import Ints
from msiscale.msi.tree import Tree

_MZ = "uns/mz_features"


def _open(tree: Tree) -> Hdf5Source:
    if _MZ not in tree:
        raise InputError(
            f"{tree.path}: has uns/msi without {_MZ}, the m/z of its columns; "
            "write them as adata.uns['mz_features']"
        )
    found = tree.column(_MZ)
    mz = found.astype(np.float64).ravel() if found.dtype.kind in "fiu" else named_mz(found)
    if not np.isfinite(mz).all():
        bad = found[~np.isfinite(mz)][0]
        raise InputError(f"{tree.path}: {_MZ} has {bad!r}, which is no m/z; mend it")
    notes = ["the intensities are those of uns/msi; X holds something else"]
    yx = _spots(tree, notes) if "obs/array_row" in tree else places(tree, notes)
    return matrix(tree, "uns/msi", yx, mz, notes)


def _spots(tree: Tree, notes: list[str]) -> Ints:
    """Rows and columns of a Visium array, where every second pixel of a line is a spot."""
    names = ("obs/array_row", "obs/array_col")
    yx = np.stack([whole_indices(tree.path, tree.column(n), n) for n in names], axis=1)
    if len(np.unique(yx.sum(axis=1) % 2)) == 1 and len(yx) > 1:
        notes.append(
            "spots of a hexagonal array, on every second pixel of a line; of Visium, "
            "100 µm apart, pixel_um is 50x86.6"
        )
    return yx


KIND = Kind(
    "AnnData of spots with both genes and metabolites (MetaSpatial, DESIUM)",
    f"`uns/msi` dense or sparse, `{_MZ}`; `obs/array_row`, `obs/array_col`, or `obsm/spatial`",
    ("uns/msi",),
    _open,
)
