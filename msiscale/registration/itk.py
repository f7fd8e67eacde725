"""SimpleITK, loaded when something is registered: it takes 90 MB, which most workers never need."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache  # the number of threads is set once
def itk() -> Any:
    """The library, on one thread; its own types say little."""
    library: Any = import_module("SimpleITK")
    # sums of several threads come in any order, and only this reaches the threads of the metrics
    library.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return library
