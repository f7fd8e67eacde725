"""Features as the published study's scripts compute them: tiles by themselves, without context.

Ul Haque et al. 2023 as coded (github.com/inzamam1190/HEtoMALDI, extract_deep_features.py and
regrid_features.py): whole tiles without a halo; batch norms with the statistics of that one tile,
as the network was never put into evaluation mode; pixels that were not normalised, bright ones set
to black; the mean of each 256 x 256 px cell; bilinear sampling at the MSI pixels. Cells past the
last whole tile do not exist. Here to show what each choice does, not to be used.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from msiscale.errors import InputError
from msiscale.features.encoders import unfolded
from msiscale.features.extract import Image
from msiscale.grid import Block, Floats
from msiscale.placing import Placing, as_placing, places

TILE, CELL = 2048, 256
BRIGHT = 240  # of 255; the study's camera counts above 2,000 were background


def published_block(
    image: Image,
    placing: Placing,
    block: Block,
    wanted: NDArray[np.bool_],
    encoder: tuple[str, str | None, str],
    *,
    tile: int = TILE,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of the MSI pixels of one block; one tile is in memory at a time.

    Parameters
    ----------
    image, placing, block
        As for `msiscale.features.extract.extract_block`.
    wanted : bool (h, w)
        Pixels to compute.
    encoder : (str, str or None, str)
        Name, weights and device of a ResNet-50, as for `load_encoder`.
    tile : int
        Pixels on a side, a multiple of 256.

    Returns
    -------
    features : float32 (h, w, channels)
        NaN where there are none.
    coverage : float32 (h, w)
        0 or 1.

    Raises
    ------
    InputError
        Such tiles do not exist, or not on this slide.
    """
    if tile % CELL:
        raise InputError(f"--window {tile}: tiles as published are multiples of {CELL} px")
    rows, columns = (n // tile * (tile // CELL) for n in image.shape)
    if not rows or not columns:
        raise InputError(
            f"the slide is {image.shape[0]} x {image.shape[1]} px, smaller than one tile of {tile};"
            " give a smaller --window"
        )
    y, x = np.mgrid[block.y0 : block.y1, block.x0 : block.x1]
    xy = places(as_placing(placing), np.stack([x, y], axis=-1))
    at_y = xy[..., 1] / image.downsample[0] / CELL
    at_x = xy[..., 0] / image.downsample[1] / CELL
    inside = wanted & (at_y >= 0) & (at_y < rows) & (at_x >= 0) & (at_x < columns)
    network, stride, channels = _network(*encoder)
    features = np.full((*block.shape, channels), np.nan, np.float32)
    if not inside.any():
        return features, np.zeros(block.shape, np.float32)
    y0, fy = _neighbours(at_y[inside], rows)
    x0, fx = _neighbours(at_x[inside], columns)
    values = np.zeros((len(y0), channels), np.float32)
    side = tile // CELL
    corners = [
        (np.minimum(y0 + dy, rows - 1), np.minimum(x0 + dx, columns - 1), wy * wx)
        for dy, wy in ((0, 1 - fy), (1, fy))
        for dx, wx in ((0, 1 - fx), (1, fx))
    ]
    needed = {
        (int(a), int(b)) for r, c, _ in corners for a, b in zip(r // side, c // side, strict=True)
    }
    for ty, tx in sorted(needed):
        pixels = image.read(ty * tile, tx * tile, tile, tile)
        cells = _cells(network, pixels, stride, encoder[2])
        for r, c, share in corners:
            here = (r // side == ty) & (c // side == tx)
            found = cells[r[here] - ty * side, c[here] - tx * side]
            values[here] += share[here, None].astype(np.float32) * found
    features[inside] = values
    return features, inside.astype(np.float32)


def _neighbours(at: Floats, n: int) -> tuple[NDArray[np.intp], Floats]:
    """The cell before a place and how far it is past its centre, as ``grid_sample`` has it."""
    place = np.clip(at - 0.5, 0, n - 1)
    first = np.floor(place).astype(np.intp)
    return first, place - first


@lru_cache(maxsize=1)  # every block of a run asks for the same one
def _network(name: str, weights: str | None, device: str) -> tuple[nn.Module, int, int]:
    network, geometry = unfolded(name, weights)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms or CELL % geometry.stride:
        raise InputError(f"--encoder {name}: the published tiles need a ResNet-50")
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # what it learnt stays as it was, tile after tile
    return (
        network.to(device).to(memory_format=torch.channels_last),
        geometry.stride,
        geometry.channels,
    )


def _cells(
    network: nn.Module, pixels: NDArray[np.uint8], stride: int, device: str
) -> NDArray[np.float32]:
    if device == "cpu" and torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # as in Encoder: one answer on every machine
    raw = np.where(pixels > BRIGHT, 0, pixels).astype(np.float32)
    with torch.inference_mode():
        batch = torch.from_numpy(raw)[None].to(device).permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(network(batch), CELL // stride)
        return np.asarray(pooled[0].permute(1, 2, 0).float().cpu().numpy())
