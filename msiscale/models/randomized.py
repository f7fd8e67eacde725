"""Principal axes of many variables from a few readings of the rows, sparse or dense.

The scatter A = sum (x - mean)(x - mean)^T of p variables has p^2 entries, its product with a block
of vectors p b: one reading of the rows gives ``A V = sum_b X_b^T (X_b V - mean V)``, the mean never
taken off sparse rows. `msiscale.models.krylov` makes of such products the leading axes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, issparse

from msiscale.errors import MsiscaleWarning
from msiscale.models._blocks import Run, missing, one_blas_thread, reduce_blocks
from msiscale.models.krylov import SLAB, Eigenpairs, leading_eigenpairs

Floats = NDArray[np.float64]

MOST_SUMS = 8  # a sum is p b numbers: few at once, whatever the number of blocks
COLUMNS = 1 << 16  # variables of a block multiplied at once, for small temporaries


@dataclass(frozen=True, eq=False)
class Axes:
    """Mean (p,), sum of squares about it, the leading eigenpairs of the scatter, and the cost."""

    rows: int
    mean: Floats
    total: float
    pairs: Eigenpairs
    passes: int


def principal_axes(
    blocks: Sequence[tuple[Any, ...]],
    p: int,
    n_components: int,
    *,
    dtype: np.dtype[Any],
    floor: float,
    tol: float = 1e-6,
    max_passes: int = 12,
    random_state: int = 0,
    skip_missing: bool = False,
    run: Run | None = None,
) -> Axes:
    """Leading principal axes of rows in blocks.

    Parameters
    ----------
    blocks : of `row_blocks`, ``(X_b,)`` each: (n_b, p) dense or scipy sparse.
    n_components : int
    dtype : float32 or float64
        Of the products of dense rows; those of sparse rows are float64.
    floor : float
        Eigenvalues below it, relative to the largest, are noise.
    tol, max_passes
        See `PCA`.
    random_state : int
        Seed of the Gaussian block to start from.
    skip_missing : bool
        Leave out rows with a NaN; else they raise ValueError.
    run : callable, optional
        See `moments`.

    Returns
    -------
    Axes; the result depends on the blocks, not on who computes them.

    Notes
    -----
    The vectors are ``b = k + max(10, k / 5)`` wide. The process that calls holds at most
    ``8 p b (passes + 1) + 8 p k`` bytes; a task that sums holds ``16 p b`` and its block, and
    up to log2(8) = 3 sums more wait to be merged where there are more than 16 blocks.
    """
    k = min(n_components, p)
    width = min(p, k + max(10, k // 5))
    reduce = partial(reduce_blocks, blocks, run=run, most=MOST_SUMS)
    gaussian = np.random.default_rng(random_state).standard_normal((p, width))
    first: _First = reduce(
        partial(_first, dtype=dtype, skip_missing=skip_missing),
        _First.__add__,
        shared=(gaussian,),
    )
    mean = first.sums / max(first.rows, 1)
    if not np.isfinite(mean).all():
        raise ValueError("X has a value that is not finite; leave out rows that were not measured")
    square = float(first.rows * (mean @ mean))
    total = first.squares - square
    start = first.product
    with one_blas_thread():
        shift = mean @ gaussian
        del gaussian
        for s in _slabs(p, SLAB):
            start[s] -= np.outer(first.rows * mean[s], shift)
    del first
    wide = np.finfo(np.float64).eps
    ...
