"""Peak statistics of a specimen that merge exactly.

Statistics are sums of integers on a fine logarithmic m/z grid, so that any split of the pixels,
merged in any order, gives the same bits. To that end an intensity enters as its share of the
spectrum's total ion current, in units of 2^-30; this also keeps bright pixels and bright specimens
from deciding where the peaks are.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale import store
from msiscale.msi.normalisation import normalisation
from msiscale.msi.source import MsiSource, batches
from msiscale.msi.spectra import Floats, Ints, Numbers, Repairs, Spectra, regular

SHARE = 2**30  #: units of a spectrum's total ion current
SUB = 256  #: positions within a fine bin
_CACHE = 64_000  #: values whose arrays stay in the cache
_COLUMNS = ("bins", "count", "points", "weight", "moment")
TABLE = "table"  # name of the array that holds the sums


@dataclass(frozen=True)
class PeakSums:
    """Mergeable peak statistics of (a part of) one specimen.

    Attributes
    ----------
    step : width of a fine bin in ln(m/z); bin b covers ``[exp(b * step), exp((b + 1) * step))``
    n_pixels : spectra that were summed
    profile : whether they were profile spectra
    bins : (b,) int64 or int32 ascending, the fine bins that hold anything
    count : (b,) int64 or int32, peaks (for profile spectra: maxima above the spectrum's noise)
    points : (b,) int64 or int32, values above zero
    weight : (b,) int64, summed intensity, in 2^-30 of each spectrum's total ion current
    moment : (b,) int64, the same weighted by the position in the bin (0...255)
    repairs : values that were read otherwise than written
    """

    step: float
    n_pixels: int
    profile: bool
    bins: Ints
    count: Ints
    points: Ints
    weight: Ints
    moment: Ints
    repairs: Repairs = field(default_factory=Repairs)

    def __add__(self, other: PeakSums) -> PeakSums:
        if (self.step, self.profile) != (other.step, other.profile):
            raise ValueError("peak sums of different grids or of profile and centroid do not add")
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in _COLUMNS}
        both: dict[str, Any] = {name: np.concatenate(pair) for name, pair in pairs.items()}
        n_pixels, repairs = self.n_pixels + other.n_pixels, self.repairs + other.repairs
        return replace(self, n_pixels=n_pixels, repairs=repairs, **both).merged()

    def merged(self) -> PeakSums:
        """The same with every bin once and ascending; what bins of one number hold is added."""
        order = np.argsort(self.bins, kind="stable")
        bins, first = np.unique(self.bins[order], return_index=True)
        sums: dict[str, Any] = {
            name: np.add.reduceat(getattr(self, name)[order], first) if len(bins) else self.bins
            for name in _COLUMNS[1:]
        }
        return replace(self, bins=bins, **sums)

    def save(self, group: zarr.Group) -> None:
        """Write to an open Zarr group."""
        # one array, and so one request to read it; bins as steps, which take next to no room
        rows = [np.diff(self.bins, prepend=0).astype(np.int32), self.count.astype(np.int32)]
        rows += [wide.astype("<i8").view("<i4") for wide in (self.weight, self.moment)]
        if self.profile:
            rows.append(self.points.astype(np.int32))
        store.put(group, TABLE, np.concatenate(rows), ("value",))
        group.attrs.update(
            step=self.step,
            n_pixels=self.n_pixels,
            profile=self.profile,
            repairs=list(astuple(self.repairs)),
        )

    @classmethod
    def load(cls, group: zarr.Group) -> PeakSums:
        """Read what `save` wrote; `bins` and numbers of peaks have 32 bits."""
        attrs: dict[str, Any] = dict(group.attrs)
        table = store.read(group, TABLE)
        n = len(table) // (7 if attrs["profile"] else 6)
        # views, as memory that was never used before costs more than reading does
        bins, count = table[:n], table[n : 2 * n]
        weight, moment = (table[at : at + 2 * n].view("<i8") for at in (2 * n, 4 * n))
        return cls(
            step=float(attrs["step"]),
            n_pixels=int(attrs["n_pixels"]),
            profile=bool(attrs["profile"]),
            bins=np.cumsum(bins, dtype=np.int32, out=bins),
            count=count,
            points=table[6 * n :] if attrs["profile"] else count,  # a centroid above zero is a peak
            weight=weight,
            moment=moment,
            repairs=Repairs(*attrs["repairs"]),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        arrays = (self.bins, self.count, self.weight, self.moment)
        return sum(a.nbytes for a in arrays) + (self.points.nbytes if self.profile else 0)


def peak_sums(
    source: MsiSource, *, indices: NDArray[np.integer] | None = None, tolerance_ppm: float = 5.0
) -> PeakSums:
    """Peak statistics of a source in one pass over its spectra.

    Parameters
    ----------
    source
        the image
    indices
        (m,) of the spectra to sum; default all. Sums of the parts of a split add up to the sums of
        the whole, bit for bit.
    tolerance_ppm
        the tolerance that the axis is wanted with; a fine bin is a tenth of it, but at least 0.25
        ppm or a quarter of it

    Returns
    -------
    The sums.

    Raises
    ------
    ValueError
        a tolerance beyond 0.1 to 100000 ppm
    InputError
        the file is damaged

    Notes
    -----
    Memory: 24 bytes a fine bin (32 of profiles) between the lowest and highest m/z (177 MB
    for m/z 50 to 2000 at 0.5 ppm) and one batch of spectra.
    """
    if not 0.1 <= tolerance_ppm <= 1e5:
        raise ValueError(f"tolerance_ppm is {tolerance_ppm}; give 0.1 to 100000")
    step_ppm = max(tolerance_ppm / 10, min(0.25, tolerance_ppm / 4))
    if indices is None:
        indices = np.arange(len(source.positions))
    step = step_ppm * 1e-6
    sums = _DenseSums(step, source.profile)
    repairs = Repairs()
    if source.mz is not None:
        bins, position = _fine(source.mz, step)
        for part in batches(source, indices):
            values, more = source.read_repaired(part)
            repairs += more
            spectra = Spectra.on_shared_axis(values)
            share = _shares(spectra).reshape(len(part), -1)
            seen = share > 0
            top = _maxima(spectra).reshape(share.shape) if source.profile else seen
            sums.add(bins, position, top.sum(axis=0), seen.sum(axis=0), share.sum(axis=0))
    else:
        for part in batches(source, indices):
            read = source.read(part)
            repairs += read.repairs
            for spectra in read.parts(_CACHE):
                share, mz = _shares(spectra), spectra.mz
                count = _maxima(spectra).astype(np.int64) if source.profile else None
                if not (share > 0).all() or (len(mz) and mz.min() <= 0):
                    keep = (share > 0) & (mz > 0)
                    share, mz = share[keep], mz[keep]
                    count = None if count is None else count[keep]
                bins, position = _fine(mz, step)
                sums.add(bins, position, count, None, share)
    return sums.sparse(len(indices), repairs)


def binned(source: MsiSource) -> bool:
    """Whether spectra that are called centroids are even bins, most of which hold something.

    Parameters
    ----------
    source
        the image, of which three spectra are read

    Returns
    -------
    bool
    """
    if source.profile:
        return False
    spectra = source.sample()
    return len(spectra) > 0 and all(
        regular(mz) and float(np.mean(intensity > 0)) > 0.5 for mz, intensity in spectra
    )


def _fine(mz: Floats, step: float) -> tuple[Ints, Ints]:
    """Fine bin of every m/z and its position in there, 0...255."""
    place = np.log(np.maximum(mz, 1e-3))
    place *= SUB / step
    fine = place.astype(np.int64)
    return fine // SUB, fine % SUB


def _shares(spectra: Spectra) -> Ints:
    """Intensities in 2^-30 of the spectrum's total; anything above zero is at least one unit."""
    total = normalisation(spectra, "tic")
    scale = np.where(total > 0, SHARE / total.astype(np.float64), 0.0)
    share: Numbers = spectra.intensity * np.repeat(scale, spectra.lengths)
    share = np.rint(share, out=share).astype(np.int64)
    share[(share == 0) & (spectra.intensity > 0)] = 1
    return share


def _maxima(spectra: Spectra) -> NDArray[np.bool_]:
    """Local maxima of profile spectra above median + 3 sigma (by MAD) of the spectrum's signal."""
    found = np.zeros(len(spectra.intensity), bool)
    for i, (_, intensity) in enumerate(spectra):
        signal = intensity[intensity > 0]
        if len(signal) == 0:
            continue
        median = np.median(signal)
        limit = median + 3 * 1.4826 * np.median(np.abs(signal - median))
        padded = np.pad(intensity, 1)
        top = (intensity > padded[:-2]) & (intensity >= padded[2:]) & (intensity > limit)
        found[spectra.start[i] : spectra.start[i + 1]] = top
    return found


class _DenseSums:
    """Integer accumulators over a range of fine bins that grows as peaks come in.

    All of a bin lie side by side, as nearly every peak is far from the last one in memory.
    """

    def __init__(self, step: float, profile: bool) -> None:
        self.step, self.profile = step, profile
        self.low = 0
        # weight, moment, count, points
        self.sums = np.zeros((0, 4 if profile else 3), np.int64)

    def add(
        self, bins: Ints, position: Ints, count: Ints | None, points: Ints | None, weight: Ints
    ) -> None:
        """Add values; a `count` or `points` of None is one each."""
        if len(bins) == 0:
            return
        self._cover(int(bins.min()), int(bins.max()) + 1)
        one, flat = np.int64(1), self.sums.reshape(-1)
        at = bins - self.low
        at *= self.sums.shape[1]
        np.add.at(flat, at, weight)
        at += 1
        np.add.at(flat, at, weight * position)
        at += 1
        np.add.at(flat, at, one if count is None else count)
        if self.profile:
            at += 1
            np.add.at(flat, at, one if points is None else points)

    def _cover(self, low: int, high: int) -> None:
        n = len(self.sums)
        if n and self.low <= low and high <= self.low + n:
            return
        if n:
            low, high = min(low, self.low), max(high, self.low + n)
        margin = (high - low) // 16  # later batches reach a little further
        low, high = low - margin, high + margin
        # Pages that stay zero take no memory.
        new = np.zeros((high - low, self.sums.shape[1]), np.int64)
        new[self.low - low : self.low - low + n] = self.sums
        self.sums, self.low = new, low

    def sparse(self, n_pixels: int, repairs: Repairs) -> PeakSums:
        used = np.flatnonzero(self.sums[:, 0])
        weight, moment, count = (self.sums[used, i] for i in range(3))
        points = self.sums[used, 3] if self.profile else count
        return PeakSums(
            step=self.step,
            n_pixels=n_pixels,
            profile=self.profile,
            bins=used + self.low,
            count=count,
            points=points,
            weight=weight,
            moment=moment,
            repairs=repairs,
        )
