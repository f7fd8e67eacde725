"""AnnData of metaspace-converter: all pixels of a rectangle, zeros where none is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE
from msiscale.msi.hdf5_source import Hdf5Source, whole_indices
from msiscale.msi.kinds.anndata import matrix, set_size, sign_of, var_mz
from msiscale.msi.kinds.cube import SCAN
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.spectra import Ints, clean
from msiscale.msi.tree import Tree

_X, _Y = "obs/ion_image_pixel_x", "obs/ion_image_pixel_y"
_SIZE = "metadata/MS_Analysis/Pixel_Size"


def _open(tree: Tree) -> Hdf5Source:
    notes: list[str] = []
    yx = np.stack([whole_indices(tree.path, tree.column(n), n) for n in (_Y, _X)], axis=1)
    every = matrix(tree, "X", yx, var_mz(tree, notes), notes)
    measured = _with_signal(every, len(yx))
    source = every
    if not measured.all():
        notes.append(
            f"{NOTE}{int((~measured).sum())} pixels without any signal taken as not measured"
        )
        source = _of_rows(tree, every, yx, measured, notes)
    size = [_said(tree, f"{_SIZE}/{axis}") for axis in ("Yaxis", "Xaxis")]
    set_size(source, size, f"uns/metaspace/{_SIZE}")
    source.polarity = sign_of(_said(tree, "polarity"))
    return source


def _of_rows(
    tree: Tree, every: Hdf5Source, yx: Ints, rows: NDArray[np.bool_], notes: list[str]
) -> Hdf5Source:
    """The same source, of some of its rows."""
    fields = ("mz_first", "axis", "token", "ends")  # of a dense and of a sparse matrix
    more = {name: getattr(every, name) for name in fields if hasattr(every, name)}
    lengths = None if every.mz is not None else every.lengths[rows]
    return type(every).of(
        tree, every.names, yx[rows], every.address[rows], every.mz, notes, lengths, **more
    )


def _with_signal(source: Hdf5Source, n: int) -> NDArray[np.bool_]:
    """Rows with any value above zero; they are read in steps."""
    if source.mz is None:
        return np.asarray(source.lengths > 0)
    found = np.zeros(n, bool)
    step = max(1, SCAN // len(source.mz))
    for low in range(0, n, step):
        some = np.arange(low, min(low + step, n))
        found[some] = (clean(source.stored_values(some))[0] > 0).any(axis=1)
    return found


def _said(tree: Tree, key: str) -> object:
    """What METASPACE knows of a data set: in uns, or, the same in every row, in obs."""
    value = tree.value(f"uns/metaspace/{key}")
    name = f"obs/metaspace.{key.replace('/', '.')}"
    if value is None and name in tree:
        values = tree.column(name)
        value = values[0] if len(values) else None
    return value


KIND = Kind(
    "AnnData of METASPACE (metaspace-converter)",
    "as AnnData, with `obs/ion_image_pixel_x`, `obs/ion_image_pixel_y`; a pixel of zeros is not "
    "measured",
    ("X", "var", _X, _Y),
    _open,
)
