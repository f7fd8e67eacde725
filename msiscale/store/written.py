"""What a task wrote, noted on the way: bytes, checksums, and whether it may still write.

A task runs inside `recording`; the writers of this package note what they write there. Its record
in the ledger then says what must be found when somebody looks again (`msiscale verify`).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.store.urls import is_url, local_path

GUARD_S = 1.0  # the guard is asked at most this often


@dataclass
class Written:
    """What was written below `root`.

    Attributes
    ----------
    root : URL that names are relative to
    parts : name -> ``crc32`` of a file's bytes or of an array's values; of a part of an array the
        name ends in ``[y0:y1,x0:x1]``
    bytes : of values, uncompressed
    guard : raises when this task must not write any more
    """

    root: str
    guard: Callable[[], None] | None = None
    parts: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    asked: float = -GUARD_S

    def name(self, url: str) -> str | None:
        """`url` relative to the root; None if it is elsewhere."""
        root = self.root.rstrip("/") + "/"
        return url[len(root) :] if url.startswith(root) else None


# writers below need not be handed what their task notes; threads of one process have their own
_current: ContextVar[Written | None] = ContextVar("written", default=None)


@contextmanager
def recording(root: str, guard: Callable[[], None] | None = None) -> Iterator[Written]:
    """Note all that this thread writes inside."""
    found = Written(root if is_url(root) else str(local_path(root)), guard)
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


def before(url: str) -> None:
    """To be called before a write: raises if this task must not write any more."""
    found = _current.get()
    if found is None or found.guard is None or found.name(url) is None:
        return
    if time.monotonic() - found.asked >= GUARD_S:
        found.guard()
        found.asked = time.monotonic()


def crc(data: bytes | NDArray[Any]) -> str:
    """Compute the CRC-32 of bytes, or of the values of an array in C order.

    Parameters
    ----------
    data
        Bytes, or an array of any shape and dtype.

    Returns
    -------
    str
        Eight hexadecimal digits.
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind == "T":  # strings, which lie elsewhere
            data = np.array(data.tolist(), np.str_)
        return f"{zlib.crc32(np.ascontiguousarray(data).data):08x}"
    return f"{zlib.crc32(data):08x}"


def file(url: str, data: bytes) -> None:
    """Note a file."""
    found = _current.get()
    name = found.name(url) if found else None
    if found and name and not name.startswith("ledger/"):  # records vouch for the rest
        found.parts[name] = crc(data)
        found.bytes += len(data)


def array(url: str, values: NDArray[Any], part: str = "") -> None:
    """Note the values of an array, or of a part of it.

    Parameters
    ----------
    url
        Of the array.
    values
        Those written, of any shape and dtype.
    part
        Which part, as ``[y0:y1,x0:x1]``; default the whole array.
    """
    found = _current.get()
    name = found.name(url) if found else None
    if found and name:
        found.parts[name + part] = crc(values)
        found.bytes += values.nbytes


def gone(url: str) -> None:
    """Forget a file or a folder that is removed: no record vouches for what is not there."""
    found = _current.get()
    name = found.name(url) if found else None
    if found and name:
        for part in [p for p in found.parts if p == name or p.startswith((f"{name}/", f"{name}["))]:
            del found.parts[part]


def adopt(parts: dict[str, str]) -> None:
    """Note what a task of this one's wrote elsewhere, so that this record vouches for it."""
    found = _current.get()
    if found:
        found.parts.update(parts)
