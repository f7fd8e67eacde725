"""Decoded rows that a solver reads again and again, kept in memory up to a bound.

First come, first kept: a cyclic scan of more than fits would find nothing in a cache that drops
what was used longest ago.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

CACHE_BYTES = 256 << 20  # of rows, a process, unless more is allowed


class Kept:
    """Rows by block, of one owner (array, fit) at a time: those of another make room."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: Hashable = None
        self.rows: dict[Hashable, tuple[Any, ...]] = {}

    def keep(self, owner: Hashable, block: Hashable, rows: tuple[Any, ...], most: int) -> None:
        """Keep the rows of a block if with them there are at most so many bytes."""
        with self.lock:
            if owner != self.owner:
                self.owner, self.rows = owner, {}
            if sum(map(_size, self.rows.values())) + _size(rows) <= most:
                self.rows[owner, block] = rows


KEPT = Kept()  # of the process: tasks of one pass share it with those of the next


class Cached:
    """Rows of a block, made by `read` at the first call and kept while there is room.

    Parameters
    ----------
    key : (owner, block)
        Rows of another owner (array, fit) make room for those of this one.
    read : callable
        Gives a tuple of arrays and None.
    most : int, optional
        Bytes kept a process; default `CACHE_BYTES`.
    """

    def __init__(
        self,
        key: tuple[Hashable, Hashable],
        read: Callable[[], tuple[Any, ...]],
        most: int | None = None,
    ) -> None:
        self.key, self.read, self.most = key, read, most

    def __call__(self) -> tuple[Any, ...]:
        found = KEPT.rows.get(self.key)
        if found is None:
            found = self.read()
            KEPT.keep(*self.key, found, CACHE_BYTES if self.most is None else self.most)
        return found


def _size(rows: tuple[Any, ...]) -> int:
    return sum(r.nbytes for r in rows if isinstance(r, np.ndarray))
