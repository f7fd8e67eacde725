"""Pixel grids and affine maps between them: the only place with (y, x) conventions.

Conventions
-----------
* Arrays are indexed ``[y, x]``; affine maps are 3x3 float64 matrices acting on ``(x, y, 1)``.
* MSI coordinates are pixel *indices*: pixel ``(y=i, x=j)`` has its centre at ``(j, i)`` and covers
  ``[j - 0.5, j + 0.5] x [i - 0.5, i + 0.5]``.
* Slide coordinates (any level) are *continuous* as in OpenSlide and QuPath: pixel ``(i, j)`` covers
  ``[j, j + 1] x [i, i + 1]``; the top left corner of the slide is ``(0, 0)``.
* The registration ``matrix`` maps MSI indices to level-0 slide coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class PixelSize(NamedTuple):
    """Size of a pixel in µm, along y and along x: the one type of it, of MSI and slides."""

    y: float
    x: float

    @classmethod
    def of(cls, value: Any) -> PixelSize:
        """From what is stored or given: one number for square pixels, or (y, x)."""
        size = np.ravel(np.asarray(value, dtype=np.float64))
        if len(size) not in (1, 2):
            raise ValueError(f"a pixel size is one number or two (y, x), not {value!r}")
        return cls(float(size[0]), float(size[-1]))

    @property
    def side(self) -> float:
        """Side of the square of the same area, µm."""
        return float(np.sqrt(self.y * self.x))

    @property
    def area(self) -> float:
        """µm²."""
        return self.y * self.x

    @property
    def scaling(self) -> Floats:
        """Matrix (3, 3) from pixels to µm."""
        return scaling(self.x, self.y)


@dataclass(frozen=True)
class Block:
    """A rectangle of pixels ``[y0:y1, x0:x1]``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, other: Block) -> tuple[slice, slice]:
        """Slices of this block in an array of the pixels of `other`."""
        return Block(
            self.y0 - other.y0, self.y1 - other.y0, self.x0 - other.x0, self.x1 - other.x0
        ).slices

    def scaled(self, by: int) -> Block:
        """The same place in pixels that are `by` times as small."""
        return Block(self.y0 * by, self.y1 * by, self.x0 * by, self.x1 * by)

    def grown(self, by: int = 0, to: int = 1) -> Block:
        """`by` pixels more on every side, and on to multiples of `to`."""
        return Block(
            (self.y0 - by) // to * to,
            -(-(self.y1 + by) // to) * to,
            (self.x0 - by) // to * to,
            -(-(self.x1 + by) // to) * to,
        )

    def __and__(self, other: Block) -> Block | None:
        """What both have, None if that is nothing."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return Block(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def enclosing(parts: Sequence[Block]) -> Block:
    """The smallest block that holds all of one or more."""
    return Block(
        min(b.y0 for b in parts),
        max(b.y1 for b in parts),
        min(b.x0 for b in parts),
        max(b.x1 for b in parts),
    )


def blocks(shape: tuple[int, int], size: tuple[int, int]) -> Iterator[Block]:
    """Blocks of at most `size` pixels that tile `shape`, in raster order."""
    for y in range(0, shape[0], size[0]):
        for x in range(0, shape[1], size[1]):
            yield Block(y, min(y + size[0], shape[0]), x, min(x + size[1], shape[1]))


def centres_um(n: int, pixel_um: float) -> Floats:
    """Coordinates of pixel centres, the first at half a pixel.

    Parameters
    ----------
    n : int
        Pixels.
    pixel_um : float
        Size of one, µm.

    Returns
    -------
    float64 (n,), µm
    """
    return (np.arange(n, dtype=np.float64) + 0.5) * float(pixel_um)


def as_matrix(values: ArrayLike) -> Floats:
    """An affine matrix, checked.

    Parameters
    ----------
    values : array-like (3, 3)
        Finite, invertible, with the last row (0, 0, 1).

    Returns
    -------
    float64 (3, 3)

    Raises
    ------
    ValueError
        They are not.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != (3, 3):
        raise ValueError(f"an affine matrix is 3x3, not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the affine matrix has values that are not finite")
    if not np.allclose(matrix[2], (0, 0, 1)):
        raise ValueError("the last row of an affine matrix is 0, 0, 1")
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError("the affine matrix is singular")
    return matrix


def scaling(sx: float, sy: float | None = None) -> Floats:
    """Matrix, float64 (3, 3), that multiplies x by `sx` and y by `sy` (default `sx`)."""
    return np.diag([sx, sx if sy is None else sy, 1.0])


def translation(tx: float, ty: float) -> Floats:
    """Matrix, float64 (3, 3), that moves by ``(tx, ty)``."""
    matrix = np.eye(3)
    matrix[:2, 2] = tx, ty
    return matrix


def apply(matrix: Floats, xy: ArrayLike) -> Floats:
    """Map points through an affine matrix.

    Parameters
    ----------
    matrix : float64 (3, 3)
        Acting on (x, y, 1).
    xy : array-like (..., 2)
        Points (x, y).

    Returns
    -------
    float64 (..., 2)
    """
    points = np.asarray(xy, dtype=np.float64)
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def bounds(points: Floats) -> tuple[float, float, float, float]:
    """The smallest upright box around points.

    Parameters
    ----------
    points
        (..., 2) float64, (x, y), at least one.

    Returns
    -------
    tuple of float
        ``(x_min, y_min, x_max, y_max)``, in the unit of the points.
    """
    flat = points.reshape(-1, 2)
    (x0, y0), (x1, y1) = flat.min(axis=0), flat.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)
