"""How the arrays of an imzML lie in its .ibd: number format, compression and extents, checked.

The label of an array may be wrong. The length of its bytes, where the file states it, and the place
of the next array decide then; a file in which they agree with no format is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import NOTE, InputError
from msiscale.msi.header import ImzmlHeader
from msiscale.msi.spectra import Ints
from msiscale.msi.spectrum_list import PRECISION
from msiscale.store import open_file

#: Values of one spectrum; instruments write up to some 10 million.
MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class Stored:
    """One kind of array in the .ibd: spectrum i is ``length[i]`` numbers at ``offset[i]``."""

    dtype: str
    zlib: bool
    offset: Ints
    length: Ints
    stored: Ints  #: bytes in the .ibd

    def take(self, which: Ints) -> Stored:
        """Those of some spectra.

        Parameters
        ----------
        which
            (m,) int64, indices of the spectra

        Returns
        -------
        Stored
            the arrays of these, in that order
        """
        columns = (self.offset, self.length, self.stored)
        return Stored(self.dtype, self.zlib, *(column[which] for column in columns))


@dataclass
class Binary:
    """The .ibd of an imzML, as its header describes it."""

    path: str
    ibd: str
    size: int
    header: ImzmlHeader
    notes: list[str] = field(repr=False)

    def __post_init__(self) -> None:
        self._forms = {"m/z": self.header.mz, "intensity": self.header.intensity}
        self._offsets = {
            kind: _unwrap(form.offset, self.size, kind, self.notes)
            for kind, form in self._forms.items()
        }

        for kind, form in self._forms.items():
            self._refuse(kind, self._offsets[kind] < 0, "offset is negative")
            self._refuse(kind, form.length < 0, "array length is negative")
            absurd = form.length > MOST_VALUES
            self._refuse(kind, absurd, f"array length is absurd (above {MOST_VALUES})")
        mz, intensity = (form.length for form in self._forms.values())
        if len(uneven := np.flatnonzero(mz != intensity)):
            i = int(uneven[0])
            raise InputError(
                f"{self.path}: spectrum {i} has {mz[i]} m/z but {intensity[i]} intensities; "
                "export the image again"
            )

    def _refuse(self, kind: str, wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            why = f"spectrum {int(np.argmax(wrong))}: its {kind} {what}"
            raise InputError(f"{self.path}: {why}; export the image again")

    def stored(self, kind: str) -> Stored:
        """Number format and extents of one kind of array, checked against the size of the .ibd.

        Parameters
        ----------
        kind
            'm/z' or 'intensity'

        Returns
        -------
        Stored

        Raises
        ------
        InputError
            the arrays are not where or what the header says
        """
        form, offset = self._forms[kind], self._offsets[kind]
        length, declared = form.length, form.encoded

        dtype, compressed = self._format(kind)
        stored = length * np.dtype(dtype).itemsize
        if compressed:
            plain = stored
            stored = np.where(declared > 0, declared, self._room(kind))
            stored[length == 0] = 0
            # zlib cannot shrink further than about 1:1032; a longer array is a bomb or a mistake.
            bomb = plain > 1100 * stored + 1024
            self._refuse(kind, bomb, "array is longer than its compressed bytes can hold")
        end = offset.clip(max=2**61) + stored.clip(max=2**61)  # what is written may be any number
        beyond = np.flatnonzero((end > self.size) & (stored > 0))
        if len(beyond):
            first = int(beyond[0])
            raise InputError(
                f"{self.ibd}: cut short or not of this imzML: the {kind} array of spectrum {first} "
                f"ends at byte {end[first]} of {self.size} ({len(beyond)} of {len(offset)} "
                "spectra affected); copy the .ibd again"
            )
        return Stored(dtype, compressed, offset, length, stored)

    def _format(self, kind: str) -> tuple[str, bool]:
        """Number format of one kind of array, and whether it is compressed."""
        form = self._forms[kind]
        filled = form.length > 0
        said = filled & (form.encoded > 0)
        length, declared = form.length[said], form.encoded[said]
        label, compressed = form.dtypes[-1], form.zlib
        if compressed and form.plain:
            # Both terms: bytes that are not a whole number of values tell.
            compressed = bool(np.any(declared != length * np.dtype(label).itemsize))
            self.notes.append(
                f"{kind} arrays are called both compressed and not; judged by their length"
            )
        dtype = label
        if said.any():
            fitting = _fitting(form.dtypes, length, declared)
            if compressed:
                first = int(np.argmax(said))
                if fitting and len(length) > 1 and not self._unpacks(kind, first, fitting[-1]):
                    compressed, dtype = False, fitting[-1]
                    self.notes.append(
                        f"{kind} arrays are called compressed and are not, by their encoded length"
                    )
            elif fitting:
                dtype = fitting[-1]
            else:
                dtype, compressed = self._relabelled(kind, said)
        elif filled.any() and not compressed:
            dtype = self._by_room(kind, filled)
        if len(form.dtypes) > 1:
            self.notes.append(
                f"{kind} arrays name {len(form.dtypes)} number formats; {dtype} is used"
            )
        return dtype, compressed

    def _relabelled(self, kind: str, said: NDArray[np.bool_]) -> tuple[str, bool]:
        """The format of arrays whose encoded length contradicts their label."""
        form, label = self._forms[kind], self._forms[kind].dtypes[-1]
        length, declared, first = form.length[said], form.encoded[said], int(np.argmax(said))
        room = self._room(kind)[said]
        if np.array_equal(length * np.dtype(label).itemsize, room):  # it fits to the byte
            self.notes.append(f"encoded lengths of the {kind} arrays do not fit {label}; ignored")
            return label, False
        if np.all(declared <= room) and (other := _like(label, length, declared)):
            self.notes.append(
                f"{kind} arrays are called {label}, but their encoded length is that of {other}; "
                f"read as {other}"
            )
            return other, False
        if self._unpacks(kind, first, label):
            self.notes.append(f"{NOTE}{kind} arrays are compressed with zlib, though not called so")
            return label, True
        raise InputError(
            f"{self.path}: spectrum {first}: its {kind} array of {length[0]} values is stored in "
            f"{declared[0]} bytes, which is not {label} nor any other format; export the image "
            "again"
        )

    def _by_room(self, kind: str, filled: NDArray[np.bool_]) -> str:
        """The format of arrays whose encoded length is unknown: they do not reach into others."""
        form, label = self._forms[kind], self._forms[kind].dtypes[-1]
        length, room, offset = form.length[filled], self._room(kind)[filled], self._offsets[kind]
        need = length * np.dtype(label).itemsize
        over = (need > room) & (offset[filled] + need <= self.size)
        # what fits every gap between arrays to the byte is no accident, if there are several
        close = not self.header.others and len(np.unique(offset[filled])) > 1
        other = (
            _like(label, length, room) if over.any() or (close and np.all(need != room)) else None
        )
        if other:
            self.notes.append(
                f"{kind} arrays are called {label}, but {other} is what fits between the arrays; "
                f"read as {other}"
            )
            return other
        if over.any():
            first = int(np.flatnonzero(filled)[np.argmax(over)])
            raise InputError(
                f"{self.path}: spectrum {first}: its {kind} array as {label} would reach into the "
                "next array: the number format is named wrongly; export the image again"
            )
        return label

    def _room(self, kind: str) -> Ints:
        """Bytes from every offset to the next array of either kind that has values."""
        taken = [self._offsets[k][form.length > 0] for k, form in self._forms.items()]
        return _until_next(taken, self._offsets[kind], self.size)

    def _unpacks(self, kind: str, index: int, dtype: str) -> bool:
        """Whether an array is a zlib stream of as many values as it is said to have."""
        form = self._forms[kind]
        wanted = int(form.length[index]) * np.dtype(dtype).itemsize
        with open_file(self.ibd) as file:
            file.seek(int(self._offsets[kind][index]))
            packed = file.read(min(int(form.encoded[index]), wanted + 1024))
        try:
            return len(zlib.decompressobj().decompress(packed, wanted + 1)) == wanted
        except zlib.error:
            return False


def _like(label: str, length: Ints, stored: Ints) -> str | None:
    """The format, of the same kind of number if there is one, that has so many bytes."""
    fitting = _fitting(list(PRECISION.values()), length, stored)
    kind = np.dtype(label).kind
    return next((d for d in fitting if np.dtype(d).kind == kind), None) or next(iter(fitting), None)


def _fitting(dtypes: Sequence[str], length: Ints, declared: Ints) -> list[str]:
    """The formats in which all arrays have their declared bytes."""
    return [d for d in dtypes if np.array_equal(length * np.dtype(d).itemsize, declared)]


def _unwrap(offset: Ints, size: int, kind: str, notes: list[str]) -> Ints:
    """Offsets written as (signed or unsigned) 32-bit integers, put right as pyimzML does."""
    out = np.where((offset < 0) & (offset >= -(2**31)), offset + 2**32, offset)
    if size > 2**32 and out.max() < 2**32:
        out[1:] += 2**32 * np.cumsum(np.diff(out) < -(2**31))
    if not np.array_equal(out, offset):
        notes.append(f"{kind} offsets wrapped at 32 bits were put right")
    return out


def _until_next(offsets: Sequence[Ints], offset: Ints, size: int) -> Ints:
    """Bytes from every offset to the next larger one of several, or to the end of the file."""
    borders = np.append(np.unique(np.concatenate(offsets)), size)
    following = np.searchsorted(borders, offset, side="right").clip(max=len(borders) - 1)
    return np.asarray(borders[following] - offset)
