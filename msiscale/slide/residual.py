"""How far a copy is from what is expected, and how far is usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import blocks

Floats = NDArray[np.float32]
FAR = 12  # pixels to which a compression carries an edge
BLUR = 0.7  # pixels (sd) over which the residual is averaged
LEVELS = (0.3, 0.5, 0.65, 0.8, 0.9)  # quantiles that part the busyness in which noise is measured
TAIL, TAIL_SD = 0.9, 1.65  # the noise is this quantile, as a multiple of the standard deviation
SIDE, LEAST = 32, 15  # of the squares in which it is taken, and pixels of a kind in one
SQUARES = 4  # that are enough
QUIET = 0.5  # quantile of the squares
LEAST_NOISE, MOST_NOISE = 0.7, 16.0  # grey levels; what differs more is drawn
GROWTH = 2.5  # by which noise grows from a bin to the next busier one, at most


def residual(copy: NDArray[Any], expected: Floats) -> Floats:
    """How far a copy is from what is expected, in the channel where it is farthest.

    Parameters
    ----------
    copy : (h, w, 3)
        Grey levels, 0 to 255.
    expected : float32 (h, w, 3)
        Those of the slide, with the colours and the sharpness of the copy.

    Returns
    -------
    float32 (h, w)
        Grey levels.
    """
    # noise of a compression changes sign from pixel to pixel, a line does not
    rest = ndimage.gaussian_filter(copy - expected, (BLUR, BLUR, 0), mode="nearest")
    return np.asarray(np.abs(rest).max(axis=-1), np.float32)


@dataclass(frozen=True)
class Noise:
    """The residual that is usual where nothing is drawn, by how busy the slide is there."""

    edges: tuple[NDArray[np.float64], NDArray[np.float64]]  # of bins of busyness: close by, farther
    table: Floats

    @classmethod
    def of(cls, samples: list[tuple[Floats, Floats]]) -> Noise:
        """Measure it in samples.

        Parameters
        ----------
        samples : list of (float32 (h, w), float32 (h, w, 3))
            Residual and expected colours.

        Returns
        -------
        Noise
        """
        busy = [_busyness(expected) for _, expected in samples]
        edges = tuple(
            np.unique(np.quantile(np.concatenate([b[k].ravel() for b in busy]), LEVELS))
            for k in (0, 1)
        )
        shape = len(edges[0]) + 1, len(edges[1]) + 1
        found: list[list[float]] = [[] for _ in range(shape[0] * shape[1])]
        side = SIDE if len(samples) > 4 else SIDE // 2  # lines are in most squares of a thumbnail
        for (rest, _), pair in zip(samples, busy, strict=True):
            i, j = (np.digitize(b, e) for b, e in zip(pair, edges, strict=True))
            bins = i * shape[1] + j
            for tile in blocks((rest.shape[0], rest.shape[1]), (side, side)):
                here, values = bins[tile.slices], rest[tile.slices]
                for index in np.unique(here):
                    own = values[here == index]
                    if len(own) >= LEAST:
                        found[index].append(float(np.quantile(own, TAIL)) / TAIL_SD)
        # of the quieter squares: others are painted over
        table = np.array(
            [np.quantile(f, QUIET) if len(f) >= SQUARES else 0.0 for f in found]
        ).reshape(shape)
        table = _steady(_steady(np.maximum(table, LEAST_NOISE)).T).T
        return cls((edges[0], edges[1]), np.minimum(table, MOST_NOISE).astype(np.float32))

    @property
    def worst(self) -> float:
        """The noise where the slide is busiest."""
        return float(self.table.max())

    def usual(self, expected: Floats) -> Floats:
        """The usual residual at every pixel.

        Parameters
        ----------
        expected : float32 (h, w, 3)
            Expected colours.

        Returns
        -------
        float32 (h, w)
        """
        i, j = (np.digitize(b, e) for b, e in zip(_busyness(expected), self.edges, strict=True))
        return np.asarray(self.table[i, j])


def _steady(table: Floats) -> Floats:
    """Rows that never fall and never leap: a leap is where most of a kind is painted over."""
    rows = [table[0]]
    for row in table[1:]:
        rows.append(np.clip(row, rows[-1], GROWTH * rows[-1]))
    return np.stack(rows)


def _busyness(rgb: Floats) -> tuple[Floats, Floats]:
    """How much a picture changes around each pixel, close by and in the blocks of a JPEG."""
    grey = rgb.mean(axis=-1)
    change = ndimage.maximum_filter(grey, 5) - ndimage.minimum_filter(grey, 5)
    return ndimage.uniform_filter(change, 5), ndimage.maximum_filter(change, 2 * FAR + 1)
