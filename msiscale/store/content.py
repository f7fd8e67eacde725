"""What tells one version of a local file from another, also at the same size and time.

A digest of its first and last MiB (which hold the header of a slide, and the UUID and SHA-1 of an
imzML) and of pieces in between: not all of it, which would take as long as the work itself. A file
whose inode and times are those of the last look is not read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from msiscale.store.objects import open_file, size_and_state
from msiscale.store.urls import is_url, local_path

EDGE = 1 << 20  # bytes at either end
PIECES, PIECE = 16, 1 << 16  # in between
FILES = 64  # of a folder that are looked into, at least

Seen = tuple[int, int, int, int, str]  # size, times of writing and of change, inode, digest

_known: dict[str, Seen] = {}


def seen(path: Path) -> Seen:
    """Size, times (ns) and inode of a file, and the digest of what it holds there and here."""
    stat = path.stat()
    facts = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    known = _known.get(str(path))
    if known is not None and known[:4] == facts:
        return known
    with open(path, "rb") as file:
        found = (*facts, _digest(file, stat.st_size))
    _known[str(path)] = found
    return found


def recall(files: Mapping[str, Any]) -> None:
    """Take over what an earlier process has seen, by path."""
    for path, found in files.items():
        if isinstance(found, list | tuple) and len(found) == 5:
            size, written, changed, inode, digest = found
            _known.setdefault(path, (size, written, changed, inode, str(digest)))


def content_of(url: str) -> str:
    """Digest of what a file or folder holds, whatever it is called and wherever it is.

    Parameters
    ----------
    url
        A local file or folder, or the URL of a file. Of a folder, the sizes and places of all files
        count, and the content of some.

    Returns
    -------
    str
        Of a file by a few requests: its first and last MiB and pieces in between.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if is_url(url):
        with open_file(url) as file:
            return _digest(file, size_and_state(url)[0])
    path = local_path(url)
    if path.is_file():
        return seen(path)[-1]
    files = [p for p in sorted(path.rglob("*")) if p.is_file()]
    facts = [(p.relative_to(path).as_posix(), p.stat().st_size) for p in files]
    some = files[:: max(1, len(files) // FILES)]
    whole = hashlib.blake2b(repr(facts).encode(), digest_size=8)
    for file_path in some:
        whole.update(seen(file_path)[-1].encode())
    return whole.hexdigest()


def _digest(file: BinaryIO, size: int) -> str:
    found = hashlib.blake2b(digest_size=8)
    found.update(file.read(EDGE if size > 2 * EDGE else -1))
    between = size - 2 * EDGE
    if between > 0:
        step = max(PIECE, between // PIECES)
        for at in range(EDGE, size - EDGE, step):
            file.seek(at)
            found.update(file.read(min(PIECE, size - EDGE - at)))
        file.seek(size - EDGE)
        found.update(file.read(EDGE))
    return found.hexdigest()
