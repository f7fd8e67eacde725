"""Where the pixels of an image are: their coordinates, and the steps that these come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msiscale.msi.spectra import Ints


@dataclass(frozen=True)
class Places:
    """The grid of the coordinates in a file, along (y, x).

    Attributes
    ----------
    steps : of the coordinates from pixel to pixel; 1 for pixel indices
    shape : pixels of the bounding box, in these steps
    reach : the largest coordinates
    """

    steps: tuple[int, int]
    shape: tuple[int, int]
    reach: tuple[int, int]

    @classmethod
    def of(cls, yx: Ints) -> Places:
        """From the coordinates of the spectra.

        Parameters
        ----------
        yx
            (n, 2) int64, as written; n above 0

        Returns
        -------
        Places
        """
        steps = _steps(yx)
        spans = np.ptp(yx, axis=0) // steps + 1
        top = yx.max(axis=0)
        return cls(steps, (int(spans[0]), int(spans[1])), (int(top[0]), int(top[1])))


def _steps(yx: Ints) -> tuple[int, int]:
    """The constant stride of the coordinates, 1 where they have none."""
    # It is one only where most neighbours are a stride apart, and there are three or more: two
    # spectra on a slide are no grid. An axis with less follows the other. Where one axis has
    # neighbours the coordinates are indices, and lines of the other were left out.
    gaps = [np.diff(np.unique(column)) for column in yx.T]
    found = [int(np.gcd.reduce(g)) if len(g) else 0 for g in gaps]
    if 1 in found:
        return 1, 1
    sure = [len(g) > 1 and step > 1 and 2 * np.sum(g == step) >= len(g)
            for g, step in zip(gaps, found, strict=True)]  # fmt: skip
    steps = []
    for axis in (0, 1):
        other = found[1 - axis]
        if sure[axis]:
            steps.append(found[axis])
        elif sure[1 - axis] and len(gaps[axis]) == 1 and found[axis] > 1:
            steps.append(other if found[axis] % other == 0 else found[axis])
        else:
            steps.append(1)
    return steps[0], steps[1]
