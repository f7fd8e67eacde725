"""Many ranges of integers as one array, without a loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """For every k the integers ``first[k] <= i < last[k]``: (k, i) in order, both int64 (n,)."""
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - begin[owner] + first[owner]
