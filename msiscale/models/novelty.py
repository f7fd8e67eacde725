"""How far a feature vector lies from those of the training, and how foreign its direction is.

The distance is Mahalanobis'. Features of networks have heavy tails, so that a distance alone
hardly tells another stain from a bright spot; the share of a deviation that the directions of the
training leave unexplained does not depend on its size and, averaged over a neighbourhood, does.

The covariance is that of the standardised features, kept as its leading eigenvectors and one
variance for all that is left of the space (probabilistic PCA: Tipping and Bishop 1999, J. R. Stat.
Soc. B 61:611-622), so that it can be inverted with fewer pixels than channels and stored small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from msiscale.models.joint import LinearMap
from msiscale.saving import Layout, Read, Saved
from msiscale.threads import one_blas_thread

Float32 = NDArray[np.float32]
Counts = NDArray[np.int64]

SHARE = 0.99  # of the variance that the leading directions hold
MOST = 256  # of them: 4 kB a channel at most
LEAST = 1e-6  # of the mean variance: what is left of the space has at least this much
LEVELS = ("0.5", "0.9", "0.95", "0.99", "0.999")
LEVEL = "0.99"  # of the quantile above which a pixel is flagged
NEAR = 2.0  # MSI pixels: standard deviation of the neighbourhood of `foreign`
EDGES = np.geomspace(1e-2, 1e4, 6001)  # of the histograms: 0.23 % a bin


@dataclass(frozen=True, eq=False)
class Novelty(Saved):
    """The distribution of the training features, in compact form.

    Attributes
    ----------
    mean (p,) : float32
    inverse (p,) : float32, what ``x - mean`` is multiplied by; 0 for a channel that never varied.
    axes (p, r) : float32, leading eigenvectors of the covariance of the standardised features.
    variance (r,) : float32, along them.
    rest : float, variance of every direction that is not among them.
    """

    layout = Layout(
        "novelty",
        "distribution of features",
        {
            "mean": ("channel",),
            "inverse": ("channel",),
            "axes": ("channel", "direction"),
            "variance": ("direction",),
        },
        ("rest",),
    )

    mean: Float32
    inverse: Float32
    axes: Float32
    variance: Float32
    rest: float

    @classmethod
    def of(cls, mapped: LinearMap, *, share: float = SHARE, most: int = MOST) -> Novelty:
        """From the standardised features' principal axes.

        Parameters
        ----------
        mapped : LinearMap
            ``z = (x - mean) / scale @ vectors``, all of them, variances ascending:
            ``FoldModel.maps["cancer_from_he"]``.
        share, most
            Directions kept: the fewest that hold this share of the variance, `most` at most.

        Returns
        -------
        Novelty

        Raises
        ------
        ValueError
            No channel varies, or `mapped` has fewer axes than channels.
        """
        matrix = np.asarray(mapped.matrix, dtype=np.float64)
        inverse = np.sqrt((matrix**2).sum(axis=1))  # rows of `vectors` have length 1
        used = inverse > 0
        values = np.asarray(mapped.variance, dtype=np.float64)[::-1]
        total = float(values.sum())
        if matrix.shape[0] != matrix.shape[1] or not total > 0:
            raise ValueError("a distance needs every principal axis, and features that vary")
        vectors = np.divide(
            matrix, inverse[:, None], out=np.zeros_like(matrix), where=used[:, None]
        )
        mean = np.divide(
            -(vectors @ mapped.offset), inverse, out=np.zeros(len(inverse)), where=used
        )
        kept = min(int(np.searchsorted(np.cumsum(values) / total, share)) + 1, most, len(values))
        n = int(used.sum())
        rest = max(float(values[kept:].sum()) / max(n - kept, 1), LEAST * total / n)
        return cls(
            mean.astype(np.float32),
            inverse.astype(np.float32),
            np.ascontiguousarray(vectors[:, ::-1][:, :kept]).astype(np.float32),
            np.maximum(values[:kept], rest).astype(np.float32),
            rest,
        )

    def measure(self, features: NDArray[Any]) -> tuple[Float32, Float32]:
        """How far feature vectors are from those of the training.

        Parameters
        ----------
        features : (..., p) float32
            NaN where there are none.

        Returns
        -------
        distance : (...) float32, NaN where a feature is
            ``sqrt(d' C^-1 d / p)``, d the deviation from the mean and C the covariance: the mean
            square over the training is 1.
        unexplained : (...) float32, likewise
            Length of the part of d that is outside the `axes`, over that of d: 0..1.
        """
        scaled = (np.asarray(features, np.float32) - self.mean) * self.inverse
        with one_blas_thread():
            along = scaled @ self.axes
            outside = scaled - along @ self.axes.T  # not |scaled|² - |along|², which cancels
        beyond = (outside**2).sum(axis=-1)
        square = (along**2 / self.variance).sum(axis=-1) + beyond / self.rest
        distance = np.sqrt(square / np.count_nonzero(self.inverse))
        whole = np.maximum((scaled**2).sum(axis=-1), np.finfo(np.float32).tiny)
        unexplained = np.sqrt(np.minimum(beyond / whole, 1))
        return distance.astype(np.float32), unexplained.astype(np.float32)


def foreign(unexplained: Float32, pixels: float) -> Float32:
    """Mean over a neighbourhood: foreign stain or tissue is a property of a place, not of a pixel.

    Parameters
    ----------
    unexplained : (y, x) float32
        The share of `Novelty.measure`; NaN where there is none, which does not count.
    pixels : float
        Of the map in an MSI pixel, `NEAR` of which the Gaussian is wide.

    Returns
    -------
    (y, x) float32, NaN where `unexplained` is
    """
    known = np.isfinite(unexplained)
    values = np.where(known, unexplained, 0).astype(np.float32)
    total = gaussian_filter(values, NEAR * pixels, mode="constant")
    weight = gaussian_filter(known.astype(np.float32), NEAR * pixels, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, total / weight, np.float32(np.nan)).astype(np.float32)


def histogram(measures: ArrayLike) -> Counts:
    """Count measures in the bins of `EDGES`.

    Parameters
    ----------
    measures
        Of any shape; those that are not finite do not count, those beyond the edges count in the
        outermost bins.

    Returns
    -------
    ndarray
        (6000,) int64.
    """
    values = np.asarray(measures, dtype=np.float64)
    values = np.clip(values[np.isfinite(values)], EDGES[0], EDGES[-1])
    return np.histogram(values, EDGES)[0].astype(np.int64)


def pooled_quantiles(
    counts: Mapping[str, Counts], groups: Mapping[str, str], levels: Sequence[float]
) -> list[float]:
    """Quantiles of a measure in which every group (patient) counts the same.

    Parameters
    ----------
    counts : mapping of unit (specimen) to (6000,) int64
        Of `histogram`.
    groups : mapping of unit to group
        Of every unit.
    levels : sequence of float
        0..1.

    Returns
    -------
    list of float: upper edges of the bins, at most 0.23 % above the exact quantile

    Raises
    ------
    ValueError
        Nothing was counted.
    """
    pooled: dict[str, Counts] = {}
    for unit, mine in counts.items():
        pooled[groups[unit]] = pooled.get(groups[unit], np.zeros_like(mine)) + mine
    parts = [c / c.sum() for c in pooled.values() if c.sum()]
    if not parts:
        raise ValueError("there are no values to take quantiles of")
    share = np.cumsum(np.sum(parts, axis=0)) / len(parts)
    bins = np.searchsorted(share, np.asarray(levels) * (1 - 1e-12))
    return [float(EDGES[1:][min(int(b), len(EDGES) - 2)]) for b in bins]


@dataclass(frozen=True)
class Limits(Saved):
    """Above which a pixel is called extrapolated: quantiles of the training's own measures.

    Attributes
    ----------
    distance, unexplained : mapping of level to quantile, of the distances and of `foreign`
    by : "leave_one_patient_out", each patient measured against the others, or "training" (one
        patient only, against itself: too kind)
    """

    layout = Layout()

    distance: dict[str, float]
    unexplained: dict[str, float]
    by: str

    def exceeded(self, distance: Float32, unexplained: Float32, pixels: float) -> NDArray[np.bool_]:
        """Where a pixel is called extrapolated.

        Parameters
        ----------
        distance, unexplained : (y, x) float32
            Maps of both measures, NaN off the tissue.
        pixels : float
            Of the maps in an MSI pixel.

        Returns
        -------
        (y, x) bool, False where a map is NaN
        """
        far = np.nan_to_num(distance) > self.distance[LEVEL]
        away = np.nan_to_num(foreign(unexplained, pixels)) > self.unexplained[LEVEL]
        return np.asarray(far | away)

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """One attribute, of whatever group."""
        return {}, {"limits": {"level": LEVEL, **asdict(self)}}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> Limits:
        """Read the limits from that attribute."""
        found = attrs["limits"]
        return cls(found["distance"], found["unexplained"], found["by"])
