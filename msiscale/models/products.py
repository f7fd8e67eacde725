"""Products of the rows of a block about their mean, added up over blocks before they are merged.

float32 (or float64) products of slabs that stay in the cache, into float64 sums. Adding a block
costs one addition; what lies between the blocks' means is put in once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas

from msiscale.grid import Floats

SLAB = 1024  # rows multiplied at once: their centred copy stays in the cache
CROSS = 512  # rows after which x^T m, which is small, goes into a float64 sum


@dataclass(frozen=True, eq=False)
class Products:
    """Sums over some blocks, each about (nearly) its own mean: moments that are not yet merged.

    `sxx` and `smm` hold their lower triangles only; those of one block are as it was multiplied,
    those of more float64; `sxm` always is float64.
    """

    rows: int
    n: tuple[float, ...]
    means: tuple[tuple[Floats, Floats], ...]  # of x and m, a block
    left: tuple[tuple[Floats, Floats], ...]  # mean of what was multiplied, rounding of the centre
    sxx: Floats
    sxm: Floats
    smm: Floats
    eps: float

    def __add__(self, other: Products) -> Products:
        return Products(
            self.rows + other.rows,
            self.n + other.n,
            self.means + other.means,
            self.left + other.left,
            np.add(self.sxx, other.sxx, dtype=np.float64),
            self.sxm + other.sxm,
            np.add(self.smm, other.smm, dtype=np.float64),
            max(self.eps, other.eps),
        )

    def merged(self) -> dict[str, Any]:
        """Fields of the `Moments` of all blocks, about their common mean."""
        p, q = len(self.sxx), len(self.smm)
        if not self.rows:
            means = {"mean_x": np.zeros(p), "mean_m": np.zeros(q)}
            scatter = {"sxx": np.zeros((p, p)), "sxm": np.zeros((p, q)), "smm": np.zeros((q, q))}
            return {"rows": 0, "n": 0.0, **means, **scatter, "eps": self.eps}
        n = np.array(self.n)
        root = np.sqrt(n)[:, None]
        means_x, means_m = (np.stack(v) for v in zip(*self.means, strict=True))
        dx, dm = (root * np.stack(v) for v in zip(*self.left, strict=True))
        mean_x, mean_m = (v[0] + n @ (v - v[0]) / n.sum() for v in (means_x, means_m))
        bx, bm = root * (means_x - mean_x), root * (means_m - mean_m)
        return {
            "rows": self.rows,
            "n": float(n.sum()),
            "mean_x": mean_x,
            "mean_m": mean_m,
            "sxx": _scatter(self.sxx, bx, dx),
            "sxm": _plus(self.sxm.copy(), bx, bm, dx, dm),
            "smm": _scatter(self.smm, bm, dm),
            "eps": self.eps,
        }


def products(
    x: ArrayLike | None, m: ArrayLike | None, weight: ArrayLike | None, dtype: np.dtype[Any]
) -> Products:
    """Products of one block, see `msiscale.models.moments.Moments.of`.

    Parameters
    ----------
    x
        (n, p) array, or None for no variables.
    m
        (n, q) array, or None for no variables.
    weight
        (n,), not below zero; None for 1 each. Rows of weight zero are left out.
    dtype
        Of the products, float32 or float64.

    Returns
    -------
    Products
        Of this block alone.

    Raises
    ------
    ValueError
        Neither x nor m, shapes that do not fit, or a product too large for `dtype`.
    """
    both = [None if a is None else np.asarray(a) for a in (x, m)]
    n_rows = next((len(a) for a in both if a is not None), None)
    if n_rows is None:
        raise ValueError("give x, m or both")
    left, right = (np.empty((n_rows, 0), dtype) if a is None else a for a in both)
    if left.ndim != 2 or right.ndim != 2 or len(right) != n_rows:
        raise ValueError(f"x and m are (n, p) and (n, q), not {left.shape} and {right.shape}")
    w, kept = row_weights(weight, n_rows)
    if kept is not None:
        left, right = left[kept], right[kept]
    rows, n = len(left), float(len(left) if w is None else w.sum())
    p, q, eps = left.shape[1], right.shape[1], float(np.finfo(dtype).eps)
    sums = (np.zeros((p, p), dtype), np.zeros((p, q)), np.zeros((q, q), dtype))
    if rows == 0:
        return Products(0, (), (), (), sums[0], sums[1], sums[2], eps)
    x_centre, m_centre = _Centre.of(left, w, n), _Centre.of(right, w, n)
    with np.errstate(over="ignore", invalid="ignore"):  # told below, with the remedy
        for start in range(0, rows, SLAB):
            part = slice(start, start + SLAB)
            zx, zm = x_centre.centred(left[part], dtype), m_centre.centred(right[part], dtype)
            if w is not None:
                root = np.sqrt(w[part]).astype(dtype)[:, None]
                zx, zm = zx * root, zm * root
            _add_products(sums, zx, zm)
    if not all(np.isfinite(np.diag(scatter)).all() for scatter in (sums[0], sums[2])):
        raise ValueError(f"values are too large for products in {dtype}; use float64")
    means, rest = (x_centre.mean, m_centre.mean), (x_centre.left, m_centre.left)
    return Products(rows, (n,), (means,), (rest,), sums[0], sums[1], sums[2], eps)


def row_weights(weight: ArrayLike | None, n: int) -> tuple[Floats | None, NDArray[np.bool_] | None]:
    """Weights of the rows that count, and which rows those are.

    Parameters
    ----------
    weight
        (n,), finite and not below zero; None for 1 each.
    n
        Number of rows.

    Returns
    -------
    weights : ndarray or None
        (rows above zero,) float64; None where no weights were given.
    kept : ndarray or None
        (n,) bool, which rows count; None where all do.

    Raises
    ------
    ValueError
        Another number of weights than rows, or one that is not finite or is below zero.
    """
    if weight is None:
        return None, None
    w = np.asarray(weight, dtype=np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError("weight is one number a row, finite and not below zero")
    kept = w > 0
    return (w, None) if kept.all() else (w[kept], kept)


def _add_products(sums: tuple[NDArray[Any], ...], zx: NDArray[Any], zm: NDArray[Any]) -> None:
    """``zx^T zx`` (lower triangle), ``zx^T zm`` and ``zm^T zm`` (lower), added in place."""
    sxx, sxm, smm = sums
    syrk = blas.ssyrk if sxx.dtype == np.float32 else blas.dsyrk
    # BLAS counts by columns: its matrices are our transposes, its upper triangle our lower one
    for z, total in ((zx, sxx), (zm, smm)):
        if z.shape[1]:
            syrk(1.0, z.T, beta=1.0, c=total.T, overwrite_c=True)
    if sxm.size:
        for start in range(0, len(zx), CROSS):
            part = slice(start, start + CROSS)
            sxm += zx[part].T @ zm[part]


@dataclass(frozen=True, eq=False)
class _Centre:
    """What is subtracted from the rows of a block, so that products lose nothing to its mean."""

    mean: Floats
    centre: NDArray[Any]  # the mean in the arithmetic of the subtraction
    left: Floats  # the mean of what is left

    @classmethod
    def of(cls, a: NDArray[Any], w: Floats | None, n: float) -> _Centre:
        if w is None:
            mean = a.mean(axis=0, dtype=np.float64)
        else:
            mean = (w @ a.astype(np.float64, copy=False)) / n
        if not np.isfinite(mean).all():
            raise ValueError("x or m has a value that is not finite; give such rows weight 0")
        wide = np.dtype(np.float32) if a.dtype in (np.float32, np.float16) else np.dtype(np.float64)
        centre = mean.astype(wide)
        left = mean - centre.astype(np.float64)
        if wide == np.float64:
            # the rounding of a long float64 sum, which float32 data could not show
            z = a - centre
            left = (z.mean(axis=0) if w is None else (w @ z) / n).astype(np.float64)
            mean = mean + left
        return cls(mean, centre, left)

    def centred(self, a: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        z = np.subtract(a, self.centre, dtype=self.centre.dtype)
        return np.ascontiguousarray(z, dtype=dtype)


def _scatter(lower: NDArray[Any], between: Floats, left: Floats) -> Floats:
    """A scatter matrix: products within blocks (lower triangle), and what their means add."""
    full = lower.astype(np.float64, order="C")
    if full.size:
        for sign, rows in ((1.0, between), (-1.0, left)):
            blas.dsyrk(sign, rows.T, beta=1.0, c=full.T, overwrite_c=True)
    for start in range(0, len(full), SLAB):
        stop = start + SLAB
        corner = full[start:stop, start:stop]
        corner += np.tril(corner, -1).T
        full[start:stop, stop:] = full[stop:, start:stop].T
    return clipped(full)


def clipped(scatter: Floats) -> Floats:
    """Set to 0, in place, what rounding may leave below 0 in the sums of squares of a scatter.

    Parameters
    ----------
    scatter
        (p, p) float64; its diagonal is changed.

    Returns
    -------
    ndarray
        `scatter` itself.
    """
    diagonal = np.einsum("ii->i", scatter)
    np.maximum(diagonal, 0, out=diagonal)
    return scatter


def _plus(total: Floats, bx: Floats, bm: Floats, dx: Floats, dm: Floats) -> Floats:
    """``total + bx^T bm - dx^T dm``, in place."""
    if total.size:
        for sign, x, m in ((1.0, bx, bm), (-1.0, dx, dm)):
            blas.dgemm(sign, m.T, x.T, beta=1.0, c=total.T, trans_b=True, overwrite_c=True)
    return total
