"""Threads that decode the tiles of a slide, where a GPU would wait for one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

_pool: ThreadPoolExecutor | None = None  # one for all slides and threads of a process


def use_threads(count: int) -> None:
    """Decode with `count` threads in this process from now on; 1 (the default) is the caller's."""
    global _pool
    if count > 1 and _pool is None:
        _pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    elif count == 1:
        _pool = None


def decoded(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """``function(item)`` of every item, in order. Decoders do without the interpreter's lock."""
    return map(function, items) if _pool is None else _pool.map(function, items)
