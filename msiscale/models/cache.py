"""Decoded rows that a solver reads again and again, kept in memory up to a bound.

First come, first kept: a cyclic scan of more than fits would find nothing in a cache that drops
what was used longest ago.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

CACHE_BYTES = 256 << 20  # of rows, a process

_lock = threading.Lock()
_kept: dict[Hashable, tuple[Any, ...]] = {}
_owner: Hashable = None


class Cached:
    """Rows of a block, made by `read` at the first call and kept while there is room.

    Parameters
    ----------
    key : (owner, block)
        Rows of another owner (array, fit) make room for those of this one.
    read : callable
        Gives a tuple of arrays and None.
    """

    def __init__(self, key: tuple[Hashable, Hashable], read: Callable[[], tuple[Any, ...]]) -> None:
        self.key, self.read = key, read

    def __call__(self) -> tuple[Any, ...]:
        found = _kept.get(self.key)
        if found is None:
            found = self.read()
            _keep(self.key, found)
        return found


def _keep(key: tuple[Hashable, Hashable], rows: tuple[Any, ...]) -> None:
    global _owner
    with _lock:
        if key[0] != _owner:
            _kept.clear()
            _owner = key[0]
        if sum(map(_size, _kept.values())) + _size(rows) <= CACHE_BYTES:
            _kept[key] = rows


def _size(rows: tuple[Any, ...]) -> int:
    return sum(r.nbytes for r in rows if isinstance(r, np.ndarray))
