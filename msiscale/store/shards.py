"""A whole shard as bytes, written at once.

Zarr encodes a shard chunk by chunk through its event loop and threads, which costs as much again as
compressing does. What is written here is the same format: chunks of zstd with checksum, an index of
their places behind them, and the CRC-32C of that. An array of one chunk is read at once too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import google_crc32c
import imagecodecs
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import (
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    ShardingCodecIndexLocation,
    ZstdCodec,
)
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

_EMPTY = np.uint64(2**64 - 1)  # place and length of a chunk that is not there


def codec_of(array: zarr.Array[Any]) -> Zstd | None:
    """Find the compressor of an array whose shards `write` can make.

    Parameters
    ----------
    array
        Of any shape and dtype.

    Returns
    -------
    Zstd or None
        With the array's level and checksum; None for any other array.
    """
    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    if array.shards is None or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    sharding = codecs[0]
    inner, index = list(sharding.codecs), list(sharding.index_codecs)
    zstd = inner[-1]
    plain = (
        [type(c) for c in inner] == [BytesCodec, ZstdCodec]
        and [type(c) for c in index] == [BytesCodec, Crc32cCodec]
        and sharding.index_location is ShardingCodecIndexLocation.end
        and array.dtype.byteorder in "<=|"
        and all(s >= n for s, n in zip(array.shards[2:], array.shape[2:], strict=True))
    )
    if not plain or not isinstance(zstd, ZstdCodec):
        return None
    return Zstd(level=zstd.level, checksum=zstd.checksum)


def whole(array: zarr.Array[Any]) -> NDArray[Any] | None:
    """An array of one chunk, decoded at once; None for any other, or without its chunk.

    Parameters
    ----------
    array
        Of any shape and dtype.

    Returns
    -------
    numpy.ndarray or None
        Its values.

    Raises
    ------
    RuntimeError
        The chunk is damaged.
    """
    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    plain = (
        [type(c) for c in codecs] == [BytesCodec, ZstdCodec]
        and array.shards is None
        and array.chunks == array.shape
        and array.dtype.byteorder in "<=|"
    )
    if not plain:
        return None
    place = array.metadata.encode_chunk_key((0,) * array.ndim)
    key = f"{array.path}/{place}".lstrip("/")
    found = sync(array.store.get(key, default_buffer_prototype()))
    if found is None:
        return None
    target: Any = np.empty(int(array.nbytes), np.uint8)  # a float, of a single number
    data = imagecodecs.zstd_decode(found.to_bytes(), out=target)
    if len(data) != array.nbytes:
        raise RuntimeError(f"{len(data)} bytes where {array.nbytes} belong")
    return np.asarray(target.view(array.dtype).reshape(array.shape))


def write(
    array: zarr.Array[Any], corner: tuple[int, ...], values: NDArray[Any], codec: Zstd
) -> None:
    """Write the shard that begins at `corner`; at the array's end `values` may be smaller.

    Parameters
    ----------
    array
        For which `codec_of` gives a compressor.
    corner
        Index of the shard's first element, a multiple of the shard's shape.
    values
        The shard, of the array's dtype.
    codec
        Of `codec_of`.
    """
    assert array.shards is not None
    place = tuple(c // s for c, s in zip(corner, array.shards, strict=True))
    key = f"{array.path}/{array.metadata.encode_chunk_key(place)}".lstrip("/")
    data = _encoded(values, array, codec)
    buffer = default_buffer_prototype().buffer.from_bytes(data)
    sync(array.store.set(key, buffer))


def _encoded(values: NDArray[Any], array: zarr.Array[Any], codec: Zstd) -> bytes:
    """The bytes of a shard; what `values` lack of it is the fill value."""
    assert array.shards is not None
    chunk = array.chunks
    counts = [s // c for s, c in zip(array.shards, chunk, strict=True)]
    index = np.full((*counts, 2), _EMPTY, "<u8")
    parts: list[bytes] = []
    end = 0
    for place in itertools.product(*map(range, counts)):
        cut = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunk, strict=True))
        part = values[cut]
        if part.size == 0:  # beyond the array
            continue
        if part.shape != chunk:
            whole = np.full(chunk, array.fill_value, values.dtype)
            whole[tuple(slice(n) for n in part.shape)] = part
            part = whole
        data = codec.encode(np.ascontiguousarray(part))
        index[place] = end, len(data)
        end += len(data)
        parts.append(data)
    table = index.tobytes()
    return b"".join([*parts, table, google_crc32c.value(table).to_bytes(4, "little")])
