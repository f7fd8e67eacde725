"""Grids that lie in each other: a coarse pixel is a square of `factor` x `factor` fine pixels.

Everything here is element-wise in a fixed order, so that a pixel is the same bits in whatever
window it is computed, as far as the window reaches (`HALO`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block, Floats, blocks

Kernel = Literal["nearest", "bilinear", "bicubic"]

FILL = 3  # coarse pixels that an image is continued beyond what was measured
HALO = 9  # coarse pixels around a window that its restored pixels depend on, at most
CELL = 64  # fine pixels a side worked on at once, about; changes no value
_TAPS = range(-2, 3)


def prime_factors(number: int) -> tuple[int, ...]:
    """Of 8: 2, 2, 2."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return tuple(found)


def degraded_shape(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Coarse pixels that cover `shape`; the last may lie partly beyond it."""
    return -(-shape[0] // factor), -(-shape[1] // factor)


def padded(values: NDArray[Any], factor: int) -> Floats:
    """Pad with NaN below and on the right to whole coarse pixels.

    Parameters
    ----------
    values
        (h, w) or (h, w, n), of any real type.
    factor
        Fine pixels to a coarse one, each way.

    Returns
    -------
    numpy.ndarray
        float64, h and w rounded up to multiples of `factor`.
    """
    h, w = degraded_shape(values.shape[:2], factor)
    out = np.full((h * factor, w * factor, *values.shape[2:]), np.nan)
    out[: values.shape[0], : values.shape[1]] = values
    return out


def degrade(values: NDArray[Any], factor: int) -> Floats:
    """Mean over the measured fine pixels of every coarse pixel: what a coarser MSI would see.

    Parameters
    ----------
    values : (h, w) or (h, w, n)
        NaN where not measured.
    factor : int
        Fine pixels to a coarse one, each way.

    Returns
    -------
    float64 (ceil(h / factor), ceil(w / factor)[, n])
        NaN where nothing was measured.
    """
    whole = padded(values, factor)
    known = np.isfinite(whole)
    total = _sums(np.where(known, whole, 0.0), factor)
    count = _sums(known.astype(np.float64), factor)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def share(mask: NDArray[np.bool_], factor: int) -> Floats:
    """Compute the share of each coarse pixel's fine pixels where `mask` is true.

    Parameters
    ----------
    mask
        (h, w) bool.
    factor
        Fine pixels to a coarse one, each way.

    Returns
    -------
    numpy.ndarray
        (ceil(h / factor), ceil(w / factor)) float64, 0 to 1; beyond the mask all is false.
    """
    inside = np.nan_to_num(padded(mask.astype(np.float64), factor))
    return _sums(inside, factor) / factor**2


def repeat(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Every pixel as a square of the same.

    Parameters
    ----------
    values : (h, w, ...)
        Of any type.
    factor : int
        Pixels on the side of a square.

    Returns
    -------
    (h * factor, w * factor, ...)
    """
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def filled(values: Floats, steps: int = FILL) -> Floats:
    """Continue what was not measured from its 8 neighbours, step by step; the rest becomes 0.

    Parameters
    ----------
    values
        (h, w, n) float64, NaN where not measured.
    steps
        Pixels that the image is continued by, at most.

    Returns
    -------
    numpy.ndarray
        (h, w, n) float64 without NaN.
    """
    values = values.copy()
    for _ in range(steps):
        unknown = ~np.isfinite(values)
        if not unknown.any():
            break
        total = window_sums(np.where(unknown, 0.0, values), 1)
        count = window_sums((~unknown).astype(np.float64), 1)
        means = np.divide(total, count, out=np.full(values.shape, np.nan), where=count > 0)
        values = np.where(unknown, means, values)
    return np.nan_to_num(values)


def upsample(values: Floats, factor: int, kernel: Kernel) -> Floats:
    """Interpolate to the fine grid; beyond the border the outermost pixels go on.

    Parameters
    ----------
    values
        (h, w, n) float64 without NaN.
    factor
        Fine pixels to a coarse one, each way.
    kernel
        ``nearest``, ``bilinear`` or ``bicubic``.

    Returns
    -------
    numpy.ndarray
        (h * factor, w * factor, n) float64.
    """
    # bicubic is the convolution of Keys (1981, IEEE Trans. ASSP 29:1153) with a = -1/2
    if kernel == "nearest":
        return np.asarray(repeat(values, factor))
    weights = _weights(factor, kernel)
    for axis in (0, 1):
        values = _upsampled(values, weights, axis)
    return values


def windows(shape: tuple[int, int], factor: int, halo: int = HALO) -> Iterator[tuple[Block, Block]]:
    """Blocks of coarse pixels of about `CELL` fine ones a side, and each with `halo` around it."""
    side = max(1, CELL // factor)
    for core in blocks(shape, (side, side)):
        yield core, grown(core, halo, shape)


def grown(block: Block, halo: int, shape: tuple[int, int]) -> Block:
    """`block` with `halo` pixels around it, cut at the border of `shape`."""
    return _cut(block.grown(by=halo), shape)


def times(block: Block, factor: int, shape: tuple[int, int] | None = None) -> Block:
    """The fine pixels of a block of coarse ones, cut at the border of the fine `shape`."""
    fine = block.scaled(factor)
    return fine if shape is None else _cut(fine, shape)


def _cut(block: Block, shape: tuple[int, int]) -> Block:
    y1, x1 = min(block.y1, shape[0]), min(block.x1, shape[1])
    return Block(max(block.y0, 0), y1, max(block.x0, 0), x1)


def _sums(values: Floats, factor: int) -> Floats:
    rows = values[::factor].copy()
    for k in range(1, factor):
        rows += values[k::factor]
    total = rows[:, ::factor].copy()
    for k in range(1, factor):
        total += rows[:, k::factor]
    return total


def window_sums(values: Floats, radius: int) -> Floats:
    """Sum over (2 radius + 1)² pixels around each pixel; beyond the border there is 0.

    Parameters
    ----------
    values
        (h, w, n) float64 without NaN.
    radius
        Of the window, in pixels.

    Returns
    -------
    numpy.ndarray
        (h, w, n) float64.
    """
    for axis in (0, 1):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (radius, radius)
        wide = np.pad(values, pad)
        n = values.shape[axis]
        total = np.zeros(values.shape)
        for k in range(2 * radius + 1):
            total += wide[k : k + n] if axis == 0 else wide[:, k : k + n]
        values = total
    return values


def _weights(factor: int, kernel: Kernel) -> Floats:
    """(factor, taps): of the coarse pixels around, for each place of a fine pixel in its own."""
    place = (np.arange(factor) + 0.5) / factor - 0.5
    distance = np.abs(place[:, None] - np.array(_TAPS, dtype=np.float64))
    if kernel == "bilinear":
        return np.asarray(np.maximum(1 - distance, 0))
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _upsampled(values: Floats, weights: Floats, axis: int) -> Floats:
    pad = [(0, 0)] * values.ndim
    pad[axis] = (2, 2)
    wide = np.pad(values, pad, mode="edge")
    factor, n = len(weights), values.shape[axis]
    shape = list(values.shape)
    shape[axis] = n * factor
    out = np.empty(shape)
    for place in range(factor):
        total = np.zeros(values.shape)
        for tap in range(len(_TAPS)):
            if weights[place, tap]:
                part = wide[tap : tap + n] if axis == 0 else wide[:, tap : tap + n]
                total += weights[place, tap] * part
        where = slice(place, None, factor)
        out[(where,) if axis == 0 else (slice(None), where)] = total
    return out
