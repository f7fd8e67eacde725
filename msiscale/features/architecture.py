"""How an encoder's network comes to be: built in, or made elsewhere and measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.hooked import hooked
from msiscale.features.layers import Group, Layer
from msiscale.features.probe import Geometry, dense_geometry, is_exact, tiled_geometry
from msiscale.features.weights import fill, random_seed
from msiscale.presets import Colours, Normalisation


class Loaded(NamedTuple):
    """A network with its weights, in evaluation mode."""

    network: Any  # an `nn.Module`, or `Classical`
    sha256: str
    geometry: Geometry
    mean: Colours  # of RGB in 0..1, for the normalisation
    std: Colours
    banded: bool = False  # a CPU may run it in bands of rows
    layers: tuple[Layer, ...] = ()  # what `visit` of the network gives; default: its output
    native_mpp: float | None = None  # µm per pixel that it was trained at, where that is known


@dataclass(frozen=True)
class Architecture:
    """A network that is built in."""

    build: Callable[[], nn.Module]
    geometry: Geometry  # as `probe.geometry` measures it
    mean: Colours
    std: Colours
    ignored: tuple[str, ...]  # prefixes of tensors in a weights file that have no place in it
    # of an encoder's name and weights (None: its default), their file and what an error calls them
    published: Callable[[str, str | None], tuple[str, str]]
    banded: bool = False
    layers: tuple[Layer, ...] = ()

    def filled(self, name: str, weights: str | None) -> tuple[nn.Module, str]:
        """The network with its batch norms in their places, and the SHA-256 of its weights."""
        with torch.device("meta"):  # no time and no random numbers spent on values
            network = self.build()
        what = weights
        if random_seed(weights) is None:
            weights, what = self.published(name, weights)
        return network, fill(network, weights, self.ignored, what=what)

    def __call__(self, name: str, weights: str | None, mpp: float) -> Loaded:
        network, sha256 = self.filled(name, weights)
        fold_batch_norms(network.eval())
        facts = (self.geometry, self.mean, self.std, self.banded, self.layers)
        return Loaded(network, sha256, *facts)


def measured(
    name: str,
    whole: nn.Module,
    model: nn.Module,
    weights: str | None,
    colours: Normalisation,
    *,
    tile: int = 0,
    ignored: tuple[str, ...] = (),
    asked: str = "",
) -> Loaded:
    """A network from elsewhere around a `model` that is given its weights; InputError if unfit."""
    # with `asked`, ``A+B``, those of its modules are the layers; the tiles of a transformer have
    # them one after another in their channels
    if asked and not tile:
        network, layers = hooked(name, whole, asked)
        sha256 = fill(model, weights, ignored)
        return Loaded(network, sha256, common_geometry(layers), *colours, layers=layers)
    # measured first: what is unfit is said before weights are looked at
    shape = tiled_geometry(name, whole, tile) if tile else dense_geometry(name, whole)
    sha256 = fill(model, weights, ignored, tile)
    model.eval()
    return laid_out(name, whole, sha256, colours, shape, asked=asked)


def laid_out(
    name: str,
    whole: nn.Module,
    sha256: str,
    colours: Normalisation,
    shape: Geometry,
    *,
    asked: str = "",
) -> Loaded:
    """A network with its weights, and how its features lie on a slide; InputError if unfit."""
    if asked:
        base, blocks = name.removesuffix(f":{asked}"), asked.split("+")
        n = shape.channels // len(blocks)
        each = tuple(Group(f"{base}:{block}", n, halo=shape.halo) for block in blocks)
        own = (Layer(shape.stride, shape.halo, each),)
        return Loaded(whole, sha256, shape, *colours, layers=own)
    if not shape.tile and not is_exact(whole, shape):
        raise InputError(
            f"--encoder {name}: its features depend on where a window begins; take a model without "
            "window attention"
        )
    return Loaded(whole, sha256, shape, *colours)


def fold_batch_norms(network: nn.Module) -> None:
    """Merge each batch norm that follows a convolution into it, in place (a fifth of the time)."""
    pairs = (
        *((f"conv{i}", f"bn{i}") for i in (1, 2, 3)),
        ("0", "1"),
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
    )
    for module in network.modules():
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, torch.nn.utils.fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())


def common_geometry(layers: tuple[Layer, ...], tile: int = 0) -> Geometry:
    """Stride and halo of the windows that all layers of a network need in common."""
    stride = math.lcm(*(layer.stride for layer in layers))
    halo = -(-max(layer.halo for layer in layers) // stride) * stride
    return Geometry(stride, halo, sum(layer.channels for layer in layers), tile)
