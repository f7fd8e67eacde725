"""Spectra onto a shared m/z axis: binning, normalisation, blocks of the data cube."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Block
from msiscale.msi.calibration import Calibration
from msiscale.msi.normalisation import Scaling, normalisation, reference_factor
from msiscale.msi.source import MsiSource, batches
from msiscale.msi.spectra import Floats, Intensities, Ints, Numbers, Spectra
from msiscale.msi.window import Window

#: Values of a binned batch (float64 while it is summed), few enough to stay in the cache.
_CELLS = 500_000
_TABLE = 1 << 16  #: cells of the table that m/z are looked up in


def check_axis(mz: Numbers) -> Floats:
    """`mz` as a float64 axis; ValueError unless finite, positive and strictly ascending."""
    axis = np.asarray(mz, np.float64)
    if axis.ndim != 1 or len(axis) == 0:
        raise ValueError("an m/z axis is a list of at least one m/z")
    if not (np.isfinite(axis).all() and axis[0] > 0 and (np.diff(axis) > 0).all()):
        raise ValueError("the m/z of an axis are positive and strictly ascending")
    return axis


def nearest(mz: Floats, axis: Floats, tolerance_ppm: float | Floats) -> Ints:
    """The axis m/z that each m/z belongs to.

    Parameters
    ----------
    mz
        (n,) float64
    axis
        (k,) float64, strictly ascending
    tolerance_ppm
        half-width of the window around an axis m/z, in ppm of it; one for all, or (k,)

    Returns
    -------
    (n,) int64, index of the nearest within the tolerance, the lower of two that are as near; -1
    where there is none.
    """
    index = _search((axis[1:] + axis[:-1]) / 2, mz)
    centre = axis[index]
    # `centre` holds the distances from here on, to spare two arrays of the size of the data.
    part = np.asarray(tolerance_ppm, np.float64) * 1e-6
    width = centre * (part[index] if part.ndim else part)
    np.subtract(mz, centre, out=centre)
    np.abs(centre, out=centre)
    index[~(centre <= width)] = -1
    return index


def _search(borders: Floats, mz: Floats) -> Ints:
    """`numpy.searchsorted`, from a table of equal cells; a quarter of its time for many m/z."""
    if len(borders) < 16 or len(mz) < _TABLE:
        return np.searchsorted(borders, mz)
    low, scale = borders[0], _TABLE / (borders[-1] - borders[0])

    def cells(values: Floats) -> NDArray[np.int32]:
        # rounding is monotone, so a border in an earlier cell is below every m/z in this one
        place: Floats = values - low
        place *= scale
        np.fmin(np.fmax(place, 0, out=place), _TABLE, out=place)
        return place.astype(np.int32)

    counts = np.bincount(cells(borders), minlength=_TABLE + 1)
    if counts.max() > 8:
        return np.searchsorted(borders, mz)
    below = np.cumsum(counts) - counts
    ends = np.append(borders, np.inf)
    index = np.empty(len(mz), np.int64)
    for i in range(0, len(mz), _TABLE):
        values = mz[i : i + _TABLE]
        at = below[cells(values)]
        for _ in range(int(counts.max())):
            at += ends[at] < values
        index[i : i + _TABLE] = at
    return index


def bin_spectra(spectra: Spectra, mz: Numbers, tolerance_ppm: float | Floats) -> Intensities:
    """Intensity at every m/z of an axis: the sum of what lies within the tolerance.

    Every peak counts towards at most one axis m/z, the nearest, so the intensity of all peaks
    that are within the tolerance of any is conserved.

    Parameters
    ----------
    spectra
        m spectra, profile or centroid
    mz
        (k,) axis, strictly ascending
    tolerance_ppm
        half-width of the window in ppm of the axis m/z; one for all, or (k,)

    Returns
    -------
    (m, k) float32

    Raises
    ------
    ValueError
        `mz` is no axis
    """
    axis = check_axis(mz)
    index = nearest(spectra.mz, axis, tolerance_ppm)
    hit = index >= 0
    cell = spectra.rows
    cell *= len(axis)
    cell += index
    shape = (len(spectra), len(axis))
    total = np.bincount(cell[hit], spectra.intensity[hit], minlength=shape[0] * shape[1])
    return total.reshape(shape).astype(np.float32)


def bin_dense(intensity: Intensities, index: Ints, k: int) -> Intensities:
    """`bin_spectra` for spectra on a shared axis.

    Parameters
    ----------
    intensity
        (m, n) float32, m spectra on an axis of n ascending m/z
    index
        (n,) int64, the `nearest` of these m/z; -1 where there is none
    k
        number of m/z of the axis to bin onto

    Returns
    -------
    ndarray
        (m, k) float32, summed intensities
    """
    out = np.zeros((len(intensity), k), np.float32)
    hit = np.flatnonzero(index >= 0)
    if len(hit) == 0:
        return out
    group = index[hit]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    if len(first) == len(hit):
        out[:, group] = intensity[:, hit]
    else:
        chosen = intensity[:, hit].astype(np.float64)
        out[:, group[first]] = np.add.reduceat(chosen, first, axis=1)
    return out


def indices_in(source: MsiSource, block: Block) -> Ints:
    """Indices of the spectra whose pixels lie in `block`, in the file's order."""
    y, x = source.positions.T
    inside = (y >= block.y0) & (y < block.y1) & (x >= block.x0) & (x < block.x1)
    return np.flatnonzero(inside)


def cube_block(
    source: MsiSource,
    mz: Numbers | None,
    block: Block,
    *,
    tolerance_ppm: float | Window = 5.0,
    normalise: str = "none",
    reference_mz: Sequence[float] = (),
    transform: str = "none",
    calibration: Calibration | None = None,
) -> tuple[Intensities, Intensities]:
    """One block of the data cube. Memory: the block itself and one batch of spectra.

    Parameters
    ----------
    source
        the image
    mz
        (k,) axis to bin onto; None for the axis of a continuous source, taken as it is
    block
        pixels, in the source's own bounding box
    tolerance_ppm
        half-width of the window around every m/z, or a `Window`
    normalise
        'none', 'tic', 'rms' or 'median', see `normalisation`; or 'reference'
    reference_mz
        with 'reference', the ions by whose summed intensity (within the tolerance, in the spectrum
        as it was measured, not on the axis) a spectrum is divided
    transform
        'none', 'log' or 'sqrt' of what that leaves, see `Scaling`
    calibration
        corrects every m/z as it is read

    Returns
    -------
    intensity : (h, w, k) float32, divided by the factor and transformed, NaN where not measured,
        and where a spectrum that is blank, or lacks the reference ions, was to be normalised
    factor : (h, w) float32, NaN likewise

    Raises
    ------
    ValueError
        no m/z axis, or a normalisation or transform that there is not
    InputError
        the file is damaged
    """
    if mz is None and source.mz is None:
        raise ValueError(f"{source.path}: its spectra share no m/z axis; give one")
    scaling = Scaling(normalise, tuple(reference_mz), transform)
    shared = source.mz
    if shared is not None and calibration is not None:
        shared = calibration.correct(shared)
    axis = shared if mz is None else check_axis(mz)
    assert axis is not None
    k, window = len(axis), Window.of(tolerance_ppm)
    half = window.half_ppm(axis)
    intensity = np.full((*block.shape, k), np.nan, np.float32)
    factor = np.full(block.shape, np.nan, np.float32)
    index = None
    if mz is not None and shared is not None:
        index = nearest(shared, axis, half)
    divisors = _Divisors(scaling, shared, window)
    for some in batches(source, indices_in(source, block)):
        # read as much as memory allows, work on as little as the cache holds
        if shared is None:
            read = source.read(some)
        else:
            read = Spectra.on_shared_axis(source.read_dense(some))
        step = max(1, _CELLS // k)
        for i in range(0, len(some), step):
            part, spectra = some[i : i + step], read.part(i, i + step)
            if shared is None:
                if calibration is not None:
                    spectra = replace(spectra, mz=calibration.correct(spectra.mz))
                values = bin_spectra(spectra, axis, half)
            else:
                dense = spectra.intensity.reshape(len(part), len(shared))
                values = dense if index is None else bin_dense(dense, index, k)
            divisor = divisors.of(spectra)
            y, x = (source.positions[part] - (block.y0, block.x0)).T
            intensity[y, x] = scaling.apply(values, divisor)
            factor[y, x] = divisor
    return intensity, factor


class _Divisors:
    """The factors of spectra by one scaling; `shared` is the m/z axis that they share, if any."""

    def __init__(self, scaling: Scaling, shared: Floats | None, window: Window) -> None:
        self.scaling, self.shared = scaling, shared
        self.axis = np.unique(np.asarray(scaling.reference_mz, np.float64))
        self.half = window.half_ppm(self.axis)
        self.columns: Ints | None = None
        if shared is not None and len(self.axis):
            self.columns = np.flatnonzero(nearest(shared, self.axis, self.half) >= 0)

    def of(self, spectra: Spectra) -> Intensities:
        """(m,) float32"""
        if not len(self.axis):
            return normalisation(spectra, self.scaling.normalise)
        if self.columns is not None:
            assert self.shared is not None
            dense = spectra.intensity.reshape(len(spectra), len(self.shared))
            spectra = Spectra.on_shared_axis(dense[:, self.columns])
            return reference_factor(spectra, np.ones(len(spectra.intensity), bool))
        return reference_factor(spectra, nearest(spectra.mz, self.axis, self.half) >= 0)


def layout(shape: tuple[int, int], n_mz: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Chunks and shards of an intensity array (y, x, mz) of float32.

    A chunk is some pixels by some m/z, so that one spectrum and one ion image both touch few
    of them; a shard, what one task writes, is the whole m/z axis over a square of 8 to 128
    pixels (a power of two) of at most 64 MiB where 8 pixels allow it.

    Returns
    -------
    chunks, shards : (y, x, mz), a shard being whole chunks
    """
    depth = min(64, max(n_mz, 1))
    padded = math.ceil(max(n_mz, 1) / depth) * depth
    side = 128
    while side > 8 and side * side * padded * 4 > 64 * 2**20:
        side //= 2
    chunk = min(side, 32)
    return (chunk, chunk, depth), (side, side, padded)
