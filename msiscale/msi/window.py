"""The window around an m/z, whose half-width in ppm goes with a power of m/z."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from msiscale.msi.spectra import Floats

#: How the relative width of a peak goes with m/z, by instrument.
LAWS = {
    0.0: "the same at every m/z, as of a TOF",
    0.5: "growing with the root of m/z, as of an Orbitrap",
    1.0: "growing with m/z, as of an FT-ICR",
    -1.0: "the same in Da, as of an ion trap or of even bins",
}


@dataclass(frozen=True)
class Window:
    """Half-width of the window around an m/z: ``ppm * (mz / at) ** power``.

    Attributes
    ----------
    ppm : half-width at m/z `at`, in ppm of the m/z
    power : one of `LAWS`
    at : m/z
    """

    ppm: float
    power: float = 0.0
    at: float = 500.0

    @classmethod
    def of(cls, tolerance: float | Window) -> Window:
        """A window as it is; one of so many ppm at every m/z."""
        return tolerance if isinstance(tolerance, Window) else cls(float(tolerance))

    def half_ppm(self, mz: ArrayLike) -> float | Floats:
        """Half-width at some m/z, in ppm of them; one number where it is the same at all.

        Parameters
        ----------
        mz
            (k,) m/z

        Returns
        -------
        float or ndarray
            (k,) float64
        """
        if self.power == 0:
            return self.ppm
        return np.asarray(self.ppm * (np.asarray(mz, np.float64) / self.at) ** self.power)

    def place(self, log_mz: Floats) -> Floats:
        """Where ln(m/z) lies on the scale on which the half-width is 1 everywhere.

        Parameters
        ----------
        log_mz
            (n,) float64, natural logarithms of m/z

        Returns
        -------
        ndarray
            (n,) float64, ascending with m/z
        """
        half = self.ppm * 1e-6
        if self.power == 0:
            return log_mz / half
        # the integral of 1 / half-width over ln(m/z)
        scale = -self.power * half
        return np.asarray(np.exp(-self.power * (log_mz - np.log(self.at))) / scale)

    def log_mz(self, place: Floats) -> Floats:
        """The inverse of `place`.

        Parameters
        ----------
        place
            (n,) float64, on the scale of `place`

        Returns
        -------
        ndarray
            (n,) float64, natural logarithms of m/z
        """
        half = self.ppm * 1e-6
        if self.power == 0:
            return place * half
        scale = -self.power * half
        return np.asarray(np.log(self.at) - np.log(place * scale) / self.power)

    def facts(self) -> dict[str, float]:
        """For a record; ``Window(**facts)`` reads it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.power == 0:
            return f"±{self.ppm:.3g} ppm"
        return f"±{self.ppm:.3g} ppm at m/z {self.at:.0f}, {LAWS[self.power]}"
