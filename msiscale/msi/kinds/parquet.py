"""Parquet of x, y and a column an m/z, a row a pixel.

Parquet gives columns, and row groups as large as their writer chose: when spectra are first read,
the intensities are laid out by rows in a temporary file. Memory: 8 million values; disk: 4 or 8
bytes a value, once a process.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.asked import Asked
from msiscale.msi.kinds.columns import columns_of
from msiscale.msi.rows import image_of
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import Ints, Numbers
from msiscale.msi.spill import Spill, held
from msiscale.store import open_file

VALUES = 8_000_000  #: that are decoded together


@dataclass(frozen=True)
class ParquetRows:
    """The intensities in rows of a file.

    Attributes
    ----------
    path : of the file
    names : of the columns of intensities
    token : of this opening, by which its rows are found again
    double : whether one of them is float64
    """

    path: str
    names: list[str]
    token: str
    double: bool

    def __call__(self, indices: Ints) -> Numbers:
        """(m, k) float32 or float64, of the rows of these numbers."""
        k = len(self.names)
        spill = held(self.token, self.path, self._by_rows)
        out = np.empty((len(indices), k), spill.dtype)
        order = np.argsort(indices, kind="stable")
        rows = indices[order]
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(part):
                low, high = int(rows[part[0]]), int(rows[part[-1]]) + 1
                out[order[part]] = spill.read(low * k, high * k).reshape(-1, k)
        return out

    def _by_rows(self) -> Spill:
        import pyarrow.parquet as pq

        k, at = len(self.names), 0
        spill = Spill(np.float64 if self.double else np.float32)
        with open_file(self.path) as file:
            parts = pq.ParquetFile(file).iter_batches(
                batch_size=max(1, VALUES // k), columns=self.names, use_threads=False
            )
            for batch in parts:
                values = np.empty((len(batch), k), spill.dtype)
                for i, name in enumerate(self.names):
                    values[:, i] = batch.column(name).to_numpy(zero_copy_only=False)
                spill.write(at * k, values.ravel())
                at += len(batch)
        return spill


def is_parquet(_: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    return head().startswith(b"PAR1")


def open_parquet(path: str, asked: Asked) -> MsiSource:
    """Open a Parquet file; see `msiscale.msi.layouts.open_source`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path) as file:
            parquet = pq.ParquetFile(file)
            schema = parquet.schema_arrow
            columns = columns_of(path, schema.names)
            names = [schema.names[i] for i in (*columns.xy, *columns.which)]
            _refuse_text(path, schema, names)
            places = parquet.read(columns=names[:2], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged Parquet ({reason}); write it again") from None
    xy = np.stack([places.column(n).to_numpy().astype(np.float64) for n in names[:2]], axis=1)
    double = any(pa.types.is_float64(schema.field(n).type) for n in names[2:])
    rows = ParquetRows(path, names[2:], uuid.uuid4().hex, double)
    return image_of(path, columns.mz, xy, rows, asked=asked, notes=columns.notes)


def _refuse_text(path: str, schema: Any, names: list[str]) -> None:
    import pyarrow as pa

    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise InputError(f"{path}: column {name} holds {kind}, not numbers; mend the table")
