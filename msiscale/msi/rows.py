"""An image whose spectra any function gives by rows: tables, and layouts of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.as_asked import as_asked
from msiscale.msi.asked import NOTHING, Asked
from msiscale.msi.hdf5_source import Hdf5Source, grid_indices
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import Ints, Numbers
from msiscale.msi.tree import Tree


@dataclass(kw_only=True)
class RowsSource(Hdf5Source):
    """An image on a shared m/z axis.

    Attributes
    ----------
    rows : intensities (m, k) of the rows of a table; pickled with the source
    """

    rows: Callable[[Ints], Numbers]

    def stored_values(self, indices: Ints) -> Numbers:
        """Read intensities on the shared axis.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        ndarray
            (m, k), in that order
        """
        return self.rows(self.address[indices, 0])


def image_of(
    path: str,
    mz: ArrayLike,
    xy: ArrayLike,
    rows: Callable[[Ints], Numbers],
    *,
    asked: Asked = NOTHING,
    notes: list[str] | None = None,
) -> MsiSource:
    """An image of a file that msiscale does not know, for a layout of one's own.

    Parameters
    ----------
    path
        of the file, for messages
    mz
        (k,) the m/z axis that all spectra share, in any order
    xy
        (n, 2) x and y of every spectrum: pixel indices, or coordinates on a regular grid
    rows
        gives the intensities (m, k) of spectra by their numbers (m,) int64, in that order. It is
        pickled with the source: a function of a module, or a `functools.partial` of one
    asked
        what the user asks, as the layout was given it
    notes
        what was odd in the file and how it was read, a sentence each

    Returns
    -------
    MsiSource
        the source; its attributes pixel_um (µm, y and x), polarity and profile may be set

    Raises
    ------
    InputError
        there are no spectra, two of one pixel differ, or the coordinates lie on no grid
    """
    axis, places = np.asarray(mz, np.float64), np.asarray(xy, np.float64)
    if axis.ndim != 1 or len(axis) == 0 or places.ndim != 2 or places.shape[1] != 2:
        raise InputError(
            f"{path}: m/z are {axis.shape} and coordinates {places.shape}; give (k,) and (n, 2)"
        )
    said = [] if notes is None else notes
    yx = grid_indices(path, places, said) if len(places) else np.empty((0, 2), np.int64)
    handle = Tree(path, None, partial(store.open_file, path))  # type: ignore[arg-type]
    address = np.arange(len(yx))[:, None]
    source = RowsSource.of(handle, (), yx, address, axis, said, rows=rows)
    return as_asked(source, asked, looks_profile=False)
