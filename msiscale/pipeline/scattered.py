"""Images of regions far apart: blocks of the grid without pixels are neither made nor written.

Only where most of the grid is empty: elsewhere the slide is of interest between the pixels too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block
from msiscale.msi.places import CELL, cells_of, is_scattered
from msiscale.store import ONLY_SHARDS

Cells = list[list[int]] | None  #: (y, x) of cells with pixels; None where the whole grid is made


def measured_cells(positions: NDArray[np.integer], shape: tuple[int, int]) -> Cells:
    """The cells of an image that has few for its grid.

    Parameters
    ----------
    positions
        (n, 2), (y, x) of the pixels in the grid
    shape
        (ny, nx) of the grid

    Returns
    -------
    list of list, or None
    """
    cells = cells_of(positions)
    return [[*cell] for cell in cells] if is_scattered(len(cells), shape) else None


def blocks_of(cells: Cells, shape: tuple[int, int], size: int) -> list[Block]:
    """Blocks of the grid, `size` pixels a side, that are made, in raster order."""
    every = -(-shape[0] // size), -(-shape[1] // size)
    if cells is None:
        places = [(y, x) for y in range(every[0]) for x in range(every[1])]
    else:
        places = sorted(
            {
                (y, x)
                for i, j in cells
                for y in _range(i, size, every[0])
                for x in _range(j, size, every[1])
            }
        )
    return [
        Block(y * size, min((y + 1) * size, shape[0]), x * size, min((x + 1) * size, shape[1]))
        for y, x in places
    ]


def _range(cell: int, size: int, n: int) -> range:
    """Blocks that a cell has a part in, along one axis of `n` blocks."""
    return range(cell * CELL // size, min(-(-(cell + 1) * CELL // size), n))


def attributes(cells: Cells, shape: tuple[int, int], size: int) -> dict[str, Any]:
    """Attributes of an array in blocks of `size`, some of which are left out."""
    if cells is None:
        return {}
    return {ONLY_SHARDS: [[b.y0 // size, b.x0 // size] for b in blocks_of(cells, shape, size)]}
