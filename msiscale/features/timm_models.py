"""Models of timm as encoders: convolutional ones, whose receptive field is measured and not
believed, and vision transformers, tile by tile."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.architecture import Loaded, measured
from msiscale.features.hub import said_beside, weights_file
from msiscale.features.tiled import Tiled, Tokens
from msiscale.features.tokens import Kind, Transformer
from msiscale.features.weights import random_seed, reason
from msiscale.presets import IMAGENET, TOKENS, Colours, Normalisation


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
    arguments = arguments_of(parse_qsl(given))
    own = {key: arguments.pop(key) for key in [*arguments] if key in ("mean", "std")}
    seed = random_seed(weights)
    if weights is not None and seed is None:
        weights = weights_file(weights)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            model: Any = timm.create_model(
                model_name, pretrained=weights is None, num_classes=0, **arguments
            )
            model.forward_features  # noqa: B018  # which a list of features has not
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
    kind = asked if tile and asked in TOKENS else ""
    blocks = block_numbers(name, asked, len(model.blocks)) if tile and asked and not kind else ()
    if kind:
        asked = ""
        whole: nn.Module = Tiled(Kind(Transformer(model, model.num_prefix_tokens), kind), tile)
    elif tile:
        whole = Tiled(Tokens(model, blocks), tile)
    else:
        whole = model if asked else _TimmTrunk(model)
    return measured(
        name,
        whole,
        model,
        weights,
        _normalisation(name, own, weights, seed, timm.data.resolve_model_data_config(model)),
        tile=tile,
        ignored=(str(model.default_cfg.get("classifier") or "fc") + ".",),
        asked="+".join(map(str, blocks)) or asked,
    )


def block_numbers(name: str, asked: str, depth: int) -> tuple[int, ...]:
    """The numbers ``4+8`` of blocks of a transformer, ascending."""
    parts = asked.split("+")
    if not all(part.isdecimal() and int(part) < depth for part in parts):
        raise InputError(
            f"--encoder {name}: the layers of a transformer are the numbers of its blocks, 0 to "
            f"{depth - 1}, with + between them"
        )
    return tuple(sorted({int(part) for part in parts}))


def arguments_of(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Keywords of a constructor from words, as model cards write them.

    Parameters
    ----------
    pairs
        A keyword and its value; text is a number, a truth value or a list as JSON has them, or the
        name of a layer or an activation (``SwiGLUPacked``, ``SiLU``), else a word.

    Returns
    -------
    dict
    """
    return {key: _value(key, value) for key, value in pairs}


def _value(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if key in _PLACES:
        wanted = value.rpartition(".")[-1]  # of timm.layers.SwiGLUPacked
        for place in _PLACES[key]:
            found = getattr(import_module(place), wanted, None)
            kind = found.func if isinstance(found, partial) else found
            if isinstance(kind, type) and issubclass(kind, nn.Module):
                return found
        return value  # of which timm knows some by a name
    try:
        return json.loads(value)
    except ValueError:
        return value


# Where the classes that a model card names are.
_PLACES = {
    "mlp_layer": ("timm.layers",),
    "act_layer": ("torch.nn", "timm.layers"),
    "norm_layer": ("torch.nn", "timm.layers"),
}


def _normalisation(
    name: str, own: dict[str, Any], weights: str | None, seed: int | None, config: dict[str, Any]
) -> Normalisation:
    """Mean and deviation of RGB: those that are said, of a config.json, or of timm's weights."""
    # those of the architecture are not taken for a file of weights, which may want others
    if own:
        return _three(name, "mean", own), _three(name, "std", own)
    if weights is None or seed is not None:
        return tuple(config["mean"]), tuple(config["std"])
    said = said_beside(weights).normalisation
    if said is None:
        mean, std = (",".join(f"{v:g}" for v in IMAGENET[i]) for i in range(2))
        raise InputError(
            f"--encoder {name}: how {weights} wants its pixels normalised is not known, and a wrong"
            f" mean gives wrong features without an error; add --mean {mean} --std {std} (those of"
            " ImageNet) or those of its model card, give the folder with its config.json, or take a"
            " preset (msiscale encoders)"
        )
    return said


def _three(name: str, what: str, own: dict[str, Any]) -> Colours:
    try:
        red, green, blue = (float(v) for v in str(own[what]).split())
    except (KeyError, ValueError):
        raise InputError(
            f"--encoder {name}: mean and std go together, three numbers each, of R, G and B"
        ) from None
    return red, green, blue
