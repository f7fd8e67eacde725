"""The outputs of a vision transformer as maps: a token a patch, or what stands for a whole tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from msiscale.features.coded import as_map


class Kind(nn.Module):
    """One kind of output of a network that has several.

    Parameters
    ----------
    network : with ``tokens(kind, x)``
    kind : ``patch``, ``class``, ``mean`` or ``class+mean``
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, tiles: Tensor) -> Tensor:
        """(n, 3, tile, tile) -> (n, channels, cells, cells); one cell a tile but of ``patch``."""
        found: Tensor = self.network.tokens(self.kind, tiles)  # type: ignore[operator]
        return found


class Transformer(nn.Module):
    """A transformer of timm, or of transformers, with its tokens by kind.

    Parameters
    ----------
    model : of either library
    prefix : tokens before those of the patches; the first is the class token, the others registers
    """

    def __init__(self, model: nn.Module, prefix: int) -> None:
        super().__init__()
        self.model, self.prefix = model, prefix

    def forward(self, x: Tensor) -> Tensor:
        """All tokens, (n, count, channels), after the last norm."""
        model: Any = self.model
        if hasattr(model, "forward_features"):
            found: Tensor = model.forward_features(x)
            return found
        hidden: Tensor = model(pixel_values=x).last_hidden_state
        return hidden

    def tokens(self, kind: str, x: Tensor) -> Tensor:
        """(n, channels, cells, cells) of a kind of output."""
        found = self(x)
        patches = found[:, self.prefix :]
        if kind == "patch":
            return as_map(patches)
        if kind == "class":
            return as_map(found[:, :1])
        return as_map(torch.cat([found[:, :1], patches.mean(1, keepdim=True)], dim=-1))
