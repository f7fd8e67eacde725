"""What registration sees of a slide or an MSI: channels on a regular grid of µm.

Indices are of pixel centres; µm here are ``index * pixel_um``, so that pixel (0, 0) lies at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import Floats, PixelSize, scaling

_PART = 0.5  # of an interpolated value that must come from pixels that count


@dataclass(frozen=True, eq=False)
class Picture:
    """Channels of an image; a pixel that does not count (not measured, not scanned) is NaN."""

    values: NDArray[np.float32]  # (h, w, c)
    pixel_um: PixelSize

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Bool (h, w): the pixels that count."""
        return np.asarray(np.isfinite(self.values).all(axis=-1))

    @property
    def to_um(self) -> Floats:
        """Matrix from indices (x, y) to µm."""
        return self.pixel_um.scaling

    @property
    def longest_um(self) -> float:
        """Its longer side."""
        return max(self.shape[0] * self.pixel_um.y, self.shape[1] * self.pixel_um.x)

    def channels(self, values: NDArray[np.floating]) -> Picture:
        """Other channels of the same pixels.

        Parameters
        ----------
        values
            (h, w, c) floats, stored as float32; NaN where a pixel does not count.

        Returns
        -------
        Picture
            With the pixel size of this one.
        """
        return Picture(np.asarray(values, np.float32), self.pixel_um)


def smoothed(picture: Picture, side_um: float) -> Picture:
    """What square pixels see: Gaussian means of their variance, of what counts.

    Parameters
    ----------
    picture : Picture
        Of finer pixels.
    side_um : float
        Side of a square pixel, µm.

    Returns
    -------
    Picture
        Of the same pixels as before.
    """
    sigma = [np.sqrt(max(side_um**2 - own**2, 0) / 12) / own for own in picture.pixel_um]
    counts = picture.counts
    weight = ndimage.gaussian_filter(counts.astype(np.float32), sigma, mode="constant")
    filled = np.where(counts[..., None], picture.values, np.float32(0))
    total = ndimage.gaussian_filter(filled, (*sigma, 0), mode="constant")
    mean = total / np.maximum(weight, 1e-6)[..., None]
    return picture.channels(np.where(counts[..., None], mean, np.float32(np.nan)))


class Sampler:
    """Channels of a picture at any place, by linear interpolation."""

    def __init__(self, picture: Picture) -> None:
        counts = picture.counts
        filled = np.where(counts[..., None], picture.values, np.float32(0))
        self.layers = np.concatenate([counts[None], np.moveaxis(filled, -1, 0)]).astype(np.float32)

    def __call__(self, to_index: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Values at the pixels of another grid.

        Parameters
        ----------
        to_index : (3, 3) float64
            From (x, y) indices of the other grid to (x, y) indices of the picture.
        shape : (h, w)
            Of the other grid.

        Returns
        -------
        float32 (h, w, c), NaN where less than half of a value comes from pixels that count.
        """
        linear, offset = to_index[1::-1, 1::-1], to_index[1::-1, 2]
        taken = np.empty((len(self.layers), *shape), np.float32)
        for layer, out in zip(self.layers, taken, strict=True):
            ndimage.affine_transform(layer, linear, offset, shape, out, order=1, cval=0.0)
        return _mean(taken)

    def at(self, points: Floats) -> NDArray[np.float32]:
        """Values at points.

        Parameters
        ----------
        points
            (..., 2) float64, (x, y) in indices of the picture.

        Returns
        -------
        NDArray
            (..., c) float32, in the picture's units; NaN where less than half of a value comes from
            pixels that count.
        """
        places = np.moveaxis(points[..., ::-1], -1, 0)
        taken = [
            ndimage.map_coordinates(layer, places, np.float32, order=1, cval=0.0)
            for layer in self.layers
        ]
        return _mean(np.stack(taken))


def _mean(taken: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels (h, w, c) from interpolated counts and channels (1 + c, h, w)."""
    mean = taken[1:] / np.maximum(taken[0], np.float32(1e-6))
    return np.moveaxis(np.where(taken[0] >= _PART, mean, np.float32(np.nan)), 0, -1)


def coarsened(picture: Picture, side_um: float) -> tuple[Picture, Floats]:
    """The picture at `side_um` µm a pixel, and the matrix from its µm to those of `picture`."""
    step_y, step_x = (max(1.0, side_um / own) for own in picture.pixel_um)
    h, w = picture.shape
    shape = max(1, int(np.ceil(h / step_y - 1e-6))), max(1, int(np.ceil(w / step_x - 1e-6)))
    to_index = scaling(step_x, step_y)
    to_index[:2, 2] = (step_x - 1) / 2, (step_y - 1) / 2
    values = Sampler(smoothed(picture, side_um))(to_index, shape)
    own = picture.pixel_um
    found = Picture(values, PixelSize(own.y * step_y, own.x * step_x))
    return found, picture.to_um @ to_index @ np.linalg.inv(found.to_um)
