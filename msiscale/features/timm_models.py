"""Models of timm as encoders: convolutional ones, whose receptive field is measured and not
believed, and vision transformers, tile by tile."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.probe import Geometry, check_exact, geometry_of
from msiscale.features.tiled import Tiled, Tokens, tiled_geometry
from msiscale.features.weights import fill, random_seed, reason


class _TimmTrunk(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return out


def load_timm(
    name: str, weights: str | None
) -> tuple[nn.Module, str, Geometry, tuple[float, float, float], tuple[float, float, float]]:
    """A model of timm by its name, ``timm:NAME``, with its weights.

    Parameters
    ----------
    name : ``timm:NAME``, with arguments of the model after a question mark where it needs some:
        ``timm:vit_large_patch16_224?init_values=1e-5&img_size=224``; ``timm:hf-hub:OWNER/MODEL``
    weights : ``.pth`` or ``.safetensors`` to load into it, ``random:SEED``, or None: those of timm

    Returns
    -------
    network, sha256, geometry, mean, std
        In evaluation mode; the geometry is measured, see `probe`. Of a vision transformer the
        cells are its patch tokens, in tiles of its own size.

    Raises
    ------
    InputError
        timm is missing, the name or the weights are not to be had, or the model sees more than a
        bounded neighbourhood and is no vision transformer (window attention,
        squeeze-and-excitation, group norm).
    """
    try:
        import timm
    except ImportError:
        raise InputError(
            f"--encoder {name}: timm is not installed; pip install 'msiscale[timm]'"
        ) from None
    model_name, _, given = name.removeprefix("timm:").partition("?")
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
    network: nn.Module
    if hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed"):
        height, width = model.patch_embed.img_size
        if height != width:
            raise InputError(f"--encoder {name}: its tiles are {height} x {width} px, not square")
        network = Tiled(Tokens(model), height)
        shape = tiled_geometry(name, network, height)
    else:
        network = _TimmTrunk(model)
        shape = geometry_of(name, network)
    prefix = str(model.default_cfg.get("classifier") or "fc") + "."
    sha256 = fill(model, weights, (prefix,), shape.tile)
    model.eval()
    if not shape.tile:
        check_exact(name, network, shape)
    config = timm.data.resolve_model_data_config(model)
    return network, sha256, shape, tuple(config["mean"]), tuple(config["std"])


def _value(text: str) -> Any:
    """A number, a truth value or a list as JSON has them; else a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text
