"""What a file cannot give by rows, laid out by rows in a file of this process.

The file has no name, so that it goes with the process however that ends. It is read by plain reads,
not mapped: the pages are the system's and no part of the memory of a worker.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from msiscale.errors import InputError

KEPT = 4  #: images of a process that are laid out at a time


class Spill:
    """Records of one type on disk.

    Parameters
    ----------
    dtype
        of a record
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(prefix="msiscale-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def write(self, at: int, records: NDArray[Any]) -> None:
        """Write records.

        Parameters
        ----------
        at
            number of the first
        records
            (m,) of the type
        """
        data = np.ascontiguousarray(records, self.dtype).view(np.uint8).data
        place = at * self.dtype.itemsize
        while data:
            n = os.pwrite(self._file.fileno(), data, place)
            data, place = data[n:], place + n

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Read records.

        Parameters
        ----------
        begin, end
            the first, and the one after the last

        Returns
        -------
        ndarray
            (end - begin,) of the type

        Raises
        ------
        EOFError
            they were not written
        """
        out = np.empty(end - begin, self.dtype)
        data, place = out.view(np.uint8).data, begin * self.dtype.itemsize
        while data:
            n = os.preadv(self._file.fileno(), [data], place)
            if n == 0:
                raise EOFError(f"{end - begin} records at {begin} were not written")
            data, place = data[n:], place + n
        return out


_held: OrderedDict[str, Spill] = OrderedDict()
_lock = Lock()


def held(key: str, path: str, make: Callable[[], Spill]) -> Spill:
    """The records of an image, made once a process; those of the last few images are kept.

    Parameters
    ----------
    key
        of the image as it was opened
    path
        of the image, for the error message
    make
        lays them out

    Returns
    -------
    Spill
        the records

    Raises
    ------
    InputError
        there is no room for them
    """
    with _lock:
        if key not in _held:
            try:
                _held[key] = make()
            except InputError:
                raise
            except OSError as error:
                raise InputError(
                    f"{path}: is laid out anew in {tempfile.gettempdir()}, which failed "
                    f"({error.strerror or error}); point TMPDIR at a folder with room"
                ) from None
            while len(_held) > KEPT:
                _held.popitem(last=False)
        _held.move_to_end(key)
        return _held[key]
