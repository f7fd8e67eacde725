"""Every rotation, both mirror images, every translation: where two pictures agree, coarsely.

For one rotation the Gaussian mutual information (`msiscale.registration.agreement`) at all
translations together follows from cross-correlations of the channels and their products over the
pixels that count in both, by FFT: the masked correlation of Padfield [1]_ with several channels.

.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21 (2012) 2706-2718.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from msiscale.grid import Floats, scaling, translation
from msiscale.registration.agreement import RIDGE, whitened
from msiscale.registration.picture import Picture, Sampler, coarsened

PIXELS = 48  # of the MSI on its longer side, at most, in the search
FIELD = 256  # of the slide
LEAST_ACROSS = 20  # pixels of the MSI that are kept however large the slide is
MSI_CHANNELS = 5  # the first ones
SLIDE_CHANNELS = 4  # of the whitened, the strongest
STEP = 7.5  # degrees
A_ROTATION = 3  # best translations that are kept of each
_AT_ONCE = 4096  # determinants


@dataclass(frozen=True)
class Start:
    """A rotation, mirror image and translation, from µm to µm as in a `Pose`; ``score`` in nats."""

    score: float
    degrees: float
    mirrored: bool
    matrix: Floats


def turned(degrees: float, mirrored: bool) -> Floats:
    """Rotation by `degrees` after an optional flip of x."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return turn @ scaling(-1.0, 1.0) if mirrored else turn


def search(
    msi: Picture, slide: Picture, *, least_overlap: float = 0.5, step: float = STEP
) -> list[Start]:
    """The best translations of every rotation and mirror image, best first."""
    # memory is bounded by `FIELD` and `PIXELS`, whatever the size of the pictures
    extent, field = msi.longest_um, slide.longest_um
    side = max(extent / PIXELS, min(field / FIELD, extent / LEAST_ACROSS), *msi.pixel_um)
    small_msi, msi_um = coarsened(msi, side)
    small_slide, slide_um = coarsened(slide, side)
    small_msi = small_msi.channels(whitened(small_msi.values[..., :MSI_CHANNELS]))
    small_slide = small_slide.channels(whitened(small_slide.values)[..., :SLIDE_CHANNELS])
    correlate = _Correlator(small_msi, small_slide, least_overlap)
    found = []
    for mirrored in (False, True):
        for degrees in np.arange(0.0, 360.0, step):
            for score, matrix in correlate(turned(degrees, mirrored)):
                whole = slide_um @ matrix @ np.linalg.inv(msi_um)
                found.append(Start(score, float(degrees), mirrored, whole))
    return sorted(found, key=lambda start: -start.score)


class _Correlator:
    """Agreement of one MSI, turned at will, with one slide whose transforms are kept."""

    def __init__(self, msi: Picture, slide: Picture, least_overlap: float) -> None:
        self.msi, self.slide, self.least = msi, slide, least_overlap
        self.sample = Sampler(msi)
        diagonal = math.hypot(msi.shape[0] * msi.pixel_um.y, msi.shape[1] * msi.pixel_um.x)
        self.across = math.ceil(diagonal / min(slide.pixel_um)) + 2
        self.shape = tuple(fft.next_fast_len(n + self.across, real=True) for n in slide.shape)
        self.of_slide = fft.rfft2(_layers(slide.values), self.shape)

    def __call__(self, turn: Floats) -> list[tuple[float, Floats]]:
        """The best translations of one rotation: score, matrix from µm to µm."""
        n = self.across
        middle = (np.array(self.msi.shape[::-1]) - 1) / 2
        # MSI indices to those of a turned copy (n, n) on the slide's pixels, middle to middle
        turning = np.linalg.inv(self.slide.to_um) @ turn @ self.msi.to_um
        to_copy: Floats = translation((n - 1) / 2, (n - 1) / 2) @ turning @ translation(*-middle)
        sums = self._sums(self.sample(np.linalg.inv(to_copy).astype(np.float64), (n, n)))
        best = []
        for score, row, column in _peaks(sums, self.msi.values.shape[-1], self.least, n // 8):
            shift = translation(column - (n - 1), row - (n - 1))
            matrix = self.slide.to_um @ shift @ to_copy @ np.linalg.inv(self.msi.to_um)
            best.append((score, matrix))
        return best

    def _sums(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sums over the overlap at every shift of the copy ``x (n, n, p)``; none: n - 1, n - 1."""
        # layers (1 + c + c (c + 1) / 2, h, w) of c = p + q channels, as those of `_layers`
        n, p, q = self.across, x.shape[-1], self.slide.values.shape[-1]
        own = np.conj(fft.rfft2(_layers(x), self.shape))
        # layer 0 is the mask, 1... the channels, then their products
        pairs = [(0, 0), *((1 + i, 0) for i in range(p)), *((0, 1 + j) for j in range(q))]
        of_x, of_y = _places(p), _places(q)
        for i, j in _couples(p + q):
            if j < p:
                pairs.append((of_x[i, j], 0))
            elif i >= p:
                pairs.append((0, of_y[i - p, j - p]))
            else:
                pairs.append((1 + i, 1 + j - p))
        first, second = np.array(pairs).T
        whole = fft.irfft2(own[first] * self.of_slide[second], self.shape)
        whole = np.roll(whole, (n - 1, n - 1), axis=(-2, -1))
        height, width = (extent + n - 1 for extent in self.slide.shape)
        return np.asarray(whole[:, :height, :width])


def _peaks(
    sums: NDArray[np.float32], p: int, least: float, apart: int
) -> list[tuple[float, int, int]]:
    """The best shifts: score, row, column. Every other one is tried, then those around the best."""
    most = sums[0].max()
    if most < 1:
        return []
    valid = sums[0] >= max(least * most, 4.0 * p)
    total = np.zeros(valid.shape)

    def fill(where: NDArray[np.bool_]) -> None:
        rows, columns = np.nonzero(where & valid & (total == 0))
        total[rows, columns] = _scores(sums[:, rows, columns].astype(np.float64), p)

    def peaks() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        top = (total == ndimage.maximum_filter(total, max(3, apart) | 1)) & (total > 0)
        rows, columns = np.nonzero(top)
        order = np.argsort(-total[rows, columns], kind="stable")[:A_ROTATION]
        return rows[order], columns[order]

    every_other = np.zeros(valid.shape, bool)
    every_other[::2, ::2] = True
    fill(every_other)
    near = np.zeros(valid.shape, bool)
    near[peaks()] = True
    fill(ndimage.binary_dilation(near, np.ones((3, 3), bool)))
    return [(float(total[r, c]), int(r), int(c)) for r, c in zip(*peaks(), strict=True)]


def _scores(sums: Floats, p: int) -> Floats:
    """Nats of sums (1 + c + products, n), of which the first p channels are of the MSI."""
    count = sums[0]
    c = int((np.sqrt(8 * len(sums) + 1) - 3) / 2)  # as 1 + c + c (c + 1) / 2 are the sums
    means = sums[1 : 1 + c] / count
    joint = np.empty((len(count), c, c))
    for k, (i, j) in enumerate(_couples(c), 1 + c):
        joint[:, i, j] = joint[:, j, i] = sums[k] / count - means[i] * means[j]
    joint[:, np.arange(c), np.arange(c)] += RIDGE
    parts = [np.zeros(0)]
    for start in range(0, len(joint), _AT_ONCE):
        some = joint[start : start + _AT_ONCE]
        whole, x, y = (np.linalg.slogdet(m)[1] for m in (some, some[:, :p, :p], some[:, p:, p:]))
        parts.append(0.5 * (x + y - whole))
    return np.asarray(count * np.concatenate(parts))


def _layers(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mask, channels, and their products: float32 (1 + c + c (c + 1) / 2, h, w)."""
    mask = np.isfinite(values).all(axis=-1)
    filled = np.moveaxis(np.where(mask[..., None], values, 0.0), -1, 0).astype(np.float32)
    products = [filled[i] * filled[j] for i, j in _couples(len(filled))]
    return np.stack([mask.astype(np.float32), *filled, *products])


def _couples(c: int) -> list[tuple[int, int]]:
    """Channels i <= j, in the order of their products."""
    return [(i, j) for i in range(c) for j in range(i, c)]


def _places(c: int) -> dict[tuple[int, int], int]:
    """Layer of each product of `_layers`."""
    return {couple: 1 + c + k for k, couple in enumerate(_couples(c))}
