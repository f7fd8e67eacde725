"""Isotope patterns of ions as an instrument of some resolving power shows them.

Isotopologues come from IsoSpec (Łącki et al. 2020, Anal Chem 92:9472) with the masses and natural
abundances of `masses`; those that the instrument cannot tell apart are one peak, whose height is
that of the sum of their Gaussians. METASPACE takes its centroids the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from msiscale.biomarkers.masses import ELECTRON, element_mass, isotopes_of

Floats = NDArray[np.float64]

#: How resolving power falls: with this power of m/z (Marshall & Hendrickson 2008, Annu. Rev. Anal.
#: Chem. 1:579). A time of flight has the same at every m/z.
ANALYSERS = {"orbitrap": 0.5, "ft-icr": 1.0, "tof": 0.0}
#: Usual ones at m/z `REFERENCE_MZ`.
RESOLVING_POWERS = {"orbitrap": 140_000.0, "ft-icr": 400_000.0, "tof": 30_000.0}
REFERENCE_MZ = 200.0
N_PEAKS = 4
_COVER = 0.9999  # of all isotopologues
_FWHM = 2.3548200450309493  # of a Gaussian, in standard deviations
_APART = 0.5  # Da between peaks of one more neutron
_STEPS = 50
_CLOSE = 5e-9  # of an m/z
_FAINT = 1e-4  # of the strongest isotopologue of a peak


@dataclass(frozen=True)
class Pattern:
    """The strongest isotope peaks of an ion, by ascending m/z.

    Attributes
    ----------
    mz : (n,) float64; the first is the monoisotopic ion unless that is not among the strongest
    intensity : (n,) float64, the greatest 100
    """

    mz: Floats
    intensity: Floats


def isotope_pattern(
    counts: Mapping[str, int],
    charge: int,
    *,
    analyser: str = "orbitrap",
    resolving_power: float | None = None,
    peaks: int = N_PEAKS,
) -> Pattern:
    """The strongest isotope peaks of an ion.

    Parameters
    ----------
    counts
        Of its atoms by element.
    charge
        With its sign.
    analyser
        One of `ANALYSERS`.
    resolving_power
        m/z over peak width (FWHM) at m/z 200; default what is usual of the analyser.
    peaks
        At most.

    Returns
    -------
    Pattern
    """
    # Intensities are within 0.02 of METASPACE's (of 100), m/z within 0.3 ppm, which is what its
    # sampling of the profile in steps of a 25th of a peak leaves.
    mass, share = isotopologues(counts)
    mz = (mass - charge * ELECTRON) / abs(charge)
    order = np.argsort(mz, kind="stable")
    mz, share = mz[order], share[order]
    cut = np.flatnonzero(np.diff(mz) > _APART) + 1
    groups = list(zip(np.split(mz, cut), np.split(share, cut), strict=True))
    # a peak is no higher than all that is in it
    likely = np.argsort([-part.sum() for _, part in groups], kind="stable")[: peaks + 2]
    power = resolving_power or RESOLVING_POWERS[analyser]
    strong = [groups[i] for i in sorted(likely)]
    found = [_peak(at, height, power, ANALYSERS[analyser]) for at, height in strong]
    at, height = np.array(found).T
    strongest = np.sort(np.argsort(-height, kind="stable")[:peaks])
    return Pattern(at[strongest], 100.0 * height[strongest] / height.max())


def isotopologues(counts: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Masses (Da, neutral) and shares of the isotopologues that make up 99.99 % of a compound."""
    import IsoSpecPy

    present = {element: n for element, n in counts.items() if n}
    nature = [_nature(element) for element in present]
    iso = IsoSpecPy.IsoTotalProb(
        atomCounts=list(present.values()),
        isotopeMasses=[list(masses) for masses, _ in nature],
        isotopeProbabilities=[list(shares) for _, shares in nature],
        prob_to_cover=_COVER,
    )
    masses = np.fromiter(iso.masses, np.float64, len(iso))
    return masses, np.fromiter(iso.probs, np.float64, len(iso))


def _peak(mz: Floats, share: Floats, power: float, falls: float) -> tuple[float, float]:
    """Place and height of the highest point of the Gaussians of unresolved isotopologues."""
    if mz.size == 1:
        return float(mz[0]), float(share[0])
    keep = share > _FAINT * share.max()
    mz, share = mz[keep], share[keep]
    first = int(np.argmax(share))
    here = power * (REFERENCE_MZ / float(mz[first])) ** falls
    sigma = float(mz[first]) / here / _FWHM
    # uphill from the strongest; from another too where that may be a peak of its own
    far = np.abs(mz - mz[first]) > sigma
    second = [int(np.argmax(np.where(far, share, 0.0)))] if far.any() else []
    best = (float("nan"), -1.0)
    for start in [first, *second]:
        at = float(mz[start])
        for _ in range(_STEPS):
            weight = share * np.exp(-0.5 * ((at - mz) / sigma) ** 2)
            new = float(weight @ mz) / float(weight.sum())  # mean shift, which only climbs
            if abs(new - at) < _CLOSE * at:
                break
            at = new
        height = float(weight.sum())
        if height > best[1]:
            best = (at, height)
    return best


@cache  # asked for with every ion
def _nature(element: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Masses and shares of an element's stable isotopes, the commonest first."""
    stable = isotopes_of(element)
    if not stable:  # technetium and the like: the one isotope that formulas mean
        return (element_mass(element),), (1.0,)
    masses, shares = zip(*stable, strict=True)
    return masses, tuple(s / sum(shares) for s in shares)
