"""Networks that see one tile at a time, vision transformers, laid over an image of many.

Attention sees a whole tile and nothing else: features do not depend on the window, as the tiles lie
on the slide's own lattice, but they do on where in its tile a cell lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TOGETHER = 8  # tiles a forward pass; bounds the memory
ON_GPU = 128  # which fewer would not fill


class Tiled(nn.Module):
    """(1, 3, h, w) -> (1, channels, h / stride, w / stride), tile by tile.

    Parameters
    ----------
    network : maps (n, 3, tile, tile) to (n, channels, tile / stride, tile / stride)
    tile : pixels on a side
    """

    def __init__(self, network: nn.Module, tile: int) -> None:
        super().__init__()
        self.network, self.tile = network, tile

    def forward(self, image: Tensor) -> Tensor:
        """`h` and `w` are multiples of the tile."""
        side = self.tile
        rows, columns = image.shape[2] // side, image.shape[3] // side
        tiles = image[0].reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4)
        tiles = tiles.reshape(rows * columns, 3, side, side)
        together = ON_GPU if image.is_cuda else TOGETHER
        found = torch.cat([self.network(some) for some in torch.split(tiles, together)])
        channels, cells = found.shape[1:3]
        found = found.reshape(rows, columns, channels, cells, cells).permute(2, 0, 3, 1, 4)
        return found.reshape(1, channels, rows * cells, columns * cells)


class Tokens(nn.Module):
    """The patch tokens of a vision transformer of timm as a map; class and register tokens go.

    Parameters
    ----------
    model : of timm
    blocks : numbers of the blocks whose outputs are given; default the normalised last one
    """

    def __init__(self, model: nn.Module, blocks: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.model, self.blocks = model, blocks

    def forward(self, tiles: Tensor) -> Tensor:
        """(n, 3, tile, tile) -> (n, channels, cells, cells)."""
        if self.blocks:
            words = {"output_fmt": "NCHW", "intermediates_only": True}
            maps = self.model.forward_intermediates(tiles, indices=[*self.blocks], **words)  # type: ignore[operator]
            return torch.cat(maps, dim=1)
        tokens = self.model.forward_features(tiles)[:, self.model.num_prefix_tokens :]  # type: ignore[operator]
        n, count, channels = tokens.shape
        cells = round(count**0.5)
        found: Tensor = tokens.transpose(1, 2).reshape(n, channels, cells, cells)
        return found
