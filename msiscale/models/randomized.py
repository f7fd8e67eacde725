"""Principal axes of many variables from a few readings of the rows, sparse or dense.

The scatter A = sum (x - mean)(x - mean)^T of p variables has p^2 entries, its product with a block
of vectors p b: one reading of the rows gives ``A V = sum_b X_b^T (X_b V - mean V)``, the mean never
taken off sparse rows. `msiscale.models.krylov` makes of such products the leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csc_array, issparse

from msiscale.grid import Floats
from msiscale.models.krylov import ROUNDING, Eigenpairs, leading_eigenpairs, slabs
from msiscale.models.rowblocks import Run, missing, reduce_blocks
from msiscale.threads import one_blas_thread

COLUMNS = 1 << 15  # variables of a block multiplied at once, for small temporaries


@dataclass(frozen=True, eq=False)
class Axes:
    """Rows, their mean (p,), sum of squares about it, and leading eigenpairs of the scatter."""

    rows: int
    mean: Floats
    total: float
    pairs: Eigenpairs

    @property
    def passes(self) -> int:
        """Readings of the rows."""
        return self.pairs.products + 1


def principal_axes(
    blocks: Sequence[tuple[Any, ...]],
    p: int,
    n_components: int,
    *,
    dtype: np.dtype[Any],
    floor: float,
    tol: float = 1e-4,
    max_passes: int = 30,
    random_state: int = 0,
    skip_missing: bool = False,
    run: Run | None = None,
) -> Axes:
    """Leading principal axes of rows in blocks.

    Parameters
    ----------
    blocks : of `row_blocks`, ``(X_b,)`` each
        (n_b, p) dense or scipy sparse.
    p, n_components : int
        Variables, and components at most.
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

    Raises
    ------
    ValueError
        A value that is not finite.

    Notes
    -----
    The vectors are ``b = k + max(10, k / 5)`` wide. The process that calls holds at most
    ``8 p (9 b + k)`` bytes, a task that sums ``16 p b`` and its block; of the sums, ``8 p b``
    each, one or two wait to be merged.
    """
    k = min(n_components, p)
    width = min(p, k + max(10, k // 5))
    reduce = partial(reduce_blocks, blocks, run=run)
    words: dict[str, Any] = {"dtype": np.dtype(dtype), "skip_missing": skip_missing}
    gaussian = np.random.default_rng(random_state).standard_normal((p, width))
    first: _Sums = reduce(partial(_first, **words), _Sums.__add__, shared=(gaussian,))
    mean = first.sums / max(first.rows, 1)
    if not (np.isfinite(mean).all() and np.isfinite(first.squares)):
        raise ValueError("X has a value that is not finite; leave out rows that were not measured")
    total = first.squares - first.rows * float(mean @ mean)
    if first.rows < 2 or total <= ROUNDING * first.squares:
        return Axes(first.rows, mean, 0.0, Eigenpairs(np.zeros(0), np.zeros((0, p)), 0.0, 0, True))
    start = first.product
    with one_blas_thread():
        shift = mean @ gaussian
        for s in slabs(p):
            start[s] -= np.outer(first.rows * mean[s], shift)
    rows, rest = first.rows, mean - mean.astype(words["dtype"])
    del gaussian, first

    def apply(basis: Floats) -> Floats:
        with one_blas_thread():
            shifts = (mean @ basis, rest @ basis)
        return np.asarray(
            reduce(partial(_again, **words), np.add, shared=(basis, mean, *shifts)),
        )

    pairs = leading_eigenpairs(
        apply, start, min(k, rows - 1), tol=tol, max_products=max_passes - 1, floor=floor
    )
    return Axes(rows, mean, total, pairs)


@dataclass
class _Sums:
    """Of the first reading: rows, their sum (p,), sum of squares, and ``X^T X V`` (p, b)."""

    rows: int
    sums: Floats
    squares: float
    product: Floats

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.rows + other.rows,
            self.sums + other.sums,
            self.squares + other.squares,
            self.product + other.product,
        )


def _first(
    total: _Sums | None, x: Any, v: Floats, *, dtype: np.dtype[Any], skip_missing: bool
) -> _Sums:
    """`total` and a block, not centred: of the product only the span is used."""
    x = _rows(x, dtype, skip_missing)
    if total is None:
        total = _Sums(0, np.zeros(len(v)), 0.0, np.zeros_like(v))
    total.rows += x.shape[0]
    if issparse(x):
        total.sums += x.sum(axis=0)
        total.squares += float(x.data @ x.data)
    else:
        total.sums += x.sum(axis=0, dtype=np.float64)
        total.squares += float(np.einsum("ij,ij->", x, x, dtype=np.float64))
    _add(total.product, x, _times(x, v))
    return total


def _again(
    total: Floats | None,
    x: Any,
    v: Floats,
    mean: Floats,
    shift: Floats,
    rest: Floats,
    *,
    dtype: np.dtype[Any],
    skip_missing: bool,
) -> Floats:
    """`total` and ``(X - mean)^T (X - mean) V`` of a block (p, b)."""
    # Sparse rows are not centred: X^T S is the same, where S = X V - mean V sums to zero over the
    # blocks. Dense ones are, in their precision; `rest` is what that left of mean V.
    x = _rows(x, dtype, skip_missing)
    if not issparse(x):
        x, shift = x - mean.astype(x.dtype), rest
    if total is None:
        total = np.zeros_like(v)
    _add(total, x, _times(x, v) - shift)
    return total


def _rows(x: Any, dtype: np.dtype[Any], skip_missing: bool) -> Any:
    """Rows of a block in which nothing is missing: dense of `dtype`, or CSC of float64."""
    if skip_missing and (gone := missing(x)).any():
        x = x[~gone]
    if not issparse(x):
        return np.asarray(x, dtype=dtype)
    # by columns: then V and the sum are walked through once, in order, and only the scores, which
    # stay in the cache, at random (a third of the time of CSR)
    columns = csc_array(x, dtype=np.float64)
    columns.sum_duplicates()
    return columns


def _times(x: Any, v: Floats) -> Floats:
    """``X V`` (n, b)."""
    if issparse(x):
        return np.asarray(x @ v)
    found = np.zeros((len(x), v.shape[1]))
    for s in slabs(len(v), COLUMNS):
        found += x[:, s] @ v[s].astype(x.dtype, copy=False)
    return found


def _add(total: Floats, x: Any, scores: Floats) -> None:
    """``total += X^T scores`` (p, b), in place."""
    if not issparse(x):
        scores = scores.astype(x.dtype, copy=False)
    transposed = x.T
    for s in slabs(len(total), COLUMNS):
        total[s] += transposed[s] @ scores
