"""Images of an MSI that a page holds: its total, its modes, and the ions that vary most."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block, Floats, blocks
from msiscale.pipeline.pictures import msi_picture
from msiscale.report import packing
from msiscale.report.tables import mz as mz_words
from msiscale.store import StoredSpecimen

BYTES = 5 << 20  #: of all images, before compression: fewer ions where pixels are many
PIXELS = 1 << 19  #: of an image; of a larger MSI, squares of 2 x 2, 3 x 3, … are averaged
MODES = 3
FEWEST_IONS = 6
_TILE = 64  # MSI pixels of the cube that are read at a time, a side
_EDGE = 1  # percent of a mode's pixels that are drawn as the darkest, and as the brightest


def images(stored: StoredSpecimen, ions: int) -> dict[str, Any]:
    """What a page shows of a cube.

    Parameters
    ----------
    stored
        A specimen with its cube. Memory: a tile of 64 x 64 pixels of it, and the images.
    ions
        Ion images at most.

    Returns
    -------
    dict
        ``step``: MSI pixels a side of an image's pixel; ``listed``: label, kind (total, mode, ion)
        and m/z of each; ``levels``: (image, pixel) uint8, as `packing` has them.
    """
    shape = stored.shape
    step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / PIXELS)))
    n = -(-shape[0] // step) * -(-shape[1] // step)
    picture = msi_picture(stored.group, stored.pixel_um).values[..., : 1 + MODES]
    picture[..., 0] = np.exp(picture[..., 0])
    small = averaged(picture, step).reshape(n, -1)
    most = max(FEWEST_IONS, BYTES // n - small.shape[1])
    chosen = strongest(stored, min(ions, most))
    found, mz = _ion_images(stored, chosen, step).reshape(-1, n), stored.mz
    of = str(stored.array("norm").attrs.get("of", "none"))
    total = "total ion current" if of in ("none", "tic") else f"normalisation ({of})"
    modes = [f"mode {k} of the MSI" for k in range(1, small.shape[1])]
    listed: list[dict[str, Any]] = [{"label": total, "kind": "total"}]
    listed += [{"label": label, "kind": "mode"} for label in modes]
    listed += [
        {"label": f"m/z {mz_words(mz[i])}", "kind": "ion", "mz": float(mz[i])} for i in chosen
    ]
    levels = [packing.intensities(small[:, 0])[0]]
    levels += [_mode(values) for values in small.T[1:]]
    levels += [packing.intensities(values)[0] for values in found]
    return {"step": step, "listed": listed, "levels": np.stack(levels)}


def strongest(stored: StoredSpecimen, most: int) -> list[int]:
    """Columns of the ions whose square roots vary most, by ascending m/z."""
    # noise of counting adds as much to the variance of any root, so that weak ions come last and
    # strong ones without structure do not come first
    n = np.zeros(len(stored.mz))
    first, second = np.zeros_like(n), np.zeros_like(n)
    for _, tile in _tiles(stored, _TILE):
        roots = np.sqrt(np.maximum(tile, 0, dtype=np.float64)).reshape(-1, len(n))
        known = np.isfinite(roots)
        roots = np.where(known, roots, 0)
        n += known.sum(axis=0)
        first += roots.sum(axis=0)
        second += (roots**2).sum(axis=0)
    counted = np.maximum(n, 1)
    variance = second / counted - (first / counted) ** 2
    return sorted(int(i) for i in np.argsort(-variance, kind="stable")[:most])


def _ion_images(stored: StoredSpecimen, chosen: list[int], step: int) -> NDArray[np.float32]:
    """(ion, y, x) of some columns, as `averaged`."""
    shape = stored.shape
    out = np.full((len(chosen), *(-(-n // step) for n in shape)), np.nan, np.float32)
    for block, tile in _tiles(stored, step * math.ceil(_TILE / step)):
        small = averaged(tile[..., chosen], step)
        y, x = block.y0 // step, block.x0 // step
        out[:, y : y + small.shape[0], x : x + small.shape[1]] = np.moveaxis(small, -1, 0)
    return out


def _tiles(stored: StoredSpecimen, side: int) -> Any:
    """Blocks and their part of the cube (y, x, mz)."""
    cube = stored.intensity
    shape: tuple[int, int] = (cube.shape[0], cube.shape[1])
    for block in blocks(shape, (side, side)):
        yield block, np.asarray(cube[block.slices])


def averaged(values: NDArray[np.floating], step: int) -> NDArray[np.float32]:
    """Means over squares of pixels, of those that were measured.

    Parameters
    ----------
    values
        (y, x, k) floats, NaN where nothing was measured.
    step
        Pixels a side; the last squares may reach beyond the image.

    Returns
    -------
    numpy.ndarray
        float32 (ceil(y / step), ceil(x / step), k).
    """
    if step == 1:
        return values.astype(np.float32, copy=False)
    h, w = (-(-n // step) for n in values.shape[:2])
    padded: Floats = np.full((h * step, w * step, values.shape[2]), np.nan)
    padded[Block(0, values.shape[0], 0, values.shape[1]).slices] = values
    cells = padded.reshape(h, step, w, step, -1)
    known = np.isfinite(cells)
    total = np.where(known, cells, 0).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        return np.asarray((total / known.sum(axis=(1, 3))).astype(np.float32))


def _mode(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scores as levels between their extremes, but for a few pixels."""
    known = values[np.isfinite(values)]
    if not known.size:
        return packing.fractions(values)
    low, high = np.percentile(known, [_EDGE, 100 - _EDGE])
    return packing.fractions((values - low) / (high - low if high > low else 1.0))
