"""Layers of a network from elsewhere, by the names of its modules."""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch import Tensor, nn

from msiscale.errors import InputError
from msiscale.features.layers import Group, Layer, Take
from msiscale.features.probe import dense_geometry


class Hooked(nn.Module):
    """A convolutional network that hands on the outputs of some of its modules.

    Parameters
    ----------
    network : maps (1, 3, h, w) to anything
    layers : names of its modules
    """

    def __init__(self, network: nn.Module, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.layers = network, layers
        self._of_thread = threading.local()  # threads share a network
        for i, name in enumerate(layers):
            network.get_submodule(name).register_forward_hook(self._hook(i))

    def _hook(self, number: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hand_on(module: nn.Module, given: object, out: Tensor) -> None:
            take = getattr(self._of_thread, "take", None)
            if take is not None:
                take(number, out)

        return hand_on

    def visit(self, x: Tensor, take: Take) -> None:
        """Hand each of the `layers` to `take` as soon as it is made."""
        self._of_thread.take = take
        try:
            self.network(x)
        finally:
            self._of_thread.take = None


class _One(nn.Module):
    def __init__(self, hooked: Hooked, number: int) -> None:
        super().__init__()
        self.hooked, self.number = hooked, number

    def forward(self, x: Tensor) -> Tensor:
        found: dict[int, Tensor] = {}
        self.hooked.visit(x, found.__setitem__)
        return found[self.number]


def hooked(name: str, network: nn.Module, asked: str) -> tuple[Hooked, tuple[Layer, ...]]:
    """The layers ``A+B`` of a network, by the names of its modules; their geometry is measured."""
    base = name.removesuffix(f":{asked}")
    order = [known for known, _ in network.named_modules() if known]
    wanted = set(asked.split("+"))
    if wanted - set(order):
        tops = ", ".join(known for known, _ in network.named_children())
        raise InputError(
            f"--encoder {name}: it has no module {min(wanted - set(order))!r}; give names of its "
            f"modules with + between them, such as {tops}"
        )
    found = Hooked(network, tuple(known for known in order if known in wanted))
    layers = []
    for i, layer in enumerate(found.layers):
        shape = dense_geometry(name, _One(found, i))
        group = Group(f"{base}:{layer}", shape.channels, halo=shape.halo)
        layers.append(Layer(shape.stride, shape.halo, (group,)))
    return found, tuple(layers)
