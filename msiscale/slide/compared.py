"""Where a copy of a slide differs from the slide: what somebody drew on it.

A copy is resampled in some unknown way, may be shifted by a few pixels, brighter, of higher
contrast or more saturated, and compressed. All of that is fitted, on samples from all over the
picture and robustly, so that what is drawn does not count: a shift, a small difference of scale, a
kernel of 5 x 5 pixels and a map of colours. What the fit leaves is measured against the noise that
is usual where the slide is as busy as there.
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
ROUNDS = 3  # of the robust fits
FAR = 12  # pixels to which a compression carries an edge
BLUR = 0.7  # pixels (sd) over which the residual is averaged
LEVELS = (0.3, 0.5, 0.65, 0.8, 0.9)  # quantiles that part the busyness in which noise is measured
TAIL, TAIL_SD = 0.9, 1.65  # the noise is this quantile, as a multiple of the standard deviation
LEAST_NOISE = 0.7  # grey levels
MAP_ERROR = 0.05  # of what the map of colours changes, by which it may be wrong
OF_A_COLOUR = 1500  # samples of it at the most
CLIPPED = (3.0, 252.0)  # grey levels beyond which a copy says only "at least so dark", "so bright"


@dataclass(frozen=True)
class Comparison:
    """A copy beside the slide. Make one with `compare`."""

    picture: Slide
    original: WorkingImage  # the slide at the copy's scale
    shift: tuple[
        float, float
    ]  # (y, x), in pixels of the copy, by which it shows the slide farther on
    kernel: Floats
    tone: NDArray[np.float64]
    noise: Noise

    def differs(self, block: Block) -> Floats:
        """Residual of a block of the copy, as a multiple of the noise; 0 in the blur of a line."""
        margin = 2 * FAR
        h, w = block.shape
        y, x, height, width = block.y0 - margin, block.x0 - margin, h + 2 * margin, w + 2 * margin
        pixels = self.picture.read(0, y, x, height, width)
        expected, change = self._expected(y, x, height, width)
        rest = _residual(pixels, expected)
        near = ndimage.maximum_filter(rest, 9)
        score = np.where(
            rest > 0.4 * near, rest / (self.noise.usual(expected) + MAP_ERROR * change), 0
        )
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
        """What the copy would show without drawings, and how far that is from the slide."""
        around = _read(self.original, self.shift, y, x, h, w, REACH)
        plain = _convolved(around, self.kernel)
        out = np.empty_like(plain)
        for top in range(0, h, 256):  # the terms are many
            part = slice(top, top + 256)
            out[part] = _toned(plain[part].reshape(-1, 3), self.tone).reshape(-1, w, 3)
        return out, np.abs(out - plain).max(axis=-1)


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
    samples = []
    for copy, around in pairs:
        plain = _convolved(around, kernel)[1:-1, 1:-1]
        expected = _toned(plain.reshape(-1, 3), tone).reshape(plain.shape)
        samples.append((_residual(copy, expected), expected))
    return Comparison(picture, original, shift, kernel, tone, Noise.of(samples))


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
            f"{picture.path}: it does not show what {slide.path} shows (correlation"
            f" {np.median(values[:, 0]):.2f}); give a copy of this slide, neither turned nor"
            " mirrored"
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


def _coarse_shift(picture: Slide, slide: Slide, scale: tuple[float, float]) -> tuple[float, float]:
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
    # blurred, so that another resampling and a part of a pixel hardly matter
    soft = [ndimage.gaussian_filter(o, (1.5, 1.5, 0))[3:-3, 3:-3].reshape(-1, 3) for _, o in pairs]
    blurred = [ndimage.gaussian_filter(c, (1.5, 1.5, 0)).reshape(-1, 3) for c, _ in pairs]
    chosen = _balanced(np.concatenate(soft))
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
        keep = rest <= max(3.5 * float(np.median(rest)), 6.0)
        tone = _least_squares(terms[keep], target[keep])
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


def _residual(copy: NDArray[Any], expected: Floats) -> Floats:
    """How far a copy is from what is expected, in the channel where it is farthest."""
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
        """Measure it in samples of residual and expected colours."""
        busy = [_busyness(expected) for _, expected in samples]
        edges = tuple(
            np.unique(np.quantile(np.concatenate([b[k].ravel() for b in busy]), LEVELS))
            for k in (0, 1)
        )
        shape = len(edges[0]) + 1, len(edges[1]) + 1
        found: list[list[float]] = [[] for _ in range(shape[0] * shape[1])]
        for (rest, _), pair in zip(samples, busy, strict=True):
            i, j = (np.digitize(b, e).ravel() for b, e in zip(pair, edges, strict=True))
            bins = i * shape[1] + j
            for index in np.unique(bins):
                own = rest.ravel()[bins == index]
                if len(own) >= 40:
                    found[index].append(float(np.quantile(own, TAIL)) / TAIL_SD)
        # the median of the samples: some are painted all over
        table = np.array([np.median(f) if f else 0.0 for f in found]).reshape(shape)
        table = np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)
        return cls((edges[0], edges[1]), np.maximum(table, LEAST_NOISE).astype(np.float32))

    def usual(self, expected: Floats) -> Floats:
        """The usual residual at every pixel."""
        i, j = (np.digitize(b, e) for b, e in zip(_busyness(expected), self.edges, strict=True))
        return np.asarray(self.table[i, j])


def _busyness(rgb: Floats) -> tuple[Floats, Floats]:
    """How much a picture changes around each pixel, close by and in the blocks of a JPEG."""
    grey = rgb.mean(axis=-1)
    change = ndimage.maximum_filter(grey, 5) - ndimage.minimum_filter(grey, 5)
    return ndimage.uniform_filter(change, 5), ndimage.maximum_filter(change, 2 * FAR + 1)
