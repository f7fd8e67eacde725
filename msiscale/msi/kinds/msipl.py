"""The matrices of msiPL and massNet."""

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source, open_matrix, whole_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    mz = h5.axis("mzArray")
    x, y = (whole_indices(h5.path, h5.whole(n), n).ravel() for n in ("xLocation", "yLocation"))
    if len(x) != len(y):
        raise InputError(f"{h5.path}: {len(x)} xLocation but {len(y)} yLocation; mend the file")
    return open_matrix(h5, "Data", np.stack([y, x], axis=1), mz, [])


KIND = Kind(
    "msiPL, massNet",
    "`Data` (pixel, mz) or transposed, `mzArray`, `xLocation`, `yLocation`",
    ("Data", "mzArray", "xLocation", "yLocation"),
    _open,
)
