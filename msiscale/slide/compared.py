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
from msiscale.slide.copied import REACH, Floats, convolved, fitted, recoloured
from msiscale.slide.reader import Slide
from msiscale.slide.residual import FAR, Noise, residual
from msiscale.slide.working import WorkingImage

COARSE = 768  # side of the pictures on which the shift is sought
COARSER = 6.0  # pixels (sd); what is coarser does not count when samples are compared
FARTHEST = 0.05  # of the picture's side, by which a copy may be shifted
PATCH = 192  # side of the samples
PATCHES = 6  # of them along either side of the picture
TEXTURE = 4.0  # grey levels (sd); a sample with less tells no shift
SHOWN = 0.6  # quantile of the samples' correlations, which is
ALIKE = 0.4  # at least this in a copy
CLEAR = 40.0  # grey levels; what differs so much is drawn, and not the blur of a line
MAP_ERROR = 0.05  # of what the map of colours changes, by which it may be wrong


@dataclass(frozen=True)
class Comparison:
    """A copy beside the slide. Make one with `compare`."""

    picture: Slide
    original: WorkingImage  # the slide at the copy's scale
    shift: tuple[float, float]  # (y, x), of what the copy shows, in its pixels
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
        rest = residual(pixels, expected)
        near = ndimage.maximum_filter(rest, 9)
        score = np.where(
            rest > np.minimum(0.4 * near, CLEAR),
            rest / (self.noise.usual(expected) + MAP_ERROR * change),
            0,
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
        """Level-0 pixels (x, y) of places on the copy.

        Parameters
        ----------
        xy : float64 (n, 2)
            In pixels of the copy.

        Returns
        -------
        float64 (n, 2)
        """
        return np.asarray((xy - self.shift[::-1]) * self.original.downsample[::-1])

    def _expected(self, y: int, x: int, h: int, w: int) -> tuple[Floats, Floats]:
        """What the copy would show without drawings, and how far that is from the slide."""
        around = _read(self.original, self.shift, y, x, h, w, REACH)
        plain = convolved(around, self.kernel)
        out = np.empty_like(plain)
        for top in range(0, h, 256):  # the terms are many
            part = slice(top, top + 256)
            out[part] = recoloured(plain[part].reshape(-1, 3), self.tone).reshape(-1, w, 3)
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
    kernel, tone = fitted(pairs)
    samples = []
    for copy, around in pairs:
        plain = convolved(around, kernel)[1:-1, 1:-1]
        expected = recoloured(plain.reshape(-1, 3), tone).reshape(plain.shape)
        samples.append((residual(copy, expected), expected))
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
        copy = _fine(picture.read(0, y, x, h, w))
        own = _fine(_read(original, coarse, y, x, h, w, 0))
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
    known = float(np.quantile(values[:, 0], SHOWN))  # others are painted over
    if known < ALIKE:
        raise InputError(
            f"{picture.path}: it does not show what {slide.path} shows (correlation"
            f" {known:.2f}); give a copy of this slide, neither turned nor"
            " mirrored"
        )
    good = values[values[:, 0] >= min(0.7, known)]
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


def _fine(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """What changes within some pixels: the outline of a section may fit that of another."""
    grey = rgb.mean(axis=-1, dtype=np.float32)
    return np.asarray(grey - ndimage.gaussian_filter(grey, COARSER), np.float32)


def _windowed(grey: NDArray[np.floating]) -> NDArray[np.float64]:
    """A picture without its mean, fading to its edges."""
    window = np.hanning(grey.shape[0] + 2)[1:-1, None] * np.hanning(grey.shape[1] + 2)[None, 1:-1]
    return np.asarray((grey - np.median(grey)) * window, np.float64)
