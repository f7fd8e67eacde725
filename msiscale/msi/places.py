"""Where the pixels of an image are: the steps of their coordinates, and what lies far apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msiscale.msi.spectra import Ints

CELL = 64  #: pixels of a side of the cells that regions are made of
#: Pixels of the grid that an image may have; 75 x 25 mm have 75 million of 5 µm.
MOST_PIXELS = 1 << 28
#: Pixels of the grid that single pixels far from all others may make of it.
_FOR_STRAYS = 1 << 24


@dataclass(frozen=True)
class Places:
    """The grid of the coordinates in a file, along (y, x).

    Attributes
    ----------
    steps : of the coordinates from pixel to pixel; 1 for pixel indices
    shape : pixels of the bounding box, in these steps
    low, reach : the smallest and the largest coordinates
    """

    steps: tuple[int, int]
    shape: tuple[int, int]
    low: tuple[int, int]
    reach: tuple[int, int]

    @classmethod
    def of(cls, yx: Ints) -> Places:
        """From the coordinates of the spectra.

        Parameters
        ----------
        yx
            (n, 2) int64, as written; n above 0

        Returns
        -------
        Places
        """
        steps = _steps(yx)
        spans = np.ptp(yx, axis=0) // steps + 1
        low, top = yx.min(axis=0), yx.max(axis=0)
        ends = (int(low[0]), int(low[1])), (int(top[0]), int(top[1]))
        return cls(steps, (int(spans[0]), int(spans[1])), *ends)


def _steps(yx: Ints) -> tuple[int, int]:
    """The constant stride of the coordinates, 1 where they have none."""
    # It is one only where most neighbours are a stride apart, and there are three or more: two
    # spectra on a slide are no grid. An axis with less follows the other. Where one axis has
    # neighbours the coordinates are indices, and lines of the other were left out.
    gaps = [np.diff(np.unique(column)) for column in yx.T]
    found = [int(np.gcd.reduce(g)) if len(g) else 0 for g in gaps]
    if 1 in found:
        return 1, 1
    sure = [len(g) > 1 and step > 1 and 2 * np.sum(g == step) >= len(g)
            for g, step in zip(gaps, found, strict=True)]  # fmt: skip
    steps = []
    for axis in (0, 1):
        other = found[1 - axis]
        if sure[axis]:
            steps.append(found[axis])
        elif sure[1 - axis] and len(gaps[axis]) == 1 and found[axis] > 1:
            steps.append(other if found[axis] % other == 0 else found[axis])
        else:
            steps.append(1)
    return steps[0], steps[1]


def cells_of(yx: NDArray[np.integer]) -> dict[tuple[int, int], int]:
    """Cells of `CELL` x `CELL` pixels that have spectra.

    Parameters
    ----------
    yx
        (n, 2), pixel indices

    Returns
    -------
    dict
        How many spectra each has, by its (y, x), in raster order.
    """
    cells, counts = np.unique(yx // CELL, axis=0, return_counts=True)
    return {(int(y), int(x)): int(n) for (y, x), n in zip(cells, counts, strict=True)}


def is_scattered(cells: int, shape: tuple[int, int]) -> bool:
    """Whether so many cells with spectra are so few of a grid that the rest is not worth making."""
    every = -(-shape[0] // CELL) * -(-shape[1] // CELL)
    return every >= 16 and 2 * cells < every


def regions(cells: dict[tuple[int, int], int]) -> list[set[tuple[int, int]]]:
    """Cells that touch one another, at corners too.

    Parameters
    ----------
    cells
        as `cells_of` gives them

    Returns
    -------
    list of set
        The regions, in raster order of their first cell.
    """
    left, found = dict(cells), []
    while left:
        first = next(iter(left))
        todo, region = [first], set[tuple[int, int]]()
        while todo:
            y, x = todo.pop()
            if left.pop((y, x), None) is not None:
                region.add((y, x))
                todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        found.append(region)
    return found


def near(yx: Ints, notes: list[str]) -> NDArray[np.bool_]:
    """The pixels that make up an image, and what is to be said of others.

    Single pixels far away are left out where the grid would be too large with them, and named
    where it is not.

    Parameters
    ----------
    yx
        (n, 2) int64, pixel indices
    notes
        notes of the source, which gain what lies far apart or is left out

    Returns
    -------
    ndarray
        (n,) bool
    """
    kept = np.ones(len(yx), bool)
    shape = _extent(yx)
    if shape[0] < 4 * CELL and shape[1] < 4 * CELL:
        return kept
    cells = cells_of(yx - yx.min(axis=0))
    if not is_scattered(len(cells), shape):
        return kept
    parts = regions(cells)
    few = len(yx) // 1000 or (1 if len(yx) > 9 else 0)
    stray = {cell for part in parts if sum(map(cells.__getitem__, part)) <= few for cell in part}
    away = _in_cells(yx - yx.min(axis=0), stray)
    places = ", ".join(f"x {x}, y {y}" for y, x in yx[away][:3].tolist())
    if shape[0] * shape[1] > _FOR_STRAYS and away.any() and not away.all():
        notes.append(f"{int(away.sum())} stray pixels far away ({places}) are left out")
        return ~away
    if away.any():
        notes.append(
            f"{int(away.sum())} pixels lie far from the others ({places}); are they meant?"
        )
    apart = len(parts) - sum(part <= stray for part in parts)
    if apart > 1:
        notes.append(
            f"{apart} regions lie apart in a grid of {shape[1]} x {shape[0]} pixels; what is "
            "between them is left out of cube and features"
        )
    return kept


def _extent(yx: Ints) -> tuple[int, int]:
    height, width = np.ptp(yx, axis=0) + 1
    return int(height), int(width)


def _in_cells(yx: Ints, cells: set[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which pixels are in some cells."""
    return np.fromiter((cell in cells for cell in map(tuple, (yx // CELL).tolist())), bool, len(yx))
