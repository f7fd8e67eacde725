"""Where a copy of a slide differs from the slide: what somebody drew on it.

A copy is resampled in some unknown way, may be shifted by a few pixels, brighter, of higher contrast
or more saturated, and compressed. All of that is fitted, on samples from all over the picture and
robustly, so that what is drawn does not count: a shift, a small difference of scale, a kernel of
5 x 5 pixels and a map of colours. What the fit leaves is measured against the noise that is usual
where the slide is as busy as there.
"""

from __future__ import annotations

from dataclasses import dataclass

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from msiscale.errors import InputError
from msiscale.grid import Block, PixelSize
from msiscale.slide.reader import Slide
from msiscale.slide.working import WorkingImage

Floats = NDArray[np.float32]
REACH = 2  # of the kernel, on either side
COARSE = 768  # side of the pictures on which the shift is sought
FARTHEST = 0.05  # of the picture's side, by which a copy may be shifted
PATCH = 192  # side of the samples
PATCHES = 6  # of them along either side of the picture
TEXTURE = 6.0  # grey levels (sd); a sample with less tells no shift
ALIKE = 0.4  # correlation of copy and slide in the samples below which it is no copy
ROUNDS = 4  # of the robust fits
BINS = 12  # of busyness, in which the noise is measured
CLIPPED = (3.0, 252.0)  # grey levels beyond which a copy says only "at least so dark", "so bright"


@dataclass(frozen=True)
class Comparison:
    """A copy beside the slide. Make one with `compare`."""

    picture: Slide
    original: WorkingImage  # the slide at the copy's scale
    shift: tuple[float, float]  # (y, x), in pixels of the copy, by which it shows the slide farther on
    kernel: Floats
    tone: NDArray[np.float64]
    busy: NDArray[np.float64]  # busyness and
    noise: NDArray[np.float64]  # the residual that is usual at it

    def differs(self, block: Block) -> Floats:
        """Residual of a block of the copy, as a multiple of the noise; 0 in the blur of a line."""
        margin = 6
        h, w = block.shape
        y, x, height, width = block.y0 - margin, block.x0 - margin, h + 2 * margin, w + 2 * margin
        pixels = self.picture.read(0, y, x, height, width)
        expected, busy = self._expected(y, x, height, width)
        rest = np.abs(pixels - expected).max(axis=-1)
        usual = np.interp(busy, self.busy, self.noise).astype(np.float32)
        near = ndimage.maximum_filter(rest, 9)
        score = np.where(rest > 0.4 * near, rest / usual, 0)
        inner = slice(margin, margin + h), slice(margin, margin + w)
        return np.asarray(score[inner], np.float32)

    def known(self, block: Block) -> NDArray[np.bool_]:
        """Pixels of the copy that lie well inside both pictures."""
        sides = []
        for start, stop, size, shift, whole in zip(
            (block.y0, block.x0),
            (block.y1, block.x1),
            self.picture.shape,
            self.shift,
            self.original.shape,
            strict=True,
        ):
            at = np.arange(start, stop)
            low = max(0, shift) + REACH + 1
            high = min(size, whole + shift) - REACH - 2
            sides.append((at >= low) & (at <= high))
        return sides[0][:, None] & sides[1][None, :]

    def to_slide(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Level-0 pixels (x, y) of places on the copy."""
        return (xy - self.shift[::-1]) * self.original.downsample[::-1]

    def _expected(self, y: int, x: int, h: int, w: int) -> tuple[Floats, Floats]:
        """What the copy would show without drawings, and how busy the slide is there."""
        around = _read(self.original, self.shift, y, x, h, w, REACH)
        plain = _convolved(around, self.kernel)
        out = np.empty_like(plain)
        for top in range(0, h, 256):  # the terms are many
            part = slice(top, top + 256)
            out[part] = _toned(plain[part].reshape(-1, 3), self.tone).reshape(-1, w, 3)
        return out, _busyness(out)


def compare(picture: Slide, slide: Slide, scale: tuple[float, float]) -> Comparison:
    """Fit a slide to its copy.

    Parameters
    ----------
    picture
        The copy, with drawings.
    slide
        What was copied.
    scale
        Level-0 pixels a pixel of the copy (y, x), by the sizes of both.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The picture does not show this slide.
    """
    scale, shift = _aligned(picture, slide, scale)
    original = at_scale(slide, scale)
    pairs = []
    for y, x, h, w in _samples(picture.shape, PATCH):
        copy = picture.read(0, y, x, h, w).astype(np.float32)
        inner = slice(REACH + 1, h - REACH - 1), slice(REACH + 1, w - REACH - 1)
        pairs.append((copy[inner], _read(original, shift, y, x, h, w, 0)))
    kernel, tone = _fitted(pairs)
    rest, busy = [], []
    for copy, around in pairs:
        plain = _convolved(around, kernel)[1:-1, 1:-1]
        expected = _toned(plain.reshape(-1, 3), tone).reshape(plain.shape)
        rest.append(np.abs(copy - expected).max(axis=-1).ravel())
        busy.append(_busyness(expected).ravel())
    levels, noise = _noise(np.concatenate(busy), np.concatenate(rest))
    return Comparison(picture, original, shift, kernel, tone, levels, noise)


def at_scale(slide: Slide, scale: tuple[float, float]) -> WorkingImage:
    """The slide at a scale (y, x), level-0 pixels a pixel."""
    fine = [i for i, v in enumerate(slide.levels) if max(v.downsample) <= max(scale) * 1.001]
    shape = round(slide.shape[0] / scale[0]), round(slide.shape[1] / scale[1])
    mpp = PixelSize(slide.mpp.y * scale[0], slide.mpp.x * scale[1])
    return WorkingImage(slide, max(fine, default=0), shape, mpp, scale)


def _read(
    original: WorkingImage, shift: tuple[float, float], y: int, x: int, h: int, w: int, margin: int
) -> Floats:
    """The original under a rectangle of the copy, to the nearest pixel, and a margin around it."""
    dy, dx = (round(s) for s in shift)
    size = h + 2 * margin, w + 2 * margin
    return original.read(y - dy - margin, x - dx - margin, *size).astype(np.float32)


def _samples(shape: tuple[int, int], side: int) -> list[tuple[int, int, int, int]]:
    """Rectangles (y, x, h, w) spread over a picture, all of it where it is small."""
    sides = [min(side, n) for n in shape]
    starts = [
        np.unique(np.linspace(0, n - s, min(PATCHES, -(-n // s))).astype(int))
        for n, s in zip(shape, sides, strict=True)
    ]
    return [(int(y), int(x), sides[0], sides[1]) for y in starts[0] for x in starts[1]]


def _aligned(
    picture: Slide, slide: Slide, scale: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The scale (y, x) and shift (y, x) at which the slide matches the copy best."""
    coarse = _coarse_shift(picture, slide, scale)
    original = at_scale(slide, scale)
    found = []
    for y, x, h, w in _samples(picture.shape, PATCH):
        copy = picture.read(0, y, x, h, w).mean(axis=-1)
        own = _read(original, coarse, y, x, h, w, 0).mean(axis=-1)
        if min(float(copy.std()), float(own.std())) < TEXTURE:
            continue
        rest = phase_cross_correlation(
            _windowed(copy), _windowed(own), upsample_factor=10, normalization=None
        )[0]
        moved = ndimage.shift(own, rest, order=1, mode="nearest")
        alike = float(np.corrcoef(copy.ravel(), moved.ravel())[0, 1])
        at = y + h / 2, x + w / 2
        found.append((alike, *at, coarse[0] + rest[0], coarse[1] + rest[1]))
    if not found:  # nothing to see on it
        return scale, coarse
    values = np.array(found)
    if np.median(values[:, 0]) < ALIKE:
        raise InputError(
            f"{picture.path}: what it shows is not what {slide.path} shows (correlation"
            f" {np.median(values[:, 0]):.2f}); give a copy of this slide, neither turned nor mirrored"
        )
    good = values[values[:, 0] >= min(0.7, float(np.median(values[:, 0])))]
    new_scale, new_shift = [], []
    for axis in (0, 1):
        slope, start = _line(good[:, 1 + axis], good[:, 3 + axis], picture.shape[axis])
        new_scale.append(scale[axis] * (1 - slope))
        new_shift.append(start / (1 - slope))
    return (new_scale[0], new_scale[1]), (new_shift[0], new_shift[1])


def _line(at: NDArray[np.float64], shift: NDArray[np.float64], size: int) -> tuple[float, float]:
    """Slope and start of shifts along an axis; a slope that hardly shows is none."""
    middle = float(np.median(shift))
    near = np.abs(shift - middle) <= 3
    at, shift = at[near], shift[near]
    if np.ptp(at) > size / 3 and len(at) >= 6:
        i, j = np.triu_indices(len(at), 1)
        far = np.abs(at[i] - at[j]) > size / 4
        slope = float(np.median((shift[i] - shift[j])[far] / (at[i] - at[j])[far]))
        if 0.4 < abs(slope) * size < 6:
            return slope, float(np.median(shift - slope * at))
    return 0.0, middle


def _coarse_shift(
    picture: Slide, slide: Slide, scale: tuple[float, float]
) -> tuple[float, float]:
    """The shift of the copy as a whole, to a pixel of two small pictures, in pixels of the copy."""
    step = max(1.0, max(picture.shape) / COARSE)
    small = at_scale(picture, (step, step))
    own = at_scale(slide, (scale[0] * step, scale[1] * step))
    h, w = (min(a, b) for a, b in zip(small.shape, own.shape, strict=True))
    copy, original = (_windowed(image.read(0, 0, h, w).mean(axis=-1)) for image in (small, own))
    if min(float(copy.std()), float(original.std())) < 1e-3:
        return 0.0, 0.0
    candidates = [np.zeros(2)]
    for normalization in ("phase", None):
        shift = phase_cross_correlation(copy, original, normalization=normalization)[0]
        if (np.abs(shift) <= FARTHEST * np.array([h, w])).all():
            candidates.append(shift)
    scores = [np.sum(copy * np.roll(original, s.astype(int), (0, 1))) for s in candidates]
    best = candidates[int(np.argmax(scores))] * step
    return float(best[0]), float(best[1])


def _windowed(grey: NDArray[np.floating]) -> NDArray[np.float64]:
    """A picture without its mean, fading to its edges."""
    window = np.hanning(grey.shape[0] + 2)[1:-1, None] * np.hanning(grey.shape[1] + 2)[None, 1:-1]
    return np.asarray((grey - np.median(grey)) * window, np.float64)


def _convolved(around: Floats, kernel: Floats) -> Floats:
    """The picture inside a margin of `REACH`, each pixel a weighted sum of those around it."""
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


def _toned(rgb: Floats, tone: NDArray[np.float64]) -> Floats:
    """Colours (n, 3) through the map."""
    return np.clip(_terms(rgb) @ tone.astype(np.float32), 0, 255)


def _fitted(pairs: list[tuple[Floats, Floats]]) -> tuple[Floats, NDArray[np.float64]]:
    """The kernel and the map of colours that take the original to the copy."""
    side = 2 * REACH + 1
    kernel = np.zeros((side, side), np.float32)
    kernel[REACH, REACH] = 1
    copy = np.concatenate([c.reshape(-1, 3) for c, _ in pairs])
    chosen = np.linspace(0, len(copy) - 1, min(len(copy), 120_000)).astype(int)
    # blurred, so that another resampling and a part of a pixel hardly matter
    soft = [ndimage.gaussian_filter(o, (1.5, 1.5, 0))[3:-3, 3:-3].reshape(-1, 3) for _, o in pairs]
    blurred = [ndimage.gaussian_filter(c, (1.5, 1.5, 0)).reshape(-1, 3) for c, _ in pairs]
    tone = _tone(np.concatenate(soft)[chosen], np.concatenate(blurred)[chosen])
    for _ in range(2):
        toned = [_toned(o.reshape(-1, 3), tone).reshape(o.shape) for _, o in pairs]
        kernel = _kernel(toned, copy, chosen)
        plain = [_convolved(o, kernel)[1:-1, 1:-1].reshape(-1, 3) for _, o in pairs]
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
        keep = rest <= max(4.5 * float(np.median(rest)), 4.0)
        tone = _least_squares(terms[keep], target[keep])
    return tone


def _first_tone(own: Floats, copy: Floats) -> NDArray[np.float64]:
    """A first map: by the medians of every colour that the slide has often."""
    code = (own.astype(int) >> 5) @ np.array([64, 8, 1])
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    groups = [g for g in np.split(order, starts[1:]) if len(g) >= max(20, len(own) // 5000)]
    if len(groups) < 4:
        groups = np.split(order, starts[1:])
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


def _busyness(rgb: Floats) -> Floats:
    """How much a picture changes around each pixel, grey levels."""
    grey = rgb.mean(axis=-1)
    high = ndimage.maximum_filter(grey, 5) - ndimage.minimum_filter(grey, 5)
    return np.asarray(ndimage.uniform_filter(high, 5), np.float32)


def _noise(
    busy: Floats, rest: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Busyness and the usual residual at it, which never falls as busyness grows."""
    edges = np.unique(np.quantile(busy, np.linspace(0, 1, BINS + 1)))
    which = np.clip(np.searchsorted(edges, busy, "right") - 1, 0, max(0, len(edges) - 2))
    levels, noise = [], []
    for index in range(max(1, len(edges) - 1)):
        own = which == index
        if np.count_nonzero(own) < 50:
            continue
        levels.append(float(np.median(busy[own])))
        noise.append(max(float(np.median(rest[own])), 1.0))
    if not levels:
        return np.array([0.0]), np.array([1.0])
    return np.array(levels), np.maximum.accumulate(noise)
