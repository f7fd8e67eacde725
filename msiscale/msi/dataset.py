"""A mass-spectrometry image as a labelled, lazy `xarray.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import Block, blocks, centres_um
from msiscale.msi.asked import Asked, Polarity
from msiscale.msi.cube import cube_block, indices_in, layout
from msiscale.msi.fixed_axis import fixed_axis, half_step
from msiscale.msi.layouts import open_source
from msiscale.msi.normalisation import NORMALISATIONS, normalisation
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import Numbers

if TYPE_CHECKING:
    import dask.array as da

#: Bytes of a band of rows of ragged spectra.
_BAND = 64 * 2**20


def open_msi(
    path: str,
    *,
    mz: str | Sequence[float] | Numbers | None = None,
    tolerance_ppm: float = 5.0,
    normalise: str = "none",
    pixel_um: float | Sequence[float] | None = None,
    polarity: Polarity | None = None,
    ms_level: int | None = None,
) -> xr.Dataset:
    """Open an imzML or HDF5 mass-spectrometry image; nothing but metadata is read until asked for.

    Parameters
    ----------
    path
        .imzML (its .ibd beside it) or HDF5; local or a URL
    mz
        m/z to sum the intensities around: values, a CSV of them, or ``"ppm:LO:HI:STEP"``. None
        takes the spectra as they are stored
    tolerance_ppm
        half-width of the window around each m/z; bins take half their step
    normalise
        'none', 'tic', 'rms' or 'median'; the factor is in the variable ``norm``
    pixel_um
        side of a pixel in µm, or (y, x), where the file lacks it or errs
    polarity
        '+' or '-': the spectra to read of a file that has both
    ms_level
        1 or more: the spectra to read of a file that has several levels

    Returns
    -------
    Dataset of dask arrays. With `mz`, or when all spectra share one m/z axis: ``intensity``
    (y, x, mz) float32, NaN where no spectrum was measured. Otherwise ``intensity`` and ``mz``
    (y, x, peak), NaN beyond the end of a spectrum. ``norm`` (y, x) float32: the factor that the
    intensities are divided by. Coordinates y and x are pixel centres in µm, or pixel indices where
    the pixel size is unknown; attributes ``pixel_um`` (y, x), ``polarity``, ``mode``,
    ``profile``, ``origin`` (y, x of the first pixel in the file's own coordinates) and ``notes``.

    Raises
    ------
    InputError
        no such file, of no known kind, or damaged; an `mz` that is no axis

    Examples
    --------
    >>> import msiscale as ms
    >>> msi = ms.open_msi("cohort/S01.imzML", mz=[760.5851, 788.6164], tolerance_ppm=5)
    >>> dict(msi.intensity.sizes), msi.pixel_um
    ({'y': 24, 'x': 28, 'mz': 2}, [100.0, 100.0])
    >>> ion_image = msi.intensity.sel(mz=788.6164, method="nearest").compute()
    >>> ion_image.shape
    (24, 28)
    """
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise is {normalise!r}; give one of {', '.join(NORMALISATIONS)}")
    asked = Asked(polarity=polarity, ms_level=ms_level)
    source = open_source(path, pixel_um=pixel_um, asked=asked)
    axis = None if mz is None else fixed_axis(mz)
    tolerance_ppm = half_step(mz) or tolerance_ppm
    shown = source.mz if axis is None else axis
    coords: dict[str, Any] = {}
    for name, n, size in zip("yx", source.shape, source.pixel_um or (None, None), strict=True):
        values = np.arange(n) if size is None else centres_um(n, size)
        coords[name] = (name, values, {} if size is None else {"units": "µm"})
    if shown is None:
        variables = _ragged(source, normalise)
    else:
        variables = _cube(source, axis, len(shown), tolerance_ppm, normalise)
        coords["mz"] = ("mz", shown)
    attrs = {
        "path": str(path),
        "pixel_um": None if source.pixel_um is None else list(source.pixel_um),
        "polarity": source.polarity,
        "mode": source.mode,
        "profile": source.profile,
        "origin": list(source.origin),
        "normalise": normalise,
        "notes": [*source.notes, *([source.unknown_size] if source.pixel_um is None else [])],
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _cube(
    source: MsiSource, axis: Numbers | None, k: int, tolerance_ppm: float, normalise: str
) -> dict[str, Any]:
    _, (side, _, _) = layout(source.shape, k)

    def read(part: Block) -> NDArray[np.float32]:
        intensity, factor = cube_block(
            source, axis, part, tolerance_ppm=tolerance_ppm, normalise=normalise
        )
        return np.concatenate([intensity, factor[..., None]], axis=2)

    both = _tiled(source.shape, (side, side), k + 1, read)
    return {
        "intensity": (("y", "x", "mz"), both[..., :-1]),
        "norm": (("y", "x"), both[..., -1]),
    }


def _ragged(source: MsiSource, normalise: str) -> dict[str, Any]:
    longest = max(1, int(source.lengths.max(initial=0)))
    ny, nx = source.shape
    rows = max(1, min(ny, _BAND // (12 * longest * nx)))

    def array(what: str, depth: int, dtype: type[np.floating]) -> da.Array:
        def fill(part: Block) -> Numbers:
            out = np.full((*part.shape, depth), np.nan, dtype)
            indices = indices_in(source, part)
            spectra = source.read(indices)
            y, x = (source.positions[indices] - (part.y0, part.x0)).T
            if what == "norm":
                out[y, x, 0] = normalisation(spectra, normalise)
                return out
            row = spectra.rows
            values: Numbers = spectra.mz
            if what == "intensity":
                values = spectra.intensity / normalisation(spectra, normalise)[row]
            out[y[row], x[row], np.arange(len(row)) - spectra.start[row]] = values
            return out

        return _tiled(source.shape, (rows, nx), depth, fill, dtype)

    return {
        "intensity": (("y", "x", "peak"), array("intensity", longest, np.float32)),
        "mz": (("y", "x", "peak"), array("mz", longest, np.float64)),
        "norm": (("y", "x"), array("norm", 1, np.float32)[..., 0]),
    }


def _tiled(
    shape: tuple[int, int],
    size: tuple[int, int],
    depth: int,
    read: Callable[[Block], Numbers],
    dtype: type[np.floating] = np.float32,
) -> da.Array:
    """A dask array (y, x, depth) of blocks of `size` pixels, each made by ``read(block)``."""
    import dask.array as da  # half a second, which ingest does without
    from dask.array.core import normalize_chunks

    tiles = {(b.y0 // size[0], b.x0 // size[1]): b for b in blocks(shape, size)}
    chunks = normalize_chunks((*size, depth), (*shape, depth))

    def block(block_info: Any = None) -> Numbers:
        y, x, _ = block_info[None]["chunk-location"]
        return read(tiles[y, x])

    meta = np.empty((0, 0, 0), dtype)
    made: da.Array = da.map_blocks(block, chunks=chunks, dtype=dtype, meta=meta)
    return made
