"""Haematoxylin and eosin: a section as a slide scanner would show it, in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import Floats, apply
from msiscale.simulate.tissue import Nuclei, Section, Stain

_CHUNK = 4096  # nuclei painted at once
# optical density of red, green and blue, per unit of stain
_HAEMATOXYLIN = np.array([0.64, 0.69, 0.33])
_EOSIN = np.array([0.16, 0.92, 0.42])


@dataclass(frozen=True)
class Scanner:
    """How one slide was stained and scanned: differs from specimen to specimen."""

    stains: Floats  # (2, 3), optical density of the two stains
    white: Floats  # (3,), the background, 0...255
    shading: float  # relative change of the light from the middle to the corners
    grain: float  # sd of the noise


def scanner(rng: np.random.Generator) -> Scanner:
    """A mild variation of stain strength and hue, background and light."""
    stains = np.stack([_HAEMATOXYLIN, _EOSIN])
    stains = stains * (1 + 0.045 * rng.standard_normal(stains.shape))
    stains *= np.exp(0.11 * rng.standard_normal((2, 1)))
    white = np.array([244.0, 243.0, 244.0]) + rng.uniform(-4, 4, 3)
    return Scanner(stains, white, float(rng.uniform(-0.02, 0.03)), float(rng.uniform(1.5, 2.5)))


def bands(
    section: Section,
    stain: Stain,
    to_slide: Floats,
    shape: tuple[int, int],
    mpp: float,
    view: Scanner,
    rng: np.random.Generator,
    *,
    rows: int = 256,
) -> Iterator[NDArray[np.uint8]]:
    """Draw the slide in bands of rows, from the top.

    Parameters
    ----------
    section
        Gives the cell size of the stain's rasters.
    stain
        What the slide shows.
    to_slide
        (3, 3) float64, µm of the section to level-0 pixels, acting on (x, y).
    shape
        Height and width of the slide, pixels.
    mpp
        µm a pixel of the slide.
    view
        How it was stained and scanned.
    rng
        Draws the noise.
    rows
        Rows of a band.

    Yields
    ------
    NDArray
        (rows, width, 3) uint8, RGB; the last may be lower.
    """
    to_cells = np.linalg.inv(to_slide)
    to_cells[:2] /= section.step_um
    linear = to_cells[1::-1, 1::-1]  # acting on (y, x)
    spots = _on_slide(stain.nuclei, to_slide, mpp)
    for top in range(0, shape[0], rows):
        height = min(rows, shape[0] - top)
        # pixel centres of the slide to cell indices, whose centres are at integers
        origin = np.array([top + 0.5, 0.5])
        offset = linear @ origin + to_cells[1::-1, 2] - 0.5
        layers = [
            ndimage.affine_transform(
                layer, linear, offset, (height, shape[1]), np.float32, order=1, mode="constant"
            )
            for layer in (stain.haematoxylin, stain.eosin)
        ]
        nuclear = _paint(spots, top, (height, shape[1]))
        yield _colour(layers[0], layers[1], nuclear, top, shape, view, rng)


def _colour(
    haematoxylin: NDArray[np.float32],
    eosin: NDArray[np.float32],
    nuclear: NDArray[np.float32],
    top: int,
    shape: tuple[int, int],
    view: Scanner,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    grain = rng.standard_normal(eosin.shape, dtype=np.float32)
    tissue = np.minimum(haematoxylin + eosin, 0.3)
    haematoxylin = np.maximum(haematoxylin, nuclear) + tissue * grain * np.float32(0.10)
    eosin = eosin * (1 - np.minimum(0.55 * nuclear, 0.8))
    y = (np.arange(top, top + len(eosin)) / shape[0] - 0.5)[:, None]
    x = (np.arange(shape[1]) / shape[1] - 0.5)[None, :]
    light = (1 - view.shading * 2 * (y**2 + x**2)).astype(np.float32)
    out = np.empty((*eosin.shape, 3), dtype=np.uint8)
    noise = np.roll(grain, 7, axis=1) * np.float32(view.grain)
    for c in range(3):
        density = haematoxylin * np.float32(view.stains[0, c]) + eosin * np.float32(
            view.stains[1, c]
        )
        value = np.exp(-density) * light * np.float32(view.white[c]) + noise
        np.clip(value, 0, 255, out=value)
        out[..., c] = value + 0.5
    return out


@dataclass(frozen=True)
class _Spots:
    """Ellipses in slide pixels, sorted by y; `form` (n, 3): a dx² + b dx dy + c dy² < 1."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    form: NDArray[np.float32]
    stain: NDArray[np.float32]
    reach: int


def _on_slide(nuclei: Nuclei, to_slide: Floats, mpp: float) -> _Spots:
    xy = apply(to_slide, np.stack([nuclei.x, nuclei.y], axis=-1))
    order = np.argsort(xy[:, 1], kind="stable")
    back = np.linalg.inv(to_slide[:2, :2])  # slide px to µm
    cos, sin = np.cos(nuclei.angle[order]), np.sin(nuclei.angle[order])
    rows = np.stack(
        [
            (cos[:, None] * back[0] + sin[:, None] * back[1]) / nuclei.major[order, None],
            (cos[:, None] * back[1] - sin[:, None] * back[0]) / nuclei.minor[order, None],
        ]
    )
    form = np.stack(
        [
            (rows[..., 0] ** 2).sum(axis=0),
            2 * (rows[..., 0] * rows[..., 1]).sum(axis=0),
            (rows[..., 1] ** 2).sum(axis=0),
        ],
        axis=-1,
    )
    longest = float(nuclei.major.max(initial=1.0))
    reach = int(np.ceil(1.25 * min(longest, 12.0) / mpp)) + 1
    return _Spots(
        xy[order, 0].astype(np.float32),
        xy[order, 1].astype(np.float32),
        form.astype(np.float32),
        nuclei.stain[order],
        reach,
    )


def _paint(spots: _Spots, top: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Optical density of the nuclei in one band."""
    band = np.zeros(shape[0] * shape[1], dtype=np.float32)
    first, last = np.searchsorted(spots.y, [top - spots.reach, top + shape[0] + spots.reach])
    step = np.arange(-spots.reach, spots.reach + 1)
    for start in range(int(first), int(last), _CHUNK):
        part = slice(start, min(start + _CHUNK, int(last)))
        px, py = np.floor(spots.x[part]).astype(int), np.floor(spots.y[part]).astype(int)
        column = px[:, None] + step
        row = py[:, None] + step
        dx = (column + 0.5 - spots.x[part, None]).astype(np.float32)[:, None, :]
        dy = (row + 0.5 - spots.y[part, None]).astype(np.float32)[:, :, None]
        a, b, c = (spots.form[part, k, None, None] for k in range(3))
        distance = a * dx * dx + b * dx * dy + c * dy * dy
        # darker at the membrane than inside, soft at the edge
        value = np.clip((1.25 - distance) * 2.5, 0, 1) * (0.85 + 0.15 * np.minimum(distance, 1))
        value *= spots.stain[part, None, None]
        target = (row - top)[:, :, None] * shape[1] + column[:, None, :]
        inside = ((row >= top) & (row < top + shape[0]))[:, :, None] & (
            (column >= 0) & (column < shape[1])
        )[:, None, :]
        inside &= value > 0
        np.maximum.at(band, target[inside], value[inside])
    return band.reshape(shape)
