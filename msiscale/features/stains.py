"""Classical features of H&E, which need no weights: ``stains``; and the colours that every run
compares its networks with.

Optical densities, stains unmixed by Ruifrok and Johnston (2001, Anal. Quant. Cytol. Histol.
23:291, as scikit-image has them), saturation, gradients and nuclei: at the scale of a pixel of the
MSI, and averaged over squares of `WIDTHS_UM`, where how much they vary is told too.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import hed_from_rgb
from torch import Tensor
from torch.nn import functional

from msiscale.features.architecture import Loaded, common_geometry
from msiscale.features.layers import WIDTHS_UM, Group, Layer, Take

FINE, COARSE = 2, 4  # strides of what is averaged by the MSI pixel alone, and over squares
_SMOOTH = 1.0  # pixels, of the Gaussian under a gradient
_GAUSSIAN = tuple(
    float(w / np.exp(-(np.arange(-4, 5) ** 2) / (2 * _SMOOTH**2)).sum())
    for w in np.exp(-(np.arange(-4, 5) ** 2) / (2 * _SMOOTH**2))
)
_STEP, _ACROSS = (-1.0, 0.0, 1.0), (1.0, 2.0, 1.0)  # of Sobel
_OF_SKIMAGE = 6.0  # its stains are of log(rgb) / log(1e-6), a density over 6
_REACH = 8  # pixels that a gradient sees, rounded up
_NUCLEUS, _SOFT = 0.05, 0.01  # haematoxylin (of scikit-image) of half a nucleus; width of the step
PLAIN = ("od_red", "od_green", "od_blue", "haematoxylin", "eosin", "residual")
FINER = (*PLAIN, "saturation", "gradient_energy", "nuclear_density")
WIDER = (*FINER, "orientation_coherence", "local_contrast")


class Classical(ABC):
    """A description of a picture that is no network; like one, it hands on layers."""

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """What `visit` gives."""

    @abstractmethod
    def _described(self, image: Tensor) -> Iterator[Tensor]:
        """The (channels, h / stride, w / stride) of each layer."""

    def visit(self, image: Tensor, take: Take) -> None:
        """Hand each layer to `take`.

        Parameters
        ----------
        image
            (h, w, 3) uint8, whole cells, on any device.
        take
            Called with the number of a layer and its (h / stride, w / stride, channels) float32.
        """
        for number, values in enumerate(self._described(image.permute(2, 0, 1))):
            take(number, values.permute(1, 2, 0).contiguous())


@dataclass(frozen=True)
class Stains(Classical):
    """All of them, at a pixel size of `mpp` µm."""

    mpp: float

    @property
    def layers(self) -> tuple[Layer, ...]:
        """One by the pixel alone, one over squares: a group together."""
        reach = -(-_REACH // COARSE) * COARSE + _reach(max(WIDTHS_UM), self.mpp)
        wide = len(WIDTHS_UM) * len(WIDER)
        return (
            Layer(FINE, _REACH, (Group("stains", len(FINER), True, reach),)),
            Layer(COARSE, reach, (Group("stains", wide, True, reach),)),
        )

    def _described(self, image: Tensor) -> Iterator[Tensor]:
        maps = dict(_maps(image))
        yield torch.stack([_cells(maps[name], FINE) for name in FINER])
        coarse = torch.stack([_cells(maps[name], COARSE) for name in maps])
        wide = []
        for width in WIDTHS_UM:
            mean = dict(zip(maps, _square(coarse, width, self.mpp), strict=True))
            a, b, c = mean["yy"], mean["xx"], mean["xy"]
            mean["orientation_coherence"] = torch.sqrt((a - b) ** 2 + 4 * c**2) / (a + b).clamp(
                min=1e-8
            )
            mean["local_contrast"] = torch.sqrt((mean["grey_squared"] - mean["grey"] ** 2).clamp(0))
            wide += [mean[name] for name in WIDER]
        yield torch.stack(wide)


@dataclass(frozen=True)
class Colours(Classical):
    """Six optical densities: of the pixel, and blurred over 200 µm."""

    mpp: float

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Three of each."""
        blurred = Layer(COARSE, _reach(max(WIDTHS_UM), self.mpp), (Group("colour", 3),))
        return Layer(FINE, 0, (Group("colour", 3),)), blurred

    def _described(self, image: Tensor) -> Iterator[Tensor]:
        densities = _densities(image)
        yield _cells(densities, FINE)
        yield _square(_cells(densities, COARSE), max(WIDTHS_UM), self.mpp)


def load_stains(name: str, weights: str | None, mpp: float) -> Loaded:
    """``stains``, for slides seen at `mpp` µm a pixel."""
    return _loaded(name, Stains(mpp))


def load_colours(name: str, weights: str | None, mpp: float) -> Loaded:
    """``colour``: what `msi_from_colour` is fitted on."""
    return _loaded(name, Colours(mpp))


def _loaded(name: str, network: Classical) -> Loaded:
    recipe = (name, WIDTHS_UM, FINE, COARSE, _SMOOTH, _NUCLEUS, _SOFT, FINER, WIDER)
    sha256 = hashlib.sha256(repr(recipe).encode()).hexdigest()
    layers = network.layers
    raw = ((0.0,) * 3, (1.0,) * 3)
    return Loaded(network, sha256, common_geometry(layers), *raw, layers=layers)


def _densities(image: Tensor) -> Tensor:
    """Optical densities (3, h, w) of red, green and blue."""
    values = torch.arange(256, dtype=torch.float32, device=image.device)
    table = -torch.log10(values.clamp(min=1) / 255)
    return table[image.int()]


def _maps(image: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every map (h, w) that the features are made of, with its name."""
    densities = _densities(image)
    yield from zip(PLAIN[:3], densities, strict=True)
    unmixed = torch.tensor(hed_from_rgb / _OF_SKIMAGE, dtype=torch.float32, device=image.device)
    stains = torch.einsum("chw,cs->shw", densities, unmixed).clamp(min=0)
    yield from zip(PLAIN[3:], stains, strict=True)
    yield "nuclear_density", torch.sigmoid((stains[0] - _NUCLEUS) / _SOFT)
    top, bottom = image.amax(0).float(), image.amin(0)
    yield "saturation", (top - bottom) / top.clamp(min=1)
    grey = densities.mean(0)
    yield "grey", grey
    yield "grey_squared", grey**2
    smooth = _along(_along(grey, _GAUSSIAN, 0), _GAUSSIAN, 1)
    y, x = (_along(_along(smooth, _STEP, axis), _ACROSS, 1 - axis) / 8 for axis in (0, 1))
    yield "yy", y * y
    yield "xx", x * x
    yield "xy", x * y
    yield "gradient_energy", y * y + x * x


def _along(values: Tensor, weights: Iterable[float], axis: int) -> Tensor:
    """Weighted sums of neighbours along an axis, the border repeated."""
    each = [*weights]
    pad = len(each) // 2
    before, after = values.narrow(axis, 0, 1), values.narrow(axis, values.shape[axis] - 1, 1)
    padded = torch.cat([before] * pad + [values] + [after] * pad, dim=axis)
    found = torch.zeros_like(values)
    for i, weight in enumerate(each):
        if weight:
            found.add_(padded.narrow(axis, i, values.shape[axis]), alpha=weight)
    return found


def _cells(values: Tensor, side: int) -> Tensor:
    """Means of squares of `side` pixels of (..., h, w)."""
    h, w = values.shape[-2:]
    return functional.avg_pool2d(values.reshape(1, -1, h, w), side).reshape(
        *values.shape[:-2], h // side, w // side
    )


def _odd(width_um: float, mpp: float) -> int:
    """Cells of `COARSE` pixels in a width, an odd number."""
    return 2 * round((width_um / (mpp * COARSE) - 1) / 2) + 1


def _square(cells: Tensor, width_um: float, mpp: float) -> Tensor:
    """Means over squares of cells of (maps, h, w), the border repeated beyond the slide."""
    size = max(_odd(width_um, mpp), 1)
    rows, columns = (
        torch.from_numpy(_means_over(n, size)).to(cells.device) for n in cells.shape[1:]
    )
    return rows @ (cells @ columns.T)


@lru_cache(maxsize=16)
def _means_over(n: int, size: int) -> NDArray[np.float32]:
    """Matrix (n, n) of the means over `size` neighbours, the last one repeated."""
    found = np.zeros((n, n), np.float32)
    at = np.arange(n)
    for step in range(-(size // 2), size // 2 + 1):
        np.add.at(found, (at, np.clip(at + step, 0, n - 1)), np.float32(1 / size))
    return found


def _reach(width_um: float, mpp: float) -> int:
    """Pixels that a square sees past a cell."""
    return max(_odd(width_um, mpp), 1) // 2 * COARSE
