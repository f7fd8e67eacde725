"""Ranges of integers: many as one array without a loop, and those of the values in a window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """For every k the integers ``first[k] <= i < last[k]``: (k, i) in order, both int64 (n,)."""
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - begin[owner] + first[owner]


def between(ascending: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> tuple[Ints, Ints]:
    """For every k the values ``low[k] <= v <= high[k]``: at ``first[k] <= i < last[k]``, int64."""
    first = np.searchsorted(ascending, low, side="left")
    return first, np.searchsorted(ascending, high, side="right")
