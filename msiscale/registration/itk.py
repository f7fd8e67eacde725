"""SimpleITK, loaded when something is registered: it takes 90 MB, which most workers never need."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def itk() -> ModuleType:
    """The library, on one thread."""
    import SimpleITK

    # sums of several threads come in any order, and only this reaches the threads of the metrics
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK
