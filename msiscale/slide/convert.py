"""A slide as an OME-Zarr 0.5 pyramid [1]_: what cohorts in object stores are read from.

Every level is one sharded, checksummed Zarr v3 array (c, y, x). A shard is written whole and only
one is in memory; the metadata that make the group a slide are written last, so that half a
conversion does not pass for one.

.. [1] https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import zarr

from msiscale.errors import InputError
from msiscale.grid import Block, blocks
from msiscale.slide.backend import Pixels
from msiscale.slide.reader import Slide, open_reader
from msiscale.store import array_of, create_array, open_group

CHUNK = 512
SHARD = 4096
SMALLEST = 1024  # halving stops where both sides are at most this
PIECE = 2048  # source pixels on a side that are averaged at a time
_UNFINISHED = "msiscale_converting"


def convert(
    slide_path: str | os.PathLike[str],
    url: str,
    *,
    mpp: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a slide as an OME-Zarr 0.5 pyramid.

    Level 0 has the slide's own pixels; each further level is the area average of 2 x 2 pixels.
    Further metadata: physical scales in micrometres, and the translation of pixel centres.

    Parameters
    ----------
    slide_path : str or path
        Any slide that `open_reader` reads.
    url : str
        Where to write; an unfinished or older conversion there is replaced.
    mpp : float, optional
        µm per level-0 pixel; overrules the file.
    progress : callable, optional
        Called with shards done and in all.

    Raises
    ------
    InputError
        The slide cannot be read, or something other than a slide is at `url`.
    """
    slide = open_reader(slide_path, mpp=mpp)
    group = open_group(url, mode="a")
    attrs = group.attrs.asdict()
    if not ("ome" in attrs or _UNFINISHED in attrs) and any(True for _ in group.members()):
        raise InputError(f"{url}: a Zarr store that is no slide; give another address")
    group.attrs[_UNFINISHED] = slide.path
    if "ome" in attrs:
        del group.attrs["ome"]
    shapes = level_shapes(slide.shape, SMALLEST)
    total = sum(len(list(blocks(shape, (SHARD, SHARD)))) for shape in shapes)
    done = 0
    for level, shape in enumerate(shapes):
        cut: dict[str, Any] = {"chunks": (3, CHUNK, CHUNK), "shards": (3, SHARD, SHARD)}
        array = create_array(group, str(level), (3, *shape), ("c", "y", "x"), np.uint8, **cut)
        for block in blocks(shape, (SHARD, SHARD)):
            if level == 0:
                pixels = slide.read(0, block.y0, block.x0, *block.shape)
            else:
                pixels = _halved(group, level - 1, shapes[level - 1], block)
            array[:, block.slices[0], block.slices[1]] = pixels.transpose(2, 0, 1)
            done += 1
            if progress is not None:
                progress(done, total)
    group.attrs["ome"] = _metadata(slide, len(shapes))
    del group.attrs[_UNFINISHED]


def level_shapes(full: tuple[int, int], smallest: int) -> list[tuple[int, int]]:
    """Shapes of the levels, each half of the last, until both sides are at most `smallest`."""
    shapes = [full]
    while max(shapes[-1]) > smallest:
        h, w = shapes[-1]
        shapes.append((-(-h // 2), -(-w // 2)))
    return shapes


def _halved(group: zarr.Group, level: int, shape: tuple[int, int], block: Block) -> Pixels:
    """`block` of the next level: means of 2 x 2 pixels of `level`, piece by piece."""
    source = array_of(group, str(level))
    out = np.empty((*block.shape, 3), np.uint8)
    for part in blocks(block.shape, (PIECE // 2, PIECE // 2)):
        y0, x0 = 2 * (block.y0 + part.y0), 2 * (block.x0 + part.x0)
        h, w = part.shape
        y1, x1 = min(y0 + 2 * h, shape[0]), min(x0 + 2 * w, shape[1])
        pixels = np.asarray(source[:, y0:y1, x0:x1])
        # An odd last row or column counts twice, which is its own mean.
        pixels = np.pad(pixels, ((0, 0), (0, 2 * h - (y1 - y0)), (0, 2 * w - (x1 - x0))), "edge")
        total = pixels.reshape(3, h, 2, w, 2).astype(np.uint16).sum(axis=(2, 4))
        out[part.slices] = ((total + 2) // 4).astype(np.uint8).transpose(1, 2, 0)
    return out


def ome_metadata(
    name: str,
    kind: str,
    levels: Sequence[tuple[Sequence[float], Sequence[float]]],
    channels: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The attribute ``ome`` of a pyramid (c, y, x); of each level scale and translation, µm."""
    datasets = []
    for level, (scale, move) in enumerate(levels):
        steps = [
            {"type": "scale", "scale": [1.0, *scale]},
            {"type": "translation", "translation": [0.0, *move]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scales = {"name": name, "axes": axes, "datasets": datasets, "type": kind}
    return {"version": "0.5", "multiscales": [scales], "omero": {"channels": list(channels)}}


def _metadata(slide: Slide, levels: int) -> dict[str, Any]:
    my, mx = slide.mpp
    steps = [2**level for level in range(levels)]
    placed = [([f * my, f * mx], [(f - 1) / 2 * my, (f - 1) / 2 * mx]) for f in steps]
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    channels = [
        {"label": label, "color": colour, "active": True, "window": window}
        for label, colour in (("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF"))
    ]
    return ome_metadata(PurePosixPath(slide.path).stem, "area mean", placed, channels)
