"""Slides, maps and ion images as OME-Zarr 0.5 [1]_, all in µm of the slide, so that they overlay.

OME-Zarr 0.5 knows scales and translations but no rotation, and MSI lies on a slide at any angle. So
a map is laid onto an upright grid four times as fine as the MSI pixels: every cell has the value of
the MSI pixel under its centre, none is interpolated. The exact map from MSI pixels to the slide is
in the attribute ``msiscale``.

.. [1] https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.export.layers import Layer, ions, maps, predicted_ions
from msiscale.export.source import ExportSpecimen, Opened, wanted_mz
from msiscale.grid import Block, Floats, apply, blocks, scaling, translation
from msiscale.placing import indices, places
from msiscale.slide.convert import convert, level_shapes, ome_metadata
from msiscale.store import create_array, exists, join, open_group, split_scene

FINER = 4  # cells on a side of an MSI pixel
SIDE = 512  # cells on a side of a shard, written at once
CHUNK = 256
SMALLEST = 256  # halving stops where both sides are at most this
SHOWN = 99.5  # percentile that is shown brightest
COLOURS = ("FFFFFF", "E69F00", "56B4E9", "CC79A7", "009E73", "F0E442", "D55E00", "0072B2")
Float32 = NDArray[np.float32]


def export_ome_zarr(
    opened: Opened, out: str, *, mz: list[float] | None = None, slides: bool = True
) -> Iterator[str]:
    """Write ``out/<specimen>/{slide,cancer,ions,predicted_ions}.ome.zarr``; yields their URLs."""
    # in memory: a shard of `SIDE` cells a side with all channels, and the MSI pixels under it
    wanted = wanted_mz(opened, mz)
    for source in opened.sources:
        if slides:
            if not exists(split_scene(source.slide)[0]):
                raise InputError(
                    f"{source.name}: its slide {source.slide} is not there; put it back, go where "
                    "the run was started if that is no whole path, or leave slides out with "
                    "--no-slides"
                )
            url = join(out, source.name, "slide.ome.zarr")
            # one number, which the manifest may have given
            mpp = source.mpp.x if source.mpp.x == source.mpp.y else None
            convert(source.slide, url, mpp=mpp)
            yield url
        for layer in (maps(source), ions(source, wanted), predicted_ions(source, wanted)):
            if layer is not None:
                url = join(out, source.name, f"{layer.name}.ome.zarr")
                write_layer(source, layer, url)
                yield url


def write_layer(source: ExportSpecimen, layer: Layer, url: str) -> None:
    """Write one image with its pyramid; its metadata come last."""
    group = open_group(url, "a")
    attrs = group.attrs.asdict()
    if not {"ome", "msiscale"} & set(attrs) and any(True for _ in group.members()):
        raise InputError(f"{url}: a Zarr store that is no OME-Zarr; give another --out")
    group.attrs.put({"msiscale": "unfinished"})
    shape, size, corner = upright(source)
    shapes = level_shapes(shape, SMALLEST)
    for name in set(group.keys()) - {str(level) for level in range(len(shapes))}:
        del group[name]
    high = 0.0
    for level, (height, width) in enumerate(shapes):
        array = create_array(
            group,
            str(level),
            (len(layer.channels), height, width),
            ("c", "y", "x"),
            chunks=(1, CHUNK, CHUNK),
            shards=(len(layer.channels), SIDE, SIDE),
        )
        for block in blocks((height, width), (SIDE, SIDE)):
            if level == 0:
                values = _laid(source, layer, block, size, corner)
            else:
                values = _halved(group[str(level - 1)], block)
            if level == len(shapes) - 1 and np.isfinite(values).any():
                high = max(high, float(np.nanpercentile(values, SHOWN)))
            array[(slice(None), *block.slices)] = values.transpose(2, 0, 1)
    limits = layer.limits or (0.0, high or 1.0)
    group.attrs.put(
        {
            "ome": _metadata(source, layer, len(shapes), size, corner, limits),
            "msiscale": {
                "specimen": source.name,
                "matrix": source.matrix.tolist(),
                "pixel_um": list(source.pixel_um),
                "mpp": list(source.mpp),
            },
        }
    )


def upright(source: ExportSpecimen) -> tuple[tuple[int, int], float, tuple[float, float]]:
    """An upright grid over the MSI: shape, µm of a cell, and µm (x, y) of its top left corner."""
    # the corner is a whole number of cells from the slide's own
    size = min(source.pixel_um) / FINER
    ny, nx = source.shape
    y, x = (np.arange(n + 1) - 0.5 for n in (ny, nx))  # a deformed border is no line
    rim = [(a, b) for b in (y[0], y[-1]) for a in x] + [(a, b) for a in (x[0], x[-1]) for b in y]
    corners = places(source.placing_um, rim)
    low = np.floor(corners.min(axis=0) / size + 1e-6)
    high = np.ceil(corners.max(axis=0) / size - 1e-6)
    width, height = (high - low).astype(int).tolist()
    return (height, width), size, (float(low[0] * size), float(low[1] * size))


def _laid(
    source: ExportSpecimen, layer: Layer, block: Block, size: float, corner: tuple[float, float]
) -> Float32:
    """(h, w, channel): of each cell the MSI pixel under its centre."""
    to_index: Floats = np.linalg.inv(source.to_um) @ translation(*corner) @ scaling(size)
    y, x = np.mgrid[block.slices] + 0.5
    flat = apply(to_index, np.stack([x, y], axis=-1))
    index = np.rint(indices(source.placing_um, flat)).astype(np.int64)
    inside = ((index >= 0) & (index < source.shape[::-1])).all(axis=-1)
    out = np.full((*block.shape, len(layer.channels)), np.nan, np.float32)
    if inside.any():
        own = index[inside]
        (x0, y0), (x1, y1) = own.min(axis=0).tolist(), (own.max(axis=0) + 1).tolist()
        out[inside] = layer.read(Block(y0, y1, x0, x1))[own[:, 1] - y0, own[:, 0] - x0]
    return out


def _halved(above: Any, block: Block) -> Float32:
    """(h, w, channel): means of 2 x 2 cells of the level above, of those that are known."""
    y, x = 2 * block.y0, 2 * block.x0
    height, width = block.shape
    values = np.asarray(above[:, y : y + 2 * height, x : x + 2 * width], np.float64)
    missing = 2 * height - values.shape[1], 2 * width - values.shape[2]
    values = np.pad(values, ((0, 0), (0, missing[0]), (0, missing[1])), constant_values=np.nan)
    cells = values.reshape(len(values), height, 2, width, 2)
    known = np.isfinite(cells)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, cells, 0).sum(axis=(2, 4)) / known.sum(axis=(2, 4))
    return np.asarray(mean, np.float32).transpose(1, 2, 0)


def _metadata(
    source: ExportSpecimen,
    layer: Layer,
    levels: int,
    size: float,
    corner: tuple[float, float],
    limits: tuple[float, float],
) -> dict[str, Any]:
    # translations are of pixel centres, from the centre of the slide's first pixel, as in the
    # slide's own pyramid
    placed = []
    for level in range(levels):
        cell = size * 2**level
        move = [c + cell / 2 - m / 2 for c, m in zip(corner[::-1], source.mpp, strict=True)]
        placed.append(([cell, cell], move))
    low, high = limits
    window = {"start": low, "end": high, "min": low, "max": high}
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(layer.channels))]
    channels = [
        {"label": name, "color": colour, "active": i == 0, "window": window}
        for i, (name, colour) in enumerate(zip(layer.channels, colours, strict=True))
    ]
    return ome_metadata(f"{source.name} {layer.name}", "mean of known cells", placed, channels)
