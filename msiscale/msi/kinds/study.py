"""The cubes of the published study."""

from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.kinds.cube import open_cube
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    return open_cube(h5, "interpolated_intensities", "common_mz", mz_first=True)


KIND = Kind(
    "the published study",
    "`interpolated_intensities` (mz, x, y), `common_mz`",
    ("interpolated_intensities", "common_mz"),
    _open,
)
