"""A user's own encoder: ``own:MODULE:FUNCTION``; its receptive field is measured."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from torch import nn

from msiscale.errors import InputError
from msiscale.features.probe import Geometry, check_exact, geometry_of
from msiscale.features.tiled import Tiled, tiled_geometry
from msiscale.features.weights import fill, reason

Colours = tuple[float, float, float]


def load_own(name: str, weights: str | None) -> tuple[nn.Module, str, Geometry, Colours, Colours]:
    """The network that a function of an importable module makes.

    Parameters
    ----------
    name : ``own:MODULE:FUNCTION``; the function takes nothing and returns the network and the mean
        and standard deviation of RGB (0..1) that it was trained with. The network maps (n, 3, h, w)
        to (n, channels, h / stride, w / stride), of any size, or of tiles of one size only, which
        its attribute ``tile`` gives. Every machine must be able to import the module.
    weights : ``.pth`` or ``.safetensors`` to load into it, ``random:SEED``, or None: as it comes

    Returns
    -------
    network, sha256, geometry, mean, std

    Raises
    ------
    InputError
        No such function, not such a network, or one that sees more than a bounded neighbourhood.
    """
    module, _, function = name.removeprefix("own:").partition(":")
    try:
        network, mean, std = getattr(importlib.import_module(module), function)()
        network = network.eval()
    except Exception as error:  # it is the user's code
        raise InputError(
            f"--encoder {name}: cannot be made ({type(error).__name__}: {reason(error)}); give "
            "own:MODULE:FUNCTION of a function that returns network, mean, std"
        ) from None
    tile = int(getattr(network, "tile", 0))
    whole = Tiled(network, tile) if tile else network
    shape = tiled_geometry(name, whole, tile) if tile else geometry_of(name, whole)
    sha256 = fill(network, weights, side=tile)
    if not tile:
        check_exact(name, whole, shape)
    return whole, sha256, shape, _colours(name, mean), _colours(name, std)


def _colours(name: str, values: Sequence[float]) -> Colours:
    if len(values) != 3:
        raise InputError(f"--encoder {name}: mean and std are three numbers each, of R, G and B")
    red, green, blue = (float(v) for v in values)
    return red, green, blue
