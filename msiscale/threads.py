"""BLAS on one thread inside a task: the workers are what runs side by side."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import threadpoolctl

# the limit is of the process, so how many tasks are inside is counted for the process
_lock = threading.Lock()
_inside = 0
_limits: Any = None


@functools.cache  # looks through the libraries of the process, which takes milliseconds
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _take_control() -> None:
    # since 3.8 threadpoolctl lets one thread set the limit and ignores the others without a word
    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    if clear := getattr(openblas, "clear_controlling_thread", None):
        clear(force=True)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread while any task of this process is inside; nests, and threads may share it.

    (The limit is process-wide: two threads that each restored it would undo one another, so the
    first one in sets it and the last one out restores it.)
    """
    global _inside, _limits
    with _lock:
        if _inside == 0:
            _take_control()
            _limits = _controller().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _take_control()
                _limits.restore_original_limits()
                _take_control()
