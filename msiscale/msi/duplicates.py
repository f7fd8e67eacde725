"""Pixels that several spectra lie on: copies, empty ones, scans of ion mobility, and real ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE, InputError
from msiscale.msi.asked import Asked
from msiscale.msi.source import MsiSource, batches
from msiscale.msi.spectra import Ints, Numbers, starts


@dataclass(frozen=True)
class Settled:
    """Which spectra make up each pixel.

    Attributes
    ----------
    start : (n + 1,) int64, spectra of pixel i are ``rows[start[i]:start[i + 1]]``
    rows : (m,) int64, in the order of the file
    mean : whether the spectra of a pixel are averaged; they are summed otherwise
    """

    start: Ints
    rows: Ints
    mean: bool

    @property
    def first(self) -> Ints:
        """(n,) int64, the first spectrum of every pixel."""
        return self.rows[self.start[:-1]]

    @property
    def one_each(self) -> bool:
        """Whether no pixel has several."""
        return len(self.rows) == len(self.start) - 1


def settle(source: MsiSource, yx: Ints, mobility: NDArray[np.bool_], asked: Asked) -> Settled:
    """One spectrum a pixel, as far as that is plain or asked for.

    Copies of a spectrum, and spectra without signal beside one with signal, are left out; scans of
    one pixel at several ion mobilities are summed. What is left is a real duplicate.

    Parameters
    ----------
    source
        the image, whose spectra of pixels with several are read, and whose notes say what was done
    yx
        (n, 2) int64, the pixel of every spectrum
    mobility
        (n,) bool, spectra of one ion mobility of several
    asked
        whether real duplicates are refused, the first is taken, or their mean

    Returns
    -------
    Settled

    Raises
    ------
    InputError
        spectra of a pixel differ, and they are to be refused
    """
    _, place = np.unique(yx, axis=0, return_inverse=True)
    place = place.ravel()
    times = np.bincount(place)
    n = len(yx)
    if times.max() == 1:
        return Settled(np.arange(n + 1), np.arange(n), False)
    several = np.flatnonzero(times[place] > 1)
    kept = np.ones(n, bool)
    contents = dict(zip(several.tolist(), _contents(source, several), strict=True))
    copies = empty = 0
    real: list[list[int]] = []
    summed = 0
    order = several[np.argsort(place[several], kind="stable")]
    for same in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        distinct = {contents[i][0]: i for i in same[::-1].tolist()}  # the first of each
        left = sorted(distinct.values())
        signal = [i for i in left if contents[i][1]] or left[:1]
        copies += len(same) - len(left)
        empty += len(left) - len(signal)
        if mobility[same].all():  # also those that are alike are scans of their own
            left = signal = same.tolist()
            copies -= len(same) - len(distinct)
            summed += 1
        elif len(signal) > 1:
            real.append(signal)
            signal = signal if asked.duplicates == "mean" else signal[:1]
        kept[same] = False
        kept[signal] = True
    if real and asked.duplicates == "refuse":
        (a, b), (y, x) = real[0][:2], yx[real[0][0]]
        more = f" ({len(real)} pixels have several)" if len(real) > 1 else ""
        raise InputError(
            f"{source.path}: spectra {a} and {b} lie on the same pixel (x {x}, y {y}) and "
            f"differ{more}; keep one of them, or give --duplicates first or mean"
        )
    _note(source.notes, copies, empty, len(real), summed, asked)
    rows = np.flatnonzero(kept)
    first = np.full(len(times), n)
    np.minimum.at(first, place[rows], rows)
    rank = first[place[rows]]
    rows = rows[np.argsort(rank, kind="stable")]
    counts = np.unique(rank, return_counts=True)[1]
    return Settled(starts(counts), rows, mean=not summed)


def _contents(source: MsiSource, rows: Ints) -> list[tuple[bytes, bool]]:
    """A digest of every spectrum, and whether it has any signal."""
    found = []
    for some in batches(source, rows):
        if source.mz is None:
            mz, values = source.stored_spectra(some)
        else:  # which all have
            mz, values = np.empty(0), source.stored_values(some).ravel()
        ends = starts(source.lengths[some])
        for a, b in pairwise(ends.tolist()):
            digest = hashlib.blake2b(mz[a:b].tobytes() + values[a:b].tobytes()).digest()
            found.append((digest, bool(np.any(values[a:b] > 0))))
    return found


def _note(notes: list[str], copies: int, empty: int, real: int, summed: int, asked: Asked) -> None:
    if copies:
        notes.append(f"{NOTE}{copies} spectra are written twice; each was read once")
    if empty:
        notes.append(
            f"{NOTE}{empty} spectra without signal lie on pixels that have another; left out"
        )
    if real:
        what = "their mean" if asked.duplicates == "mean" else "the first of each"
        notes.append(
            f"{NOTE}{real} pixels have several spectra that differ; {what} is read, as asked"
        )
    if summed:
        notes.append(
            f"{NOTE}{summed} pixels have spectra of several ion mobilities, which are summed"
        )


@dataclass(kw_only=True)
class Merged(MsiSource):
    """An image of which some pixels have several spectra in the file, read as one.

    Attributes
    ----------
    inner : the image with every spectrum apart
    settled : which of them make up each pixel
    """

    inner: MsiSource = field(repr=False)
    settled: Settled = field(repr=False)

    @classmethod
    def of(cls, inner: MsiSource, settled: Settled) -> Merged:
        """From an image whose axis and positions are known, a position for every spectrum."""
        words = {name: getattr(inner, name) for name in MsiSource.__dataclass_fields__}
        words["positions"] = inner.positions[settled.first]
        if inner.mz is None:
            words["lengths"] = np.add.reduceat(inner.lengths[settled.rows], settled.start[:-1])
        else:
            words["lengths"] = inner.lengths[settled.first]
        return cls(**words, inner=inner, settled=settled)

    def _rows(self, indices: Ints) -> tuple[Ints, Ints]:
        """The spectra of pixels, and how many each has."""
        start = self.settled.start
        counts = start[indices + 1] - start[indices]
        within = np.arange(counts.sum()) - np.repeat(starts(counts)[:-1], counts)
        return self.settled.rows[np.repeat(start[indices], counts) + within], counts

    def stored_values(self, indices: Ints) -> Numbers:
        """Read intensities on the shared axis.

        Parameters
        ----------
        indices
            (m,) int64, of the pixels

        Returns
        -------
        ndarray
            (m, k) float64
        """
        rows, counts = self._rows(indices)
        values = self.inner.stored_values(rows).astype(np.float64)
        if len(indices) == 0:
            return values
        total: Numbers = np.add.reduceat(values, starts(counts)[:-1], axis=0)
        return total / counts[:, None] if self.settled.mean else total

    def stored_spectra(self, indices: Ints) -> tuple[Numbers, Numbers]:
        """Read spectra, each with its own m/z; those of one pixel one after another.

        Parameters
        ----------
        indices
            (m,) int64, of the pixels

        Returns
        -------
        tuple of ndarray
            m/z, ascending within a pixel, and intensities
        """
        rows, counts = self._rows(indices)
        mz, values = self.inner.stored_spectra(rows)
        lengths = self.inner.lengths[rows]
        pixel = np.repeat(np.repeat(np.arange(len(indices)), counts), lengths)
        if self.settled.mean:
            values = values / np.repeat(np.repeat(counts, counts), lengths)
        order = np.lexsort((mz, pixel))  # else each would count as unsorted
        return mz[order], values[order]
