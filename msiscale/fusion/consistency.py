"""Whether fine ion images keep what was measured: the mean of a pixel's parts is the pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from msiscale.fusion import nested
from msiscale.fusion.restoring import Fine, Images
from msiscale.fusion.scores import Scores
from msiscale.grid import Block, Floats


def consistency(
    factor: int, fine: Fine, methods: Sequence[str], images: Images
) -> dict[str, Scores]:
    """How near the mean of the parts of each measured pixel is to the pixel.

    The first property of Wald et al. 1997 (Photogramm. Eng. Remote Sens. 63:691): a sharpened image
    that is degraded again should be the one that was measured.

    Parameters
    ----------
    factor : int
        Fine pixels to a measured one, each way.
    fine : Fine
        The fine grid, whose ``coarse`` are the measured pixels.
    methods : sequence of str
        Whose images.
    images : Images
        Those that `restore` wrote, float32 (y, x, t).

    Returns
    -------
    dict of str to Scores, over measured pixels; of SSIM they know nothing
    """
    found: dict[str, list[Scores]] = {method: [] for method in methods}
    for core, block in _windows(factor, fine):
        coarse = fine.coarse(core)
        for method in methods:
            mean = nested.degrade(images.read(method, block), factor)
            known = np.asarray(np.isfinite(coarse + mean).all(axis=-1))
            whole, no_span = (slice(None), slice(None)), np.zeros(coarse.shape[-1])
            found[method].append(Scores.of(coarse, mean, known, whole, no_span))
    return {method: reduce(add, parts) for method, parts in found.items()}


def make_consistent(factor: int, fine: Fine, methods: Sequence[str], images: Images) -> None:
    """Add to the parts of each measured pixel what their mean lacks of it; none goes below zero.

    Parameters
    ----------
    factor : int
        Fine pixels to a measured one, each way.
    fine : Fine
        The fine grid, whose ``coarse`` are the measured pixels.
    methods : sequence of str
        Whose images are changed.
    images : Images
        Those that `restore` wrote, float32 (y, x, t); their means are exact but for its rounding.
    """
    for core, block in _windows(factor, fine):
        coarse = fine.coarse(core)
        for method in methods:
            values = with_means(images.read(method, block), coarse, factor)
            images.write(method, block, values.astype(np.float32))


def with_means(values: NDArray[np.floating], coarse: Floats, factor: int) -> Floats:
    """The nearest values, none below zero, whose mean over each coarse pixel is what it measured.

    One number is added to all parts of a pixel, and what would be below zero becomes zero (the
    projection onto a simplex; Duchi et al. 2008, Proc. ICML 25:272).

    Parameters
    ----------
    values : (h, w, t) float
        Fine pixels, NaN where they do not count.
    coarse : (ceil(h / factor), ceil(w / factor), t) float64
        Measured, not below zero; NaN where it was not.
    factor : int
        Fine pixels to a coarse one, each way.

    Returns
    -------
    (h, w, t) float64, NaN as `values`; as they were, where nothing was measured
    """
    h, w, t = values.shape
    rows, columns = coarse.shape[:2]
    wide = nested.padded(values, factor).reshape(rows, factor, columns, factor, t)
    parts = wide.transpose(0, 2, 4, 1, 3).reshape(rows, columns, t, factor**2)
    known = np.isfinite(parts)
    total = coarse * known.sum(axis=-1)
    falling = -np.sort(np.where(known, -parts, np.inf), axis=-1)  # what is not known comes last
    there = np.isfinite(falling)
    sums = np.cumsum(np.where(there, falling, 0.0), axis=-1)
    shift = (total[..., None] - sums) / np.arange(1, factor**2 + 1)
    above = there & (falling + shift > 0)
    last = np.maximum(above.sum(axis=-1) - 1, 0)
    chosen = np.take_along_axis(shift, last[..., None], axis=-1)
    # of a pixel that measured nothing at all no part is above zero
    moved = np.where(above.any(axis=-1, keepdims=True), np.maximum(parts + chosen, 0), parts * 0)
    moved = np.where(np.isfinite(coarse)[..., None], moved, parts)
    back = moved.reshape(rows, columns, t, factor, factor).transpose(0, 3, 1, 4, 2)
    return np.asarray(back.reshape(rows * factor, columns * factor, t)[:h, :w])


def _windows(factor: int, fine: Fine) -> Iterator[tuple[Block, Block]]:
    """Blocks of coarse pixels, and of the fine ones in them."""
    for core, _ in nested.windows(nested.degraded_shape(fine.shape, factor), factor, 0):
        yield core, nested.times(core, factor, fine.shape)
