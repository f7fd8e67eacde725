"""Features of one tile for each MSI pixel, centred on it, as HEST-Bench takes them (Jaume 2024).

A tile is cut along the axes of the slide, whichever way the MSI lies on it, and passes through the
network by itself: nothing is seen past its edges. Its features are the means over its cells.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from msiscale.features.encoders import Encoder, Encoders, as_array
from msiscale.features.extract import Image, to_cells
from msiscale.features.layers import SIDE
from msiscale.grid import Block, enclosing
from msiscale.placing import Placing, places

TOGETHER = 8  # MSI pixels each way whose tiles are read at once
MOSAIC = 16  # tiles in one call of a network that sees each by itself


def side_of(encoder: Encoder | Encoders) -> int:
    """Working pixels on the side of the largest tile that an encoder sees."""
    return max(one.tile or SIDE for one in encoder.each)


def centred_block(
    image: Image,
    placing: Placing,
    block: Block,
    wanted: NDArray[np.bool_],
    encoder: Encoder | Encoders,
) -> NDArray[np.float32]:
    """Features of the tiles around the MSI pixels of one block.

    Parameters
    ----------
    image : Image
        The slide at its working resolution.
    placing : Placing
        How MSI pixels lie on level-0 pixels.
    block : Block
        MSI pixels.
    wanted : bool, of the shape of `block`
        Pixels to compute.
    encoder : Encoder or Encoders
        One, or several, over one decode.

    Returns
    -------
    float32 (h, w, channels)
        NaN where not wanted. What lies off the slide is white.
    """
    features = np.full((*block.shape, encoder.channels), np.nan, np.float32)
    to_pixels = to_cells(placing, image, 1)
    for part in _parts(block):
        at = np.argwhere(wanted[part.within(block)])
        if not len(at):
            continue
        centres = places(to_pixels, at[:, ::-1] + np.array([part.x0, part.y0]))
        values = []
        for one in encoder.each:
            side = one.tile or SIDE
            # as the pixel (i, j) covers i to i + 1: the nearest corner of whole pixels
            corners = np.floor(centres[:, ::-1] - side / 2 + 0.5).astype(int)
            blocks = [Block(y, y + side, x, x + side) for y, x in corners]
            frame = enclosing(blocks)
            pixels = image.read(frame.y0, frame.x0, *frame.shape)
            values.append(pooled(one, [pixels[b.within(frame)] for b in blocks]))
        rows, columns = at.T + np.array([[part.y0 - block.y0], [part.x0 - block.x0]])
        features[rows, columns] = np.concatenate(values, axis=1)
    return features


def _parts(block: Block) -> Iterator[Block]:
    """A block in squares, so that what is read at once stays small."""
    for y in range(block.y0, block.y1, TOGETHER):
        for x in range(block.x0, block.x1, TOGETHER):
            part = Block(y, y + TOGETHER, x, x + TOGETHER) & block
            if part is not None:
                yield part


def pooled(encoder: Encoder, tiles: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The mean of an encoder's features over each tile by itself.

    Parameters
    ----------
    encoder : Encoder
        One.
    tiles : list of uint8 (side, side, 3)
        Of a side that is whole cells of the encoder; its own where it is a transformer.

    Returns
    -------
    float32 (tiles, channels)
    """
    if not encoder.tile:
        return np.stack([_mean(encoder, tile, 1)[0] for tile in tiles])
    # a transformer sees nothing of the tile beside it
    found = []
    for first in range(0, len(tiles), MOSAIC):
        some = tiles[first : first + MOSAIC]
        found.append(_mean(encoder, np.concatenate(some, axis=1), len(some)))
    return np.concatenate(found)


def _mean(encoder: Encoder, row: NDArray[np.uint8], tiles: int) -> NDArray[np.float32]:
    """Means over the cells of each of some tiles in a row, layer by layer."""
    parts: dict[int, NDArray[np.float32]] = {}

    def take(layer: int, dense: object) -> None:
        values = as_array(dense).astype(np.float64)  # type: ignore[arg-type]
        cells = values.reshape(values.shape[0], tiles, -1, values.shape[2])
        parts[layer] = cells.mean(axis=(0, 2)).astype(np.float32)

    encoder.visit(np.ascontiguousarray(row), take)
    return np.concatenate([parts[i] for i in sorted(parts)], axis=1)
