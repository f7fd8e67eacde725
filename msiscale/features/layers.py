"""What an encoder gives in one forward pass: layers, each of one stride, in groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msiscale.errors import InputError

WIDTHS_UM = (50.0, 100.0, 200.0)  # of the squares that `msiscale.features.stains` averages over
SIDE = 224  # working pixels of a tile around an MSI pixel, where a network has none of its own
Take = Callable[[int, Any], None]  # the number of a layer and its values, as they are made


class Group(NamedTuple):
    """Neighbouring channels that share a scale and a penalty.

    Attributes
    ----------
    name : str
    channels : their number
    own_scale : each is divided by its own deviation, as they are of different units
    halo : pixels that one sees past a cell
    used : False leaves them out of every fit
    """

    name: str
    channels: int
    own_scale: bool = False
    halo: int = 0
    used: bool = True


class Layer(NamedTuple):
    """Channels of one stride; the halo, in pixels, makes them those of the whole slide."""

    stride: int
    halo: int
    groups: tuple[Group, ...]

    @property
    def channels(self) -> int:
        """The channels of all groups."""
        return sum(group.channels for group in self.groups)


def layers_asked(
    encoder: str, known: Mapping[str, tuple[int, int, int]], every: str
) -> tuple[tuple[str, ...], tuple[Layer, ...]]:
    """The layers that ``NAME:A+B`` (or ``NAME:all``) asks for, in the order of the network.

    Parameters
    ----------
    encoder
        Its whole name.
    known
        Stride, halo and channels by the name of a layer.
    every
        What ``all`` stands for.

    Returns
    -------
    names, layers
        Of those asked for.

    Raises
    ------
    InputError
        A layer is unknown.
    """
    base, _, asked = encoder.partition(":")
    wanted = set((every if asked == "all" else asked).split("+"))
    if wanted - set(known):
        raise InputError(
            f"--encoder {encoder}: it has no layer {min(wanted - set(known))!r}; give some of "
            f"{', '.join(known)} with + between them, or all"
        )
    names = tuple(name for name in known if name in wanted)
    facts = ((name, *known[name]) for name in names)
    return names, tuple(
        Layer(stride, halo, (Group(f"{base}:{name}", channels, halo=halo),))
        for name, stride, halo, channels in facts
    )
