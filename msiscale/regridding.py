"""Resampling from a slide by exact area overlap, block by block.

An MSI pixel becomes a parallelogram on the source grid, or with a deformation a quadrilateral
(`msiscale.placing`); every source cell counts by the area that the two share. No library does this
under rotation (GDAL's ``average`` uses the bounding box).

The shared area comes from Green's theorem. A convex outline cuts a row of the grid in an interval
that slides from ``x_left(y)`` to ``x_right(y)``; the part of it inside the column ``[c, c + 1]`` is
``clip(x_right - c, 0, 1) - clip(x_left - c, 0, 1)``, so

    area = sum over edges of the integral over y of clip(x(y) - c, 0, 1), signed by direction,

which has a closed form for each straight edge. Everything is computed pixel by pixel from absolute
indices with element-wise arithmetic, so a pixel's weights are the same bits in any block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy import sparse

from msiscale import grid
from msiscale.grid import Block, Floats
from msiscale.placing import (
    Placing,
    affine_of,
    as_placing,
    corners,
    from_block,
    pixel_areas,
    pixel_corners,
    with_affine,
)
from msiscale.ranges import ranges

Ints = NDArray[np.int64]

_SLIVER = 1e-12  # of a cell: an overlap below it is rounding, not area
_BATCH = 1 << 20  # candidate (pixel, cell) pairs handled at once; bounds memory at about 200 MB
_ENTRIES = 512  # of an overlap that are summed up at once


@dataclass(frozen=True)
class Overlap:
    """Areas shared by the pixels of a block and the cells of a source, as a sparse matrix.

    Neighbours in a row that share the same area are one run: nearly all cells lie in one pixel as a
    whole, so there are many fewer runs than cells.
    """

    block: Block  # the MSI pixels; pixel ``p`` is the p-th of the block in raster order
    source_shape: tuple[int, int]
    start: Ints  # (pixels + 1,): runs of ``p`` are ``[start[p]:start[p + 1]]``, in raster order
    y: Ints  # (runs,), row of the source cells
    x: Ints  # (runs,), column of the first
    length: Ints  # (runs,), cells
    area: Floats  # (runs,), shared with each, in source cells, > 0
    pixel_area: float | Floats  # of whole MSI pixels in source cells: of each, or ``(h, w)``

    @property
    def pixel(self) -> Ints:
        """int64 (runs,): the pixel of each run."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def cells(self) -> Overlap:
        """The same with a run for every cell."""
        run, x = ranges(self.x, self.x + self.length)
        ends = np.concatenate([[0], np.cumsum(self.length)])
        return replace(
            self,
            start=ends[self.start],
            y=self.y[run],
            x=x,
            length=np.ones(len(run), np.int64),
            area=self.area[run],
        )

    def covered(self) -> Floats:
        """float64 (h, w): area of each pixel on cells that count, in source cells."""
        areas = self.area * self.length
        sums = np.bincount(self.pixel, weights=areas, minlength=len(self.start) - 1)
        return sums.astype(np.float64).reshape(self.block.shape)

    def coverage(self) -> Floats:
        """float64 (h, w) in 0..1: share of each pixel on cells that count, 1 within rounding."""
        return share_of(self.covered(), self.pixel_area)

    def bounds(self) -> Block | None:
        """The smallest block of source cells that holds every run; None without any."""
        if not len(self.area):
            return None
        last = (self.x + self.length).max()
        return Block(int(self.y.min()), int(self.y.max()) + 1, int(self.x.min()), int(last))

    def within(self, cells: Block) -> Overlap:
        """Only what lies on `cells`."""
        first = np.maximum(self.x, cells.x0)
        length = np.minimum(self.x + self.length, cells.x1) - first
        keep = (self.y >= cells.y0) & (self.y < cells.y1) & (length > 0)
        return replace(self, x=first, length=length)._select(keep)

    def of(self, pixels: NDArray[np.bool_]) -> Overlap:
        """Only the runs of some pixels.

        Parameters
        ----------
        pixels
            (h, w) bool, of the block's shape: true for the pixels to keep.

        Returns
        -------
        Overlap
            Of the same block; other pixels have no runs.
        """
        return self._select(pixels.ravel()[self.pixel])

    def where(self, mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> Overlap:
        """Only what lies on some source cells.

        Parameters
        ----------
        mask
            (h, w) bool: true for the cells to keep; it holds every run.
        corner
            Row and column of its first cell.

        Returns
        -------
        Overlap
            Of the same block, with a run for every cell.
        """
        each = self.cells()
        return each._select(mask[each.y - corner[0], each.x - corner[1]])

    def touched(self) -> Ints:
        """Pixels that have runs, in order."""
        return np.flatnonzero(np.diff(self.start))

    def weighted_sum(self, values: np.ndarray, cells: Block) -> Floats:
        """Area-weighted sums, each in the raster order of its cells.

        Parameters
        ----------
        values : (h, w, c)
            Of the source's `cells`.
        cells : Block
            They hold every run.

        Returns
        -------
        float64 (pixels, c)
            For the `touched` pixels.
        """
        touched, width = self.touched(), values.shape[1]
        runs = np.append(self.start[touched], self.start[-1])
        start = np.concatenate([[0], np.cumsum(self.length)])[runs]
        out = np.empty((len(touched), values.shape[2]))
        first = 0
        while first < len(touched):  # some pixels at once, whose cells stay in the cache as float64
            last = int(np.searchsorted(start, start[first] + _ENTRIES, side="right")) - 1
            last = max(first + 1, min(last, len(touched)))
            part = slice(int(runs[first]), int(runs[last]))
            run, x = ranges(self.x[part], self.x[part] + self.length[part])
            flat = (self.y[part][run] - cells.y0) * width + (x - cells.x0)
            used, column = np.unique(flat, return_inverse=True)
            dense = values[used // width, used % width].astype(np.float64)
            rows = start[first : last + 1] - start[first]
            shape = (last - first, len(used))
            weights = self.area[part][run]
            out[first:last] = sparse.csr_array((weights, column, rows), shape=shape) @ dense
            first = last
        return out

    def _select(self, keep: NDArray[np.bool_]) -> Overlap:
        start = np.concatenate([[0], np.cumsum(keep)])[self.start]
        arrays = {name: getattr(self, name)[keep] for name in ("y", "x", "length", "area")}
        return replace(self, start=start, **arrays)


def share_of(covered: Floats, whole: float | Floats) -> Floats:
    """Share of a pixel's area that is covered, 0..1; 1 within rounding.

    Parameters
    ----------
    covered
        float64, areas.
    whole
        That of a whole pixel, or of each.

    Returns
    -------
    float64 of the same shape
    """
    share = covered / whole
    return np.where(share > 1 - 1e-9, 1.0, share)


def overlap(
    placing: Placing,
    block: Block,
    source_shape: tuple[int, int],
    *,
    wanted: NDArray[np.bool_] | None = None,
) -> Overlap:
    """Exact areas between MSI pixels and the source cells under them.

    Parameters
    ----------
    placing : (3, 3) float64, or GridMap
        MSI index (x, y, 1), pixel centres at integers, to source coordinates in which cell
        ``(i, j)`` covers ``[j, j + 1] x [i, i + 1]``. Rotation, mirror and shear are fine.
    block : Block
        The MSI pixels. It only selects: a pixel's areas do not depend on it.
    source_shape : (h, w)
        Cells outside it do not count.
    wanted : bool (h, w) of the block, optional
        Pixels to compute; the others get no entries.

    Returns
    -------
    Overlap
        The areas of a pixel inside the source sum to its own (``|det A|`` without a
        deformation), to the rounding of the coordinates (1e-12 of it within 1e4 cells of the
        origin).

    Raises
    ------
    ValueError
        `placing` is no invertible affine matrix.
    """
    placing = as_placing(placing)
    matrix = affine_of(placing)
    det = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    n = block.shape[0] * block.shape[1]
    chosen = np.arange(n) if wanted is None else np.flatnonzero(wanted)
    # Of the largest bounding box of a pixel, give or take the rounding to cells.
    if placing is matrix:
        box = (np.abs(matrix[:2, 0]) + np.abs(matrix[:2, 1])).max() + 2
    else:
        box = np.ptp(pixel_corners(placing, block), axis=2).max() + 2
    step = max(1, int(_BATCH / min(box**2, float(max(source_shape) ** 2 + 1))))
    parts = [
        _areas(placing, block, chosen[i : i + step], source_shape, np.sign(det))
        for i in range(0, len(chosen), step)
    ]
    pixel, y, x, length, area = (
        np.concatenate([part[k] for part in parts]) if parts else np.zeros(0, dtype)
        for k, dtype in enumerate((*[np.int64] * 4, np.float64))
    )
    start = np.concatenate([[0], np.cumsum(np.bincount(pixel, minlength=n))]).astype(np.int64)
    whole = pixel_areas(placing, block)
    return Overlap(block, source_shape, start, y, x, length, area, whole)


def regrid(
    source: Any,
    matrix: Placing,
    shape: tuple[int, int],
    *,
    mask: Any = None,
    block: tuple[int, int] = (64, 64),
) -> xr.Dataset:
    """Area-weighted mean of a source image over each MSI pixel.

    Parameters
    ----------
    source : (h, w) or (h, w, c), numpy, dask or xarray.DataArray
        The image. With dask (also inside xarray) the result is lazy, one task a destination
        block, which is given only the part of the source under it.
    matrix : (3, 3) float64, or GridMap
        MSI index to source coordinates (cell ``(i, j)`` covers ``[j, j + 1] x [i, i + 1]``).
    shape : (ny, nx)
        The MSI grid.
    mask : bool (h, w), numpy, optional
        Source cells that count. Cells with a NaN (in any channel) never count.
    block : (int, int)
        Destination pixels a task; it has no effect on the values.

    Returns
    -------
    xr.Dataset
        ``values`` (y, x[, channel]) float32 (float64 for a float64 source), the mean over the
        covered part, NaN where nothing is covered; ``coverage`` (y, x) float32, 0..1. A constant
        stays constant, and ``sum(values * coverage) * |det A|`` is the source's sum where the MSI
        grid covers it.

    Raises
    ------
    ValueError
        A source that is not 2-D or 3-D, a mask of another shape, a matrix that is not affine.

    Examples
    --------
    >>> import numpy as np
    >>> import msiscale as ms
    >>> image = np.array([[0.0, 1, 2, 3], [4, 5, 6, 7]])
    >>> matrix = [[2.0, 0, 1], [0, 2.0, 1], [0, 0, 1]]  # MSI pixels of 2 x 2 cells
    >>> ms.regrid(image, matrix, (1, 2))["values"].values.tolist()
    [[2.5, 4.5]]
    """
    placing = as_placing(matrix)
    data = source.data if isinstance(source, xr.DataArray) else source
    if not is_dask_collection(data):
        data = np.asarray(data)
    if data.ndim not in (2, 3):
        raise ValueError(f"a source is (y, x) or (y, x, channel), not {data.ndim}-dimensional")
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != data.shape[:2]:
            raise ValueError(f"the mask is {mask.shape}, the source {data.shape[:2]}")
    join: Any = np.concatenate
    if is_dask_collection(data):
        import dask.array as da  # large, and blocks do without

        join = da.concatenate
    values, coverage = in_blocks(shape, block, lambda b: _task(data, placing, b, mask), join)
    dims, coords = ["y", "x"], {}
    if data.ndim == 2:
        values = values[..., 0]
    else:
        dims.append("channel")
        if isinstance(source, xr.DataArray):
            dims[2] = str(source.dims[2])
            if dims[2] in source.coords:
                coords[dims[2]] = source.coords[dims[2]]
    return xr.Dataset({"values": (dims, values), "coverage": (["y", "x"], coverage)}, coords)


def in_blocks(
    shape: tuple[int, int],
    size: tuple[int, int],
    part: Callable[[Block], tuple[Any, Any]],
    join: Callable[..., Any],
) -> tuple[Any, Any]:
    """Two arrays of a grid from those of its blocks.

    Parameters
    ----------
    shape : (ny, nx)
        The grid.
    size : (int, int)
        Pixels of a block.
    part : callable
        Two arrays (h, w, ...) of a block, NumPy or Dask.
    join : callable
        ``concatenate`` of NumPy or Dask.

    Returns
    -------
    two arrays (ny, nx, ...)
    """
    rows = [
        [part(block) for block in row]
        for _, row in groupby(grid.blocks(shape, size), key=lambda block: block.y0)
    ]
    one, other = (
        join([join([both[k] for both in r], axis=1) for r in rows], axis=0) for k in (0, 1)
    )
    return one, other


def covered_by_half(
    mask: NDArray[np.bool_], downsample: tuple[float, float], placing: Placing, block: Block
) -> NDArray[np.bool_]:
    """The MSI pixels that a mask, such as a slide's tissue, covers by half or more.

    Parameters
    ----------
    mask : bool (h, w)
        At low resolution.
    downsample : (y, x)
        Level-0 pixels a mask pixel.
    placing : (3, 3) float64, or GridMap
        MSI index to level-0 pixels.
    block : Block
        The MSI pixels.

    Returns
    -------
    bool, of the shape of `block`
    """
    placed = from_block(placing, block)
    to_mask = grid.scaling(1 / downsample[1], 1 / downsample[0]) @ affine_of(placed)
    found = regrid(mask.astype(np.float32), with_affine(placed, to_mask), block.shape)
    return np.asarray((found["values"] * found["coverage"]).fillna(0) >= 0.5)


def _task(
    data: Any, placing: Placing, block: Block, mask: NDArray[np.bool_] | None
) -> tuple[Any, Any]:
    """Mean and coverage of one block, lazy for a dask source."""
    region = _cells_under(placing, block, (data.shape[0], data.shape[1]))
    part = data[region.slices]
    part_mask = None if mask is None else mask[region.slices]
    arguments = part, region, placing, block, part_mask, data.shape[:2]
    if not is_dask_collection(data):
        return _regrid_block(*arguments)
    both = delayed(_regrid_block, nout=2, pure=True)(*arguments)
    channels = data.shape[2] if data.ndim == 3 else 1
    return when_computed(both, block, channels, _result_type(data.dtype))


def when_computed(both: Any, block: Block, channels: int, dtype: Any) -> tuple[Any, Any]:
    """Dask arrays (h, w, channels) and, float32, (h, w) of a delayed pair of arrays of a block."""
    import dask.array as da  # large, and workers do without

    lazy: Any = da.from_delayed
    return lazy(both[0], (*block.shape, channels), dtype), lazy(both[1], block.shape, np.float32)


def _regrid_block(
    part: np.ndarray,
    region: Block,
    placing: Placing,
    block: Block,
    mask: NDArray[np.bool_] | None,
    source_shape: tuple[int, int],
) -> tuple[np.ndarray, NDArray[np.float32]]:
    values = part if part.ndim == 3 else part[..., None]
    shared = overlap(placing, block, source_shape)
    good = np.ones(region.shape, bool) if mask is None else mask
    if values.dtype.kind == "f":
        bad = np.isnan(values).any(axis=2)
        good = good & ~bad
        values = np.where(bad[..., None], 0, values)
    if not good.all():
        shared = shared.where(good, (region.y0, region.x0))
    pixels = shared.touched()
    mean = np.full((block.shape[0] * block.shape[1], values.shape[2]), np.nan)
    mean[pixels] = shared.weighted_sum(values, region) / shared.covered().reshape(-1, 1)[pixels]
    return (
        mean.reshape(*block.shape, -1).astype(_result_type(part.dtype)),
        shared.coverage().astype(np.float32),
    )


def _result_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _cells_under(placing: Placing, block: Block, source_shape: tuple[int, int]) -> Block:
    """Source cells under a block, clipped to the source; empty blocks where there are none."""
    x0, y0, x1, y1 = grid.bounds(pixel_corners(placing, block))
    h, w = source_shape
    low = [int(np.clip(np.floor(v) - 1, 0, s)) for v, s in ((y0, h), (x0, w))]
    high = [int(np.clip(np.ceil(v) + 1, 0, s)) for v, s in ((y1, h), (x1, w))]
    return Block(low[0], max(low[0], high[0]), low[1], max(low[1], high[1]))


def _areas(
    placing: Placing,
    block: Block,
    chosen: Ints,
    source_shape: tuple[int, int],
    sign: float,
) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """Runs (pixel, y, x, length, area) of the pixels `chosen`, each in raster order."""
    h, w = source_shape
    i = (chosen // block.shape[1] + block.y0).astype(np.float64)
    j = (chosen % block.shape[1] + block.x0).astype(np.float64)
    # Corners by element-wise arithmetic: neighbours share a corner to the bit, so nothing is
    # counted twice or lost between them, and BLAS has no say in the rounding.
    cx, cy = [], []
    for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1)):
        at_x, at_y = corners(placing, i + dy, j + dx)
        cx.append(at_x)
        cy.append(at_y)
    x, y = np.stack(cx, axis=1), np.stack(cy, axis=1)
    # A cell origin of the pixel's own keeps the numbers small, so the areas exact to 1e-13.
    x_origin, y_origin = np.floor(x.min(axis=1)), np.floor(y.min(axis=1))
    x, y = x - x_origin[:, None], y - y_origin[:, None]

    # First cut: the rows of cells that each pixel touches.
    first = np.maximum(-y_origin, 0).astype(np.int64)
    last = np.minimum(np.ceil(y.max(axis=1)), h - y_origin).astype(np.int64)
    p, row = ranges(first, last)
    xa, xb, height = [], [], []
    left, right = np.full(len(p), np.inf), np.full(len(p), -np.inf)
    inner_left, inner_right = right, left  # between them the outline cuts no cell of the row
    whole = np.zeros(len(p))  # area of such a cell
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        x0, x1 = x[p, a], x[p, b]
        y0, y1 = y[p, a] - row, y[p, b] - row
        ya, yb = np.clip(y0, 0, 1), np.clip(y1, 0, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            ta, tb = (ya - y0) / (y1 - y0), (yb - y0) / (y1 - y0)
        part = ya != yb
        xa.append(np.where(part, x0 + ta * (x1 - x0), 0))
        xb.append(np.where(part, x0 + tb * (x1 - x0), 0))
        height.append(np.where(part, yb - ya, 0))
        low, high = np.minimum(xa[-1], xb[-1]), np.maximum(xa[-1], xb[-1])
        left = np.minimum(left, np.where(part, low, np.inf))
        right = np.maximum(right, np.where(part, high, -np.inf))
        enters, leaves = height[-1] * sign < 0, height[-1] * sign > 0
        inner_left = np.maximum(inner_left, np.where(enters, high, -np.inf))
        inner_right = np.minimum(inner_right, np.where(leaves, low, np.inf))
        whole += np.where(leaves, height[-1], 0)

    # Second cut: the columns that the pixel touches in that row.
    some = right > left
    p, row, whole = p[some], row[some], whole[some]
    xa, xb, height = ([v[some] for v in of] for of in (xa, xb, height))
    offset = x_origin[p]
    first = np.maximum(np.floor(left[some]), -offset).astype(np.int64)
    last = np.minimum(np.ceil(right[some]), w - offset).astype(np.int64)
    last = np.maximum(first, last)
    # Only cells at the outline's ends need more than the height of their row.
    begin = np.clip(np.ceil(inner_left[some]), first, last).astype(np.int64)
    end = np.clip(np.floor(inner_right[some]), begin, last).astype(np.int64)
    inner = (end > begin).astype(np.int64)
    before = np.cumsum(last - first - (end - begin) + inner)  # runs of a strip end there
    strip = np.repeat(np.arange(len(p)), np.diff(before, prepend=0))
    x_of, length, area = begin[strip], np.ones(len(strip), np.int64), whole[strip]
    after = before - (last - end)  # runs of the cells beyond the inner ones begin there
    at = (after - inner)[inner > 0]
    length[at] = (end - begin)[inner > 0]
    for ends, to in (((first, begin), after - inner - begin), ((end, last), after - end)):
        owner, column = ranges(*ends)
        shared = np.zeros(len(owner))
        for a in range(4):
            shared += height[a][owner] * _mean_clipped(xa[a][owner] - column, xb[a][owner] - column)
        x_of[to[owner] + column], area[to[owner] + column] = column, shared
    area *= sign
    keep = area > _SLIVER
    strip, x_of = strip[keep], x_of[keep]
    pixel = p[strip]
    return (
        chosen[pixel],
        (row[strip] + y_origin[pixel]).astype(np.int64),
        x_of + x_origin[pixel].astype(np.int64),
        length[keep],
        area[keep],
    )


def _mean_clipped(a: Floats, b: Floats) -> Floats:
    """Mean of ``clip(x, 0, 1)`` for x running evenly from a to b."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    u, v = np.clip(low, 0, 1), np.clip(high, 0, 1)
    above = np.maximum(high, 1) - np.maximum(low, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = ((v - u) * (u + v) / 2 + above) / (high - low)
    return np.where(high > low, mean, u)
