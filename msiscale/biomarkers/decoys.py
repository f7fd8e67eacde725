"""False-discovery rates of identifications from decoys: adducts that no molecule forms in a source.

As METASPACE does (Palmer et al. 2017, Nat Methods 14:57): ions of the same molecules with
implausible elements are scored like the real ones, and those that score as high tell how many of
the real ones do so by chance.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.biomarkers.masses import Adduct, hill, ion_counts

Floats = NDArray[np.float64]

DECOYS = 20  #: a formula
_ELEMENTS = (
    "He Li Be B C N O F Ne Mg Al Si P S Cl Ar Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb "
    "Sr Y Zr Nb Mo Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Sm Eu Gd Tb Dy Ho Ir Th Pt Os "
    "Yb Lu Bi Pb Re Tl Tm U W Au Er Hf Hg Ta"
)
ELEMENTS: tuple[str, ...] = tuple(_ELEMENTS.split())
"""METASPACE's implausible adducts."""


@cache  # every formula draws from the same
def decoy_adduct(element: str, charge: int) -> Adduct:
    """The decoy adduct of an element."""
    return Adduct(f"[M+{element}]{'+' if charge > 0 else '-'}", charge, element, "", 0.0)


def draw(
    formula: str,
    charge: int,
    count: int = DECOYS,
    *,
    real: Collection[str] = (),
    seed: int = 42,
) -> list[Adduct]:
    """At most `count` decoy adducts of a formula, the same in any order of calls."""
    # `real` ions (Hill) are no decoys, as they are looked for: a triglyceride with a nitrogen is
    # another with ammonium
    rng = np.random.default_rng([seed, zlib.crc32(formula.encode())])
    found: list[Adduct] = []
    for i in rng.permutation(len(ELEMENTS)):
        adduct = decoy_adduct(ELEMENTS[i], charge)
        if len(found) < count and hill(ion_counts(formula, adduct) or {}) not in real:
            found.append(adduct)
    return found


def match_ratio(targets: ArrayLike, decoys: ArrayLike, count: int = DECOYS) -> float:
    """How much more often a wrong target is at a peak than a decoy is.

    Parameters
    ----------
    targets
        Scores of the targets, of any shape.
    decoys
        Scores of their decoys, of any shape.
    count
        Decoys a target.

    Returns
    -------
    float
        At least 1; 1 where there are no decoys.
    """
    # Lipids share a mass defect, and so do many peaks that are no lipid of the table; decoys have
    # another, and miss them. It is counted where all are wrong, or too faint to tell: at scores of
    # at most the decoys' median. Faint lipids among these make it too high, never too low.
    against = np.asarray(decoys, np.float64).ravel()
    if not against.size:
        return 1.0
    middle = np.median(against)
    wrong = np.count_nonzero(np.asarray(targets, np.float64) <= middle)
    return max(1.0, wrong / (np.count_nonzero(against <= middle) / count))


def false_discovery_rate(
    targets: ArrayLike, decoys: ArrayLike, count: int = DECOYS, *, ratio: float = 1.0
) -> Floats:
    """FDR at which each target would be taken.

    Parameters
    ----------
    targets
        (n,) scores of the targets.
    decoys
        Scores of their decoys, of any shape.
    count
        Decoys a target.
    ratio
        Wrong targets that a decoy stands for, see `match_ratio`.

    Returns
    -------
    ndarray
        (n,) float64, above 0 and at most 1; 1 where a score is not above 0.
    """
    # METASPACE's rule of succession (version 3), but for the ratio: never 0, never above 1; the
    # least over all worse scores, so that it falls as the score rises.
    scores = np.asarray(targets, np.float64)
    against = np.sort(np.asarray(decoys, np.float64).ravel())
    ranked = np.sort(scores)
    worse = len(against) - np.searchsorted(against, ranked, side="left")
    better = len(ranked) - np.searchsorted(ranked, ranked, side="left")
    rate = np.minimum(1.0, (ratio * worse + 1) / count / (better + 1))
    rate[ranked <= 0] = 1.0
    rate = np.minimum.accumulate(rate)  # from the worst score up
    return rate[np.searchsorted(ranked, scores, side="left")]


def cohort_score(scores: Sequence[Floats]) -> Floats:
    """Score of every ion over a cohort: the mean over its specimens.

    Parameters
    ----------
    scores
        (n,) float64 of each specimen, 0 where an ion is not seen.

    Returns
    -------
    ndarray
        (n,) float64.
    """
    # A lipid is in many specimens, a coincidence in few; targets and decoys are treated alike, so
    # the rate of the means is as honest as that of a specimen.
    return np.asarray(np.mean(np.stack(scores), axis=0))
