"""PCA of the MSI batch by batch, as the published study has it: dask-ml's `IncrementalPCA`.

Each batch of 200 spectra is decomposed beside the components kept so far, and what these cannot
hold is dropped: the variance of a direction that no batch alone shows is lost for good, and the
order of the rows matters (`docs/models.md` has figures). `Basis.exact` is what this package does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.models.fold_model import Basis
from msiscale.models.folds import Fold
from msiscale.models.pca import noise_floor, with_signs
from msiscale.models.validation import Columns
from msiscale.threads import one_blas_thread

BATCH = 200  # spectra


def need_dask_ml() -> None:
    """Raise `InputError` where dask-ml is not installed."""
    if find_spec("dask_ml") is None:
        raise InputError(
            "option pca = 'incremental': it needs dask-ml; run pip install 'msiscale[published]'"
        )


def incremental_bases(
    rows: Mapping[str, Any],
    folds: Sequence[Fold],
    *,
    columns: Columns | None = None,
    n_components: int = 200,
    shared: bool = False,
    whole_batches: bool = False,
) -> dict[str, Basis]:
    """Modes of each fold's training pixels, for `fit_linear_folds`.

    Batches are taken from the training specimens one after another, row by row; a remainder too
    small for a batch joins the last. Everything is computed here, on one thread, each chunk once a
    fold, in order: the result depends on the rows alone, not on their chunks or on workers.

    Parameters
    ----------
    rows : mapping of specimen to Dask array (n, q), float32 or float64
        MSI intensities of the usable pixels, no NaN. Asked for fold by fold.
    folds : sequence of Fold
        May have `final_fold`.
    columns : callable, optional
        Training specimens -> (q,) bool, the m/z in use; default all.
    n_components : int
        At most, and no more than there are rows or m/z; batches have as many rows or more.
    shared : bool
        One basis of all specimens for every fold: the study's leak.
    whole_batches : bool
        As in the study, batches are of one specimen, rows that sum to zero (background) are left
        out, and so is the remainder of a specimen that makes no batch. A warning names specimens
        without any; where that is all of them, their rows are one batch.

    Returns
    -------
    dict of fold name to Basis; components of variance above rounding, with the signs of `PCA`

    Raises
    ------
    ValueError
        No m/z is in use, there are fewer than two rows, or a value is not finite.
    """
    basis = partial(_basis, rows, columns=columns, most=n_components, whole=whole_batches)
    if shared:
        return dict.fromkeys((f.name for f in folds), basis(tuple(rows)))
    return {f.name: basis(f.train) for f in folds}


def _basis(
    rows: Mapping[str, Any],
    specimens: tuple[str, ...],
    *,
    columns: Columns | None,
    most: int,
    whole: bool,
) -> Basis:
    import dask
    import dask.array as da
    from dask_ml.decomposition import IncrementalPCA  # brings numba and llvmlite

    arrays = [rows[s] for s in specimens]
    n, q = sum(a.shape[0] for a in arrays), arrays[0].shape[1]
    used = np.ones(q, bool) if columns is None else np.asarray(columns(specimens), bool)
    k = min(most, int(used.sum()), n)
    if k < 1 or n < 2:
        raise ValueError(f"{n} rows and {used.sum()} m/z of {specimens} have no components")
    fit: Any = None
    quiet = np.errstate(invalid="ignore")  # dask-ml divides zero by zero in its first batch
    with dask.config.set(scheduler="synchronous"), one_blas_thread(), quiet:
        batches = _whole_batches(rows, specimens, used) if whole else _batches(arrays, used, n, k)
        for batch in batches:
            if fit is None:
                fit = IncrementalPCA(min(k, len(batch)), svd_solver="full")
            fit.partial_fit(da.from_array(batch, chunks=-1))
    values = np.asarray(fit.explained_variance_, np.float64)
    kept = values > values[0] * noise_floor(int(used.sum()), float(np.finfo(batch.dtype).eps))
    ratio = np.asarray(fit.explained_variance_ratio_, np.float64)
    components = with_signs(np.asarray(fit.components_, np.float64)[kept])
    return Basis(used, np.asarray(fit.mean_, np.float64), components, values[kept], ratio[kept])


def _batches(
    arrays: Sequence[Any], used: NDArray[np.bool_], n: int, k: int
) -> Iterator[NDArray[Any]]:
    """Batches as dask-ml's `fit` cuts them; a chunk is computed once, not once a batch."""
    chunks = (np.asarray(a.blocks[i])[:, used] for a in arrays for i in range(a.numblocks[0]))
    held = next(chunks)
    for batch in gen_batches(n, max(BATCH, k), min_batch_size=k):
        size = batch.stop - batch.start
        while len(held) < size:
            held = np.concatenate([held, next(chunks)])
        yield _finite(held[:size])
        held = held[size:]


def _whole_batches(
    rows: Mapping[str, Any], specimens: Sequence[str], used: NDArray[np.bool_]
) -> Iterator[NDArray[Any]]:
    """Batches of `BATCH` rows of a specimen that do not sum to zero; what is left over is not."""
    left: dict[str, NDArray[Any]] = {}  # of specimens without a batch
    for name in specimens:
        held, given = np.zeros((0, int(used.sum())), rows[name].dtype), 0
        for i in range(rows[name].numblocks[0]):
            chunk = np.asarray(rows[name].blocks[i])
            held = np.concatenate([held, chunk[chunk.sum(axis=1) != 0][:, used]])
            while len(held) >= BATCH:
                yield _finite(held[:BATCH])
                held, given = held[BATCH:], given + 1
        if not given:
            left[name] = held
    few = f"fit: {', '.join(left)}: fewer than {BATCH} pixels for the PCA"
    if len(left) == len(specimens):
        warnings.warn(
            f"{few}; all their pixels together are one batch", MsiscaleWarning, stacklevel=2
        )
        every = np.concatenate([*left.values()])
        if len(every) < 2:
            raise ValueError(
                f"{len(every)} rows of {specimens} are above zero; a PCA needs 2 or more"
            )
        yield _finite(every)
    elif left:
        warnings.warn(f"{few}, which leaves them out", MsiscaleWarning, stacklevel=2)


def _finite(batch: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(batch).all():
        raise ValueError("some intensities are not finite; give pixels that were measured")
    return batch
