"""How near a restored ion image is to the one that was measured: mergeable sums over cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from msiscale.grid import Floats

WINDOW = 7  # pixels a side of a window of SSIM
REACH = WINDOW // 2


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums over pixels of t ion images, truth (a) and restored (b); add those of several cells."""

    n: float  # pixels
    mean_a: Floats  # (t,), as are all others
    mean_b: Floats
    saa: Floats  # scatter about the means
    sbb: Floats
    sab: Floats
    square: Floats  # squared errors
    similar: Floats  # structural similarities
    windows: float  # of these

    @classmethod
    def of(
        cls,
        truth: NDArray[Any],
        restored: NDArray[Any],
        mask: NDArray[np.bool_],
        core: tuple[slice, slice],
        span: Floats,
    ) -> Scores:
        """Sum over a cell; the images have `REACH` pixels around it, as far as there are any.

        Parameters
        ----------
        truth
            (h, w, t) ion images as measured.
        restored
            (h, w, t) ion images, restored.
        mask
            (h, w) bool, pixels that count.
        core
            Rows and columns of the cell within the images.
        span
            (t,) float64, range of each ion over the specimen; where it is 0, no SSIM is summed.

        Returns
        -------
        Scores
            Of the cell's pixels in the mask.
        """
        inside = np.zeros(mask.shape, bool)
        inside[core] = mask[core]
        a, b = (v[inside].astype(np.float64) for v in (truth, restored))
        n, t = len(a), truth.shape[2]
        mean_a, mean_b = (v.mean(axis=0) if n else np.zeros(t) for v in (a, b))
        da, db = a - mean_a, b - mean_b
        similar, windows = _similarity(truth, restored, mask, inside, span)
        return cls(
            float(n),
            mean_a,
            mean_b,
            (da * da).sum(axis=0),
            (db * db).sum(axis=0),
            (da * db).sum(axis=0),
            ((a - b) ** 2).sum(axis=0),
            similar,
            windows,
        )

    def __add__(self, other: Scores) -> Scores:
        n = self.n + other.n
        if not n:
            return self
        root = self.n * other.n / n
        da, db = other.mean_a - self.mean_a, other.mean_b - self.mean_b
        return Scores(
            n,
            self.mean_a + da * (other.n / n),
            self.mean_b + db * (other.n / n),
            self.saa + other.saa + root * da * da,
            self.sbb + other.sbb + root * db * db,
            self.sab + other.sab + root * da * db,
            self.square + other.square,
            self.similar + other.similar,
            self.windows + other.windows,
        )

    def values(self) -> dict[str, Floats]:
        """``correlation``, ``rmse`` (in the ion's standard deviations), ``ssim``: (t,), or NaN."""
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = self.sab / np.sqrt(self.saa * self.sbb)
            rmse = np.sqrt(self.square / self.saa)
            ssim = self.similar / self.windows if self.windows else np.full(len(self.saa), np.nan)
        flat = self.saa <= 0
        return {
            "correlation": np.where(np.isfinite(correlation), correlation, np.nan),
            "rmse": np.where(flat, np.nan, rmse),
            "ssim": np.where(flat, np.nan, ssim),
        }


def _similarity(
    truth: NDArray[Any],
    restored: NDArray[Any],
    mask: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    span: Floats,
) -> tuple[Floats, float]:
    """Sum of SSIM (Wang et al. 2004) over the windows in the mask whose centre is inside."""
    total = np.zeros(truth.shape[2])
    whole = ndimage.binary_erosion(mask, np.ones((WINDOW, WINDOW), bool)) & inside
    if min(mask.shape) < WINDOW or not whole.any():
        return total, 0.0
    similarity: Any = structural_similarity  # without types
    for i in np.flatnonzero(span > 0):
        a, b = (np.where(mask, v[..., i], 0).astype(np.float64) for v in (truth, restored))
        _, found = similarity(a, b, win_size=WINDOW, data_range=span[i], full=True)
        total[i] = found[whole].sum()
    return total, float(whole.sum())
