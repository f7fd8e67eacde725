"""The general HDF5 layout: one file that holds any image on a shared m/z axis."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from msiscale.msi.cube import check_axis


def write_hdf5(
    path: str | Path,
    mz: ArrayLike,
    coordinates: ArrayLike,
    intensity: Any,
    pixel_um: float | None = None,
    *,
    polarity: str | None = None,
    profile: bool = False,
) -> None:
    """Write an image in msiscale's general HDF5 layout, which `msiscale.open_msi` reads.

    Parameters
    ----------
    path
        file to write; it appears when it is whole
    mz
        (k,) m/z, strictly ascending
    coordinates
        (n, 2) integers, x and y pixel index of every spectrum, from any origin
    intensity
        (n, k) array, or SciPy sparse array, which is written as CSR
    pixel_um
        side of a pixel in µm
    polarity
        '+', '-' or None
    profile
        whether the spectra are profile spectra

    Raises
    ------
    ValueError
        shapes that do not fit, coordinates that are not whole or occur twice
    """
    axis = check_axis(np.asarray(mz))
    xy = np.asarray(coordinates)
    if xy.ndim != 2 or xy.shape[1] != 2 or np.any(xy != np.rint(xy)):
        raise ValueError("coordinates are (n, 2) whole pixel indices, x and y")
    if len(np.unique(xy, axis=0)) != len(xy):
        raise ValueError("two spectra have the same coordinates")
    if polarity not in ("+", "-", None):
        raise ValueError(f"polarity is '+', '-' or None, not {polarity!r}")
    sparse = csr_array(intensity) if issparse(intensity) else None
    values = None if sparse is not None else np.asarray(intensity)
    shape = sparse.shape if sparse is not None else np.shape(intensity)
    if shape != (len(xy), len(axis)):
        raise ValueError(f"intensity is {shape}, not ({len(xy)}, {len(axis)})")
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    try:
        with h5py.File(name, "w") as file:
            file["mz"] = axis
            file["coordinates"] = xy.astype(np.int32)
            if sparse is not None:
                file["data"] = sparse.data.astype(np.float32)
                file["indices"] = sparse.indices.astype(np.int32)
                file["indptr"] = sparse.indptr.astype(np.int64)
            else:
                file["intensity"] = np.asarray(values, np.float32)
            file.attrs["layout"] = "msiscale"
            file.attrs["profile"] = profile
            if pixel_um is not None:
                file.attrs["pixel_um"] = float(pixel_um)
            if polarity is not None:
                file.attrs["polarity"] = polarity
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
