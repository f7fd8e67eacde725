"""The tables of a run: CSV files that read back as they were written."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msiscale.store.objects import open_file, read_bytes, write_bytes

if TYPE_CHECKING:
    import pandas as pd

AT_A_TIME = 50_000  # rows that are held as such


def write_csv(
    url: str,
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
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
        A table, or its rows by column; with `columns` and `digits`, some in memory at a time.
    columns
        Their names and order; default those of the table.
    digits
        Significant digits of numbers; default as many as tell one float64 from another.
    """
    import pandas as pd

    names = None if columns is None else list(columns)
    form = None if digits is None else f"%.{digits}g"

    def text(table: pd.DataFrame, header: bool) -> bytes:
        found: str = table.to_csv(
            index=False, header=header, lineterminator="\n", float_format=form
        )
        return found.encode()

    if isinstance(rows, pd.DataFrame) or names is None or digits is None:
        given = rows if isinstance(rows, pd.DataFrame) else list(rows)
        return write_bytes(url, text(pd.DataFrame(given, columns=names), True))
    left = iter(rows)
    parts = [text(pd.DataFrame([], columns=names), True)]
    while some := list(itertools.islice(left, AT_A_TIME)):
        parts.append(text(pd.DataFrame(some, columns=names), False))
    return write_bytes(url, b"".join(parts))


def read_csv(url: str, **options: Any) -> pd.DataFrame:
    """Read a table, each number to its last bit; `options` are those of `pandas.read_csv`."""
    import pandas as pd

    table: pd.DataFrame = pd.read_csv(io.BytesIO(read_bytes(url)), **_exact(), **options)
    return table


def read_csv_parts(url: str, rows: int, **options: Any) -> Iterator[pd.DataFrame]:
    """Read a table as `read_csv` does, at most `rows` rows of it in memory at a time."""
    import pandas as pd

    with open_file(url) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        yield from pd.read_csv(text, chunksize=rows, **_exact(), **options)


def _exact() -> dict[str, Any]:
    """pandas 3 reads the last bit by default, and warns where it is asked to."""
    import pandas as pd

    return {} if int(pd.__version__.split(".")[0]) > 2 else {"float_precision": "round_trip"}
