"""Files that hold arrays by name, HDF5 or Zarr; what is asked of them is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.blosc_hdf5 import BloscArray, is_blosc
from msiscale.msi.spectra import Floats, Ints, Numbers

#: Bytes of a chunk, which is unpacked whole, and values of what is read whole.
MOST_CHUNK, MOST_WHOLE = 1 << 29, 1 << 25


@dataclass(frozen=True)
class Tree:
    """An open group of arrays; what is wrong with one is refused in a line that names it.

    Attributes
    ----------
    path : of the file, for messages and to open it again
    file : the open group, of h5py or zarr, which agree in what is asked of them here
    reopen : opens the same group again, in another process too
    kind : "HDF5" or "Zarr"
    """

    path: str
    file: Any
    reopen: Callable[[], AbstractContextManager[Tree]]
    kind: str = ""

    def __contains__(self, name: str) -> bool:
        return name in self.file

    def is_array(self, found: Any) -> bool:
        """Whether what was found is an array."""
        raise NotImplementedError

    def check(self, name: str, array: Any) -> None:
        """Refuse an array that is not to be read."""
        raise NotImplementedError

    def names(self, name: str = "") -> list[str]:
        """Members of a group; none where there is no such group."""
        found = self.file.get(name) if name else self.file
        return [] if found is None or self.is_array(found) else [str(key) for key in found]

    def attr(self, name: str, key: str) -> Any:
        """An attribute of what is called so ("" for the group itself); None where there is none."""
        found = self.file.get(name) if name else self.file
        return None if found is None else plain(found.attrs.get(key))

    def array(self, name: str) -> Any:
        """An array of whatever type."""
        found = self.file.get(name)
        if found is None or not self.is_array(found):
            raise InputError(f"{self.path}: has no data set {name}; export the image again")
        self.check(name, found)
        if found.chunks and math.prod(found.chunks) * found.dtype.itemsize > MOST_CHUNK:
            smaller = "repack it with h5repack" if self.kind == "HDF5" else "write smaller ones"
            raise InputError(f"{self.path}: {name} has chunks of {found.chunks}; {smaller}")
        return self.readable(found)

    def readable(self, array: Any) -> Any:
        """What the values of an array are read from."""
        return array

    def dataset(self, name: str, ndim: int | None = None) -> Any:
        """Numbers in this file, and of so many dimensions."""
        found = self.array(name)
        if ndim is not None and found.ndim != ndim:
            raise InputError(
                f"{self.path}: {name} has {found.ndim} dimensions instead of {ndim}; mend it"
            )
        if found.dtype.kind not in "fiub":
            raise InputError(f"{self.path}: {name} holds {found.dtype}, not numbers; mend it")
        return found

    def whole(self, name: str, ndim: int | None = None) -> Numbers:
        """All values of a data set that is small in any image (an axis, coordinates)."""
        return np.asarray(self._all(self.dataset(name, ndim), name))

    def _all(self, found: Any, name: str) -> Any:
        if math.prod(found.shape) > MOST_WHOLE:
            raise InputError(
                f"{self.path}: {name} is said to have {math.prod(found.shape)} values; "
                "export the image again"
            )
        return found[...]

    def column(self, name: str) -> Any:
        """Values of a column of an AnnData data frame: numbers, or text as Python strings."""
        if self.is_array(self.file.get(name)):
            found = self.array(name)
            values = np.asarray(self._all(found, name))
            if found.dtype.kind in "fiub":
                return values
            return np.array([text(value) for value in values.ravel().tolist()], object)
        if f"{name}/codes" in self:  # a categorical
            known = self.column(f"{name}/categories")
            codes = np.asarray(self.whole(f"{name}/codes", 1), np.int64)
            if codes.size and (codes.min() < 0 or codes.max() >= len(known)):
                raise InputError(f"{self.path}: {name} has rows without a value; fill them")
            return known[codes]
        if f"{name}/values" in self:
            return self.column(f"{name}/values")
        raise InputError(f"{self.path}: has no column {name}; write it")

    def value(self, name: str) -> Any:
        """A single number or text; None where there is none."""
        found = self.file.get(name)
        if found is None or not self.is_array(found) or math.prod(found.shape) != 1:
            return None
        return text(self.column(name).ravel()[0])

    def axis(self, name: str) -> Floats:
        """An m/z axis, (k,) in whatever order."""
        mz = np.asarray(self.whole(name), np.float64).ravel()
        if len(mz) == 0:
            raise InputError(f"{self.path}: the m/z axis {name} is empty; mend it")
        return mz

    def numbered(self, name: str) -> list[int]:
        """The members of a group that are called by numbers, ascending."""
        if self.is_array(self.file[name]):
            raise InputError(
                f"{self.path}: {name} is not a group of spectra; export the image again"
            )
        names = (k for k in self.names(name) if k.isascii() and k.isdecimal() and len(k) < 18)
        return sorted(int(key) for key in names)

    def cuts(self, indptr: str, data: str, n: int) -> Ints:
        """(n + 1,) int64, where the rows (or columns) of a sparse matrix begin and end, checked."""
        ends = np.asarray(self.whole(indptr, 1), np.int64)
        size = self.dataset(data, 1).shape[0]
        if len(ends) != n + 1 or ends[0] != 0 or ends[-1] != size or np.any(np.diff(ends) < 0):
            raise InputError(
                f"{self.path}: {indptr} does not cut {data} into {n} rows; write the matrix again"
            )
        return ends


def text(value: Any) -> Any:
    """Bytes as text; anything else as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def plain(value: Any) -> Any:
    """An attribute as Python has it: of NumPy's types the number or text, of arrays of one, too."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else value.tolist()
    return text(value)


class Hdf5File(Tree):
    """An open HDF5 file."""

    def is_array(self, found: Any) -> bool:
        """Whether what was found is a data set."""
        return isinstance(found, h5py.Dataset)

    def check(self, name: str, array: Any) -> None:
        """Refuse what is in other files."""
        if array.is_virtual or array.external or array.file.filename != self.file.file.filename:
            raise InputError(
                f"{self.path}: {name} points into other files; repack it with h5repack"
            )

    def readable(self, array: Any) -> Any:
        """The data set, or what unpacks it where HDF5 cannot."""
        return BloscArray(array) if is_blosc(array) else array


@contextmanager
def opened(path: str) -> Iterator[Hdf5File]:
    """The HDF5 file at a path or URL; a damaged one is refused in a line."""
    reopen = partial(opened, path)
    try:
        if store.is_url(path):
            with store.open_file(path) as remote, h5py.File(remote, "r") as file:
                yield Hdf5File(path, file, reopen, "HDF5")
        else:
            with h5py.File(store.local_path(path), "r") as file:
                yield Hdf5File(path, file, reopen, "HDF5")
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if "plugin" in reason or "required filter" in reason:
            raise InputError(
                f"{path}: is compressed by a filter that is not installed ({reason}); "
                "repack it with h5repack -f GZIP=1"
            ) from None
        raise InputError(f"{path}: damaged HDF5 ({reason}); copy the file again") from None
