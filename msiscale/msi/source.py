"""What a mass-spectrometry image is to the rest of the program, whatever file it is in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.grid import PixelSize
from msiscale.msi.pixel_size import GIVE, believable, worded
from msiscale.msi.places import MOST_PIXELS
from msiscale.msi.spectra import (
    Floats,
    Intensities,
    Ints,
    Numbers,
    Repairs,
    Spectra,
    clean,
    runs,
    sort_mz,
    starts,
)

#: Values (m/z and intensity pairs) that one read may hold; 12 bytes each.
BATCH_VALUES = 1_000_000
#: Spectra with signal that tell whether two columns of one m/z are the same; every how manieth is
#: looked at first, and m/z and intensity pairs of one look.
_ENOUGH, _SPREAD, _LOOK_VALUES = 100, 64, 250_000


@dataclass(kw_only=True)
class MsiSource:
    """A mass-spectrometry image: where its spectra lie, and the spectra on request.

    A source is small, holds no open file and can be pickled; every read opens its own handle, so
    threads and processes may share one. A layout is a subclass with `stored_values` where spectra
    share an m/z axis, and `stored_spectra` where each has its own.

    Attributes
    ----------
    path : str
    shape : (ny, nx) of the bounding box of the measured pixels
    pixel_um : size of a pixel in µm, or None when the file does not tell
    pixel_from : what said so; why it is unknown where it is
    positions : (n, 2) int32, (y, x) of every spectrum, 0-based within the bounding box
    origin : (y, x) of the bounding box in the file's own coordinates
    mz : (k,) float64 strictly ascending, the axis that all spectra share, or None when each has
        its own
    mz_order : (j,) int64, the stored columns that are read, by m/z; None where the axis is stored
        strictly ascending
    mz_start : (k,) int64, where the columns of every m/z begin in `mz_order`, their intensities
        being summed; None where each m/z has one column
    mz_same : (s, 2) int64, stored columns that repeat one that is read, and that one; None where
        there are none
    lengths : (n,) int64, number of values of every spectrum as it is stored
    profile : True for profile spectra, False for centroids
    polarity : '+', '-' or None
    ms_level : 1, 2, … or None
    analyser : 'orbitrap', 'ft-icr', 'tof' or None, as the file says
    notes : what was odd and how it was read, one sentence each
    """

    path: str
    shape: tuple[int, int]
    pixel_um: PixelSize | None = None
    pixel_from: str = ""
    positions: NDArray[np.int32]
    origin: tuple[int, int]
    mz: Floats | None = None
    mz_order: Ints | None = field(default=None, repr=False)
    mz_start: Ints | None = field(default=None, repr=False)
    mz_same: Ints | None = field(default=None, repr=False)
    lengths: Ints
    profile: bool = False
    polarity: str | None = None
    ms_level: int | None = None
    analyser: str | None = None
    notes: list[str]

    @property
    def mode(self) -> str:
        """'continuous' when all spectra share an m/z axis, else 'processed'."""
        return "processed" if self.mz is None else "continuous"

    def stored_values(self, indices: Ints) -> Numbers:
        """Intensities on the shared axis as the file has them.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra, in any order

        Returns
        -------
        ndarray
            (m, k), in that order, of whatever type the file has

        Raises
        ------
        NotImplementedError
            the layout does not override this
        """
        raise NotImplementedError

    def stored_spectra(self, indices: Ints) -> tuple[Numbers, Numbers]:
        """m/z and intensities of spectra as the file has them.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra, in any order

        Returns
        -------
        tuple of ndarray
            m/z and intensities, flat, one spectrum after another, of whatever types the file has

        Raises
        ------
        NotImplementedError
            the layout does not override this
        """
        raise NotImplementedError

    def read(self, indices: NDArray[np.integer]) -> Spectra:
        """Read spectra, and warn of values that are read otherwise than written.

        Parameters
        ----------
        indices
            (m,) of the spectra, in any order

        Returns
        -------
        The spectra in that order, m/z ascending.

        Raises
        ------
        InputError
            the file is damaged, or an m/z is not finite
        """
        indices = as_indices(indices)
        if self.mz is not None:
            dense, repairs = self.read_repaired(indices)
            start = starts([len(self.mz)] * len(indices))
            return Spectra(np.tile(self.mz, len(indices)), dense.ravel(), start, repairs)
        start = starts(self.lengths[indices])
        mz, values = self.stored_spectra(indices)
        intensity, repairs = clean(values)
        try:
            mz, intensity, unsorted = sort_mz(mz.astype(np.float64, copy=False), intensity, start)
        except ValueError as error:
            raise InputError(f"{self.path}: {error}; export the image again") from None
        repairs += Repairs(unsorted=unsorted)
        _warn(self.path, repairs)
        return Spectra(mz, intensity, start, repairs)

    def read_dense(self, indices: NDArray[np.integer]) -> Intensities:
        """Read intensities on the shared axis, and warn of values read otherwise than written.

        Parameters
        ----------
        indices
            (m,) of the spectra, in any order

        Returns
        -------
        (m, k) float32, in that order.

        Raises
        ------
        TypeError
            the spectra share no m/z axis
        InputError
            the file is damaged
        """
        return self.read_repaired(as_indices(indices))[0]

    def read_repaired(self, indices: Ints) -> tuple[Intensities, Repairs]:
        """Do as `read_dense`, and count what was read otherwise than written.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra, in any order

        Returns
        -------
        intensity : ndarray
            (m, k) float32, in that order
        repairs : Repairs
            of these values

        Raises
        ------
        TypeError
            the spectra share no m/z axis
        InputError
            the file is damaged, or a column that was taken for a copy is none
        """
        if self.mz is None:
            raise TypeError(f"{self.path}: its spectra share no m/z axis")
        values, repairs = clean(self.stored_values(indices))
        values = self._by_mz(values)
        _warn(self.path, repairs)
        return values, repairs

    def _by_mz(self, values: Intensities) -> Intensities:
        """Stored columns (m, j) as one for every m/z of the axis."""
        if self.mz_same is not None:
            again, kept = self.mz_same.T
            other = again[(values[:, again] != values[:, kept]).any(axis=0)]
            if len(other):
                raise InputError(
                    f"{self.path}: column {other[0]} has an m/z that another column has too, with "
                    "the same intensities in some spectra and with others in some; keep one of them"
                )
        if self.mz_order is None:
            return values
        values = values[:, self.mz_order]
        if self.mz_start is None:
            return values
        total = np.add.reduceat(values.astype(np.float64), self.mz_start, axis=1)
        return total.astype(np.float32)

    def sample(self) -> Spectra:
        """The first, middle and last of the spectra that hold anything, read without a warning."""
        filled = np.flatnonzero(self.lengths > 0)
        some = np.unique(filled[[0, len(filled) // 2, -1]]) if len(filled) else filled
        with warnings.catch_warnings():  # what is repaired is said when it is read in earnest
            warnings.simplefilter("ignore", MsiscaleWarning)
            return self.read(some)

    def share_axis(self, mz: Floats, remedy: str) -> None:
        """Take an m/z axis for that of all spectra, sorted, with every m/z once.

        Columns of one m/z are read once where they repeat one another, and are summed where they
        differ, as peaks are that fall together. Which it is, some hundred spectra with signal tell;
        a column that turns out to differ elsewhere is refused when it is read.

        Parameters
        ----------
        mz
            (j,) float64, in any order, of the stored columns
        remedy
            what the error message tells the user to do

        Raises
        ------
        InputError
            an m/z is not finite
        """
        if not np.isfinite(mz).all():
            raise InputError(f"{self.path}: the m/z axis has values that are not finite; {remedy}")
        if not np.any(mz[1:] <= mz[:-1]):
            self.mz = mz
            return
        if np.any(mz[1:] < mz[:-1]):
            self.notes.append(f"{NOTE}the m/z axis does not ascend; sorted")
        order = np.argsort(mz, kind="stable")
        self.mz, first = np.unique(mz[order], return_index=True)
        if len(first) < len(mz):
            rows = np.repeat(np.arange(len(first)), np.diff(first, append=len(mz)))
            pairs = np.stack([order, order[first][rows]], axis=1)
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
            same = pairs[self._repeat(pairs)]
            self.mz_same = same if len(same) else None
            kept = ~np.isin(order, same[:, 0])
            order, rows = order[kept], rows[kept]
            summed = pairs[~np.isin(pairs[:, 0], same[:, 0])]
            self._note_again(mz[same[:, 0]], "the same intensities; the copies are left out")
            self._note_again(mz[summed[:, 0]], "different intensities, which are summed")
            if len(summed):
                self.mz_start = np.searchsorted(rows, np.arange(len(self.mz)))
        self.mz_order = order

    def _note_again(self, mz: Floats, what: str) -> None:
        some = [f"{value:.5f}" for value in np.unique(mz)]
        if some:
            more = f" and {len(some) - 3} more" if len(some) > 3 else ""
            verb = "is" if len(some) == 1 else "are"
            named = ", ".join(some[:3]) + more
            self.notes.append(f"m/z {named} {verb} stored more than once, with {what}")

    def _repeat(self, pairs: Ints) -> NDArray[np.bool_]:
        """Which stored columns repeat another, of pairs (p, 2) of both."""
        n = len(self.lengths)
        spread = np.concatenate([np.arange(first, n, _SPREAD) for first in range(_SPREAD)])
        alike, seen = np.ones(len(pairs), bool), np.zeros(len(pairs), np.int64)
        for some in batches(self, spread, _LOOK_VALUES):
            values, _ = clean(self.stored_values(some))
            one, other = values[:, pairs[:, 0]], values[:, pairs[:, 1]]
            alike &= (one == other).all(axis=0)
            seen += (one > 0).sum(axis=0)
            if (~alike | (seen >= _ENOUGH)).all():
                break
        return alike

    def resize(self, pixel_um: PixelSize | None, stated: str = "µm") -> None:
        """Give the pixels the size that the user knows; without one the file's is judged.

        A size `stated` otherwise is noted; one that no instrument has is not believed of a file.
        """
        known = self.pixel_um
        if pixel_um is not None:
            if known is not None and not np.allclose(known, pixel_um, rtol=0.01):
                asked = worded(pixel_um)
                self.notes.append(
                    f"pixel size {tuple(known)} {stated} replaced by {asked} as asked"
                )
            self.pixel_um, self.pixel_from = pixel_um, "given"
        elif known is not None and not believable(known):
            self.pixel_um = None
            self.pixel_from = f"a pixel size of {worded(known)} is outside 0.1 µm to 1 mm"
        elif known is not None:
            self.pixel_from = self.pixel_from or "the file"

    @property
    def unknown_size(self) -> str:
        """Why the size of a pixel is not known, and the remedy."""
        return f"{self.pixel_from or 'the file states no pixel size'}; {GIVE}"


def _warn(path: str, repairs: Repairs) -> None:
    if repairs:
        warnings.warn(f"{path}: {repairs}", MsiscaleWarning, stacklevel=3)


def refuse_packed(path: str, head: bytes) -> None:
    """Refuse a file that is compressed as a whole, by its first bytes.

    Parameters
    ----------
    path
        of the file
    head
        its first bytes, two or more

    Raises
    ------
    InputError
        it is gzip
    """
    if head.startswith(b"\x1f\x8b"):
        raise InputError(f"{path}: is compressed with gzip; unpack it, and its .ibd beside it")


def as_indices(indices: NDArray[np.integer]) -> Ints:
    """Indices of spectra as int64.

    Parameters
    ----------
    indices
        (m,) of any integer type

    Returns
    -------
    ndarray
        (m,) int64; the same array where it is int64 already
    """
    return np.asarray(indices).astype(np.int64, copy=False)


def batches(
    source: MsiSource, indices: NDArray[np.integer], values: int = BATCH_VALUES
) -> Iterator[Ints]:
    """Cut indices of spectra into runs of at most so many values, or of one spectrum.

    Parameters
    ----------
    source
        the image
    indices
        (m,) of the spectra, in any order
    values
        m/z and intensity pairs of a run, at most

    Returns
    -------
    Iterator of ndarray
        int64 parts of `indices`, one after another
    """
    indices = as_indices(indices)
    start = starts(source.lengths[indices])
    return (indices[begin:end] for begin, end in runs(start, values))


def bounding_box(path: str, yx: Ints) -> tuple[NDArray[np.int32], tuple[int, int], tuple[int, int]]:
    """Rebase positions to their bounding box.

    Parameters
    ----------
    path
        of the image, for the error message
    yx
        (n, 2) int64, (y, x) pixel indices of the spectra; n above 0

    Returns
    -------
    positions : ndarray
        (n, 2) int32, (y, x) within the box
    shape : tuple of int
        (ny, nx) of the box
    origin : tuple of int
        (y, x) of the box in the coordinates of `yx`

    Raises
    ------
    InputError
        the box is so large for its spectra that `yx` cannot be pixel indices
    """
    low, high = yx.min(axis=0), yx.max(axis=0)
    shape = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    if shape[0] * shape[1] > MOST_PIXELS:
        raise InputError(
            f"{path}: {len(yx)} spectra in {shape[1]} x {shape[0]} pixels; "
            "the coordinates are not pixel indices, export them as such"
        )
    return (yx - low).astype(np.int32), shape, (int(low[0]), int(low[1]))
