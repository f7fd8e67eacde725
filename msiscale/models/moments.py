"""Mergeable, subtractable second moments of two sets of variables: everything linear is in them.

Block products are float32 (or float64) about the block's own mean; sums are float64 and merged by
the pairwise update of Chan, Golub and LeVeque (1983, The American Statistician 37:242), which
never forms a difference of large numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.linalg import blas
from scipy.sparse import issparse

from msiscale.grid import Floats
from msiscale.models.products import Products, clipped, products
from msiscale.models.rowblocks import Run, missing, raw, reduce_blocks, row_blocks
from msiscale.models.sparse import cheapest_form, sparse_sums
from msiscale.saving import Layout, Read, Saved

Which = Literal["x", "m"]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V", "Moments", Floats)

MOST_BLOCKS = 64  # whose means are kept until they are merged


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Saved):
    """Weighted sums of rows ``(x, m)``: count, means and scatter about them.

    Attributes
    ----------
    rows : int
        Rows with a weight above zero.
    n : float
        Sum of their weights (the number of rows where there are no weights).
    mean_x (p,), mean_m (q,) : float64
        Weighted means (zero where ``n`` is zero).
    sxx (p, p), sxm (p, q), smm (q, q) : float64
        Weighted scatter about the means: ``sum w (x - mean_x) (m - mean_m)^T`` and so on; `sxx`
        and `smm` are exactly symmetric. Either of p and q may be 0.
    eps : float
        Rounding unit of the block products (1.2e-7 for float32); eigenvalues below it, relative
        to the largest, are noise.

    Examples
    --------
    >>> import numpy as np
    >>> import msiscale as ms
    >>> x, m = np.arange(12.0).reshape(6, 2), np.arange(6.0)[:, None] ** 2
    >>> sums = ms.Moments.from_arrays(x, m, groups=["P1", "P1", "P2", "P2", "P2", "P3"])
    >>> whole = ms.Moments.merge(sums.values())
    >>> without = whole - sums["P2"]
    >>> without.n, without.mean("x").tolist()
    (3.0, [4.0, 5.0])
    """

    layout = Layout(
        "moments",
        "moments",
        {"mean_x": ("x",), "mean_m": ("m",), "sxx": ("xx",), "sxm": ("x", "m"), "smm": ("mm",)},
        ("rows", "n", "p", "q", "eps"),
    )

    rows: int
    n: float
    mean_x: Floats
    mean_m: Floats
    sxx: Floats
    sxm: Floats
    smm: Floats
    eps: float

    @classmethod
    def of(
        cls,
        x: ArrayLike | None,
        m: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Moments:
        """Sums of one block.

        Parameters
        ----------
        x, m : (n, p) and (n, q) NumPy or scipy sparse arrays
            Either may be None.
        weight : (n,) array, optional
            Not below zero. Rows of weight zero are left out before anything is computed, so they
            may hold NaN.
        dtype : float32 or float64
            Of the products.

        Returns
        -------
        Moments

        Raises
        ------
        ValueError
            Shapes that do not fit, a value that is not finite, or a product too large for `dtype`.
        """
        return _finished(_block_sums(x, m, weight, np.dtype(dtype)))

    @classmethod
    def from_arrays(cls, x: Any, m: Any = None, **words: Any) -> Any:
        """Sums of arrays of any size, or of each of their `groups`: see `moments`."""
        return moments(x, m, **words)

    @classmethod
    def empty(cls, p: int, q: int, *, dtype: DTypeLike = np.float64) -> Moments:
        """Sums of no rows: what every sum starts from."""
        zeros = (np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((p, q)), np.zeros((q, q)))
        return cls(0, 0.0, *zeros, eps=float(np.finfo(dtype).eps))

    @property
    def p(self) -> int:
        return len(self.mean_x)

    @property
    def q(self) -> int:
        return len(self.mean_m)

    def __repr__(self) -> str:
        return f"Moments(rows={self.rows}, n={self.n:g}, p={self.p}, q={self.q})"

    def __add__(self, other: Moments) -> Moments:
        """Sums of both."""
        self._check(other)
        if other.n == 0 or self.n == 0:
            kept = self if other.n == 0 else other
            return replace(kept, eps=max(self.eps, other.eps))
        n = self.n + other.n
        dx, dm = other.mean_x - self.mean_x, other.mean_m - self.mean_m
        root = np.sqrt(self.n) * np.sqrt(other.n / n)
        return Moments(
            self.rows + other.rows,
            n,
            self.mean_x + dx * (other.n / n),
            self.mean_m + dm * (other.n / n),
            _shifted(self.sxx, other.sxx, 1, dx * root, dx * root),
            _shifted(self.sxm, other.sxm, 1, dx * root, dm * root),
            _shifted(self.smm, other.smm, 1, dm * root, dm * root),
            max(self.eps, other.eps),
        )

    def __sub__(self, part: Moments) -> Moments:
        """Sums without `part`, which must have been added: as if it never had been."""
        # Accurate to float64 rounding of the larger; where exact independence of the part matters
        # (validation), merge the others instead: `leave_one_out`.
        self._check(part)
        rows, n = self.rows - part.rows, self.n - part.n
        if rows < 0 or n < -1e-9 * self.n:
            raise ValueError(f"{part!r} was never part of {self!r}")
        if rows == 0:
            return replace(Moments.empty(self.p, self.q), eps=self.eps)
        if part.n == 0:
            return self
        mean_x = self.mean_x + (self.mean_x - part.mean_x) * (part.n / n)
        mean_m = self.mean_m + (self.mean_m - part.mean_m) * (part.n / n)
        root = np.sqrt(n) * np.sqrt(part.n / self.n)
        dx, dm = (part.mean_x - mean_x) * root, (part.mean_m - mean_m) * root
        sxx = _shifted(self.sxx, part.sxx, -1, dx, dx)
        sxm = _shifted(self.sxm, part.sxm, -1, dx, dm)
        smm = _shifted(self.smm, part.smm, -1, dm, dm)
        return Moments(rows, n, mean_x, mean_m, clipped(sxx), sxm, clipped(smm), self.eps)

    def _check(self, other: Moments) -> None:
        if (self.p, self.q) != (other.p, other.q):
            raise ValueError(f"{self!r} and {other!r} are sums of different variables")

    @staticmethod
    def merge(parts: Iterable[Moments]) -> Moments:
        """Sum of `parts`, added in the order given; they are asked for one at a time."""
        total: Moments | None = None
        for part in parts:
            total = part if total is None else total + part
        if total is None:
            raise ValueError("there are no moments to merge")
        return total

    def mean(self, which: Which) -> Floats:
        """Mean of x (p,) or of m (q,)."""
        return {"x": self.mean_x, "m": self.mean_m}[which]

    def scatter(self, which: Which) -> Floats:
        """Scatter of x (p, p) or of m (q, q)."""
        return {"x": self.sxx, "m": self.smm}[which]

    def covariance(self, which: Which, *, ddof: float = 1) -> Floats:
        """Scatter over ``n - ddof``: (p, p) or (q, q) float64."""
        return self.scatter(which) / (self.n - ddof)

    def scale(self, which: Which) -> Floats:
        """Standard deviation (ddof 0), (p,) or (q,); 0 where it is no more than rounding."""
        if self.n == 0:
            return np.zeros(len(self.mean(which)))
        sd = np.sqrt(np.diag(self.scatter(which)) / self.n)
        return np.where(sd > 4 * self.eps * np.abs(self.mean(which)), sd, 0.0)

    def correlation(self, which: Which) -> Floats:
        """Correlation, (p, p) or (q, q) float64; 0 for a variable that does not vary."""
        inverse = reciprocal(self.scale(which))
        return self.scatter(which) / max(self.n, 1e-300) * np.outer(inverse, inverse)

    def swap(self) -> Moments:
        """The same sums with x and m exchanged."""
        means, scatter = (self.mean_m, self.mean_x), (self.smm, self.sxm.T, self.sxx)
        return Moments(self.rows, self.n, *means, *scatter, self.eps)

    def select(self, x: ArrayLike | None = None, m: ArrayLike | None = None) -> Moments:
        """Sums of some of the variables.

        Parameters
        ----------
        x, m : (p,) and (q,) bool, or indices
            None for all.

        Returns
        -------
        Moments of the chosen variables, in the order of the indices
        """
        i, j = _indices(x, self.p), _indices(m, self.q)
        if np.array_equal(i, np.arange(self.p)) and np.array_equal(j, np.arange(self.q)):
            return self
        return replace(
            self,
            mean_x=self.mean_x[i],
            mean_m=self.mean_m[j],
            sxx=self.sxx[np.ix_(i, i)],
            sxm=self.sxm[np.ix_(i, j)],
            smm=self.smm[np.ix_(j, j)],
        )

    def project(self, matrix: ArrayLike, centre: ArrayLike | None = None) -> Moments:
        """Sums with linear combinations of m, such as PCA scores, in its place.

        Parameters
        ----------
        matrix : (k, q)
            One combination a row.
        centre : (q,), optional
            Default none.

        Returns
        -------
        Moments whose m is ``(m - centre) @ matrix.T``, k variables; x stays
        """
        a = np.asarray(matrix, dtype=np.float64)
        shift = self.mean_m if centre is None else self.mean_m - np.asarray(centre, np.float64)
        inner = a @ self.smm @ a.T
        return replace(self, mean_m=a @ shift, sxm=self.sxm @ a.T, smm=(inner + inner.T) / 2)

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Means and scatter, symmetric matrices as their upper triangle; counts."""
        arrays, facts = super().stored()
        for name, values in (("sxx", self.sxx), ("smm", self.smm)):
            arrays[name] = values[np.triu_indices(len(values))]
        return arrays, facts

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> Moments:
        """The sums again, to the last bit."""
        p, q = int(attrs["p"]), int(attrs["q"])
        shapes = {"mean_x": (p,), "mean_m": (q,), "sxx": (p, p), "sxm": (p, q), "smm": (q, q)}
        arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
        for name, values in arrays.items():
            if not values.size:
                continue
            if name in ("sxx", "smm"):
                i, j = np.triu_indices(len(values))
                values[i, j] = values[j, i] = read(name)
            else:
                values[...] = read(name)
        return cls(rows=int(attrs["rows"]), n=float(attrs["n"]), eps=float(attrs["eps"]), **arrays)


def reciprocal(values: Floats) -> Floats:
    """Return ``1 / values``, and 0 where a value is not above 0.

    Parameters
    ----------
    values
        float64 of any shape.

    Returns
    -------
    ndarray
        float64 of the same shape.
    """
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def leave_one_out(parts: Sequence[Moments]) -> Iterator[Moments]:
    """For each part the sum of all the others, without ever having touched it.

    Divide and conquer: n log2(n) merges and log2(n) sums in memory. A difference from the total
    would be cheaper still, but would carry a trace of the part at rounding level.

    Parameters
    ----------
    parts : sequence of Moments
        Asked for one at a time (they may come from a store).

    Yields
    ------
    Moments; of a single part those of no rows
    """
    if len(parts) == 1:
        part = parts[0]
        yield Moments.empty(part.p, part.q)
        return
    yield from _all_but(parts, 0, len(parts), None)


def _all_but(
    parts: Sequence[Moments], start: int, stop: int, others: Moments | None
) -> Iterator[Moments]:
    """For each of ``parts[start:stop]`` the sum of `others` and of the rest of them."""
    if stop - start == 1:
        assert others is not None
        yield others
        return
    half = (start + stop) // 2
    for mine, rest in (((start, half), (half, stop)), ((half, stop), (start, half))):
        outside = Moments.merge(parts[i] for i in range(*rest))
        yield from _all_but(parts, *mine, outside if others is None else others + outside)


def moments(
    x: Any,
    m: Any = None,
    *,
    weight: Any = None,
    groups: Any = None,
    dtype: DTypeLike = np.float32,
    skip_missing: bool = False,
    run: Run | None = None,
) -> Any:
    """Moments of NumPy, Dask, xarray or sparse arrays, one pass, block by block.

    Blocks of which few values are not zero (`msiscale.models.sparse`) are multiplied as CSR.

    Parameters
    ----------
    x : (..., p) array, scipy sparse array or `CsrRows`, or None
        The last axis is the variables.
    m : (..., q) likewise, optional
        Same leading axes.
    weight : (...) array, optional
        Not below zero.
    groups : (...) array of labels, optional
        One label a row (specimen, patient, fold).
    dtype : float32 or float64
        Of the products within a block.
    skip_missing : bool
        Leave out rows with a NaN in x or m (pixels not measured); else they raise ValueError.
    run : callable, optional
        Computes a list of picklable tasks, in order (``lambda tasks: [t() for t in tasks]``);
        for arrays that are not Dask's.

    Returns
    -------
    Moments, or with `groups` a dict from label to Moments (in order of first appearance).
    The result depends on the blocks (chunks), not on the scheduler.

    Raises
    ------
    ValueError
        As `Moments.of`, or neither x nor m is given.
    """
    if x is None and m is None:
        raise ValueError("give x, m or both")
    arrays = [x, m, weight, groups]
    arrays = [a if a is None or hasattr(a, "ndim") else np.asarray(a) for a in arrays]
    blocks = row_blocks(*arrays)
    step = partial(_step, dtype=np.dtype(dtype), skip_missing=skip_missing)
    sums = reduce_blocks(blocks, step, _joined, run=run)
    total = {label: _finished(part) for label, part in sums.items()}
    return total[None] if groups is None else total


def moments_of_blocks(blocks: Iterable[tuple[Any, Any]], dtype: DTypeLike = np.float32) -> Moments:
    """Moments of blocks that are asked for one at a time and added up in order.

    Parameters
    ----------
    blocks : iterable of (x, m)
        As for `Moments.of`.
    dtype : float32 or float64
        Of the products.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        No block, or what `Moments.of` refuses.
    """
    sums: Sums = {}
    for x, m in blocks:
        sums = _joined(sums, {None: _block_sums(x, m, None, np.dtype(dtype))})
    if not sums:
        raise ValueError("there are no blocks to sum")
    return _finished(sums[None])


def product_dtype(*arrays: Any) -> np.dtype[Any]:
    """float32 where every array is float32 or narrower, else float64: what the data can hold."""
    kinds = {raw(a).dtype for a in arrays if a is not None}
    narrow = all(d.kind == "f" and d.itemsize <= 4 for d in kinds)
    return np.dtype(np.float32 if narrow else np.float64)


def _may_miss(a: Any) -> bool:
    # a sum finds a NaN in a fraction of the time that it takes to look for one
    with np.errstate(over="ignore", invalid="ignore"):
        return not np.isfinite(a.sum())


Sums = dict[Hashable, Moments | Products]


def _step(
    total: Sums | None,
    x: Any,
    m: Any,
    weight: Any,
    groups: Any,
    *,
    dtype: np.dtype[Any],
    skip_missing: bool,
) -> Sums:
    keep = np.ones((x if x is not None else m).shape[0], dtype=bool)
    if skip_missing:
        for a in (x, m):
            if a is not None and _may_miss(a):
                keep &= ~missing(a)
    labels: list[Hashable] = [None]
    if groups is not None:
        _, first = np.unique(groups, return_index=True)
        labels = np.asarray(groups)[np.sort(first)].tolist()
    found: Sums = {}
    for label in labels:
        rows = keep if groups is None else keep & (groups == label)
        everything = bool(rows.all())
        px, pm, pw = (a if a is None or everything else a[rows] for a in (x, m, weight))
        found[label] = _block_sums(px, pm, pw, dtype)
    return found if total is None else _joined(total, found)


def _block_sums(x: Any, m: Any, weight: Any, dtype: np.dtype[Any]) -> Moments | Products:
    """Sums of one block, by whichever of the sparse and the dense products costs less."""
    x, m = cheapest_form(x), cheapest_form(m)
    if issparse(x) or issparse(m):
        return Moments(**sparse_sums(x, m, weight, dtype))
    return products(x, m, weight, dtype)


def _joined(a: Sums, b: Sums) -> Sums:
    """Sums of the groups of both; products of a few blocks stay products."""
    merged = dict(a)
    for label, part in b.items():
        old = merged.get(label)
        if old is None:
            merged[label] = part
        elif (
            isinstance(old, Products)
            and isinstance(part, Products)
            and len(old.n) + len(part.n) <= MOST_BLOCKS
        ):
            merged[label] = old + part
        else:
            merged[label] = _finished(old) + _finished(part)
    return merged


def _finished(part: Moments | Products) -> Moments:
    return Moments(**part.merged()) if isinstance(part, Products) else part


def merge_groups(a: Mapping[K, V], b: Mapping[K, V]) -> dict[K, V]:
    """Sums of the groups of both."""
    merged = dict(a)
    for label, part in b.items():
        merged[label] = merged[label] + part if label in merged else part
    return merged


def _shifted(a: Floats, b: Floats, sign: int, u: Floats, v: Floats) -> Floats:
    """``a +- (b + u v^T)``, with one new array."""
    total = np.ascontiguousarray(a + b if sign > 0 else a - b)
    if total.size:
        blas.dger(float(sign), v, u, a=total.T, overwrite_a=True)
    return total


def _indices(choice: ArrayLike | None, size: int) -> NDArray[np.intp]:
    if choice is None:
        return np.arange(size)
    chosen = np.asarray(choice)
    return np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.intp)
