"""Cubes of MassVision."""

from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.kinds.cube import open_cube
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    return open_cube(h5, "peaks", "mz", y_first=True)


KIND = Kind("MassVision", "`peaks` (y, x, mz), `mz`", ("peaks", "mz"), _open)
