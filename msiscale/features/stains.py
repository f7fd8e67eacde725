"""Classical features of H&E, which need no weights: ``stains``; and the colours that every run
compares its networks with.

Optical densities, stains unmixed by Ruifrok and Johnston (2001, Anal. Quant. Cytol. Histol.
23:291, as scikit-image has them), saturation, gradients and nuclei: at the scale of a pixel of the
MSI, and averaged over squares of `WIDTHS_UM`, where how much they vary is told too.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed

from msiscale.features.architecture import Loaded, common_geometry
from msiscale.features.layers import WIDTHS_UM, Group, Layer, Take

Float32 = NDArray[np.float32]

FINE, COARSE = 2, 4  # strides of what is averaged by the MSI pixel alone, and over squares
_SMOOTH = 1.0  # pixels, of the Gaussian under a gradient
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
    def _described(self, image: NDArray[np.uint8]) -> Iterator[Float32]:
        """The (h / stride, w / stride, channels) of each layer."""

    def visit(self, image: NDArray[np.uint8], take: Take) -> None:
        """Hand each layer to `take`.

        Parameters
        ----------
        image
            (h, w, 3) uint8, whole cells.
        take
            Called with the number of a layer and its (h / stride, w / stride, channels) float32.
        """
        for number, values in enumerate(self._described(image)):
            take(number, values)


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

    def _described(self, image: NDArray[np.uint8]) -> Iterator[Float32]:
        maps = dict(_maps(image))
        yield np.stack([_cells(maps[name], FINE) for name in FINER], axis=-1)
        coarse = {name: _cells(values, COARSE) for name, values in maps.items()}
        wide = []
        for width in WIDTHS_UM:
            mean = {n: _square(values, width, self.mpp) for n, values in coarse.items()}
            a, b, c = mean["yy"], mean["xx"], mean["xy"]
            mean["orientation_coherence"] = np.sqrt((a - b) ** 2 + 4 * c**2) / np.maximum(
                a + b, np.float32(1e-8)
            )
            spread = np.maximum(mean["grey_squared"] - mean["grey"] ** 2, 0)
            mean["local_contrast"] = np.sqrt(spread)
            wide += [mean[name] for name in WIDER]
        yield np.stack(wide, axis=-1)


@dataclass(frozen=True)
class Colours(Classical):
    """Six optical densities: of the pixel, and blurred over 200 µm."""

    mpp: float

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Three of each."""
        blurred = Layer(COARSE, _reach(max(WIDTHS_UM), self.mpp), (Group("colour", 3),))
        return Layer(FINE, 0, (Group("colour", 3),)), blurred

    def _described(self, image: NDArray[np.uint8]) -> Iterator[Float32]:
        densities = [*_densities(image)]
        yield np.stack([_cells(d, FINE) for d in densities], axis=-1)
        blurred = [_square(_cells(d, COARSE), max(WIDTHS_UM), self.mpp) for d in densities]
        yield np.stack(blurred, axis=-1)


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


def _densities(image: NDArray[np.uint8]) -> Iterator[Float32]:
    """Optical densities of red, green and blue, from a table of 256."""
    table = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
    for channel in range(3):
        yield table[image[..., channel]]


def _maps(image: NDArray[np.uint8]) -> Iterator[tuple[str, Float32]]:
    """Every map that the features are made of, a value a pixel, with its name."""
    densities = [*_densities(image)]
    yield from zip(PLAIN[:3], densities, strict=True)
    stains = rgb2hed(np.maximum(image, 1)).astype(np.float32)
    for i, name in enumerate(PLAIN[3:]):
        yield name, stains[..., i]
    yield "nuclear_density", 1 / (1 + np.exp((_NUCLEUS - stains[..., 0]) / np.float32(_SOFT)))
    top, bottom = image.max(axis=2).astype(np.float32), image.min(axis=2)
    yield "saturation", (top - bottom) / np.maximum(top, 1)
    grey = (densities[0] + densities[1] + densities[2]) / np.float32(3)
    yield "grey", grey
    yield "grey_squared", grey**2
    smooth = ndimage.gaussian_filter(grey, _SMOOTH, mode="nearest")
    y, x = (ndimage.sobel(smooth, axis, mode="nearest") / np.float32(8) for axis in (0, 1))
    yield "yy", y * y
    yield "xx", x * x
    yield "xy", x * y
    yield "gradient_energy", y * y + x * x


def _cells(values: Float32, side: int) -> Float32:
    """Means of squares of `side` pixels."""
    h, w = values.shape
    found: Float32 = values.reshape(h // side, side, w // side, side).mean(axis=(1, 3))
    return found


def _odd(width_um: float, mpp: float) -> int:
    """Cells of `COARSE` pixels in a width, an odd number."""
    return 2 * round((width_um / (mpp * COARSE) - 1) / 2) + 1


def _square(cells: Float32, width_um: float, mpp: float) -> Float32:
    """Means over squares of cells, the border repeated beyond the slide."""
    size = max(_odd(width_um, mpp), 1)
    found: Float32 = ndimage.uniform_filter(cells, size, mode="nearest")
    return found


def _reach(width_um: float, mpp: float) -> int:
    """Pixels that a square sees past a cell."""
    return max(_odd(width_um, mpp), 1) // 2 * COARSE
