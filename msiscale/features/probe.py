"""Receptive field of a network, measured: what a window needs around it to be exact.

A single input pixel is set to NaN. NaN survives every weight (0 x NaN is NaN), so the outputs that
turn NaN are exactly those with the pixel in their receptive field, whatever the weights are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from msiscale.errors import InputError
from msiscale.features.weights import reason

_SIZES = (512, 1024, 2048)


class NotLocal(ValueError):
    """Every output sees (almost) the whole image: the network cannot run window by window."""


class Geometry(NamedTuple):
    """Of a network, in input pixels.

    ``halo``, a multiple of ``stride``, makes features those of the whole slide; ``tile`` is the
    side of what a transformer sees at once, 0 for a network that sees all around a cell.
    """

    stride: int
    halo: int
    channels: int
    tile: int = 0


@torch.inference_mode()
def geometry(network: nn.Module) -> Geometry:
    """Of a fully convolutional `network` in eval mode; ValueError if it is not, NotLocal."""
    for size in _SIZES:
        middle = size // 2
        out = _poisoned(network, size, middle)
        if out.ndim != 4 or out.shape[2] != out.shape[3] or size % out.shape[2]:
            raise ValueError(f"{size} px give an output of shape {tuple(out.shape)}")
        stride = size // out.shape[2]
        # A cell spans [i * stride, (i + 1) * stride). The first one to see the pixel at the left
        # edge of cell k looks furthest right; the last to see the pixel before it, furthest left.
        k = middle // stride
        right = _seen(out)
        left = _seen(_poisoned(network, size, middle - 1))
        if right[0] > 0 and right[1] < size // stride - 1 and left[0] > 0:
            halo = max(k - right[0], left[1] + 1 - k, 0) * stride
            return Geometry(stride, halo, out.shape[1])
    raise NotLocal(f"an output depends on more than {_SIZES[-1]} px around it")


def _poisoned(network: nn.Module, size: int, at: int) -> Tensor:
    image = torch.zeros(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    image[:, :, at, at] = torch.nan
    out: Tensor = network(image)
    return out


def _seen(out: Tensor) -> tuple[int, int]:
    """First and last row or column with a NaN."""
    bad = out[0].isnan().any(dim=0)
    where = torch.nonzero(bad.any(dim=0) | bad.any(dim=1)).flatten()
    if not len(where):
        raise ValueError("the network hides NaN, so its receptive field cannot be measured")
    return int(where[0]), int(where[-1])


@torch.inference_mode()
def is_exact(network: nn.Module, shape: Geometry) -> bool:
    """Whether features do not change (by 1e-3 of them) when the image begins one cell later."""
    stride, skip = shape.stride, shape.halo // shape.stride
    size = shape.halo + 4 * stride
    whole = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    a = network(whole)[:, :, skip + 1 :, skip + 1 :]
    b = network(whole[:, :, stride:, stride:].contiguous())[:, :, skip:, skip:]
    return bool((a - b).abs().max() <= 1e-3 * a.abs().max())


def dense_geometry(name: str, network: nn.Module) -> Geometry:
    """`geometry` of the encoder `name`; InputError of one line where it has none."""
    try:
        return geometry(network)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"--encoder {name}: only convolutional encoders and vision transformers can run on a "
            f"whole slide, and this one is neither ({reason(error)}); take one without global "
            "pooling"
        ) from None


@torch.inference_mode()
def tiled_geometry(name: str, network: nn.Module, tile: int) -> Geometry:
    """Stride and channels of a network of tiles; InputError of one line if it is not one."""
    try:
        if tile < 1:
            raise ValueError(f"tile = {tile}")
        out = network(torch.zeros(1, 3, tile, tile))
        if out.ndim != 4 or out.shape[2] != out.shape[3] or tile % out.shape[2]:
            raise ValueError(f"a tile of {tile} px gives an output of shape {tuple(out.shape)}")
    except Exception as error:  # it may be the user's code
        raise InputError(
            f"--encoder {name}: cannot run on tiles of {tile} px ({reason(error)}); it must map "
            "(n, 3, tile, tile) to (n, channels, tile / stride, tile / stride)"
        ) from None
    stride = tile // out.shape[2]
    return Geometry(stride, tile - stride, out.shape[1], tile)
