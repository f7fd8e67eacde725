"""Arrays small enough for a page: 8 and 16 bits, compressed, as text; `report.js` undoes it.

Intensities are kept as square roots in 8 bits: the step is then small where counts are small, and
never above 1/127 of the largest. Scores are kept in 16 bits of their own range.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 254
NO_VALUE = 255  #: of 8 bits
STEPS = 32767
NO_SCORE = -32768  #: of 16 bits
_ALIGNED = 8  # bytes: a typed array begins at a multiple of its item


def fractions(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Pack values 0…1 in steps of 1/254.

    Parameters
    ----------
    values
        Of any shape; clipped to 0…1.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape; NaN becomes `NO_VALUE`.
    """
    known = np.isfinite(values)
    level = np.rint(np.clip(np.where(known, values, 0), 0, 1) * LEVELS)
    return np.where(known, level, NO_VALUE).astype(np.uint8)


def intensities(values: NDArray[np.floating]) -> tuple[NDArray[np.uint8], float]:
    """Square roots of intensities in 8 bits.

    Parameters
    ----------
    values
        (n,), in any unit.

    Returns
    -------
    levels, top
        (n,) uint8, and a scale: a value is ``top * (level / 254) ** 2``. NaN becomes `NO_VALUE`;
        what is below zero becomes zero.
    """
    known = np.isfinite(values)
    top = float(values[known].max(initial=0.0))
    if top <= 0:
        return np.where(known, 0, NO_VALUE).astype(np.uint8), 0.0
    return fractions(np.sqrt(np.maximum(values, 0) / top)), top


def scores(values: NDArray[np.floating]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Scores in 16 bits of each row's own range.

    Parameters
    ----------
    values
        (k, n), a row a mode.

    Returns
    -------
    steps, size
        (k, n) int16, NaN as `NO_SCORE`, and (k,) float32: the size of each row's step.
    """
    known = np.isfinite(values)
    most = np.abs(np.where(known, values, 0)).max(axis=1, initial=0.0)
    step = np.maximum(most / STEPS, np.finfo(np.float32).tiny).astype(np.float32)
    whole = np.rint(np.where(known, values, 0) / step[:, None])
    whole = np.clip(whole, -STEPS, STEPS)
    return np.where(known, whole, NO_SCORE).astype(np.int16), step


def pack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Arrays as one compressed text.

    Parameters
    ----------
    arrays
        Of any shape and dtype, by name.

    Returns
    -------
    dict
        ``arrays`` (name, dtype, shape, offset) and ``data``: little endian; items of two bytes
        as all first bytes, then all second ones, which compress far better apart.
    """
    listed, parts, at = [], [], 0
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        raw = plain.tobytes()
        if plain.itemsize == 2:
            raw = np.frombuffer(raw, np.uint8).reshape(-1, 2).T.tobytes()
        listed.append([name, plain.dtype.name, list(plain.shape), at])
        raw += bytes(-len(raw) % _ALIGNED)
        parts.append(raw)
        at += len(raw)
    data = base64.b64encode(gzip.compress(b"".join(parts), 6, mtime=0)).decode("ascii")
    return {"arrays": listed, "data": data}
