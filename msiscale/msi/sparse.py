"""Spectra on m/z axes so long that a dense array would be nothing but zeros: CSR blocks in Zarr."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, vstack

from msiscale.csr import ROWS, CsrRows
from msiscale.msi.cube import check_axis, nearest
from msiscale.msi.fixed_axis import fixed_axis, half_step
from msiscale.msi.layouts import open_source
from msiscale.msi.normalisation import normalisation
from msiscale.msi.source import batches
from msiscale.msi.spectra import Floats, Intensities, Spectra
from msiscale.store import open_group, put


def write_sparse(
    path: str,
    where: str,
    mz: str | Sequence[float] | Floats,
    *,
    tolerance_ppm: float = 5.0,
    normalise: str = "none",
    pixel_um: float | Sequence[float] | None = None,
) -> CsrRows:
    """Bin every spectrum of an image onto a long m/z axis, as rows that every fit takes.

    Memory: one block of 4096 spectra.

    Parameters
    ----------
    path
        imzML with m/z of its own for each pixel (processed), or such an HDF5
    where
        URL of the Zarr group to write, in the place of whatever is there
    mz
        values, a CSV of them, or ``"ppm:LO:HI:STEP"``
    tolerance_ppm, normalise, pixel_um
        as for `open_msi`

    Returns
    -------
    CsrRows (n, k), one row a spectrum, in the file's order. Beside it in the group: ``y`` and
    ``x`` (n,), the pixel of each row; ``norm`` (n,), what it was divided by, NaN where a spectrum
    is blank (its row is empty); ``mz`` (k,).

    Raises
    ------
    ValueError
        A continuous file: its spectra share an axis, and are dense.
    InputError
        As `open_msi`.
    """
    axis = check_axis(fixed_axis(mz))
    tolerance_ppm = half_step(mz) or tolerance_ppm
    source = open_source(path, pixel_um=pixel_um)
    if source.mz is not None:
        raise ValueError(f"{path}: its spectra share one m/z axis and are dense; use open_msi")
    n = len(source.positions)
    rows = CsrRows.create(where, (n, len(axis)), edges=ROWS)
    factors = []
    for i, (start, stop) in enumerate(itertools.pairwise(rows.edges)):
        parts = []
        for some in batches(source, np.arange(start, stop)):
            spectra = source.read(some)
            factors.append(normalisation(spectra, normalise))
            parts.append(_binned(spectra, axis, tolerance_ppm, factors[-1]))
        rows.write(i, vstack(parts, format="csr"))
    group = open_group(where, "a")
    for name, values in zip(("y", "x"), source.positions.T, strict=True):
        put(group, name, values.astype(np.int64), ("row",))
    put(group, "norm", np.concatenate(factors), ("row",), attrs={"of": normalise})
    put(group, "mz", axis, ("mz",), attrs={"units": "m/z"})
    return rows


def _binned(spectra: Spectra, axis: Floats, tolerance_ppm: float, factor: Intensities) -> csr_array:
    """`bin_spectra` as CSR, divided by `factor`."""
    index, row = nearest(spectra.mz, axis, tolerance_ppm), spectra.rows
    hit = (index >= 0) & np.isfinite(factor[row])
    row = row[hit]
    values = spectra.intensity[hit].astype(np.float64) / factor[row]
    return csr_array((values, (row, index[hit])), shape=(len(spectra), len(axis)))
