"""Images of any m/z as the folds that held a specimen out predict them, and as it was measured.

One reader for tables, figures, pages and exports. Folds that held out whole specimens have one set
of modes each, beside the predicted scores; those that held out parts of a specimen have one for
each part, and ``fold`` says which pixel is whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block, blocks
from msiscale.store.specimen import StoredSpecimen
from msiscale.threads import one_blas_thread

PATIENTS = "leave_one_patient_out"  # of which the arrays lie in the group of the specimen itself
PREDICTED, COLOUR = "predicted_scores", "colour_scores"
CELL = 64  # pixels on a side whose scores are in memory at a time
Float32 = NDArray[np.float32]


class HeldOut:
    """What a protocol predicted of a specimen, an m/z at a time or many, in the units of the cube.

    Parameters
    ----------
    out
        The run's ``--out``.
    specimen
        Its name.
    protocol
        As ``metrics.csv`` calls it.
    """

    def __init__(self, out: str, specimen: str, protocol: str = PATIENTS) -> None:
        self.protocol = protocol
        self.cohort = StoredSpecimen.of(out, specimen)
        below = () if protocol == PATIENTS else (protocol,)
        self.stored = StoredSpecimen.predicted(out, specimen, *below)

    @property
    def exists(self) -> bool:
        """Whether the protocol held the specimen out, and its scores are there."""
        needed = (PREDICTED, "components", "mean", "mz")
        return self.stored.exists and self.stored.has(*needed) and self.cohort.exists

    def has(self, scores: str) -> bool:
        """Whether there are scores of this name, such as `COLOUR`."""
        return scores in self.stored

    @cached_property
    def fold(self) -> NDArray[np.int16]:
        """(y, x): which fold held the pixel out; -1 where none did."""
        if "fold" in self.stored:
            return np.asarray(self.stored.read("fold"), np.int16)
        first = np.asarray(self.stored.array(PREDICTED)[..., 0])
        return np.where(np.isfinite(first), 0, -1).astype(np.int16)

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """(y, x): pixels that a fold held out."""
        return np.asarray(self.fold >= 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        height, width = self.fold.shape
        return height, width

    @cached_property
    def mz(self) -> NDArray[np.float64]:
        """(k,): what a column stands for here; a fold leaves out what its training hardly has."""
        # of a slide without MSI `mz` are the few that were asked for, the model's axis beside them
        axis = "mz_axis" if "mz_axis" in self.stored else "mz"
        return self.stored.read(axis).astype(np.float64, copy=False)

    @cached_property
    def columns(self) -> NDArray[np.intp]:
        """(k,): where each m/z is on the axis of what was measured."""
        axis = self.cohort.mz
        if np.array_equal(axis, self.mz):
            return np.arange(len(axis))
        return np.array([self.cohort.column(mz) for mz in self.mz], np.intp)

    @cached_property
    def supported(self) -> NDArray[np.bool_]:
        """(k,): the m/z that every fold has which held pixels of the specimen out."""
        if "supported" not in self.stored:
            return np.ones(len(self.mz), bool)
        found = np.atleast_2d(np.asarray(self.stored.read("supported"), bool))
        return np.asarray(found[np.unique(self.fold[self.held])].all(axis=0))

    @cached_property
    def mean(self) -> Float32:
        """(fold, k): the mean of the tissue that each fold was trained on."""
        return np.atleast_2d(np.asarray(self.stored.read("mean"), np.float32))

    def components(self, fold: int, wanted: slice) -> Float32:
        """(component, columns `wanted`) of the modes of a fold."""
        array = self.stored.array("components")
        at = (slice(None), wanted) if len(array.shape) == 2 else (fold, slice(None), wanted)
        return np.asarray(array[at], np.float32)

    def measured(self, wanted: slice) -> Float32:
        """Intensities as measured.

        Parameters
        ----------
        wanted
            Columns of `mz`.

        Returns
        -------
        ndarray
            (n, columns) float32, of the `held` pixels in raster order.
        """
        there, out = self.columns[wanted], self._rows(wanted)
        if not len(there):
            return out
        low, high = int(there.min()), int(there.max()) + 1
        cube = self.cohort.intensity
        for cell, held, rows in self._cells():
            values = np.asarray(cube[(*cell.slices, slice(low, high))], np.float32)
            out[rows] = values[held][:, there - low]
        return out

    def predicted(self, wanted: slice, scores: str = PREDICTED) -> Float32:
        """Intensities as predicted by the folds that held the pixels out; may be below zero.

        Parameters
        ----------
        wanted
            Columns of `mz`.
        scores
            Which prediction: `PREDICTED`, or `COLOUR` where there is one.

        Returns
        -------
        ndarray
            (n, columns) float32, of the `held` pixels in raster order.
        """
        array, out = self.stored.array(scores), self._rows(wanted)
        loadings = {
            int(k): self.components(int(k), wanted) for k in np.unique(self.fold[self.held])
        }
        for cell, held, rows in self._cells():
            folds, values = self.fold[cell.slices][held], np.asarray(array[cell.slices])[held]
            for k in map(int, np.unique(folds)):
                with one_blas_thread():
                    found = values[folds == k] @ loadings[k]
                out[rows[folds == k]] = found + self.mean[k, wanted]
        return out

    def block(self, block: Block, wanted: Sequence[int]) -> Float32:
        """Intensities as predicted, of a part of the grid.

        Parameters
        ----------
        block
            Pixels (y, x).
        wanted
            Columns of `mz`, in any order.

        Returns
        -------
        ndarray
            (h, w, columns) float32, NaN where no fold held the pixel out or has the m/z.
        """
        fold, columns = self.fold[block.slices], np.asarray(wanted, np.intp)
        out = np.full((*block.shape, len(columns)), np.nan, np.float32)
        values = np.asarray(self.stored.array(PREDICTED)[block.slices])
        low, high = (columns.min(), columns.max() + 1) if len(columns) else (0, 0)
        for k in map(int, np.unique(fold[fold >= 0])):
            loadings = self.components(k, slice(int(low), int(high)))[:, columns - low]
            with one_blas_thread():
                out[fold == k] = values[fold == k] @ loadings + self.mean[k, columns]
        out[..., ~self.supported[columns]] = np.nan
        return out

    def constant(self, wanted: slice) -> Float32:
        """What the mean of the training tissue predicts, which knows nothing of the H&E.

        Parameters
        ----------
        wanted
            Columns of `mz`.

        Returns
        -------
        ndarray
            (n, columns) float32, of the `held` pixels in raster order.
        """
        return np.asarray(self.mean[:, wanted][self.fold[self.held]])

    def spectrum(self, y: int, x: int) -> Float32:
        """(k,) predicted of a pixel that was held out; may be below zero."""
        fold = int(self.fold[y, x])
        scores = np.asarray(self.stored.array(PREDICTED)[y, x])
        with one_blas_thread():
            found = scores @ self.components(fold, slice(None))
        return np.asarray(found + self.mean[fold], np.float32)

    def image(self, rows: Float32) -> Float32:
        """Lay rows of the held-out pixels onto the grid.

        Parameters
        ----------
        rows
            (n, …), as the methods above give them.

        Returns
        -------
        ndarray
            (y, x, …) float32, NaN where no fold held the pixel out.
        """
        out = np.full((*self.shape, *rows.shape[1:]), np.nan, np.float32)
        out[self.held] = rows
        return out

    def _rows(self, wanted: slice) -> Float32:
        n = len(range(*wanted.indices(len(self.mz))))
        return np.empty((int(self.held.sum()), n), np.float32)

    def _cells(self) -> Iterator[tuple[Block, NDArray[np.bool_], NDArray[np.intp]]]:
        """Cells with a pixel that was held out: which pixels, and which rows these are."""
        row = np.cumsum(self.held).reshape(self.shape) - 1
        for cell in blocks(self.shape, (CELL, CELL)):
            held = self.held[cell.slices]
            if held.any():
                yield cell, held, row[cell.slices][held]
