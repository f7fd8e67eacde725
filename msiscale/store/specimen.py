"""One specimen of a run as it is stored: a typed view of its group, which every reader shares."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import Floats, PixelSize, as_matrix
from msiscale.placing import GridMap, Placing
from msiscale.store.arrays import array_of, has_group, open_group, read
from msiscale.store.urls import join

DEFORMATION = "deformation"  # (corner_y, corner_x, xy) µm along x and y, before the matrix
NEAR_PPM = 20.0  # of an m/z that a user asks for


class StoredSpecimen:
    """A group of ``cohort.zarr`` or ``predictions.zarr``, read when it is asked for.

    Pickles as its URL. Maps are read anew each time, so that nobody holds a cohort of them.

    Parameters
    ----------
    url
        ``cohort.zarr/<specimen>`` or ``predictions.zarr/<specimen>`` of a run.

    Examples
    --------
    >>> stored = StoredSpecimen("results/cohort.zarr/S01")
    >>> stored.shape, stored.pixel_um, stored.column(788.6164)
    ((28, 30), PixelSize(y=100.0, x=100.0), 51)
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def of(cls, out: str, name: str) -> StoredSpecimen:
        """What was read and placed of a specimen of the run at `out`."""
        return cls(join(out, "cohort.zarr", name))

    @classmethod
    def predicted(cls, out: str, name: str, *below: str) -> StoredSpecimen:
        """What a fold predicted of a specimen that it left out; `below`: of parts, by protocol."""
        return cls(join(out, "predictions.zarr", name, *below))

    def __reduce__(self) -> tuple[type[StoredSpecimen], tuple[str]]:
        return StoredSpecimen, (self.url,)

    @property
    def name(self) -> str:
        """The name of the specimen."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def exists(self) -> bool:
        """Whether there is such a group; one request."""
        return has_group(self.url)

    @cached_property
    def group(self) -> zarr.Group:
        """The group, to read."""
        return open_group(self.url)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """Its attributes: patient, slide, polarity, notes, …"""
        return dict(self.group.attrs)

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def has(self, *names: str) -> bool:
        """Whether all these arrays are in the group."""
        return all(name in self for name in names)

    # geometry

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of its grid."""
        of = next(n for n in ("norm", "coverage", "tissue", "predicted_scores") if n in self)
        height, width = self.array(of).shape[:2]
        return height, width

    @property
    def pixel_um(self) -> PixelSize:
        """Size of a pixel of its grid."""
        return PixelSize.of(self.facts["pixel_um"])

    @property
    def mpp(self) -> PixelSize:
        """Size of a level-0 pixel of its slide."""
        return PixelSize.of(self.facts["mpp"])

    @property
    def matrix(self) -> Floats:
        """(3, 3) float64: pixel index (x, y, 1) to level-0 pixels of the slide."""
        return as_matrix(self.facts["matrix"])

    @property
    def placing(self) -> Placing:
        """How its pixels lie on the slide: `matrix`, with the deformation where one was found."""
        return placing_of(self.group)

    # the m/z axis

    @cached_property
    def mz(self) -> NDArray[np.float64]:
        """(k,) float64, ascending."""
        return read(self.group, "mz").astype(np.float64, copy=False)

    def column(self, mz: float, within_ppm: float = NEAR_PPM) -> int:
        """The column of the axis nearest to an m/z; see `nearest_column`."""
        return nearest_column(self.mz, mz, within_ppm)

    # arrays, lazy

    def array(self, name: str) -> zarr.Array[Any]:
        """An array of the group."""
        return array_of(self.group, name)

    @property
    def intensity(self) -> zarr.Array[Any]:
        """(y, x, mz) float32, NaN where a pixel was not measured."""
        return self.array("intensity")

    @property
    def features(self) -> zarr.Array[Any]:
        """(y, x, channel) float32, NaN off the tissue."""
        return self.array("features")

    # maps, in memory

    def read(self, name: str) -> NDArray[Any]:
        """An array of the group, whole."""
        return read(self.group, name)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(y, x): pixels that have a spectrum."""
        return np.asarray(np.isfinite(self.read("norm")))

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """(y, x): pixels that the slide covers with tissue by half or more."""
        return np.asarray(self.read("tissue"), bool)

    @property
    def cancer(self) -> NDArray[np.float32]:
        """(y, x): annotated fraction of a pixel, NaN where nothing is known."""
        return np.asarray(self.read("cancer"))

    @property
    def coverage(self) -> NDArray[np.float32]:
        """(y, x): the part of a pixel that its slide covers, 0 where none."""
        return np.asarray(np.nan_to_num(self.read("coverage")))


def placing_of(group: zarr.Group) -> Placing:
    """How the pixels of a stored specimen lie on its slide.

    Parameters
    ----------
    group
        Of the specimen, with ``matrix`` and ``pixel_um`` among its attributes, and `DEFORMATION`
        where there is one.

    Returns
    -------
    Placing
        To level-0 pixels.

    Raises
    ------
    InputError
        The deformation is not one at the corners of its pixels.
    """
    facts: Any = group.attrs
    matrix = as_matrix(facts["matrix"])
    if DEFORMATION not in group:
        return matrix
    rows, columns = array_of(group, "tissue").shape
    if array_of(group, DEFORMATION).shape != (rows + 1, columns + 1, 2):
        raise InputError(
            f"{group.name}: its deformation is of an earlier version; run msiscale register again"
        )
    return bent(matrix, read(group, DEFORMATION), PixelSize.of(facts["pixel_um"]))


def bent(matrix: Floats, field: NDArray[np.float32], pixel_um: PixelSize) -> GridMap:
    """A matrix with a stored deformation before it.

    Parameters
    ----------
    matrix
        (3, 3) float64, pixel index to level-0 pixels.
    field
        (ny + 1, nx + 1, 2) float32, µm along x and y at the corners of pixels.
    pixel_um
        Size of a pixel.

    Returns
    -------
    GridMap
    """
    return GridMap(matrix, field.astype(np.float64) / [pixel_um.x, pixel_um.y])


def nearest_column(axis: NDArray[np.float64], mz: float, within_ppm: float = NEAR_PPM) -> int:
    """The column of an m/z axis nearest to an m/z.

    Parameters
    ----------
    axis
        (k,) float64 m/z.
    mz
        The m/z looked for.
    within_ppm
        How far away the nearest may be, in parts per million of `mz`.

    Returns
    -------
    int
        Index into `axis`; the lower one of two that are as near.

    Raises
    ------
    InputError
        None is so near.
    """
    nearest = int(np.abs(axis - mz).argmin()) if len(axis) else -1
    if nearest < 0 or not mz > 0 or abs(axis[nearest] / mz - 1) > within_ppm * 1e-6:
        near = f"the nearest is {axis[nearest]:.4f}" if nearest >= 0 else "it is empty"
        raise InputError(f"m/z {mz} is not on the axis; {near}")
    return nearest
