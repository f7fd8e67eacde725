"""Cubes of OpenMSI and BASTet."""

from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.kinds.cube import open_cube
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree

_CUBE, _MZ = "entry_0/data_0/data_0", "entry_0/data_0/mz"


def _open(h5: Tree) -> Hdf5Source:
    return open_cube(h5, _CUBE, _MZ)


KIND = Kind("OpenMSI, BASTet", f"`{_CUBE}` (x, y, mz), `{_MZ}`", (_CUBE, _MZ), _open)
