"""A small writer of Zeiss CZI, for tests: any pixel type, compression, scenes and pyramids."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

PLAIN, JPEG, JPEG_XR, ZSTD0, ZSTD1 = 0, 1, 4, 5, 6
GRAY8, GRAY16, BGR24, BGR48 = 0, 1, 3, 4
RGB = bytes.fromhex("24c3dd6f034efe4bb1853d77768dc90d")  # JPEG XR's name of its pixel format
_TYPES = {(1, "uint8"): GRAY8, (1, "uint16"): GRAY16, (3, "uint8"): BGR24, (3, "uint16"): BGR48}


@dataclass(frozen=True)
class Tile:
    """A subblock: RGB (h, w, 3) or grey (h, w) at ``(x, y)`` of the canvas."""

    pixels: np.ndarray
    x: int
    y: int
    scene: int | None = None
    channel: int = 0
    step: int = 1  # level-0 pixels a pixel


def _packed(pixels: np.ndarray, compression: int) -> bytes:
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    if compression == JPEG_XR:
        data = bytes(imagecodecs.jpegxr_encode(np.ascontiguousarray(pixels), level=1.0))
        return data.replace(RGB, RGB[:-1] + b"\x0c")  # to be unpacked as BGR
    data = np.ascontiguousarray(stored).tobytes()
    if compression == ZSTD0:
        return bytes(imagecodecs.zstd_encode(data))
    return b"\1" + bytes(imagecodecs.zstd_encode(data)) if compression == ZSTD1 else data


def _segment(name: str, data: bytes) -> bytes:
    room = len(data) + -len(data) % 32
    return struct.pack("<16sqq", name.encode(), room, len(data)) + data.ljust(room, b"\0")


def _entry(tile: Tile, number: int, at: int, compression: int) -> bytes:
    h, w = tile.pixels.shape[:2]
    kind = _TYPES[1 if tile.pixels.ndim == 2 else 3, str(tile.pixels.dtype)]
    sizes = [("X", tile.x, w * tile.step, w), ("Y", tile.y, h * tile.step, h)]
    sizes += [("C", tile.channel, 1, 1)]
    sizes += [] if tile.scene is None else [("S", tile.scene, 1, 1)]
    sizes += [("M", number, 1, 1)] if tile.step == 1 else []
    pyramid = 0 if tile.step == 1 else 2
    head = struct.pack("<2siqiiB5xi", b"DV", kind, at, 0, compression, pyramid, len(sizes))
    return head + b"".join(struct.pack("<4siifi", n.encode(), s, z, s, k) for n, s, z, k in sizes)


def write_czi(
    path: Path,
    tiles: Sequence[Tile],
    *,
    compression: int = PLAIN,
    um: float | None = 0.22,
    more: str = "",
) -> Path:
    """A file of the tiles, with `more` in the metadata's ``Image``."""
    body, entries = bytearray(), []
    begin = 32 + 512
    for number, tile in enumerate(tiles):
        entry = _entry(tile, number, begin + len(body), compression)
        data = _packed(tile.pixels, compression)
        head = struct.pack("<iiq", 0, 0, len(data)) + entry
        body += _segment("ZISRAWSUBBLOCK", head.ljust(256, b"\0") + data)
        entries.append(entry)
    directory = begin + len(body)
    body += _segment("ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    right = max(t.x + t.pixels.shape[1] * t.step for t in tiles) - min(t.x for t in tiles)
    bottom = max(t.y + t.pixels.shape[0] * t.step for t in tiles) - min(t.y for t in tiles)
    scenes = {t.scene for t in tiles if t.scene is not None}
    count = f"<SizeS>{len(scenes)}</SizeS>" if scenes else ""
    items = "".join(f'<Distance Id="{a}"><Value>{um * 1e-6}</Value></Distance>' for a in "XY" if um)
    xml = (
        "<ImageDocument><Metadata><Information><Image>"
        f"<SizeX>{right}</SizeX><SizeY>{bottom}</SizeY>{count}{more}</Image></Information>"
        f"<Scaling><Items>{items}</Items></Scaling></Metadata></ImageDocument>"
    ).encode()
    metadata = begin + len(body)
    body += _segment("ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml)
    attachments = begin + len(body)
    body += _segment("ZISRAWATTDIR", bytes(256))
    guid = bytes(range(16))
    header = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, guid, guid, 0, directory, metadata, 0, attachments
    )
    path.write_bytes(_segment("ZISRAWFILE", header.ljust(512, b"\0")) + bytes(body))
    return path
