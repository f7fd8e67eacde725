"""The HDF5 that SCiLS Lab exports."""

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source, Spots, grid_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    name, path = "Registrations/0/Coordinates", h5.path
    places = h5.whole(name if name in h5 else "Coordinates", 2)
    if places.shape[0] != 3 or not np.isfinite(places).all():
        raise InputError(f"{path}: its coordinates are {places.shape}, not (3, n); export it again")
    keys = h5.numbered("Spots")
    if not keys or keys[-1] >= places.shape[1]:
        raise InputError(f"{path}: has spots without coordinates; export it again")
    axis = "SamplePositions/GlobalMassAxis/SamplePositions"
    if axis not in h5:
        axis = f"Spots/{keys[0]}/InitialMeasurement/SamplePositions/SamplePositions"
    mz = h5.axis(axis)
    notes: list[str] = []
    yx = grid_indices(path, places[:2, keys].T, notes)
    yx[:, 0] = yx[:, 0].max() - yx[:, 0]  # y points up in SCiLS
    address = np.array(keys, np.int64)[:, None]
    return Spots.of(h5, ("Spots/{}/InitialMeasurement/Intensities",), yx, address, mz, notes)


KIND = Kind(
    "SCiLS export",
    "`Spots/<i>/InitialMeasurement/Intensities`, a mass axis, `Registrations/0/Coordinates`",
    ("Spots",),
    _open,
)
