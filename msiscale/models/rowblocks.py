"""Rows in blocks: NumPy, Dask, xarray and sparse arrays walked the same way, and sums over them.

The last axis is the variables; every axis before it is rows. Sums run in a fixed order that
depends on the blocks alone, never on who computes them or when they finish, so a result is the
same to the last bit with any number of workers.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from msiscale.csr import CsrRows
from msiscale.threads import one_blas_thread

T = TypeVar("T")
Task = Callable[[], Any]
Run = Callable[[Sequence[Task]], Iterable[Any]]  # computes tasks, gives their results in order

ROWS = 4096  # rows of a block of a NumPy array: 64 x 64 pixels
PER_TASK = 16  # consecutive blocks that one task sums
FOLD = 16  # such sums merged one after another


def is_dask(x: Any) -> bool:
    """Whether `x`, or what it wraps, is a Dask array (told without importing Dask)."""
    inner = x.data if isinstance(x, xr.DataArray) else x
    return type(inner).__module__.startswith("dask.array")


def is_labelled(x: Any) -> bool:
    """Whether `x` need not fit in memory, or names its axes: Dask, xarray or `CsrRows`."""
    return isinstance(x, xr.DataArray | CsrRows) or is_dask(x)


def raw(x: Any) -> Any:
    """The Dask, NumPy or CSR array inside; the last axis stays the last."""
    if isinstance(x, CsrRows):
        return x.to_dask()
    if issparse(x):
        return csr_array(x)
    return x.data if isinstance(x, xr.DataArray) else x if is_dask(x) else np.asarray(x)


def missing(x: Any) -> NDArray[np.bool_]:
    """Which rows (n,) of a dense ``(n, ...)`` or sparse ``(n, p)`` array hold a NaN."""
    if not issparse(x):
        return np.asarray(np.isnan(x).reshape(len(x), -1).any(axis=1))
    rows = csr_array(x)
    at = np.flatnonzero(np.isnan(rows.data))
    found = np.zeros(rows.shape[0], dtype=bool)
    found[np.searchsorted(rows.indptr, at, side="right") - 1] = True
    return found


def flat(x: Any, lead: int) -> Any:
    """Rows from an array with `lead` row axes: ``(n, p)``, or ``(n,)`` if it has no others."""
    if issparse(x):
        return csr_array(x)
    x = np.asarray(x)
    return x.reshape(-1, *x.shape[lead:])


def row_blocks(*arrays: Any, size: int = ROWS) -> list[tuple[Any, ...]]:
    """Aligned blocks of rows of `arrays`, in raster order.

    Parameters
    ----------
    arrays : NumPy, Dask, xarray or scipy sparse arrays, `CsrRows`, or None
        The first that is not None is ``(..., p)``; the others have the same leading axes, and at
        most one more. With a Dask array or `CsrRows` among them its chunks are the blocks (the last
        axis is joined, no other is rechunked except to match).
    size : int
        Rows of a block otherwise.

    Returns
    -------
    list of tuples, one entry an array (None stays None): NumPy ``(n,)`` or ``(n, q)``, CSR
    ``(n, q)``, or a `Deferred` or Delayed that gives one.

    Raises
    ------
    ValueError
        The arrays differ in rows.
    """
    lead_array = next(a for a in arrays if a is not None)
    lead = lead_array.ndim - 1
    rows = lead_array.shape[:lead]
    for a in arrays:
        if a is not None and (a.ndim not in (lead, lead + 1) or not _same(a.shape[:lead], rows)):
            raise ValueError(f"arrays of shape {lead_array.shape} and {a.shape} differ in rows")
    inner = [None if a is None else raw(a) for a in arrays]
    if any(is_dask(a) for a in inner if a is not None):
        return _dask_blocks(inner, lead)
    flats = [None if a is None else flat(a, lead) for a in inner]
    n = next(a for a in flats if a is not None).shape[0]
    return [tuple(None if a is None else a[i : i + size] for a in flats) for i in range(0, n, size)]


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    # unknown (NaN) sizes of Dask arrays pass: only the blocks can tell
    return len(a) == len(b) and all(i == j or i != i or j != j for i, j in zip(a, b, strict=True))


def _dask_blocks(arrays: Sequence[Any], lead: int) -> list[tuple[Any, ...]]:
    import dask.array as da

    chunks = next(a for a in arrays if is_dask(a)).chunks[:lead]
    columns: list[list[Any]] = []
    for a in arrays:
        if a is None:
            continue
        if issparse(a):
            edges = np.cumsum([0, *chunks[0]])
            columns.append([a[i:j] for i, j in itertools.pairwise(edges.tolist())])
            continue
        if not is_dask(a):
            whole_rows = (*chunks, *a.shape[lead:])
            a = da.from_array(a, chunks=whole_rows)
        whole = dict.fromkeys(range(lead, a.ndim), -1)
        if a.chunks[:lead] != chunks and not np.isnan(np.concatenate(chunks)).any():
            whole |= dict(enumerate(chunks))
        columns.append(_parts(a.rechunk(whole), lead))
    rows = map(iter, zip(*columns, strict=True))
    return [tuple(None if a is None else next(row) for a in arrays) for row in rows]


class Deferred(functools.partial[Any]):
    """Rows that a task of a Dask reduction makes itself, when it comes to them."""


def _resolving(function: Callable[..., T], *args: Any) -> T:
    """`function` of what is deferred, made now, and of the rest."""
    return function(*(a() if isinstance(a, Deferred) else a for a in args))


def lazily(function: Callable[..., Any], block: tuple[Any, ...]) -> Any:
    """`function` of a block's parts, made where and when a reduction comes to it."""
    if any(_is_delayed(part) for part in block):
        from dask.delayed import delayed

        return delayed(_resolving)(function, *block)
    if any(isinstance(part, Deferred) for part in block):
        return Deferred(_resolving, function, *block)
    return functools.partial(function, *block)


def _is_delayed(part: Any) -> bool:
    return hasattr(part, "__dask_graph__")


def _parts(array: Any, lead: int) -> list[Any]:
    """Rows of each block of a Dask array."""
    # Where blocks share no work each becomes a `Deferred` with its own small graph: one task then
    # reads and sums many blocks, one at a time, and no block travels. Else Delayed objects.
    from dask.base import optimize
    from dask.core import flatten
    from dask.delayed import delayed
    from dask.optimization import cull

    (array,) = optimize(array)
    whole = dict(array.__dask_graph__())
    keys = list(flatten(array.__dask_keys__()))
    graphs = [(cull(whole, [key])[0], key) for key in keys]
    times = Counter(key for graph, _ in graphs for key in graph)
    shared = [whole[key] for key, n in times.items() if n > 1]
    if any(type(node).__name__ != "DataNode" for node in shared) or _holds_future(whole):
        to_rows = delayed(flat, pure=True)
        return [to_rows(block, lead) for block in array.to_delayed().ravel()]
    return [Deferred(_computed, graph, key, lead) for graph, key in graphs]


def _computed(graph: dict[Any, Any], key: Any, lead: int) -> Any:
    from dask.local import get_sync

    return flat(get_sync(graph, key), lead)


def _holds_future(graph: dict[Any, Any]) -> bool:
    # of a persisted array: only the cluster can give what it stands for
    values = (getattr(node, "value", node) for node in graph.values())
    return any(type(v).__name__ == "Future" for v in values)


def reduce_blocks(
    blocks: Sequence[tuple[Any, ...]],
    step: Callable[..., T],
    merge: Callable[[T, T], T],
    *,
    run: Run | None = None,
    breaks: Sequence[Any] | None = None,
    shared: tuple[Any, ...] = (),
) -> T:
    """Sum over blocks, along runs of at most `PER_TASK`, whose sums are then merged in order.

    Parameters
    ----------
    blocks : of `row_blocks`
        Those with a Delayed or Deferred in them are computed by Dask (whatever scheduler or client
        is current).
    step : ``(sum or None, *block, *shared) -> sum``
        May add to the sum it is given.
    merge : ``(sum, sum) -> sum``
        Returns a new one.
    run : callable, optional
        Computes tasks, where Dask does not; default one after another.
    breaks : sequence, one a block, optional
        A run ends where it changes.
    shared : tuple
        What every step gets; to Dask it goes once.

    Returns
    -------
    The sum, in an order that depends on the blocks alone
    """
    chains = runs_of(blocks, breaks)
    if any(_is_delayed(part) or isinstance(part, Deferred) for block in blocks for part in block):
        found: T = _reduce_lazily(chains, step, merge, shared)
        return found
    tasks = [functools.partial(_chain, step, chain, *shared) for chain in chains]
    sums: Iterable[T] = run(tasks) if run else (task() for task in tasks)
    return merged_in_order(sums, merge)


def runs_of(
    blocks: Sequence[tuple[Any, ...]], breaks: Sequence[Any] | None
) -> list[list[tuple[Any, ...]]]:
    """Runs of blocks, of nearly one length within a stretch, so that workers share them evenly."""
    if not blocks:
        raise ValueError("there are no rows to sum")
    cuts = [i for i in range(1, len(blocks)) if breaks is not None and breaks[i] != breaks[i - 1]]
    chains = []
    for first, last in itertools.pairwise([0, *cuts, len(blocks)]):
        count = 1 << (math.ceil((last - first) / PER_TASK) - 1).bit_length()
        edges = [first + (last - first) * i // count for i in range(count + 1)]
        chains += [list(blocks[a:b]) for a, b in itertools.pairwise(edges) if b > a]
    return chains


def _chain(step: Callable[..., Any], blocks: Sequence[tuple[Any, ...]], *shared: Any) -> Any:
    total: Any = None
    with one_blas_thread():
        for block in blocks:
            total = _resolving(step, total, *block, *shared)
    return total


def _limited(function: Callable[..., T], *args: Any) -> T:
    with one_blas_thread():
        return _resolving(function, *args)


def _stepped(step: Callable[..., T], total: T | None, *args: Any) -> T:
    # of a copy: what another task made is not ours to change, and this one may be run again
    return _limited(step, copy.deepcopy(total), *args)


def _reduce_lazily(
    chains: Sequence[Sequence[tuple[Any, ...]]],
    step: Callable[..., T],
    merge: Callable[[T, T], T],
    shared: tuple[Any, ...],
) -> Any:
    from dask.base import compute
    from dask.delayed import delayed

    later = functools.partial(delayed, pure=False)
    one_step, one_merge = later(_stepped), functools.partial(later(_limited), merge)
    common = [delayed(value) for value in shared]
    sums = []
    for chain in chains:
        if any(_is_delayed(part) for block in chain for part in block):
            # pure tasks: one block and one sum in memory at a time, any of them can be retried
            total = None
            for block in chain:
                total = one_step(step, total, *block, *common)
        else:  # hidden in a function, where Dask does not look for collections
            total = later(functools.partial(_chain, step, chain))(*common)
        sums.append(total)
    (total,) = compute(merged_in_order(sums, one_merge))
    return total


def merged_in_order(parts: Iterable[T], merge: Callable[[T, T], T]) -> T:
    """Merge `FOLD` neighbours one after another, then such folds in pairs: few are held at once."""
    # two, and one more for each doubling beyond a million rows: sums of many variables are large
    stack: list[tuple[int, T]] = []
    parts = iter(parts)
    while fold := list(itertools.islice(parts, 1)):
        part, level = functools.reduce(merge, itertools.islice(parts, FOLD - 1), fold.pop()), 0
        while stack and stack[-1][0] == level:
            part, level = merge(stack.pop()[1], part), level + 1
        stack.append((level, part))
    total = stack.pop()[1]
    while stack:
        total = merge(stack.pop()[1], total)
    return total


def apply_rows(
    function: Callable[[Any], NDArray[Any]], x: Any, size: int, dim: str, dtype: Any = None
) -> Any:
    """Apply a function to the rows of `x`, and return the result in the container of `x`.

    Parameters
    ----------
    function
        ``(n, p) -> (n, size)``; it is given a NumPy or CSR array.
    x
        (..., p) NumPy, Dask, xarray or sparse array, or `CsrRows`. A NumPy array goes to `function`
        as it is, whatever its shape.
    size
        Length of the last axis of the result.
    dim
        Name of the last dimension of an xarray result.
    dtype
        What a Dask result is declared to be; by default float32 where `x` is, else float64.

    Returns
    -------
    array
        (..., size).
    """
    # An xarray result keeps the coordinates of the row dimensions; its last one is called `dim`.
    # Of sparse rows `function` gets CSR, and the result is dense; of `CsrRows` a Dask array.

    def on_block(block: Any) -> NDArray[Any]:
        with one_blas_thread():
            if issparse(block):
                return function(csr_array(block))
            block = np.asarray(block)
            return function(block.reshape(-1, block.shape[-1])).reshape(*block.shape[:-1], size)

    values = raw(x)
    if is_dask(values):
        values = values.rechunk({values.ndim - 1: -1})
        dtype = dtype or (np.float32 if values.dtype == np.float32 else np.float64)
        chunks, meta = (*values.chunks[:-1], (size,)), np.empty((0,) * values.ndim, dtype)
        values = values.map_blocks(on_block, dtype=dtype, chunks=chunks, meta=meta)
    elif isinstance(x, xr.DataArray):
        values = on_block(values)
    else:
        return function(values)
    if not isinstance(x, xr.DataArray):
        return values
    lead = x.dims[:-1]
    coords = {name: c for name, c in x.coords.items() if set(c.dims) <= set(lead)}
    return xr.DataArray(values, dims=(*lead, dim), coords=coords)
