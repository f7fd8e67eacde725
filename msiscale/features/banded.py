"""A ResNet whose large layers are computed in bands of rows: less memory, so larger windows.

Undivided, a bottleneck holds its input, what lies between, and its output. In bands it holds its
input and output, one and the same array where shapes allow, and a few rows of the rest. Rows that
two bands need are computed once and carried over; the values are those of the undivided network.

Deep layers see most of what the halo is for, so cells that nothing wanted depends on any more are
left out layer by layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from msiscale.features.layers import Take

Margin = tuple[int, int, int, int]  # cells above, below, left, right that are not wanted
ROWS = 32  # of a layer's output at once: more would leave the cache, fewer cost calls


class Banded(nn.Module):
    """The trunk ``conv1, …, layer1, …`` of a ResNet of bottlenecks, batch norms folded."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        last = [name for name, _ in trunk.named_children() if name.startswith("layer")][-1:]
        self.layers = tuple(getattr(trunk, "layers", ())) or tuple(last)

    def forward(self, image: Tensor, margin: Margin = (0, 0, 0, 0)) -> Tensor:
        """(1, 3, h, w), whole cells, -> (1, channels, h / stride, w / stride) less the margin."""
        found: list[Tensor] = []
        self.visit(image, margin, lambda _, values: found.append(values))
        return found[-1]

    def visit(self, image: Tensor, margin: Margin, take: Take) -> None:
        """Hand each of the `layers`, less the margin (in cells of the last), to `take`.

        Its memory is written over by the next one.
        """
        parts: dict[str, Any] = dict(self.trunk.named_children())
        blocks = [(n, b) for n, part in parts.items() if n.startswith("layer") for b in part]
        strides = [block.conv2.stride[0] for _, block in blocks]
        values = _stem(parts["conv1"], image)
        cells = math.prod(strides)
        beside = tuple(cells * m for m in margin)  # cells of `values` beside what is wanted
        ends = {name: i for i, (name, _) in enumerate(blocks)}
        for i, (name, block) in enumerate(blocks):
            values, beside = _trimmed(values, beside, _reach(strides[i:]), math.prod(strides[i:]))
            values = _bottleneck(block, values)
            beside = tuple(n // strides[i] for n in beside)
            if name in self.layers and ends[name] == i:
                take(self.layers.index(name), _trimmed(values, beside, 0, 1)[0])


def _reach(strides: list[int]) -> int:
    """Cells to a side that a cell sees through bottlenecks of such strides."""
    reach = 0
    for stride in reversed(strides):
        reach = stride * reach + 1
    return reach


def _trimmed(
    values: Tensor, beside: tuple[int, ...], reach: int, unit: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Without the cells beyond `reach`, in whole units, so that strides fall where they did."""
    cut = [max(n - reach, 0) // unit * unit for n in beside]
    top, bottom, left, right = cut
    height, width = values.shape[2:]
    kept = values[:, :, top : height - bottom, left : width - right]
    return kept, tuple(n - c for n, c in zip(beside, cut, strict=True))


def _stem(conv: Any, image: Tensor) -> Tensor:
    """7 x 7 convolution of stride 2, ReLU, maximum over 3 x 3 with stride 2."""
    height = -(-image.shape[2] // 2)
    total = -(-height // 2)
    out: Tensor | None = None
    carried: Tensor | None = None  # the last row of the band before
    done = 0  # rows of the convolution
    for first in range(0, total, ROWS):
        last = min(first + ROWS, total)
        end = min(2 * last, height)
        rows = _rows(image, 2 * done - 3, 2 * end + 2)
        new = functional.conv2d(rows, conv.weight, conv.bias, 2, (0, 3)).relu_()
        # beyond the border the maximum has nothing, which after a ReLU is zero
        seen = _rows(new, -1, end - done) if carried is None else torch.cat([carried, new], 2)
        carried, done = new[:, :, -1:].clone(), end
        seen = _rows(seen, 0, 2 * (last - first) + 1)
        band = functional.max_pool2d(seen, 3, 2, (0, 1))
        out = _room(band, total) if out is None else out
        out[:, :, first:last] = band
    assert out is not None
    return out


def _bottleneck(block: Any, values: Tensor) -> Tensor:
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside the identity; overwrites `values` if it can."""
    conv = block.conv2
    stride, height = conv.stride[0], values.shape[2]
    total = -(-height // stride)
    out = values if block.downsample is None else None
    carried: Tensor | None = None  # rows that the next band needs too
    done = 0  # rows of the first convolution
    for first in range(0, total, ROWS):
        last = min(first + ROWS, total)
        end = min(stride * (last - 1) + 2, height)
        if end > done:
            new = block.conv1(values[:, :, done:end]).relu_()
            seen = _rows(new, -1, end - done) if carried is None else torch.cat([carried, new], 2)
        else:
            assert carried is not None
            seen = carried
        seen = _rows(seen, 0, stride * (last - first - 1) + 3)
        carried, done = seen[:, :, stride * (last - first) :].clone(), end
        inner = functional.conv2d(seen, conv.weight, conv.bias, stride, (0, 1), 1, conv.groups)
        band = block.conv3(inner.relu_())
        kept = values[:, :, stride * first : stride * (last - 1) + 1]
        band += kept if block.downsample is None else block.downsample(kept)
        out = _room(band, total) if out is None else out
        out[:, :, first:last] = band.relu_()
    assert out is not None
    return out


def _rows(values: Tensor, first: int, last: int) -> Tensor:
    """Rows `first` to `last`, zeros beyond the border."""
    height = values.shape[2]
    part = values[:, :, max(first, 0) : min(last, height)]
    missing = (max(-first, 0), max(last - height, 0))
    return functional.pad(part, (0, 0, *missing)) if any(missing) else part


def _room(values: Tensor, height: int) -> Tensor:
    """Room for an array of other height."""
    n, channels, _, width = values.shape
    return torch.empty(
        (n, channels, height, width),
        dtype=values.dtype,
        device=values.device,
        memory_format=torch.channels_last,
    )
