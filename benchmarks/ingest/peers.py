"""Other converters, each run by the interpreter of its own environment; msiscale is not in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

LIBRARIES = ()


def imzy_zarr(path: str, axis: str, out: str) -> None:
    """Ion images of the axis in a chunked Zarr store."""
    from imzy import get_reader

    shutil.rmtree(out, ignore_errors=True)
    get_reader(path).to_zarr(Path(out), np.load(axis), ppm=5.0, silent=True)


def imzy_hdf5(path: str, axis: str, out: str) -> None:
    """Ion images of the axis in a chunked HDF5 file."""
    from imzy import get_reader

    Path(out).with_suffix(".h5").unlink(missing_ok=True)
    get_reader(path).to_hdf5(Path(out).with_suffix(".h5"), np.load(axis), ppm=5.0, silent=True)


def thyra(path: str, axis: str, out: str) -> None:
    """The whole image to SpatialData on thyra's own axis."""
    from thyra import convert_msi

    shutil.rmtree(out, ignore_errors=True)
    if not convert_msi(path, out, dataset_id="one", pixel_size_um=50.0, include_optical=False):
        raise RuntimeError("thyra converted nothing")
