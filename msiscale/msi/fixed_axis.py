"""An m/z axis that is given: m/z values, a CSV of them, or bins in ppm."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import ArrayLike

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.cube import check_axis
from msiscale.msi.spectra import Floats


def check_length(what: str, n: int, most: int | None, remedy: str) -> None:
    """InputError where an axis has more than so many m/z, with what to do about it."""
    if most is not None and n > most:
        raise InputError(f"{what}: {n:,} m/z, and at most {most:,} can be fitted; {remedy}")


_BINS = "ppm:"
_COARSER = "give a coarser axis, or none, so that peaks are found"


def fixed_axis(spec: str | ArrayLike, *, most: int | None = None) -> Floats:
    """An axis that is given: m/z values, a CSV of them, or bins in ppm.

    Parameters
    ----------
    spec
        sequence of m/z; or ``"ppm:LO:HI:STEP"``, centres from LO to HI in steps of STEP ppm; or
        path of a CSV with a column ``mz`` (or ``m/z``), or of a single column
    most
        the longest axis that will do; default any

    Returns
    -------
    (k,) float64, ascending, duplicates removed

    Raises
    ------
    InputError
        the axis cannot be read, is not one, or is longer than `most`
    """
    if not isinstance(spec, str):
        try:
            axis = check_axis(np.unique(np.asarray(spec, np.float64)))
        except ValueError as error:
            raise InputError(f"m/z axis: {error}") from None
    elif spec.startswith(_BINS):
        low, high, ppm = _bins(spec)
        ratio = np.log1p(ppm * 1e-6)
        n = int(np.log(high / low) / ratio) + 1
        check_length(f"m/z axis {spec!r}", n, most, _COARSER)  # before it is made
        return np.asarray(low * np.exp(np.arange(n) * ratio))
    else:
        axis = _axis_from_csv(spec)
    what = f"m/z axis {spec}" if isinstance(spec, str) else "m/z axis"
    check_length(what, len(axis), most, _COARSER)
    return axis


def half_step(spec: object) -> float | None:
    """Half the step of bins in ppm, which is what each takes on either side; None of other axes.

    Parameters
    ----------
    spec
        as for `fixed_axis`

    Returns
    -------
    float or None
        ppm

    Raises
    ------
    InputError
        bins that cannot be read
    """
    return _bins(spec)[2] / 2 if isinstance(spec, str) and spec.startswith(_BINS) else None


def _bins(spec: str) -> tuple[float, float, float]:
    """Least and greatest m/z of ``ppm:LO:HI:STEP``, and the step in ppm."""
    try:
        low, high, ppm = (float(word) for word in spec.removeprefix(_BINS).split(":"))
    except ValueError:
        raise InputError(f"m/z axis {spec!r}: write it as ppm:LO:HI:STEP") from None
    if not (0 < low < high < np.inf and 0.01 <= ppm < 1e6):
        raise InputError(f"m/z axis {spec!r}: needs 0 < LO < HI and STEP >= 0.01 ppm")
    return low, high, ppm


def _axis_from_csv(path: str) -> Floats:
    try:
        text = store.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the m/z axis cannot be read ({error}); give a CSV") from None
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError(f"{path}: the m/z axis is empty; give a CSV with a column mz")
    names = [cell.strip().lower() for cell in rows[0]]
    column = next((names.index(name) for name in ("mz", "m/z") if name in names), None)
    if column is not None:
        rows = rows[1:]
    elif len(names) > 1:
        raise InputError(f"{path}: has no column mz; name the column with the m/z so")
    values = []
    for number, row in enumerate(rows):
        try:
            values.append(float(row[column or 0]))
        except (ValueError, IndexError):
            if number == 0 and column is None:
                continue  # the heading of a single column
            raise InputError(f"{path}: {','.join(row)!r} holds no m/z; mend the line") from None
    try:
        return check_axis(np.unique(values))
    except ValueError as error:
        raise InputError(f"{path}: {error}; mend the column mz") from None
