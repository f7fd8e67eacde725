"""ResNet-50 of torchvision, up to one of its layers, with the weights that it publishes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from msiscale.errors import InputError
from msiscale.features.architecture import Architecture, Loaded, common_geometry
from msiscale.features.layers import Take, layers_asked
from msiscale.features.probe import Geometry
from msiscale.features.weights import reason
from msiscale.presets import IMAGENET, PRESETS

# Stride, pixels seen past a cell (as `probe.geometry` measures them) and channels.
LAYERS = {
    "layer1": (4, 20, 256),
    "layer2": (8, 48, 512),
    "layer3": (16, 144, 1024),
    "layer4": (32, 224, 2048),
}


class Trunk(nn.Sequential):
    """``conv1`` up to the last of ``layer1`` ... ``layer4`` that is wanted."""

    layers: tuple[str, ...] = ()

    def visit(self, x: Tensor, take: Take) -> None:
        """Hand each of the `layers` to `take` as soon as it is made."""
        for name, module in self.named_children():
            x = module(x)
            if name in self.layers:
                take(self.layers.index(name), x)


def trunk(layers: int, wanted: tuple[str, ...] = ()) -> Trunk:
    """The network up to ``layer1`` ... ``layer4``; `visit` gives those that are `wanted`."""
    from torchvision.models import resnet50

    full = resnet50(weights=None)
    found = Trunk()
    found.layers = wanted
    for name in ("conv1", "bn1", "relu", "maxpool", *(f"layer{i}" for i in range(1, layers + 1))):
        found.add_module(name, getattr(full, name))
    return found


def published(name: str, weights: str | None) -> tuple[str, str]:
    """Weights by their name at torchvision, from its cache or the network; else a file."""
    from torchvision.models import ResNet50_Weights

    version = weights or "IMAGENET1K_V1"
    if version not in ResNet50_Weights.__members__:
        return version, version
    url = ResNet50_Weights[version].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = path.stem.rsplit("-", 1)[-1]  # torchvision's names end in the digest's start
            torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{name}: its weights ({version} of torchvision) are not here and {url} cannot be "
                f"had ({reason(error)}); "
                "give --weights FILE (.pth or .safetensors), or --weights random:SEED for a trial, "
                "or take --encoder efficientnet-lite0, whose weights are installed with msiscale"
            ) from None
    return str(path), version


# They see 133 px (layer3) and 213 px (layer4) past a cell.
LAYER3 = Architecture(
    partial(trunk, 3), Geometry(16, 144, 1024), *IMAGENET, ("fc.", "layer4."), published, True
)
LAYER4 = Architecture(
    partial(trunk, 4), Geometry(32, 224, 2048), *IMAGENET, ("fc.",), published, True
)


def _by_hand(name: str, weights: str | None) -> tuple[str, str]:
    """Weights that nobody may hand on."""
    if weights is None:
        page = PRESETS[name].page
        raise InputError(
            f"--encoder {name}: its weights are downloaded by hand from {page}; give them as "
            "--weights FILE"
        )
    return weights, weights


RETCCL = Architecture(
    partial(trunk, 4), Geometry(32, 224, 2048), *IMAGENET, ("fc.",), _by_hand, True
)


def layered(name: str, weights: str | None, mpp: float) -> Loaded:
    """``resnet50:LAYERS``: some of `LAYERS` with + between them, or ``all``."""
    names, layers = layers_asked(name, LAYERS, "+".join(LAYERS))
    last = int(names[-1][-1])
    beyond = tuple(f"layer{i}." for i in range(last + 1, 5))
    cut = Architecture(
        partial(trunk, last, names),
        common_geometry(layers),
        *IMAGENET,
        ("fc.", *beyond),
        published,
        True,
        layers,
    )
    return cut(name, weights, mpp)
