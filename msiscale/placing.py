"""How the pixels of an MSI lie on a slide: by an affine map, or with each corner moved before it.

A pixel is a quadrilateral between four corners that it shares with its neighbours, so that pixels
tile the slide without gaps, however it is deformed. Everything is computed corner by corner with
element-wise arithmetic from absolute indices: a corner is the same bits in any block, and those of
a deformation by nothing are the bits of the affine map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.grid import Block, Floats, apply, as_matrix, translation

_MOST_STEPS, _NEAR = 100, 1e-9  # of the inverse: how often it is put right, pixels to stop at


@dataclass(frozen=True, eq=False)
class GridMap:
    """An affine map of a grid whose corners are moved before it.

    Between the corners, and so where one pixel is cut into `parts`, the move is bilinear; beyond
    the grid it is that of its border.

    Attributes
    ----------
    matrix : (3, 3) float64, index of a pixel (x, y, 1) to a place, as without the deformation
    shift : (ny + 1, nx + 1, 2) float64, by how many MSI pixels a corner moves along x and y
    parts : pixels of this grid that make one MSI pixel, each way
    """

    matrix: Floats
    shift: Floats
    parts: int = 1

    def __post_init__(self) -> None:
        """Check it.

        Raises
        ------
        ValueError
            A pixel is folded, or no longer convex; a number is not finite.
        """
        if self.shift.ndim != 3 or self.shift.shape[2] != 2 or min(self.shift.shape[:2]) < 2:
            raise ValueError(f"a deformation is (ny + 1, nx + 1, 2), not {self.shift.shape}")
        if not np.isfinite(self.shift).all():
            raise ValueError("the deformation has values that are not finite")
        if stretch(self.shift)[0] <= 0:
            raise ValueError("the deformation folds a pixel")

    def moved(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """By how many pixels of this grid points move along x and y.

        Parameters
        ----------
        y, x
            float64, of one shape, counted from the grid's first corner: those of pixel (0, 0) are
            0 and 1.

        Returns
        -------
        tuple
            Two float64 of that shape.
        """
        rows, columns = self.shift.shape[:2]
        v, u = (np.clip(p / self.parts, 0, n - 1) for p, n in ((y, rows), (x, columns)))
        i, j = (
            np.minimum(np.floor(p), n - 2).astype(np.intp) for p, n in ((v, rows), (u, columns))
        )
        v, u = v - i, u - j
        out = []
        for k in range(2):
            of = self.shift[..., k]
            above = of[i, j] * (1 - u) + of[i, j + 1] * u
            below = of[i + 1, j] * (1 - u) + of[i + 1, j + 1] * u
            out.append((above * (1 - v) + below * v) * self.parts)
        return out[0], out[1]


Placing = Floats | GridMap


def as_placing(values: ArrayLike | GridMap) -> Placing:
    """A `GridMap` as it is, or an affine matrix that was checked.

    Parameters
    ----------
    values
        A `GridMap`, or (3, 3) as for `msiscale.grid.as_matrix`.

    Returns
    -------
    Placing

    Raises
    ------
    ValueError
        They are no affine matrix.
    """
    return values if isinstance(values, GridMap) else as_matrix(values)


def affine_of(placing: Placing) -> Floats:
    """The matrix, float64 (3, 3), without what is deformed."""
    return placing.matrix if isinstance(placing, GridMap) else placing


def with_affine(placing: Placing, matrix: Floats) -> Placing:
    """The same pixels with another matrix after what is deformed.

    Parameters
    ----------
    placing
        Of the pixels.
    matrix
        (3, 3) float64, instead of its own.

    Returns
    -------
    Placing
        Of the kind of `placing`.
    """
    return replace(placing, matrix=matrix) if isinstance(placing, GridMap) else matrix


def finer(placing: Placing, parts: int) -> Placing:
    """That of a grid with `parts` pixels for each one, each way."""
    to_index = np.eye(3)
    to_index[:2] /= parts
    to_index[:2, 2] = 0.5 / parts - 0.5
    matrix = as_matrix(affine_of(placing)) @ to_index
    if isinstance(placing, GridMap):
        return replace(placing, matrix=matrix, parts=placing.parts * parts)
    return matrix


def from_block(placing: Placing, block: Block) -> Placing:
    """That of a grid that begins where `block` does.

    Parameters
    ----------
    placing
        Of the whole grid, whose pixels are no parts.
    block
        In its pixels.

    Returns
    -------
    Placing
        Its pixel (0, 0) is the first one of `block`.
    """
    matrix = as_matrix(affine_of(placing)) @ translation(block.x0, block.y0)
    if isinstance(placing, GridMap):
        assert placing.parts == 1, placing.parts
        rows, columns = slice(block.y0, block.y1 + 1), slice(block.x0, block.x1 + 1)
        return GridMap(matrix, placing.shift[rows, columns])
    return matrix


def corners(placing: Placing, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Where corners lie, x and y.

    Parameters
    ----------
    placing
        Of the pixels.
    y, x
        float64 of whole numbers, of one shape: the first corners of pixel (y, x).

    Returns
    -------
    tuple
        Two float64 of that shape.
    """
    px, py = x - 0.5, y - 0.5
    if isinstance(placing, GridMap):
        by = placing.moved(y, x)
        px, py = px + by[0], py + by[1]
    matrix = affine_of(placing)
    return (
        matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2],
        matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2],
    )


def pixel_corners(placing: Placing, block: Block) -> Floats:
    """Corners of every pixel of a block.

    Parameters
    ----------
    placing
        Of the MSI.
    block
        Of its pixels; a pixel's corners do not depend on it.

    Returns
    -------
    float64 (h, w, 4, 2)
        (x, y), in the order (-,-), (+,-), (+,+), (-,+) of the pixel's own axes.
    """
    y, x = np.mgrid[block.y0 : block.y1 + 1, block.x0 : block.x1 + 1].astype(np.float64)
    at = np.stack(corners(placing, y, x), axis=-1)
    return np.stack([at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]], axis=2)


def pixel_areas(placing: Placing, block: Block) -> float | Floats:
    """Areas of pixels: one number where all are the same, else float64 of the block's shape."""
    if not isinstance(placing, GridMap):
        return float(abs(placing[0, 0] * placing[1, 1] - placing[0, 1] * placing[1, 0]))
    a, b, c, d = np.moveaxis(pixel_corners(placing, block), 2, 0)
    return np.asarray(np.abs(_cross(c - a, d - b)) / 2)


def places(placing: Placing, xy: ArrayLike) -> Floats:
    """Map points.

    Parameters
    ----------
    placing
        Of the MSI.
    xy
        (..., 2), (x, y) in its indices; pixel centres are whole numbers.

    Returns
    -------
    float64 (..., 2)
    """
    points = np.asarray(xy, dtype=np.float64)
    if isinstance(placing, GridMap):
        by = placing.moved(points[..., 1] + 0.5, points[..., 0] + 0.5)
        points = points + np.stack(by, axis=-1)
    return apply(affine_of(placing), points)


def indices(placing: Placing, xy: ArrayLike) -> Floats:
    """Pixel indices from those of the affine map alone, the inverse of what a deformation does.

    Parameters
    ----------
    placing
        Of the MSI.
    xy
        (..., 2), (x, y), points taken back by the inverse of `affine_of`.

    Returns
    -------
    float64 (..., 2)
    """
    straight = found = np.asarray(xy, dtype=np.float64)
    if not isinstance(placing, GridMap):
        return straight
    for _ in range(_MOST_STEPS):
        by = np.stack(placing.moved(found[..., 1] + 0.5, found[..., 0] + 0.5), axis=-1)
        last, found = found, straight - by
        if np.abs(found - last).max(initial=0) < _NEAR:
            break
    return found


def stretch(shift: NDArray[Any]) -> tuple[float, float]:
    """By which factor areas change at the corners of pixels, the least and the most.

    Parameters
    ----------
    shift
        (ny + 1, nx + 1, 2), of corners in pixels, as in a `GridMap`.

    Returns
    -------
    tuple of float
        The least is above 0 where every pixel is convex and none is folded.
    """
    along = np.diff(shift, axis=1) + np.array([1.0, 0.0])
    down = np.diff(shift, axis=0) + np.array([0.0, 1.0])
    each = [_cross(h, v) for h in (along[:-1], along[1:]) for v in (down[:, :-1], down[:, 1:])]
    return float(min(e.min() for e in each)), float(max(e.max() for e in each))


def _cross(one: Floats, other: Floats) -> Floats:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])
