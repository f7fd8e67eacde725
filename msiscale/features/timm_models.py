"""Convolutional models of timm as encoders; their receptive field is measured, not believed."""

from __future__ import annotations

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.probe import Geometry, check_exact, geometry_of
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
    """A convolutional model of timm by its name, ``timm:NAME``, with its weights.

    Returns
    -------
    network, sha256, geometry, mean, std
        In evaluation mode; the geometry is measured, see `probe`.

    Raises
    ------
    InputError
        timm is missing, the name or the weights are not to be had, or the model sees more than a
        bounded neighbourhood (attention, squeeze-and-excitation, group norm).
    """
    try:
        import timm
    except ImportError:
        raise InputError(
            f"--encoder {name}: timm is not installed; pip install 'msiscale[timm]'"
        ) from None
    model_name = name.removeprefix("timm:")
    seed = random_seed(weights)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            model = timm.create_model(model_name, pretrained=weights is None, num_classes=0).eval()
    except Exception as error:  # timm and its hub raise many types
        raise InputError(
            f"--encoder {name}: cannot be made with its weights ({reason(error)}); check the name, "
            "or give --weights FILE (.pth or .safetensors) or --weights random:SEED"
        ) from None
    network = _TimmTrunk(model)
    shape = geometry_of(name, network)
    prefix = str(model.default_cfg.get("classifier") or "fc") + "."
    sha256 = fill(model, weights, (prefix,))
    model.eval()
    check_exact(name, network, shape)
    config = timm.data.resolve_model_data_config(model)
    return network, sha256, shape, tuple(config["mean"]), tuple(config["std"])
