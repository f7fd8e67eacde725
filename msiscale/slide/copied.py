"""How a copy's pixels come from the slide's: a kernel of 5 x 5 pixels and a map of colours.

Both are fitted so that what was drawn on the copy has no say, and what it clips (white, black) says
only "at least so much".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
REACH = 2  # of the kernel, on either side
ROUNDS = 3  # of the robust fits
CLIPPED = (3.0, 252.0)  # grey levels beyond which a copy says only "at least so dark", "so bright"
OF_A_COLOUR = 1500  # samples of it at the most


def convolved(around: Floats, kernel: Floats) -> Floats:
    """The picture inside a margin of `REACH`, each pixel a weighted sum of those around it.

    Parameters
    ----------
    around : float32 (h, w, 3)
        The picture with its margin.
    kernel : float32 (2 REACH + 1, 2 REACH + 1)
        The weights.

    Returns
    -------
    float32 (h - 2 REACH, w - 2 REACH, 3)
    """
    h, w = (n - 2 * REACH for n in around.shape[:2])
    out = np.zeros((h, w, 3), np.float32)
    for (i, j), weight in np.ndenumerate(kernel):
        if weight:
            out += weight * around[i : i + h, j : j + w]
    return out


def _terms(rgb: Floats) -> Floats:
    """Powers and products of the channels (n, 13), of values around 0."""
    c = rgb / 127.5 - 1
    r, g, b = c.T
    return np.stack([np.ones_like(r), r, g, b, r * g, r * b, g * b, *(c**2).T, *(c**3).T], axis=-1)


def recoloured(rgb: Floats, tone: NDArray[np.float64]) -> Floats:
    """Colours through a map.

    Parameters
    ----------
    rgb : float32 (n, 3)
        0 to 255.
    tone : float64 (13, 3)
        The map, from `fitted`.

    Returns
    -------
    float32 (n, 3)
    """
    return np.clip(_terms(rgb) @ tone.astype(np.float32), 0, 255)


def fitted(pairs: list[tuple[Floats, Floats]]) -> tuple[Floats, NDArray[np.float64]]:
    """The kernel and the map of colours that take the original to the copy.

    Parameters
    ----------
    pairs : list of (float32 (h, w, 3), float32 (h + 6, w + 6, 3))
        Samples of the copy, and of the original with a margin.

    Returns
    -------
    kernel : float32 (2 REACH + 1, 2 REACH + 1)
    tone : float64 (13, 3)
    """
    side = 2 * REACH + 1
    kernel = np.zeros((side, side), np.float32)
    kernel[REACH, REACH] = 1
    copy = np.concatenate([c.reshape(-1, 3) for c, _ in pairs])
    # blurred, so that another resampling and a part of a pixel hardly matter
    soft = [ndimage.gaussian_filter(o, (1.5, 1.5, 0))[3:-3, 3:-3].reshape(-1, 3) for _, o in pairs]
    blurred = [ndimage.gaussian_filter(c, (1.5, 1.5, 0)).reshape(-1, 3) for c, _ in pairs]
    chosen = _balanced(np.concatenate(soft))
    tone = _tone(np.concatenate(soft)[chosen], np.concatenate(blurred)[chosen])
    for _ in range(2):
        toned = [recoloured(o.reshape(-1, 3), tone).reshape(o.shape) for _, o in pairs]
        kernel = _kernel(toned, copy, chosen)
        plain = [convolved(o, kernel)[1:-1, 1:-1].reshape(-1, 3) for _, o in pairs]
        tone = _tone(np.concatenate(plain)[chosen], copy[chosen])
    return kernel, tone


def _tone(own: Floats, copy: Floats) -> NDArray[np.float64]:
    """Map of colours (terms, 3) by least squares in which what does not fit has no say."""
    terms = _terms(own).astype(np.float64)
    tone = _first_tone(own, copy)
    for _ in range(2 * ROUNDS):
        fit = terms @ tone
        # what was clipped fits any value beyond
        target = np.where(copy >= CLIPPED[1], np.maximum(copy, fit), copy)
        target = np.where(copy <= CLIPPED[0], np.minimum(copy, fit), target)
        rest = np.abs(target - fit).max(axis=-1)
        weight = 1 / (1 + (rest / max(float(np.median(rest)), 1.5)) ** 2)
        root = np.sqrt(weight)[:, None]
        tone = _least_squares(terms * root, target * root)
    return tone


def _balanced(rgb: Floats) -> NDArray[np.int_]:
    """Indices of pixels, so many of each colour and no more: glass is most of many a slide."""
    return np.sort(np.concatenate([g[:: -(-len(g) // OF_A_COLOUR)] for g in _colours(rgb)]))


def _colours(rgb: Floats) -> list[NDArray[np.int_]]:
    """Indices of the pixels of each colour, roughly, that is not rare."""
    code = (rgb.astype(int) >> 5) @ np.array([64, 8, 1])
    order = np.argsort(code, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
    return [g for g in groups if len(g) >= max(20, len(rgb) // 20_000)] or groups


def _first_tone(own: Floats, copy: Floats) -> NDArray[np.float64]:
    """A first map: by the medians of every colour that the slide has often."""
    groups = _colours(own)
    x = np.array([np.median(own[g], axis=0) for g in groups], np.float32)
    y = np.array([np.median(copy[g], axis=0) for g in groups])
    weight = np.sqrt([[len(g)] for g in groups])
    plain = _terms(x)[:, :4].astype(np.float64)
    tone = np.zeros((13, 3))
    tone[:4] = _least_squares(plain * weight, y * weight)
    return tone


def _least_squares(a: NDArray[np.float64], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Solution of ``a x = b``; where `a` leaves it open, that which is nearest to no change."""
    n = a.shape[1]
    start = np.zeros((n, 3))
    start[0] = 127.5
    start[1:4] = 127.5 * np.eye(3)
    ridge = 1e-5 * len(a) * np.eye(n)
    return np.asarray(start + np.linalg.solve(a.T @ a + ridge, a.T @ (b - a @ start)))


def _kernel(toned: list[Floats], copy: Floats, chosen: NDArray[np.int_]) -> Floats:
    """Weights (5, 5) with which the pixels around make the copy's, robustly; their sum is 1."""
    side = 2 * REACH + 1
    columns = []
    for i in range(side):
        for j in range(side):
            parts = []
            for own in toned:
                h, w = (n - 2 * REACH - 2 for n in own.shape[:2])
                parts.append(own[1 + i : 1 + i + h, 1 + j : 1 + j + w].mean(axis=-1).ravel())
            columns.append(np.concatenate(parts)[chosen])
    a = np.stack(columns, axis=-1).astype(np.float64)
    b = copy[chosen].mean(axis=-1).astype(np.float64)
    free = (b > CLIPPED[0]) & (b < CLIPPED[1])
    a, b = a[free], b[free]
    weights = np.zeros(side * side)
    weights[side * side // 2] = 1
    if len(a) < 1000:
        return weights.reshape(side, side).astype(np.float32)
    level = a.mean(axis=1, keepdims=True)  # the sum is 1: only what differs from it is fitted
    a, b = a - level, b - level[:, 0]
    for _ in range(ROUNDS):
        rest = np.abs(b - a @ weights)
        keep = rest <= max(4.5 * float(np.median(rest)), 3.0)
        x, y = a[keep], b[keep]
        gram = x.T @ x
        ridge = 1e-5 * np.trace(gram) / len(gram) * np.eye(len(gram)) + 1e-6 * len(x) * np.eye(
            len(gram)
        )
        middle = np.zeros(side * side)
        middle[side * side // 2] = 1
        weights = middle + np.linalg.solve(gram + ridge, x.T @ (y - x @ middle))
    weights += (1 - weights.sum()) / len(weights)
    return weights.reshape(side, side).astype(np.float32)
