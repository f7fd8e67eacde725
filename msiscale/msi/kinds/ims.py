"""IMS.hdf5: a group a spectrum."""

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source, RaggedSpots, grid_indices
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree


def _open(h5: Tree) -> Hdf5Source:
    keys = h5.numbered("spectral_data")
    names = ("spectral_data/{}/centroid_mzs", "spectral_data/{}/centroid_intensities")
    xy, lengths = [], []
    for key in keys:
        place = h5.whole(f"spectral_data/{key}/coordinates")
        if place.size < 2:
            raise InputError(f"{h5.path}: spectrum {key} has no x and y; export the image again")
        xy.append(np.asarray(place, np.float64).ravel()[:2])
        sizes = [h5.dataset(name.format(key), 1).shape[0] for name in names]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{h5.path}: spectrum {key} has {sizes[0]} m/z but {sizes[1]} intensities; mend it"
            )
        lengths.append(sizes[0])
    notes: list[str] = []
    yx = grid_indices(h5.path, np.array(xy).reshape(-1, 2), notes)
    address = np.array(keys, np.int64)[:, None]
    return RaggedSpots.of(h5, names, yx, address, None, notes, np.array(lengths))


KIND = Kind(
    "IMS.hdf5",
    "`spectral_data/<i>/{centroid_mzs, centroid_intensities, coordinates}`",
    ("spectral_data",),
    _open,
)
