"""Zarr arrays with checksums, written by whole shards, labelled for xarray.

Every array is Zarr v3, sharded, zstd-compressed with a checksum; floats fill with NaN and empty
chunks are written, so that a chunk that is not there can never pass for data: a group opened for
reading raises `LostChunk` instead. A task writes whole shards only (`write_block` refuses anything
else): unaligned writers corrupt a shard in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, DTypeLike, NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore

from msiscale.errors import InputError, LostChunk, MsiscaleWarning, unwritable
from msiscale.grid import Block
from msiscale.store import files, remote, shards, written
from msiscale.store.objects import is_file, read_bytes, remove
from msiscale.store.urls import is_url, join, local_path, scheme
from msiscale.store.web import Web, WebStore

zarr.config.set({"array.write_empty_chunks": True})
MOST_WHOLE = 1 << 36  # bytes of an array that is read at once; what says more is damaged
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class Local(LocalStore):
    """Files forced to the disk before any record vouches for them; no hard links are needed."""

    async def _open(self, *, mode: Any = None) -> None:
        try:
            await super()._open(mode=mode)
        except OSError as error:
            raise unwritable(error, str(self.root)) or error from None

    async def set(self, key: str, value: Buffer) -> None:
        """Write the value of a key, whole or not at all."""
        await self._written(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write the value of a key that has none."""
        with contextlib.suppress(FileExistsError):
            await self._written(key, value, new=True)

    async def _written(self, key: str, value: Buffer, *, new: bool = False) -> None:
        if not self._is_open:
            await self._open()
        self._check_writable()
        data = [value.as_buffer_like()]
        await asyncio.to_thread(files.write, self.root / key, data, new=new, folder=False)


#: Attribute of an array (y, x, …) of which only some shards are written; the others read as fill.
ONLY_SHARDS = "only_shards"


class Whole(WrapperStore[Store]):
    """A store all of whose chunks were written: one that is not there is an error, not a fill."""

    url = ""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._written: dict[str, set[str] | None] = {}  # shards of arrays that lack some by intent

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key; None only for metadata."""
        found = await super().get(key, prototype, byte_range)
        if found is None and not key.endswith(_METADATA):
            array, _, place = key.rpartition("/c/")
            if array not in self._written:
                self._written[array] = await self._shards(array, prototype)
            known = self._written[array]
            if known is None or "/".join(place.split("/")[:2]) in known:
                raise LostChunk(f"{self.url}/{key}: a chunk is lost")
        return found

    async def _shards(self, array: str, prototype: BufferPrototype) -> set[str] | None:
        """The shards, as ``y/x``, that an array of which some are left out has; None of others."""
        metadata = await super().get(f"{array}/zarr.json", prototype)
        if metadata is None:
            return None
        shards = json.loads(metadata.to_bytes()).get("attributes", {}).get(ONLY_SHARDS)
        return None if shards is None else {f"{y}/{x}" for y, x in shards}


def _store(url: str, *, read_only: bool) -> tuple[Any, str, str]:
    """The store that holds a URL, its own URL, and the path in it."""
    if not is_url(url):
        local = local_path(url)
        return Local(local, read_only=read_only), str(local), ""
    if scheme(url) == "memory":
        return FsspecStore.from_url(url, read_only=read_only), url.rstrip("/"), ""
    # one client for all groups below NAME.zarr, and none above it, where Zarr would make parents
    found = re.match(r"(.+?\.zarr)/(.+)", url.rstrip("/"))
    root, path = (found[1], found[2]) if found else (url.rstrip("/"), "")
    client = remote.client(root)
    if isinstance(client, Web):
        return WebStore(client), root, path
    return ObjectStore(client, read_only=read_only), root, path


def open_group(
    url: str, mode: str = "r", *, whole: bool = True, zarr_format: Literal[2, 3] = 3
) -> zarr.Group:
    """The Zarr group at `url`.

    Parameters
    ----------
    url
        The group's folder or URL.
    mode
        As Zarr's; ``a`` makes the group where it is missing.
    whole
        With mode ``r``, a chunk that is missing raises `LostChunk`; False is for the stores of
        others, which may leave chunks of fill values out.
    zarr_format
        2 for the stores of others.

    Returns
    -------
    zarr.Group
        Its arrays know where they are (`url_of`).

    Raises
    ------
    InputError
        No Zarr store is there, or its metadata are damaged.
    """
    store, root, path = _store(url, read_only=mode == "r")
    if mode == "r" and whole:
        store = Whole(store)
    store.url = root  # for `url_of`
    try:
        with remote.readable(url):
            return zarr.open_group(store, mode=mode, path=path or None, zarr_format=zarr_format)  # type: ignore[arg-type]
    except zarr.errors.ContainsGroupError:  # another worker has made it in the meantime
        return open_group(url, "r+", whole=whole)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        raise InputError(f"{url}: no Zarr store there; run the stage that writes it") from None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, NotADirectoryError) as error:
        raise InputError(_damaged(url, "Zarr metadata", error)) from None


def make_root(url: str) -> None:
    """Make the group that a store begins with, anew where its file is empty or cut."""
    metadata = join(url, "zarr.json")
    try:
        json.loads(read_bytes(metadata))
    except FileNotFoundError:
        pass
    except (ValueError, RecursionError):
        text = "empty or cut; it counts as not written, and is written again"
        warnings.warn(f"{metadata}: {text}", MsiscaleWarning, stacklevel=2)
        remove(metadata)
    open_group(url, "a")


def _damaged(where: str, what: str, error: Exception) -> str:
    return (
        f"{where}: damaged {what} ({type(error).__name__}: {error}); `msiscale verify` names the "
        "stage to run again"
    )


def url_of(array: zarr.Array[Any]) -> str:
    """Say where an array is.

    Parameters
    ----------
    array
        Of any shape and dtype.

    Returns
    -------
    str
        Its URL; "" for an array of a store that `open_group` did not open.
    """
    url = getattr(array.store, "url", "")
    return join(url, array.path) if url else ""


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
) -> zarr.Array[Any]:
    """An array in `group`, labelled for xarray; one that is there and the same is kept.

    What is in an array that was kept is to be written anew, shard by shard, so that no reader ever
    finds none.

    Parameters
    ----------
    group, name
        Where it is made.
    shape, dims, dtype
        Of the array, with the name of each dimension; floats fill with NaN, others with 0.
    chunks
        Elements a chunk along each dimension; default the whole array.
    shards
        The same of a shard, rounded up to whole chunks; default none.
    attrs
        Its attributes.

    Returns
    -------
    zarr.Array
        To write to.
    """
    dtype = np.dtype(dtype)
    chunk = tuple(max(1, min(c, s)) for c, s in zip(chunks or shape, shape, strict=True))
    shard = None
    if shards is not None:
        shard = tuple(
            math.ceil(min(max(h, c), s) / c) * c
            for h, c, s in zip(shards, chunk, shape, strict=True)
        )
    fill: Any = np.nan if dtype.kind == "f" else "" if dtype.kind == "T" else dtype.type(0)
    there = group.get(name)
    if isinstance(there, zarr.Array) and (
        (there.shape, there.chunks, there.shards, there.dtype)
        == (tuple(shape), chunk, shard, dtype)
        and tuple(there.metadata.dimension_names or ()) == tuple(dims)  # type: ignore[union-attr]
        and there.attrs.get(ONLY_SHARDS) == (attrs or {}).get(ONLY_SHARDS)
    ):
        if dict(there.attrs) != dict(attrs or {}):
            there.attrs.put(dict(attrs or {}))
        return there
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
        overwrite=there is not None,
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
    chunks: Sequence[int] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write a small array whole (coordinates, maps, coefficients).

    Parameters
    ----------
    group, name
        Where it is made, or made anew.
    values
        Of any shape and dtype.
    dims, chunks, attrs
        As of `create_array`.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":  # of which Zarr has no settled form
        array = array.astype(np.dtypes.StringDType())
    target = create_array(group, name, array.shape, dims, array.dtype, chunks=chunks, attrs=attrs)
    url = url_of(target)
    written.before(url)
    target[...] = array
    written.array(url, array)


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """The array `name` of a group, lazy.

    Returns
    -------
    zarr.Array
        Of any shape and dtype.

    Raises
    ------
    KeyError
        It is not there.
    InputError
        It is no array, or its metadata are damaged.
    """
    try:
        found = group[name]
    except (ValueError, TypeError) as error:  # of JSON, and of what it says
        raise InputError(_damaged(f"{group.store_path}/{name}", "Zarr metadata", error)) from None
    if not isinstance(found, zarr.Array):
        raise InputError(f"{group.store_path}/{name}: not an array; run the stage that writes it")
    return found


def read(group: zarr.Group, name: str) -> NDArray[Any]:
    """The array `name` of a group, whole, in memory.

    Parameters
    ----------
    group, name
        Of an array of any shape and dtype.

    Returns
    -------
    numpy.ndarray
        Its values.

    Raises
    ------
    KeyError
        It is not there.
    InputError
        It is no array, damaged, or of more than `MOST_WHOLE` bytes.
    """
    array = array_of(group, name)
    if array.nbytes > MOST_WHOLE:
        raise InputError(
            f"{group.store_path}/{name}: an array of {array.shape}, which is not read whole; "
            "`msiscale verify` names the stage to run again"
        )
    try:
        found = shards.whole(array)
        return np.asarray(array[...]) if found is None else found
    except RuntimeError as error:  # of a decoder; zarr has no error of its own for it
        raise InputError(_damaged(f"{group.store_path}/{name}", "chunk", error)) from None


def write_block(array: zarr.Array[Any], block: Block, values: NDArray[Any]) -> None:
    """Write ``array[block]``.

    Parameters
    ----------
    array
        (y, x, …), of a group of `open_group`.
    block
        Whole shards in y and x.
    values
        (h, w, …) of the block, cast to the array's dtype.

    Raises
    ------
    ValueError
        The block is not made of whole shards.
    """
    unit = array.shards or array.chunks
    for start, stop, size, total in zip(
        (block.y0, block.x0), (block.y1, block.x1), unit[:2], array.shape[:2], strict=True
    ):
        if start % size or (stop % size and stop != total):
            raise ValueError(f"{array.path}: {block} is not made of whole {unit[:2]} shards")
    url = url_of(array)
    written.before(url)
    values = np.asarray(values, array.dtype)
    codec = shards.codec_of(array)
    if codec is None:
        array[block.slices] = values
    else:
        for y in range(block.y0, block.y1, unit[0]):
            for x in range(block.x0, block.x1, unit[1]):
                part = values[y - block.y0 :, x - block.x0 :][: unit[0], : unit[1]]
                shards.write(array, (y, x, *[0] * (array.ndim - 2)), part, codec)
    written.array(url, values, f"[{block.y0}:{block.y1},{block.x0}:{block.x1}]")


def has_group(url: str) -> bool:
    """Whether a Zarr v3 group or array is at `url`; one request."""
    return is_file(join(url, "zarr.json"))
