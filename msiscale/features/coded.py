"""Encoders that no library has: CONCH, CONCH v1.5 and CTransPath, written after their papers.

Each is a trunk of timm with a stem or a pooling of its own. `wanted` turns the names in a published
file of weights into those of the network here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from msiscale.features.weights import State


class Coded(NamedTuple):
    """A network, and what makes a file's tensors its own."""

    network: nn.Module  # with `tokens`, as `msiscale.features.tokens` asks for them
    wanted: Callable[[State], State]


class _Legacy(nn.Module):
    """Attentional pooling of CONCH: one learnt query looks at all tokens (Lu et al. 2024)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attn = nn.MultiheadAttention(width, 8, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, tokens: Tensor) -> Tensor:
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        found: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return found


class _Pooler(nn.Module):
    """The same with projections without a bias, of CONCH v1.5 (Ding et al. 2024)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        heads = (part.unflatten(-1, (8, -1)).transpose(1, 2) for part in (query, key, value))
        seen = functional.scaled_dot_product_attention(*heads)
        found: Tensor = self.to_out(seen.transpose(1, 2).flatten(2))
        return found


class _Conch(nn.Module):
    def __init__(self, trunk: nn.Module, pooler: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk, self.attn_pool_contrast = trunk, pooler
        self.ln_contrast = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.trunk.forward_features(x)  # type: ignore[operator]
        return tokens

    def tokens(self, kind: str, x: Tensor) -> Tensor:
        """(n, channels, cells, cells) of a kind of output."""
        found = self.trunk.forward_features(x)  # type: ignore[operator]
        if kind == "patch":
            return as_map(found[:, 1:])
        pooled = self.ln_contrast(self.attn_pool_contrast(found)[:, 0])
        return as_map(pooled[:, None])


def conch(**words: Any) -> Coded:
    """CONCH's picture tower, ViT-B/16 at 448 px; 512 channels when pooled."""
    from timm.models.vision_transformer import VisionTransformer

    trunk = VisionTransformer(img_size=448, num_classes=0, dynamic_img_size=True, **words)
    return Coded(_Conch(trunk, _Legacy(512, trunk.embed_dim), 512), _conch_state)


def _conch_state(state: State) -> State:
    own = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    left_out = ("attn_pool_caption.", "ln_caption.", "proj_contrast", "head.")
    return {k: v for k, v in (own or state).items() if not k.startswith(left_out)}


def conch_v1_5(**words: Any) -> Coded:
    """CONCH v1.5's picture tower, ViT-L/16 at 448 px; 768 channels when pooled."""
    from timm.models.vision_transformer import VisionTransformer

    size = {"embed_dim": 1024, "depth": 24, "num_heads": 16, "init_values": 1e-6, **words}
    trunk = VisionTransformer(img_size=448, num_classes=0, **size)
    return Coded(_Conch(trunk, _Pooler(768, trunk.embed_dim), 768), _conch_v1_5_state)


def _conch_v1_5_state(state: State) -> State:
    table = state.get("trunk.pos_embed")
    if table is not None and table.shape[1] != 1 + 28 * 28:
        state = {**state, "trunk.pos_embed": _enlarged(table, 28)}
    return state


def _enlarged(table: Tensor, cells: int) -> Tensor:
    """A table of positions at another size, as DINO's code does it at every pass."""
    side = round((table.shape[1] - 1) ** 0.5)
    places = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (cells + 0.1) / side
    grown = functional.interpolate(places, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat((table[:, :1], grown.flatten(2).transpose(1, 2)), dim=1)


class _Stem(nn.Module):
    """Convolutions in place of Swin's patches, of CTransPath (Wang et al. 2022)."""

    def __init__(self, width: int, swin: nn.Module) -> None:
        super().__init__()
        self.grid_size = swin.grid_size
        own = width // 8
        self.proj = nn.Sequential(
            *(nn.Conv2d(3, own, 3, 2, 1, bias=False), nn.BatchNorm2d(own), nn.ReLU()),
            *(nn.Conv2d(own, 2 * own, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * own), nn.ReLU()),
            nn.Conv2d(2 * own, width, 1),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return found


class _CTransPath(nn.Module):
    def __init__(self, swin: nn.Module) -> None:
        super().__init__()
        self.swin = swin

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.swin.forward_features(x)  # type: ignore[operator]
        return found

    def tokens(self, kind: str, x: Tensor) -> Tensor:
        """(n, channels, cells, cells) of a kind of output."""
        found = self(x).permute(0, 3, 1, 2)
        return found if kind == "patch" else torch.mean(found, (2, 3), keepdim=True)


def ctranspath(**words: Any) -> Coded:
    """CTransPath, a Swin-T with a stem of convolutions."""
    import timm

    made: Any = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, pretrained=False, **words
    )
    made.patch_embed = _Stem(96, made.patch_embed)
    return Coded(_CTransPath(made), _ctranspath_state)


_DOWN = re.compile(r"layers\.(\d)\.downsample\.")


def _ctranspath_state(state: State) -> State:
    """The file is of timm 0.5, where a layer ends with the step down that begins the next now."""
    old = not any(name.startswith("layers.3.downsample.") for name in state)
    found = {}
    for name, value in state.items():
        if name.endswith(("attn_mask", "relative_position_index")) or name.startswith("head."):
            continue
        if old:
            name = _DOWN.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", name)
        found[f"swin.{name.removeprefix('swin.')}"] = value
    return found


def as_map(tokens: Tensor) -> Tensor:
    """(n, cells x cells, channels) -> (n, channels, cells, cells)."""
    n, count, channels = tokens.shape
    cells = round(count**0.5)
    return tokens.transpose(1, 2).reshape(n, channels, cells, cells)


CODED: dict[str, Callable[..., Coded]] = {
    "conch": conch,
    "conch_v1_5": conch_v1_5,
    "ctranspath": ctranspath,
}
