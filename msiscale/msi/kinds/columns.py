"""Tables of x, y and a column an m/z: which column is what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.kinds.named_mz import named_mz
from msiscale.msi.spectra import Floats, Ints

_PAIRS = (("x", "y"), ("grid_x", "grid_y"), ("x_coord", "y_coord"), ("pixel_x", "pixel_y"))


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes
    ----------
    names : of all columns
    xy : numbers of those with x and y
    which : (k,) int64, numbers of those with intensities
    mz : (k,) float64, their m/z
    notes : what was left out
    """

    names: list[str]
    xy: tuple[int, int]
    which: Ints
    mz: Floats
    notes: list[str]


def columns_of(path: str, names: list[str]) -> Columns:
    """Tell the columns of a table from their names.

    Parameters
    ----------
    path
        of the table, for the error message
    names
        of its columns

    Returns
    -------
    Columns
        what they are

    Raises
    ------
    InputError
        there is no x and y, or no column is named by its m/z
    """
    low = [name.strip().lower() for name in names]
    pair = next((p for p in _PAIRS if p[0] in low and p[1] in low), None)
    if pair is None:
        raise InputError(
            f"{path}: has no columns x and y, the pixel of a row (columns: {_some(names)}); "
            "name them so"
        )
    xy = (low.index(pair[0]), low.index(pair[1]))
    rest = [i for i in range(len(names)) if i not in xy]
    mz = named_mz([names[i] for i in rest])
    known = np.isfinite(mz)
    if not known.any():
        raise InputError(
            f"{path}: has no columns named by their m/z (columns: {_some(names)}); "
            "name each by its m/z, as in 788.6164"
        )
    notes = []
    others = [names[i] for i, is_mz in zip(rest, known, strict=True) if not is_mz]
    if others:
        notes.append(f"columns that are no m/z ({_some(others)}) are left out")
    return Columns(names, xy, np.array(rest, np.int64)[known], mz[known], notes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(name or "''" for name in names[:6]) + more
