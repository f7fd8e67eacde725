"""Corrections between specimens, made of intensities alone: no label is looked at.

Each is a map of a specimen's intensities, an m/z at a time, from its own numbers and, of two of
them, a reference that the training patients give. A specimen that is held out is corrected by its
own unlabelled intensities towards the training's reference, of which it was no part.

`background_ratio` divides by what the specimen has off the tissue. `combat` (Johnson, Li and
Rabinovic 2007, Biostatistics 8:118) moves mean and variance, each specimen a batch, with its
estimates shrunk over the m/z by empirical Bayes. `Quantiles` maps a specimen's values onto the
reference's quantiles (Bolstad et al. 2003, Bioinformatics 19:185, an m/z at a time).

None of them can tell the instrument from the tissue: `combat` and `Quantiles` take away whatever
sets a specimen apart as a whole, a tumour that fills half of it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.grid import Floats
from msiscale.models.moments import Moments
from msiscale.models.spread import Spread
from msiscale.saving import Layout, Saved
from msiscale.store import open_group

LEVELS = np.linspace(0, 1, 101)  # of the quantiles that stand for a distribution
LEAST_BACKGROUND = 100  # pixels off the tissue, of which a mean spectrum is worth dividing by
CONVERGED, MOST_ROUNDS = 1e-6, 1000  # of ComBat's alternating estimates


@dataclass(frozen=True, eq=False)
class Affine(Saved):
    """Each m/z times its gain plus its offset.

    Attributes
    ----------
    gain, offset : (q,) float64
    """

    layout = Layout("affine", "affine correction", {"gain": ("mz",), "offset": ("mz",)})

    gain: Floats
    offset: Floats

    def apply(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Correct intensities.

        Parameters
        ----------
        rows
            (n, q).

        Returns
        -------
        ndarray
            (n, q) float32.
        """
        return (rows * self.gain + self.offset).astype(np.float32)

    def of_moments(self, sums: Moments) -> Moments:
        """The sums of the corrected rows, exactly: intensities are m of `sums`, x stays."""
        return replace(
            sums,
            mean_m=sums.mean_m * self.gain + self.offset,
            sxm=sums.sxm * self.gain,
            smm=sums.smm * np.outer(self.gain, self.gain),
        )


@dataclass(frozen=True, eq=False)
class Quantiles(Saved):
    """Each m/z mapped from quantiles to others, linearly between them.

    Attributes
    ----------
    own, reference : (levels, q) float64, each column ascending
    """

    layout = Layout(
        "quantiles",
        "quantile correction",
        {"own": ("level", "mz"), "reference": ("level", "mz")},
    )

    own: Floats
    reference: Floats

    def apply(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Correct intensities.

        Parameters
        ----------
        rows
            (n, q).

        Returns
        -------
        ndarray
            (n, q) float32; of a value beyond the outermost quantile, that one's image.
        """
        out = np.empty(rows.shape, np.float32)
        for j in range(rows.shape[1]):
            own, first = np.unique(self.own[:, j], return_index=True)
            # levels of one value, such as many zeros, share the mean of their images
            counts = np.diff(np.append(first, len(self.own)))
            image = np.add.reduceat(self.reference[:, j], first) / counts
            out[:, j] = np.interp(rows[:, j], own, image)
        return out


Correction = Affine | Quantiles


def load_correction(url: str) -> Correction:
    """Read what `save` wrote of either kind."""
    group = open_group(url)
    kind = Quantiles if group.attrs.get("kind") == Quantiles.layout.kind else Affine
    return kind.load(group)


def background_ratio(off: Spread, *, logarithms: bool = False) -> Affine:
    """Intensities relative to the specimen's own mean spectrum off the tissue.

    The divisor is that mean plus its average over the m/z, so that an m/z which is not there off
    the tissue is not divided by nothing.

    Parameters
    ----------
    off : Spread
        Of the measured pixels off the tissue.
    logarithms : bool
        Intensities are logarithms, whose ratio is a difference.

    Returns
    -------
    Affine

    Raises
    ------
    ValueError
        Fewer than `LEAST_BACKGROUND` pixels, or no intensity in them.
    """
    if off.rows < LEAST_BACKGROUND:
        raise ValueError(
            f"{off.rows} measured pixels off the tissue, and {LEAST_BACKGROUND} are needed"
        )
    if logarithms:
        return Affine(np.ones_like(off.mean), -off.mean)
    floor = float(off.mean.mean())
    if floor <= 0:
        raise ValueError("no intensity in the pixels off the tissue")
    return Affine(1 / (off.mean + floor), np.zeros_like(off.mean))


def quantile_table(values: ArrayLike) -> Floats:
    """Summarise a distribution by its quantiles.

    Parameters
    ----------
    values
        (n, q) intensities, n of 1 or more.

    Returns
    -------
    ndarray
        (levels, q) float64, those at `LEVELS`.
    """
    return np.quantile(np.asarray(values, np.float64), LEVELS, axis=0)


def reference_quantiles(patients: Sequence[Sequence[Floats]]) -> Floats:
    """Average quantiles over patients, each of whom counts once.

    Parameters
    ----------
    patients
        Of each patient the tables (levels, q) of its specimens.

    Returns
    -------
    ndarray
        (levels, q) float64.
    """
    return np.asarray(np.mean([np.mean(tables, axis=0) for tables in patients], axis=0))


def combat(training: Sequence[Spread], own: Spread) -> Affine:
    """ComBat of a specimen with the parameters of the training batches.

    Mean and pooled variance of each m/z, which standardise, are the training's alone. The prior of
    a batch is made of its own estimates over the m/z, as in the original, so a batch that was not
    in the training is treated as those in it are.

    Parameters
    ----------
    training : sequence of Spread
        Of the intensities of each batch (specimen) of the training.
    own : Spread
        Of the batch that is to be corrected, of two rows or more; it may be one of `training`.

    Returns
    -------
    Affine
        That of nothing (gain 1, offset 0) for an m/z that does not vary within the training's
        batches, or within this one.
    """
    n = sum(part.n for part in training)
    grand = np.sum([part.n * part.mean for part in training], axis=0) / n
    scale = np.sqrt(np.sum([part.scatter for part in training], axis=0) / n)
    gain, offset = np.ones_like(grand), np.zeros_like(grand)
    varies = (scale > 4 * own.eps * np.abs(grand)) & (own.scale > 0)
    if varies.sum() < 2:  # no prior over the m/z
        return Affine(gain, offset)
    mean = (own.mean[varies] - grand[varies]) / scale[varies]
    variance = own.scatter[varies] / max(own.n - 1, 1) / scale[varies] ** 2
    shift, spread = _shrunk(mean, variance, own.n)
    gain[varies] = 1 / np.sqrt(spread)
    centre = grand[varies] + scale[varies] * shift
    offset[varies] = grand[varies] - gain[varies] * centre
    return Affine(gain, offset)


def _shrunk(mean: Floats, variance: Floats, n: float) -> tuple[Floats, Floats]:
    """ComBat's posterior mean and variance of a batch, over the m/z (their equations 3.1)."""
    prior, width = mean.mean(), mean.var(ddof=1)
    m, s2 = variance.mean(), variance.var(ddof=1)
    if not (width > 0 and s2 > 0):  # all alike: there is nothing to shrink
        return mean, variance
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, spread = mean, variance
    for _ in range(MOST_ROUNDS):
        new = (width * n * mean + spread * prior) / (width * n + spread)
        squares = (n - 1) * variance + n * (mean - new) ** 2
        wide = (squares / 2 + rate) / (n / 2 + shape - 1)
        moved = max(
            float(np.max(np.abs(new - shift) / np.maximum(np.abs(shift), 1e-12))),
            float(np.max(np.abs(wide - spread) / spread)),
        )
        shift, spread = new, wide
        if moved < CONVERGED:
            break
    return shift, spread
