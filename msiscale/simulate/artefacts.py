"""What else is on a glass slide: pen marks, the edge of the coverslip, bubbles and dust."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

KINDS = ("green pen", "blue pen", "red pen", "black pen", "coverslip", "bubbles", "dust")
# optical density of red, green and blue where the ink is thick
_INKS = {
    "green pen": (1.1, 0.28, 0.75),
    "blue pen": (1.25, 0.75, 0.12),
    "red pen": (0.06, 1.2, 0.95),
    "black pen": (1.5, 1.55, 1.45),
}


def soiled(
    rgb: NDArray[np.uint8], mpp: float, kind: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Mask]:
    """Draw one kind of artefact on a slide.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8, the whole slide.
    mpp
        µm a pixel.
    kind
        One of `KINDS`.
    rng
        Draws where it lies.

    Returns
    -------
    soiled
        The picture with it.
    opaque
        (h, w) bool, where nothing of the slide can be seen any more.
    """
    density = _DRAW[kind](rgb.shape[:2], mpp, kind, rng)
    light = np.exp(-2.3 * ndimage.gaussian_filter(density, (0.5 * 8 / mpp, 0.5 * 8 / mpp, 0)))
    noise = rng.normal(0, 1.5, rgb.shape)
    out = np.where(density.max(axis=-1, keepdims=True) > 0, rgb * light + noise, rgb)
    covered = density.max(axis=-1) > 0.5
    return np.clip(out + 0.5, 0, 255).astype(np.uint8), covered


def _pen(
    shape: tuple[int, int], mpp: float, kind: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A stroke along an edge and a dot: ink of a felt pen, darker at its edge and streaked."""
    h, w = shape
    y, x = np.mgrid[:h, :w].astype(float)
    width = rng.uniform(250, 500) / mpp
    side = rng.integers(4)
    along, across, n = (x / w, y, h) if side < 2 else (y / h, x, w)
    base = rng.uniform(0.03, 0.09) * n
    bend = rng.uniform(0.02, 0.05) * n * np.sin(2 * np.pi * (along * rng.uniform(0.5, 1.5)))
    middle = (base + bend) if side % 2 else n - (base + bend)
    first, last = np.sort(rng.uniform(0, 1, 2))
    off = np.abs(across - middle) / (width / 2)
    stroke = (off < 1) & (along > first - 0.25) & (along < last + 0.25)
    dot_y, dot_x = rng.uniform(0.05, 0.95, 2) * (h, w)
    dot = np.hypot(y - dot_y, x - dot_x) < width / 2
    streaks = ndimage.gaussian_filter(rng.normal(size=shape), 40 / mpp * 2)
    streaks /= max(float(streaks.std()), 1e-6)
    thick = (0.75 + 0.12 * streaks + 0.15 * (off > 0.85)) * (stroke | dot)
    return np.asarray(np.clip(thick, 0, 1.3)[..., None] * np.array(_INKS[kind]))


def _coverslip(
    shape: tuple[int, int], mpp: float, kind: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A dark line with fringes of colour, and a grey one of glue beside it."""
    h, w = shape
    y, x = np.mgrid[:h, :w].astype(float)
    tilt = rng.uniform(-0.03, 0.03)
    off = (x - tilt * y - rng.uniform(0.02, 0.06) * w) * mpp
    line = np.exp(-((off / 12) ** 2)) * 0.5
    fringe = np.exp(-(((off - 16) / 8) ** 2))[..., None] * np.array([0.12, 0.03, 0.0])
    glue = np.where((off < 0) & (off > -120), 0.05, 0.0)
    return np.asarray((line + glue)[..., None] * np.array([1.0, 0.97, 0.94]) + fringe)


def _bubbles(
    shape: tuple[int, int], mpp: float, kind: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    h, w = shape
    y, x = np.mgrid[:h, :w].astype(float)
    out = np.zeros(shape)
    for _ in range(5):
        radius = rng.uniform(80, 350) / mpp
        off = (np.hypot(y - rng.uniform(0, h), x - rng.uniform(0, w)) - radius) * mpp
        out = np.maximum(
            out, 0.6 * np.exp(-((off / 14) ** 2)) + 0.25 * np.exp(-(((off + 35) / 18) ** 2))
        )
    return np.asarray(out[..., None] * np.array([1.0, 0.98, 0.95]))


def _dust(
    shape: tuple[int, int], mpp: float, kind: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 16 / mpp)
    rough /= max(float(rough.std()), 1e-6)
    y, x = rng.integers(0, shape[0], 60), rng.integers(0, shape[1], 60)
    near = np.zeros(shape, bool)
    near[y, x] = True
    grains = ndimage.distance_transform_edt(~near) * mpp < 45 + 15 * rough
    return np.asarray((0.8 * grains)[..., None] * np.array([1.0, 0.98, 0.93]))


_DRAW = dict.fromkeys(_INKS, _pen) | {
    "coverslip": _coverslip,
    "bubbles": _bubbles,
    "dust": _dust,
}
