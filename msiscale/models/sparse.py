"""Sums over sparse rows, without ever centring them; and when that is worth it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from msiscale.grid import Floats
from msiscale.models.products import clipped, products, row_weights

# Share of values that are not zero below which CSR^T CSR costs less than the dense product:
# 4096 rows of 1,000 to 10,000 variables, CPU s sparse / dense: 0.1-0.3 at 1 %, 0.6-1.0 at 2 %,
# 1.1-2.1 at 5 %; of a dense block, with the search for its values, 0.4-0.7 at 1 %, 1.0 at 2 %.
DENSITY = 0.02
DENSITY_OF_DENSE = 0.01
SAMPLE = 64  # one row in so many tells blocks that are not sparse at all
SLAB = 1024


def density(block: Any) -> float:
    """Share of the values of a dense or sparse ``(n, p)`` block that are not zero."""
    size = block.shape[0] * block.shape[1]
    found = block.nnz if issparse(block) else np.count_nonzero(block)
    return float(found / size) if size else 0.0


def cheapest_form(block: Any) -> Any:
    """A block ``(n, p)``, or None, in the form whose second moment costs least: CSR or dense."""
    # most dense ones are told by a sample of their rows, at next to no cost
    if block is None:
        return None
    if issparse(block):
        return csr_array(block) if density(block) < DENSITY else block.toarray()
    block = np.asarray(block)
    if block.ndim != 2 or density(block[::SAMPLE]) > 2 * DENSITY_OF_DENSE:
        return block
    return csr_array(block) if block.size and density(block) < DENSITY_OF_DENSE else block


def sparse_sums(x: Any, m: Any, weight: ArrayLike | None, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Fields of the `Moments` of a block of which x, m or both are CSR.

    The scatter is ``X^T X - n mean mean^T``, both in float64. What cancels is the mean's share: of
    a variable whose mean is r times its standard deviation 2 log10(r) of 16 digits are lost. Where
    few values are not zero r is small: nothing is lost.

    Parameters
    ----------
    x, m, weight : as for `Moments.of`
        CSR or dense.
    dtype : float32 or float64
        Of the products of dense parts; `eps` is its rounding unit.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        As `Moments.of`.
    """
    shapes = [a.shape for a in (x, m) if a is not None]
    if any(len(s) != 2 or s[0] != shapes[0][0] for s in shapes):
        raise ValueError(f"x and m are (n, p) and (n, q), not {' and '.join(map(str, shapes))}")
    w, kept = row_weights(weight, shapes[0][0])
    w = np.ones(shapes[0][0]) if w is None else w
    if kept is not None:
        x, m = (None if a is None else a[kept] for a in (x, m))
    root = np.sqrt(w)
    left, right = (_side(a, root, dtype) for a in (x, m))
    return {
        "rows": len(w),
        "n": float(w.sum()),
        "mean_x": left.mean,
        "mean_m": right.mean,
        "sxx": left.scatter,
        "sxm": _cross(left, right),
        "smm": right.scatter,
        "eps": float(np.finfo(dtype).eps),
    }


class _Side(NamedTuple):
    """x or m: rows times the root of their weights, weighted mean, and scatter."""

    rows: Any
    root: Floats
    mean: Floats
    scatter: Floats


def _side(a: Any, root: Floats, dtype: np.dtype[Any]) -> _Side:
    if a is None:
        return _Side(None, root, np.zeros(0), np.zeros((0, 0)))
    if not issparse(a):
        sums = products(a, None, root**2, dtype).merged()
        centred = (a - sums["mean_x"]) * root[:, None]
        return _Side(centred, root, sums["mean_x"], sums["sxx"])
    if not np.isfinite(a.data).all():
        raise ValueError("x or m has a value that is not finite; give such rows weight 0")
    data = a.data.astype(np.float64) * np.repeat(root, np.diff(a.indptr))
    rows = csr_array((data, a.indices, a.indptr), shape=a.shape)
    n = float(root @ root)
    mean = rows.T @ root / max(n, 1e-300)
    scatter = (rows.T @ rows).toarray()
    shift = np.sqrt(n) * mean
    for start in range(0, len(shift), SLAB):
        scatter[start : start + SLAB] -= np.outer(shift[start : start + SLAB], shift)
    return _Side(rows, root, mean, clipped(scatter))


def _cross(x: _Side, m: _Side) -> Floats:
    """``sum w (x - mean_x) (m - mean_m)^T``."""
    if x.rows is None or m.rows is None:
        return np.zeros((len(x.mean), len(m.mean)))
    if not issparse(x.rows):
        return np.ascontiguousarray(_cross(m, x).T)
    if issparse(m.rows):
        both = (x.rows.T @ m.rows).toarray()
        return np.asarray(both - np.outer(x.mean, m.mean) * (x.root**2).sum())
    return np.asarray(x.rows.T @ m.rows - np.outer(x.mean, x.root @ m.rows))
