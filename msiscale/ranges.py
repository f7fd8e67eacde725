"""Ranges of integers: many as one array without a loop, and those of the values in a window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """For every k the integers ``first[k] <= i < last[k]``.

    Parameters
    ----------
    first
        (m,) int64, where each range begins.
    last
        (m,) int64, where each ends; a range that ends before it begins is empty.

    Returns
    -------
    tuple of NDArray
        k and i, both (n,) int64, in order.
    """
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - begin[owner] + first[owner]


def between(ascending: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> tuple[Ints, Ints]:
    """For every k the places of the values ``low[k] <= v <= high[k]``.

    Parameters
    ----------
    ascending
        (n,), the values v, sorted.
    low
        (m,), the least of each window, in their unit.
    high
        (m,), the greatest of each window, in their unit.

    Returns
    -------
    tuple of NDArray
        ``first`` and ``last``, both (m,) int64: the values are at ``first[k] <= i < last[k]``.
    """
    first = np.searchsorted(ascending, low, side="left")
    return first, np.searchsorted(ascending, high, side="right")
