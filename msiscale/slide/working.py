"""A slide resampled to a given µm per pixel, by exact area average.

A pixel of the working image is the mean of the level pixels under it, weighted by the area that
each covers. It is the same to the bit whatever window it is read in: weights follow from absolute
coordinates and are whole multiples of 2^-20, so that every sum is exact in float64 (values below
2^48) and the order in which BLAS adds does not matter.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import MsiscaleWarning
from msiscale.grid import Block, PixelSize, blocks
from msiscale.slide.backend import Pixels
from msiscale.slide.reader import Slide

AS_IT_IS = 0.02  # a level this near to the target is taken as it is
ONE = 1 << 20  # weights are multiples of 1 / ONE
SOURCE_PX = 2048  # side of the square of level pixels held at a time


@dataclass(frozen=True)
class WorkingImage:
    """A slide at a working resolution. Make one with `working`."""

    slide: Slide
    level: int  # that it is made from
    shape: tuple[int, int]  # height and width
    mpp: PixelSize  # µm per working pixel
    downsample: tuple[float, float]  # (y, x), level-0 pixels per working pixel

    def read(self, y: int, x: int, h: int, w: int) -> Pixels:
        """Working pixels of a rectangle.

        Parameters
        ----------
        y, x : int
            Corner; may lie outside.
        h, w : int
            Size.

        Returns
        -------
        uint8 (h, w, 3)
            255 outside the image.
        """
        source = self.slide.levels[self.level]
        if source.downsample == self.downsample:
            return self.slide.read(self.level, y, x, h, w)
        out = np.full((h, w, 3), 255, np.uint8)
        wanted = Block(y, y + h, x, x + w)
        inside = wanted & Block(0, self.shape[0], 0, self.shape[1])
        if inside is None:
            return out
        sy, sx = (a / b for a, b in zip(self.downsample, source.downsample, strict=True))
        rows, columns = _Axis(source.shape[0], sy), _Axis(source.shape[1], sx)
        size = max(1, floor(SOURCE_PX / sy)), max(1, floor(SOURCE_PX / sx))
        for part in blocks(inside.shape, size):
            y0, x0 = inside.y0 + part.y0, inside.x0 + part.x0
            block = Block(y0, y0 + part.shape[0], x0, x0 + part.shape[1])
            top, bottom = rows.span(block.y0, block.y1)
            left, right = columns.span(block.x0, block.x1)
            pixels = self.slide.read(self.level, top, left, bottom - top, right - left)
            averaged = _average(pixels, rows, columns, block, (top, left))
            out[block.within(wanted)] = averaged
        return out


def working(slide: Slide, mpp: float) -> WorkingImage:
    """A slide resampled.

    Made from the coarsest level that is still as fine as the target; a level within 2 % of it is
    taken as it is, and then `WorkingImage.mpp` is that level's own.

    Parameters
    ----------
    slide : Slide
        With any levels.
    mpp : float
        µm per pixel, the target.

    Returns
    -------
    WorkingImage

    Raises
    ------
    ValueError
        `mpp` is not positive.
    """
    if not mpp > 0:
        raise ValueError(f"mpp is µm per pixel, not {mpp}")
    sizes = [
        PixelSize(slide.mpp.y * level.downsample[0], slide.mpp.x * level.downsample[1])
        for level in slide.levels
    ]
    for index, size in enumerate(sizes):
        if all(abs(s / mpp - 1) <= AS_IT_IS for s in size):
            level = slide.levels[index]
            return WorkingImage(slide, index, level.shape, size, level.downsample)
    index = max((i for i, size in enumerate(sizes) if max(size) <= mpp), default=0)
    downsample = (mpp / slide.mpp.y, mpp / slide.mpp.x)
    level = slide.levels[index]
    shape = (
        max(1, ceil(level.shape[0] * level.downsample[0] / downsample[0] - 1e-6)),
        max(1, ceil(level.shape[1] * level.downsample[1] / downsample[1] - 1e-6)),
    )
    return WorkingImage(slide, index, shape, PixelSize(mpp, mpp), downsample)


def as_asked(slide: Slide, mpp: float) -> WorkingImage:
    """`working` at what the user asked for; warns where the slide is coarser than that."""
    own = max(slide.mpp)
    if own > mpp * (1 + AS_IT_IS):
        warnings.warn(
            f"{slide.path}: the slide has {own:.3g} µm per pixel, which is coarser than --mpp "
            f"{mpp:g}; it is enlarged, which takes time and adds no detail: give --mpp {own:.3g}",
            MsiscaleWarning,
            stacklevel=2,
        )
    return working(slide, mpp)


@dataclass(frozen=True)
class _Axis:
    """`n` source pixels, `step` of them under each output pixel."""

    n: int
    step: float

    @property
    def whole(self) -> int:
        """The step where it is a whole number, else 0."""
        near = round(self.step)
        return near if near >= 1 and abs(self.step - near) <= 1e-9 * near else 0

    def edges(self, start: int, stop: int) -> NDArray[np.float64]:
        """Borders of the output pixels in source pixels, inside the source."""
        step = self.whole or self.step
        return np.clip(np.arange(start, stop + 1, dtype=np.float64) * step, 0, self.n)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Source pixels under the output pixels."""
        edges = self.edges(start, stop)
        low = min(floor(edges[0]), self.n - 1)
        return low, max(low + 1, ceil(edges[-1]))

    def weights(self, start: int, stop: int, first: int, last: int) -> NDArray[np.float64]:
        """Weights ``(stop - start, last - first)``, whole numbers; a row sums to ONE."""
        edges = self.edges(start, stop)
        low = np.minimum(edges[:-1], self.n - 1e-3)[:, None]  # a pixel past the end takes the last
        high = np.maximum(edges[1:], low[:, 0] + 1e-3)[:, None]
        borders = np.arange(first, last + 1, dtype=np.float64)[None, :]
        share = np.clip((borders - low) / (high - low), 0, 1)
        return np.diff(np.floor(share * ONE + 0.5), axis=1)


def _average(
    pixels: Pixels, rows: _Axis, columns: _Axis, block: Block, corner: tuple[int, int]
) -> Pixels:
    """Area average of `pixels`, whose corner (y, x) is `corner`, onto the output block."""
    if rows.whole and columns.whole:
        return _average_whole(pixels, rows, columns, block)
    top, left = corner
    h, w = block.shape
    out = np.empty((h, w, 3), np.uint8)
    # Blocks of weights are dense: small ones keep the products few, BLAS makes them cheap.
    n, m = _rows_at_once(rows.step), _rows_at_once(columns.step)
    for i in range(0, h, n):
        y0, y1 = block.y0 + i, block.y0 + min(i + n, h)
        first, last = rows.span(y0, y1)
        part = pixels[first - top : last - top].astype(np.float64)
        by_row = rows.weights(y0, y1, first, last) @ part.reshape(last - first, -1)
        by_row = by_row.reshape(y1 - y0, -1, 3).transpose(1, 0, 2).reshape(pixels.shape[1], -1)
        for j in range(0, w, m):
            x0, x1 = block.x0 + j, block.x0 + min(j + m, w)
            first, last = columns.span(x0, x1)
            total = columns.weights(x0, x1, first, last) @ by_row[first - left : last - left]
            grey = np.floor((total + ONE * (ONE / 2)) / (ONE * float(ONE)))
            grey = grey.reshape(x1 - x0, y1 - y0, 3).transpose(1, 0, 2)
            out[i : i + y1 - y0, j : j + x1 - x0] = grey
    return out


def _rows_at_once(step: float) -> int:
    return int(np.clip(96 / step, 8, 64))


def _average_whole(pixels: Pixels, rows: _Axis, columns: _Axis, block: Block) -> Pixels:
    """The same for whole steps: sums of integers, the last pixel over what there is of it."""
    ky, kx = rows.whole, columns.whole
    h, w = block.shape
    have_y, have_x = pixels.shape[:2]
    if (have_y, have_x) != (h * ky, w * kx):
        padded = np.zeros((h * ky, w * kx, 3), np.uint8)
        padded[:have_y, :have_x] = pixels
        pixels = padded
    by_row = np.zeros((h, w * kx, 3), np.uint32)
    for k in range(ky):
        by_row += pixels[k::ky]
    total = np.zeros((h, w, 3), np.uint32)
    for k in range(kx):
        total += by_row[:, k::kx]
    count_y = np.clip(have_y - ky * np.arange(h), 1, ky)
    count_x = np.clip(have_x - kx * np.arange(w), 1, kx)
    count = (count_y[:, None] * count_x[None, :])[..., None].astype(np.uint32)
    return np.asarray((2 * total + count) // (2 * count), np.uint8)
