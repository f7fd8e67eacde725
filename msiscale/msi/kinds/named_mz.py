"""m/z that are the names of columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from msiscale.msi.spectra import Floats

_NUMBER = re.compile(r"(?:(?:m/?z|x)[\s_:=.-]*)?(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.IGNORECASE)


def named_mz(names: Sequence[Any]) -> Floats:
    """m/z of columns from their names: ``788.6164``, ``mz_788.6164``, ``X788.6164``.

    Parameters
    ----------
    names
        of the columns, texts or numbers

    Returns
    -------
    ndarray
        (k,) float64; NaN for a name that is none, and for all where they merely count
    """
    found = [_NUMBER.fullmatch(str(name).strip()) for name in names]
    mz = np.array([float(f[1]) if f else np.nan for f in found], np.float64)
    mz[~(mz > 0)] = np.nan
    whole = mz[np.isfinite(mz)]
    if len(whole) > 1 and whole[0] <= 1 and np.all(np.diff(whole) == 1):  # 1, 2, 3: no m/z
        mz[:] = np.nan
    return mz
