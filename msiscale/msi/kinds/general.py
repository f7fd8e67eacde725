"""msiscale's own layout, which `msiscale.msi.write_hdf5` writes."""

import numpy as np

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi.hdf5_source import Hdf5Source, open_matrix, whole_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.sparse_rows import Csr
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    mz, path = h5.axis("mz"), h5.path
    xy = whole_indices(path, h5.whole("coordinates", 2), "coordinates")
    if xy.shape[1] not in (2, 3):
        raise InputError(f"{path}: coordinates is {xy.shape}; give (n, 2), x and y")
    if xy.shape[1] == 3 and len(np.unique(xy[:, 2])) > 1:
        raise InputError(f"{path}: holds several z planes; split it into one file per plane")
    yx = xy[:, 1::-1]
    if "intensity" in h5:
        source = open_matrix(h5, "intensity", yx, mz, [])
    else:
        ends = h5.cuts("indptr", "data", len(yx))
        address = np.stack([ends[:-1], ends[1:]], axis=1)
        source = Csr.of(h5, ("data", "indices"), yx, address, mz, [])
    attrs = h5.file.attrs
    try:
        size = np.atleast_1d(np.asarray(attrs.get("pixel_um", np.nan), np.float64)).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{path}: its attribute pixel_um is no number; give µm") from None
    if np.isfinite(size).all() and (size > 0).all() and len(size) in (1, 2):
        source.pixel_um = PixelSize.of(size)
    polarity = str(attrs.get("polarity", ""))
    source.polarity = polarity if polarity in ("+", "-") else None
    source.profile = bool(attrs.get("profile", False))
    return source


_NAME = "msiscale, for everything else"
_HOLDS = (
    "`mz` (k,), `coordinates` (n, 2) x and y; `intensity` (n, k), or CSR as `data`, `indices`, "
    "`indptr`; attributes `pixel_um`, `polarity`, `profile`"
)
KIND = Kind(_NAME, _HOLDS, ("mz", "coordinates", "intensity"), _open, says_profile=True)
SPARSE = Kind(_NAME, "", ("mz", "coordinates", "data", "indices", "indptr"), _open, True)
