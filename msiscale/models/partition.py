"""Folds within specimens: random pixels, and spatial blocks with a buffer between.

Every usable pixel is held out by one fold, its group, and barred from the training of that fold
and, in a buffer, of others. Pixels that are barred from the same folds are a unit: sums over units
are merged to the training sums of every fold, as those over specimens are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from msiscale.models.folds import Fold

Mask = NDArray[np.bool_]
Groups = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Partition:
    """Which fold holds a pixel out, and which may not train on it.

    Attributes
    ----------
    groups : (y, x) int8, the fold that holds the pixel out; -1 where it is not usable
    barred : (y, x) int64, bit k set where fold k may not train on the pixel
    """

    groups: Groups
    barred: NDArray[np.int64]

    def units(self) -> dict[str, Mask]:
        """Masks (y, x) of the pixels that are barred from the same folds and held out by one."""
        used = self.groups >= 0
        pairs = np.unique(np.stack([self.groups[used], self.barred[used]]), axis=1)
        # ``group-barred``, from which `folds_of` makes the folds
        return {f"{g}-{b}": (self.groups == g) & (self.barred == b) for g, b in pairs.T}


def folds_of(units: Iterable[str], without: int | None = None) -> list[Fold]:
    """Folds over units in order of their names, of those that hold something out and can train.

    Parameters
    ----------
    units
        Names as of `Partition.units`, maybe with something and a colon before.
    without
        A fold that is held out itself: none of these may train on it, or be tried on what it may
        not train on.

    Returns
    -------
    list of Fold
    """
    facts = {u: _facts(u) for u in sorted(units)}
    if without is not None:
        facts = {u: fact for u, fact in facts.items() if not fact[1] >> without & 1}
    folds = []
    for k in sorted({group for group, _ in facts.values()}):
        train = tuple(u for u, (_, barred) in facts.items() if not barred >> k & 1)
        test = tuple(u for u, (group, _) in facts.items() if group == k)
        if train:
            folds.append(Fold(str(k), train, test))
    return folds


def _facts(unit: str) -> tuple[int, int]:
    """The group of a unit and its bars."""
    group, barred = unit.rpartition(":")[2].split("-")
    return int(group), int(barred)


def group_of(unit: str) -> str:
    """The group of a unit: what is left out together when a penalty is chosen."""
    return str(_facts(unit)[0])


def pixel_folds(mask: Mask, n: int, seed: str) -> Partition:
    """Pixels dealt to `n` folds at random, neighbours to different ones: the study's protocol.

    Parameters
    ----------
    mask : (y, x) bool
        Usable pixels.
    n : int
        Folds.
    seed : str
        Such as the specimen's name: the same pixels whatever else is in the cohort.

    Returns
    -------
    Partition, its bars those of the own fold only
    """
    digest = hashlib.sha256(seed.encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(mask.sum())
    groups = np.full(mask.shape, -1, np.int8)
    groups[mask] = order % n
    return Partition(groups, np.where(mask, 1 << np.maximum(groups, 0).astype(np.int64), 0))


def spatial_blocks(mask: Mask, buffer: float) -> Partition:
    """Four compact blocks of equal size; nothing within `buffer` pixels of one trains its fold.

    The usable pixels are halved at the median along their longer extent, and each half along the
    other axis.

    Parameters
    ----------
    mask : (y, x) bool
        Usable pixels.
    buffer : float
        Distance of pixel centres, in pixels.

    Returns
    -------
    Partition, of groups 0 to 3
    """
    y, x = np.nonzero(mask)
    groups = np.full(mask.shape, -1, np.int8)
    barred = np.zeros(mask.shape, np.int64)
    if not len(y):
        return Partition(groups, barred)
    first, second = (y, x) if np.ptp(y) >= np.ptp(x) else (x, y)
    half = _upper_half(first, second)
    quarter = np.empty(len(y), bool)
    for side in (False, True):
        quarter[half == side] = _upper_half(second[half == side], first[half == side])
    groups[y, x] = 2 * half + quarter
    for k in range(4):
        own = groups == k
        if own.any():
            near = distance_transform_edt(~own) <= buffer
            barred |= np.where(mask & near, 1 << k, 0)
    return Partition(groups, barred)


def _upper_half(along: NDArray[np.intp], across: NDArray[np.intp]) -> Mask:
    """The half further along an axis; ties in the order of the other one."""
    order = np.lexsort((across, along))
    upper = np.zeros(len(along), bool)
    upper[order[len(order) // 2 :]] = True
    return upper
