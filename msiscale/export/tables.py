"""Tables as Parquet [1]_: every CSV of a run with its types, and the pixels of every specimen.

.. [1] https://parquet.apache.org
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from msiscale.errors import InputError
from msiscale.export.files import made
from msiscale.export.pixels import pixel_rows
from msiscale.export.source import Opened, wanted_mz
from msiscale.store import join, listing, read_csv_parts

ROWS = 50_000  # of a CSV in memory


def export_tables(opened: Opened, out: str, *, mz: list[float] | None = None) -> Iterator[str]:
    """Write ``out/<table>.parquet`` and ``out/pixels/<specimen>.parquet``; yields their URLs."""
    # measured and predicted intensities of `mz` are columns of the pixels; in memory: `ROWS` rows
    # of a table, or the pixels of a cell
    for name in listing(opened.url):
        if name.endswith(".csv"):
            url = join(out, f"{name.removesuffix('.csv')}.parquet")
            write_table(join(opened.url, name), url)
            yield url
    wanted = wanted_mz(opened, mz or [])
    for source in opened.sources:
        url = join(out, "pixels", f"{source.name}.parquet")
        mask = source.rows
        cells = [cell for cell in source.cells if mask[cell.slices].any()]
        if not cells:
            raise InputError(f"{source.name}: no pixel was measured or predicted; leave it out")
        with made(url) as path:
            tables = (pixel_rows(source, cell, mask, wanted) for cell in cells)
            _write(path, (pa.Table.from_pandas(t, preserve_index=False) for t in tables))
        yield url


def write_table(csv: str, url: str) -> None:
    """A CSV as Parquet: numbers as numbers, what is empty as null.

    It is read twice, for a column's type is known at its end only.
    """
    kinds: dict[str, str] = {}
    for part in _parts(csv, None):
        for name in part.columns:
            kinds[name] = _wider(kinds.get(name, "empty"), _kind(part[name]))
    fields = {"empty": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(name, fields.get(kind, pa.string())) for name, kind in kinds.items()])
    names = {"int": "Int64", "float": "float64", "bool": "boolean"}
    dtypes = {name: names.get(kind, "string") for name, kind in kinds.items()}
    with made(url) as path:
        parts = (
            pa.Table.from_pandas(part, schema=schema, preserve_index=False)
            for part in _parts(csv, dtypes)
        )
        _write(path, parts, schema)


def _parts(csv: str, dtypes: Any) -> Iterator[pd.DataFrame]:
    try:
        yield from read_csv_parts(csv, ROWS, dtype=dtypes)
    except pd.errors.EmptyDataError:
        raise InputError(f"{csv}: an empty table; run the stage that writes it") from None


def _kind(column: pd.Series) -> str:
    if column.isna().all():
        return "empty"
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"


def _wider(a: str, b: str) -> str:
    """The kind that holds both."""
    if a == b or b == "empty":
        return a
    if a == "empty":
        return b
    return "float" if {a, b} == {"int", "float"} else "string"


def _write(path: Any, tables: Iterator[pa.Table], schema: pa.Schema | None = None) -> None:
    writer = None if schema is None else pq.ParquetWriter(path, schema, compression="zstd")
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
