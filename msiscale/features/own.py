"""A user's own encoder: ``own:MODULE:FUNCTION``; its receptive field is measured."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from msiscale.errors import InputError
from msiscale.features.architecture import Loaded, measured
from msiscale.features.tiled import Tiled
from msiscale.features.weights import reason
from msiscale.presets import Colours


def load_own(name: str, weights: str | None, mpp: float) -> Loaded:
    """The network that a user's function makes, ``own:MODULE:FUNCTION[:LAYERS]``."""
    # the function returns the network and the mean and standard deviation of RGB (0..1) that it was
    # trained with; see docs/encoders.md
    module, _, rest = name.removeprefix("own:").partition(":")
    function, _, asked = rest.partition(":")
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
    found = measured(name, whole, network, weights, (mean, std), tile=tile, asked=asked)
    return found._replace(mean=_colours(name, mean), std=_colours(name, std))


def _colours(name: str, values: Sequence[float]) -> Colours:
    if len(values) != 3:
        raise InputError(f"--encoder {name}: mean and std are three numbers each, of R, G and B")
    red, green, blue = (float(v) for v in values)
    return red, green, blue
