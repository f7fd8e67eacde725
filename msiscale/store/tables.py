"""The tables of a run: CSV files that read back as they were written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msiscale.store.objects import read_bytes, write_bytes

if TYPE_CHECKING:
    import pandas as pd


def write_csv(
    url: str,
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    digits: int | None = None,
) -> None:
    """Write a table, whole or not at all.

    Parameters
    ----------
    url
        The file or object.
    rows
        A table, or its rows by column.
    columns
        Their names and order; default those of the table.
    digits
        Significant digits of numbers; default as many as tell one float64 from another.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=None if columns is None else list(columns))
    form = None if digits is None else f"%.{digits}g"
    write_bytes(url, table.to_csv(index=False, lineterminator="\n", float_format=form).encode())


def read_csv(url: str, **options: Any) -> pd.DataFrame:
    """Read a table, each number to its last bit.

    Parameters
    ----------
    url
        The file or object.
    **options
        Of `pandas.read_csv`.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    """
    import pandas as pd

    if int(pd.__version__.split(".")[0]) < 3:  # from 3 on every number is exact
        options = {"float_precision": "round_trip", **options}
    return pd.read_csv(io.BytesIO(read_bytes(url)), **options)
