"""What every spectrum is divided by, and the transform after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.msi.spectra import Floats, Intensities, Spectra

#: Divisors that need nothing but the spectrum.
NORMALISATIONS = ("none", "tic", "rms", "median")
TRANSFORMS = ("none", "log", "sqrt")

#: The intensity, after normalisation, that counts as 1 before a transform: about that of the
#: weakest peaks of centroid spectra, where a logarithm turns from linear to logarithmic. Fixed,
#: so that a specimen's numbers do not depend on which others are in the cohort.
UNITS = {"none": 1.0, "tic": 1e-4, "rms": 1e-2, "median": 1e-1, "reference": 1e-2}


@dataclass(frozen=True)
class Scaling:
    """How the intensities of a spectrum are made comparable.

    Attributes
    ----------
    normalise : 'none', 'tic', 'rms', 'median' (see `normalisation`) or 'reference'
    reference_mz : with 'reference', the ions whose summed intensity is the divisor
    transform : 'none', 'log' (log1p) or 'sqrt', of the quotient in units of `unit`
    """

    normalise: str = "none"
    reference_mz: tuple[float, ...] = ()
    transform: str = "none"

    def __post_init__(self) -> None:
        _check("normalisation", self.normalise, (*NORMALISATIONS, "reference"))
        _check("transform", self.transform, TRANSFORMS)
        if (self.normalise == "reference") != bool(self.reference_mz):
            raise ValueError("reference ions go with the normalisation 'reference'; give both")

    @property
    def unit(self) -> float:
        """What counts as 1 before the transform; 1 where there is none."""
        return 1.0 if self.transform == "none" else UNITS[self.normalise]

    def apply(self, values: Intensities, factor: Intensities) -> Intensities:
        """Intensities (m, k) divided by their factors (m,) and transformed; NaN stays NaN."""
        if self.normalise != "none":
            values = values / factor[:, None]
        if self.transform == "none":
            return values
        scaled = values / np.float32(self.unit)
        return np.asarray(np.log1p(scaled) if self.transform == "log" else np.sqrt(scaled))


def _check(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"{what} {given!r} is none of {', '.join(known)}")


def inverse_transform(values: ArrayLike, transform: str, unit: float) -> Floats:
    """Undo the transform of normalised intensities.

    What a linear model predicts below zero, which no intensity transforms to, becomes 0.

    Parameters
    ----------
    values
        transformed intensities of any shape, such as predicted spectra
    transform, unit
        as in `Scaling`; both are attributes of the cube and of ``model.zarr``

    Returns
    -------
    Normalised intensities, float64 of the same shape; NaN stays NaN.

    Raises
    ------
    ValueError
        no such transform
    """
    _check("transform", transform, TRANSFORMS)
    given = np.asarray(values, np.float64)
    if transform == "none":
        return given
    floor = np.maximum(given, 0)  # keeps NaN
    return unit * (np.expm1(floor) if transform == "log" else np.square(floor))


def normalisation(spectra: Spectra, how: str) -> Intensities:
    """The factor to divide every spectrum by, from the whole spectrum.

    Parameters
    ----------
    spectra
        m spectra
    how
        'none' (1), 'tic' (sum), 'rms' (root mean square) or 'median'; the latter two over the
        intensities above zero, so they do not depend on whether zeros were stored

    Returns
    -------
    (m,) float32; NaN where a spectrum is blank, as its composition is then unknown (a zero would
    divide to infinity, a one would pass for a measurement).

    Raises
    ------
    ValueError
        no such normalisation
    """
    _check("normalisation", how, NORMALISATIONS)
    m = len(spectra)
    if how == "none":
        return np.ones(m, np.float32)
    if how == "median":
        factor = np.full(m, np.nan)
        for i, (_, intensity) in enumerate(spectra):
            signal = intensity[intensity > 0]
            if len(signal):
                factor[i] = np.median(signal)
        return factor.astype(np.float32)
    rows = spectra.rows
    if how == "tic":
        factor = np.bincount(rows, spectra.intensity, minlength=m)
    else:
        squares = np.square(spectra.intensity, dtype=np.float64)
        count = np.bincount(rows[spectra.intensity > 0], minlength=m)
        factor = np.sqrt(np.bincount(rows, squares, minlength=m) / np.maximum(count, 1))
    return _above_zero(factor)


def reference_factor(spectra: Spectra, near: NDArray[np.bool_]) -> Intensities:
    """Summed intensity of the reference ions in every spectrum.

    Parameters
    ----------
    spectra
        m spectra, of n values together
    near
        (n,) bool, whether a value is that of a reference ion

    Returns
    -------
    ndarray
        (m,) float32; NaN where the sum is not above zero
    """
    own = np.bincount(spectra.rows[near], spectra.intensity[near], minlength=len(spectra))
    return _above_zero(own)


def _above_zero(factor: NDArray[Any]) -> Intensities:
    kept = factor.astype(np.float32)
    return np.where(kept > 0, kept, np.float32(np.nan))
