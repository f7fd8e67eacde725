"""Where results live: URLs, Zarr arrays with checksums, and the record of what was done.

Every array is Zarr v3, sharded, zstd-compressed with a checksum; floats fill with NaN and empty
chunks are written, so that a chunk that is not there can never pass for data. A task writes whole
shards only (`write_block` refuses anything else): unaligned writers corrupt a shard in silence.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import ArrayLike, DTypeLike
from zarr.codecs import ZstdCodec

from msiscale.errors import InputError
from msiscale.grid import Block

zarr.config.set({"array.write_empty_chunks": True})
_UMASK = os.umask(0)
os.umask(_UMASK)


def is_url(path: str) -> bool:
    """Whether `path` has a scheme (``s3://``); plain paths and ``file://`` are local."""
    return "://" in path and not path.startswith("file://")


def local_path(url: str) -> Path:
    """The local path of a plain path or a ``file://`` URL."""
    return Path(url.removeprefix("file://"))


def join(url: str, *parts: str) -> str:
    """`parts` below `url`; a part that would climb out of it is refused."""
    for part in parts:
        if not part or part.startswith("/") or ".." in part.split("/"):
            raise ValueError(f"{part!r} is not a name below {url!r}")
    if is_url(url):
        return "/".join([url.rstrip("/"), *parts])
    return str(local_path(url).joinpath(*parts))


def exists(url: str) -> bool:
    """Whether a file is at `url`."""
    fs, path = fsspec.core.url_to_fs(url)
    return bool(fs.exists(path))


def read_bytes(url: str) -> bytes:
    """The whole of a (small) file."""
    with fsspec.open(url, "rb") as file:
        return bytes(file.read())


def write_bytes(url: str, data: bytes) -> None:
    """Write a (small) file so that a reader sees all of it or none."""
    if is_url(url):
        fs, path = fsspec.core.url_to_fs(url)
        fs.pipe_file(path, data)
        return
    path = local_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_UMASK)  # mkstemp keeps files from everybody else
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove(url: str) -> bool:
    """Delete a file or a folder with all that is in it; False where there is none."""
    fs, path = fsspec.core.url_to_fs(url)
    if not fs.exists(path):
        return False
    fs.rm(path, recursive=True)
    return True


def listing(url: str) -> list[str]:
    """Names of the files and folders at `url`; none where there is no folder."""
    fs, path = fsspec.core.url_to_fs(url)
    if not fs.isdir(path):
        return []
    return sorted(p.rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(path, detail=False))


def read_json(url: str) -> Any:
    """The JSON document at `url`."""
    try:
        return json.loads(read_bytes(url))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{url}: not valid JSON ({error}); remove the file or mend it") from None


def write_json(url: str, document: Any) -> None:
    """Write `document` as JSON, whole or not at all."""
    write_bytes(url, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())


def digest(document: Any) -> str:
    """A short SHA-256 of a JSON-able document, the same in every process."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: str) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with fsspec.open(path, "rb") as file:
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()


def open_group(url: str, mode: str = "r") -> zarr.Group:
    """The Zarr v3 group at `url`; ``mode="a"`` makes it where it is missing."""
    if is_url(url):
        store: Any = zarr.storage.FsspecStore.from_url(url, read_only=mode == "r")
    else:
        store = zarr.storage.LocalStore(local_path(url), read_only=mode == "r")
    try:
        return zarr.open_group(store, mode=mode, zarr_format=3)  # type: ignore[arg-type]
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        raise InputError(f"{url}: no Zarr store there; run the stage that writes it") from None


def create_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: DTypeLike = np.float32,
    *,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> zarr.Array:
    """A new array in `group` (an old one of that name is replaced), labelled for xarray.

    `shards` is rounded up to whole `chunks`; without `chunks` the array is one chunk.
    """
    dtype = np.dtype(dtype)
    chunk = tuple(max(1, min(c, s)) for c, s in zip(chunks or shape, shape, strict=True))
    shard = None
    if shards is not None:
        shard = tuple(
            math.ceil(min(max(h, c), s) / c) * c
            for h, c, s in zip(shards, chunk, shape, strict=True)
        )
    fill: Any = np.nan if dtype.kind == "f" else dtype.type(0)
    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        fill_value=fill,
        compressors=[ZstdCodec(level=1, checksum=True)],
        dimension_names=tuple(dims),
        attributes=dict(attrs or {}),
        overwrite=True,
    )


def divisor(size: int, most: int) -> int:
    """The largest chunk of at most `most` that cuts a shard of `size` into whole chunks."""
    return max(d for d in range(1, min(size, most) + 1) if size % d == 0)


def put(
    group: zarr.Group,
    name: str,
    values: ArrayLike,
    dims: Sequence[str],
    *,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write a small array whole (coordinates, maps, coefficients)."""
    array = np.asarray(values)
    target = create_array(group, name, array.shape, dims, array.dtype, attrs=attrs)
    target[...] = array


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """The array `name` of a group, lazy."""
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise InputError(f"{group.store_path}/{name}: not an array; run the stage that writes it")
    return found


def read(group: zarr.Group, name: str) -> np.ndarray:
    """The array `name` of a group, whole, in memory."""
    return np.asarray(array_of(group, name)[...])


def write_block(array: zarr.Array, block: Block, values: np.ndarray) -> None:
    """Write ``array[block]``; the block must be whole shards in y and x."""
    unit = array.shards or array.chunks
    for start, stop, size, total in zip(
        (block.y0, block.x0), (block.y1, block.x1), unit[:2], array.shape[:2], strict=True
    ):
        if start % size or (stop % size and stop != total):
            raise ValueError(f"{array.path}: {block} is not made of whole {unit[:2]} shards")
    array[block.slices] = values


class Ledger:
    """What was done: one JSON record a stage and specimen, written last, believed by its digest.

    A record says ``{"status": "done" | "failed", "digest", "reason", ...}``. Its digest covers the
    inputs and parameters of the stage; a record with another digest is of another run, and the
    stage is done again.
    """

    def __init__(self, url: str) -> None:
        self.url = join(url, "ledger")

    def _path(self, stage: str, name: str) -> str:
        return join(self.url, stage, f"{name}.json")

    def read(self, stage: str, name: str) -> dict[str, Any] | None:
        """The record, or None."""
        path = self._path(stage, name)
        if not exists(path):
            return None
        record = read_json(path)
        return record if isinstance(record, dict) else None

    def done(self, stage: str, name: str, key: str) -> bool:
        """Whether the stage finished for exactly this digest."""
        record = self.read(stage, name)
        return record is not None and record.get("status") == "done" and record["digest"] == key

    def write(self, stage: str, name: str, key: str, status: str, **facts: Any) -> None:
        """Record the outcome; call it after everything it vouches for is written."""
        write_json(self._path(stage, name), {"status": status, "digest": key, **facts})

    def forget(self, stage: str, names: Iterable[str]) -> None:
        """Remove records, before what they vouch for is touched."""
        for name in names:
            remove(self._path(stage, name))

    def forget_parts(self, stage: str, name: str) -> None:
        """Remove the records of a specimen's blocks, before its arrays are made anew."""
        remove(join(self.url, stage, name))

    def stages(self) -> list[str]:
        """Names of the stages that have records."""
        return listing(self.url)

    def names(self, stage: str) -> list[str]:
        """Names that have a record of a stage."""
        found = listing(join(self.url, stage))
        return [n.removesuffix(".json") for n in found if n.endswith(".json")]
