"""How far an ion image and its prediction agree by chance, as both are smooth: one of them moved.

As `shifting` moves an annotation: the prediction is laid elsewhere over its tissue as a whole,
shifted on the torus of the bounding box, mirrored or not (Lotwick & Silverman 1982, J R Stat Soc B
44:406; for maps, Upton & Fingleton 1985). Nothing is fitted again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PLACES = 60
LEAST = 0.5  # of the pixels that must lie on a pixel again
MOST = 20_000  # pixels that are compared; more of them hardly tell more


def moved_places(held: NDArray[np.bool_], places: int = PLACES) -> NDArray[np.intp]:
    """Where each pixel's prediction comes from when the image lies elsewhere.

    Parameters
    ----------
    held
        (y, x) bool, the n pixels that have a prediction.
    places
        How many places, at most. Fewer where the tissue has no more, none on a single pixel.

    Returns
    -------
    ndarray
        (places, n) indices into the pixels in raster order; -1 where nothing comes to lie.
    """
    n = int(held.sum())
    if n < 2:
        return np.empty((0, n), np.intp)
    rows, columns = np.nonzero(held)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    index = np.full(held.shape, -1, np.intp)
    index[held] = np.arange(n)
    inside, own = held[box], index[box]
    mirrored = [own, own[::-1], own[:, ::-1], own[::-1, ::-1]]
    order = np.random.default_rng(0).permutation(4 * own.size - 1) + 1  # 0 is where it is
    found: list[NDArray[np.intp]] = []
    for place in order:
        if len(found) == places:
            break
        mirror, where = divmod(int(place), own.size)
        at = np.roll(mirrored[mirror], divmod(where, own.shape[1]), axis=(0, 1))[inside]
        if (at >= 0).sum() >= LEAST * n:
            found.append(at)
    return np.stack(found) if found else np.empty((0, n), np.intp)


def moved_correlation(measured: Floats, predicted: Floats, places: NDArray[np.intp]) -> Floats:
    """Mean correlation of images with predictions that were laid elsewhere.

    Parameters
    ----------
    measured, predicted
        (n, k) float64.
    places
        (places, n), see `moved_places`.

    Returns
    -------
    ndarray
        (k,) float64; NaN without a place, or where an image does not vary.
    """
    total, known = np.zeros(measured.shape[1]), np.zeros(measured.shape[1])
    step = -(-len(measured) // MOST)
    some = np.arange(0, len(measured), step)
    for place in places:
        here = some[place[some] >= 0]
        a, b = measured[here], predicted[place[here]]
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        size = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
        varies = size > 0
        total[varies] += (a * b).sum(axis=0)[varies] / size[varies]
        known += varies
    return np.asarray(np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0))
