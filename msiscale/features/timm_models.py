"""Models of timm as encoders: convolutional ones, whose receptive field is measured and not
believed, and vision transformers, tile by tile."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.architecture import Loaded, measured
from msiscale.features.tiled import Tiled, Tokens
from msiscale.features.weights import random_seed, reason


class _TimmTrunk(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return out


def load_timm(name: str, weights: str | None, mpp: float) -> Loaded:
    """A model of timm, ``timm:NAME[?ARGUMENT=VALUE&…][:LAYERS]``, with its weights."""
    try:
        timm: Any = import_module("timm")
    except ImportError:
        raise InputError(
            f"--encoder {name}: timm is not installed; pip install 'msiscale[timm]'"
        ) from None
    described, _, asked = name.removeprefix("timm:").partition(":")
    model_name, _, given = described.partition("?")
    arguments = {key: _value(text) for key, text in parse_qsl(given)}
    seed = random_seed(weights)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            model: Any = timm.create_model(
                model_name, pretrained=weights is None, num_classes=0, **arguments
            )
    except Exception as error:  # timm and its hub raise many types
        raise InputError(
            f"--encoder {name}: cannot be made with its weights ({reason(error)}); check the name, "
            "or give --weights FILE (.pth or .safetensors) or --weights random:SEED"
        ) from None
    model.eval()
    tile = 0
    if hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed"):
        tile, width = model.patch_embed.img_size
        if tile != width:
            raise InputError(f"--encoder {name}: its tiles are {tile} x {width} px, not square")
    blocks = _blocks(name, asked, len(model.blocks)) if tile and asked else ()
    config = timm.data.resolve_model_data_config(model)
    return measured(
        name,
        Tiled(Tokens(model, blocks), tile) if tile else _TimmTrunk(model) if not asked else model,
        model,
        weights,
        (tuple(config["mean"]), tuple(config["std"])),
        tile=tile,
        ignored=(str(model.default_cfg.get("classifier") or "fc") + ".",),
        asked="+".join(map(str, blocks)) or asked,
    )


def _blocks(name: str, asked: str, depth: int) -> tuple[int, ...]:
    """The numbers ``4+8`` of blocks of a transformer, ascending."""
    parts = asked.split("+")
    if not all(part.isdecimal() and int(part) < depth for part in parts):
        raise InputError(
            f"--encoder {name}: the layers of a transformer are the numbers of its blocks, 0 to "
            f"{depth - 1}, with + between them"
        )
    return tuple(sorted({int(part) for part in parts}))


def _value(text: str) -> Any:
    """A number, a truth value or a list as JSON has them; else a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text
