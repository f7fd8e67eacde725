"""Files of formats that only a local path can be written to, put where they belong once whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec

from msiscale.store import is_url, local_path
from msiscale.store.remote import bucket, readable
from msiscale.store.urls import scheme


@contextmanager
def made(url: str) -> Iterator[Path]:
    """A local path to write; what is there at the end of the block is put at `url`, whole."""
    name = PurePosixPath(url.rstrip("/")).name
    if is_url(url):
        with tempfile.TemporaryDirectory(prefix="msiscale-") as folder:
            path = Path(folder) / name
            yield path
            _upload(path, url)
        return
    target = local_path(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _upload(path: Path, url: str) -> None:
    if scheme(url) == "memory":
        fs, inner = fsspec.core.url_to_fs(url)
        fs.put_file(str(path), inner)
        return
    store, key = bucket(url)
    with readable(url):
        store.put(key, path)  # in parts, where it is large
