"""What a mass-spectrometry image is to the rest of the program, whatever file it is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.msi.spectra import Floats, Intensities, Ints, Spectra
from msiscale.store import open_file

#: Values (m/z and intensity pairs) that one read may hold; 12 bytes each.
BATCH_VALUES = 1_000_000

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class MsiSource(Protocol):
    """A mass-spectrometry image: where its spectra lie, and the spectra on request.

    A source is small, holds no open file and can be pickled; every read opens its own handle, so
    threads and processes may share one.

    Attributes
    ----------
    path : str
    shape : (ny, nx) of the bounding box of the measured pixels
    pixel_um : (y, x) size of a pixel in µm, or None when the file does not tell
    positions : (n, 2) int32, (y, x) of every spectrum, 0-based within the bounding box
    origin : (y, x) of the bounding box in the file's own coordinates
    mz : (k,) float64 ascending, the axis that all spectra share, or None when each has its own
    lengths : (n,) int64, number of values of every spectrum
    profile : True for profile spectra, False for centroids
    polarity : '+', '-' or None
    notes : what was odd and how it was read, one sentence each
    """

    path: str
    shape: tuple[int, int]
    pixel_um: tuple[float, float] | None
    positions: NDArray[np.int32]
    origin: tuple[int, int]
    mz: Floats | None
    lengths: Ints
    profile: bool
    polarity: str | None
    notes: list[str]

    def read(self, indices: NDArray[np.integer]) -> Spectra:
        """The spectra `indices`, in that order."""

    def read_dense(self, indices: NDArray[np.integer]) -> Intensities:
        """(m, k) intensities on the shared axis, in that order; TypeError without such an axis."""


def open_source(path: str, *, pixel_um: float | None = None) -> MsiSource:
    """Open an imzML or HDF5 mass-spectrometry image; only its metadata is read.

    Parameters
    ----------
    path : local path or URL of the .imzML (in any letter case) or HDF5 file
    pixel_um : side of a pixel in µm; overrides what the file says

    Raises
    ------
    InputError : no such file, of no known kind, or damaged
    """
    path = str(path)
    if pixel_um is not None and not (np.isfinite(pixel_um) and pixel_um > 0):
        raise InputError(f"{path}: pixel_um is {pixel_um}; give the pixel size in µm, above 0")
    try:
        with open_file(path) as file:
            head = file.read(512)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the path") from None
    if head.startswith(_HDF5_MAGIC):
        from msiscale.msi.hdf5 import open_hdf5

        return open_hdf5(path, pixel_um=pixel_um)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is a Git LFS pointer, not data; run `git lfs pull`")
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".imzml" or b"mzML" in head:
        from msiscale.msi.imzml import open_imzml

        return open_imzml(path, pixel_um=pixel_um)
    raise InputError(f"{path}: neither imzML nor HDF5; give the .imzML or the .h5 of the image")


def companions(path: str) -> tuple[str, ...]:
    """The other files of an image: the .ibd of an imzML. Raises InputError where it is missing."""
    if PurePosixPath(path).suffix.lower() != ".imzml":
        return ()
    from msiscale.msi.imzml import find_ibd

    return (find_ibd(path)[0],)


def as_indices(indices: NDArray[np.integer]) -> Ints:
    """Indices of spectra as int64."""
    return np.asarray(indices).astype(np.int64, copy=False)


def batches(
    source: MsiSource, indices: NDArray[np.integer], values: int = BATCH_VALUES
) -> Iterator[Ints]:
    """`indices` cut into runs of at most `values` values (and at least one spectrum)."""
    indices = as_indices(indices)
    if len(indices) == 0:
        return
    ends = np.cumsum(source.lengths[indices])
    begin = 0
    while begin < len(indices):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + values, side="right")))
        yield indices[begin:end]
        begin = end


def bounding_box(path: str, yx: Ints) -> tuple[NDArray[np.int32], tuple[int, int], tuple[int, int]]:
    """Positions rebased to their bounding box, its shape, and its origin.

    Raises InputError when the box is so empty that the coordinates cannot be pixel indices.
    """
    low, high = yx.min(axis=0), yx.max(axis=0)
    shape = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    if shape[0] * shape[1] > 1000 * len(yx) + 10_000_000:
        raise InputError(
            f"{path}: {len(yx)} spectra in {shape[1]} x {shape[0]} pixels; "
            "the coordinates are not pixel indices, export them as such"
        )
    return (yx - low).astype(np.int32), shape, (int(low[0]), int(low[1]))


def snap_to_grid(path: str, values: NDArray) -> tuple[Ints, float]:
    """Indices of coordinates that lie on a regular grid, and its step in the file's unit.

    The step is the smallest gap between distinct values (gaps below 1e-4 of the span are noise).
    """
    values = np.asarray(values, np.float64)
    distinct = np.unique(values)
    if not np.isfinite(distinct).all():
        raise InputError(f"{path}: a pixel coordinate is not finite; export them anew")
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-4 * np.ptp(distinct)]
    if len(gaps) == 0:
        return np.zeros(len(values), np.int64), 1.0
    rough = float(gaps.min())
    step = float(np.mean(gaps[gaps < 1.5 * rough]))
    scaled = (values - distinct[0]) / step
    index = np.rint(scaled).astype(np.int64)
    if np.abs(scaled - index).max() > 0.25:
        raise InputError(
            f"{path}: the pixel coordinates lie on no regular grid; give them as pixel indices"
        )
    return index, step
