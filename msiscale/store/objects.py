"""Small files whole, large files by range, wherever they are.

Local files through the operating system, object stores and the web through `msiscale.store.remote`,
``memory://`` through fsspec.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from msiscale.errors import InputError
from msiscale.store import files, remote, written
from msiscale.store.urls import WEB, is_url, local_path, scheme

AT_ONCE = 32  # small requests that are under way together
T = TypeVar("T")
U = TypeVar("U")


def _remote(url: str) -> bool:
    return is_url(url) and scheme(url) != "memory"


def at_once(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """``[function(i) for i in items]``, many at a time: for small requests that mostly wait."""
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(AT_ONCE, len(todo))) as pool:
        return list(pool.map(function, todo))


def open_file(url: str) -> BinaryIO:
    """A file to read from anywhere in it. OSError (FileNotFoundError, ...) where it cannot be."""
    if _remote(url):
        return cast(BinaryIO, io.BufferedReader(remote.RemoteFile(url), remote.BUFFER))
    if is_url(url):
        return cast(BinaryIO, fsspec.open(url, "rb").open())
    return open(local_path(url), "rb")


def exists(url: str) -> bool:
    """Whether a file or folder is at `url`."""
    if is_file(url):
        return True
    if _remote(url):
        return scheme(url) not in WEB and bool(remote.names(url))
    if is_url(url):
        fs, path = fsspec.core.url_to_fs(url)
        return bool(fs.exists(path))
    return local_path(url).exists()


def is_file(url: str) -> bool:
    """Whether a file (not a folder) is at `url`; one request."""
    if _remote(url):
        try:
            remote.head(url)
        except FileNotFoundError:
            return False
        return True
    if is_url(url):
        fs, path = fsspec.core.url_to_fs(url)
        return bool(fs.isfile(path))
    return local_path(url).is_file()


def size_and_state(url: str) -> tuple[int, str]:
    """Bytes of a file, and what changes when it does: the store's tag, or the time of writing."""
    if _remote(url):
        found = remote.head(url)
        return int(found["size"]), str(found.get("e_tag") or found.get("last_modified") or "")
    if is_url(url):
        fs, path = fsspec.core.url_to_fs(url)
        info = fs.info(path)
        return int(info["size"]), str(info.get("created") or "")
    stat = local_path(url).stat()
    return stat.st_size, str(stat.st_mtime)


def modified(url: str) -> float | None:
    """When a file was written, in seconds since 1970 by the clock of its store, where it tells."""
    if _remote(url):
        at = remote.head(url).get("last_modified")
        return at.timestamp() if isinstance(at, datetime) else None
    return None if is_url(url) else local_path(url).stat().st_mtime


def read_bytes(url: str) -> bytes:
    """The whole of a (small) file."""
    if _remote(url):
        return remote.get(url)
    with open_file(url) as file:
        return bytes(file.read())


def write_bytes(url: str, data: bytes) -> None:
    """Write a (small) file so that a reader sees all of it or none."""
    written.before(url)
    if _remote(url):
        remote.put(url, data)
    elif is_url(url):
        fs, path = fsspec.core.url_to_fs(url)
        fs.pipe_file(path, data)
    else:
        files.write(local_path(url), [data])
    written.file(url, data)


def create_bytes(url: str, data: bytes) -> bool:
    """Write a (small) file where there is none; False, and nothing done, where there is one."""
    try:
        if _remote(url):
            remote.put(url, data, create=True)
        elif is_url(url):
            fs, path = fsspec.core.url_to_fs(url)
            fs.pipe_file(path, data, mode="create")
        else:
            files.write(local_path(url), [data], new=True)
    except FileExistsError:
        return False
    return True


def remove(url: str) -> bool:
    """Delete a file or a folder with all that is in it; False where there is none."""
    written.gone(url)
    if _remote(url):
        return remote.delete(url)
    if is_url(url):
        fs, inner = fsspec.core.url_to_fs(url)
        if not fs.exists(inner):
            return False
        fs.rm(inner, recursive=True)
        return True
    path = local_path(url)
    if path.is_symlink():  # the link goes, and not what it points at
        path.unlink(missing_ok=True)
        return True
    if not path.exists():
        return False
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def listing(url: str) -> list[str]:
    """Names of the files and folders at `url`; none where there is no folder."""
    if _remote(url):
        return remote.names(url)
    if is_url(url):
        fs, inner = fsspec.core.url_to_fs(url)
        if not fs.isdir(inner):
            return []
        return sorted(p.rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(inner, detail=False))
    path = local_path(url)
    return sorted(os.listdir(path)) if path.is_dir() else []


def read_json(url: str) -> Any:
    """The JSON document at `url`."""
    try:
        return json.loads(read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: not valid JSON ({error}); remove the file or mend it") from None


def json_bytes(document: Any) -> bytes:
    """A document as it is stored."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def write_json(url: str, document: Any) -> None:
    """Write `document` as JSON, whole or not at all."""
    write_bytes(url, json_bytes(document))


def digest(document: Any) -> str:
    """A short SHA-256 of a JSON-able document, the same in every process."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def local_copy(url: str) -> str:
    """Path of a copy of a file, kept in ``$MSISCALE_CACHE`` until the file is another."""
    if not is_url(url):
        return str(local_path(url))
    folder = Path(os.environ.get("MSISCALE_CACHE", "~/.cache/msiscale")).expanduser()
    stamp = digest([url, *size_and_state(url)])
    path = folder / f"{stamp}-{url.rpartition('/')[2]}"
    if not path.is_file():
        files.write(path, _pieces(url))
    return str(path)


def file_sha256(path: str) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    for piece in _pieces(path):
        sha.update(piece)
    return sha.hexdigest()


def _pieces(url: str) -> Iterator[bytes]:
    with open_file(url) as file:
        while piece := file.read(1 << 22):
            yield piece
