"""CSV of x, y and a column an m/z, a line a pixel.

When it is opened the lines are counted and x and y read, in pieces of 4 MiB; afterwards the lines
of the spectra that are asked for are read where they lie. Memory: 32 bytes a line, and these.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.asked import Asked
from msiscale.msi.kinds.columns import Columns, columns_of
from msiscale.msi.rows import image_of
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import Ints, Numbers
from msiscale.store import open_file

PIECE, LONGEST = 1 << 22, 1 << 26  #: bytes that are read together, and of a line at most


@dataclass(frozen=True)
class CsvRows:
    """The intensities in lines of a file.

    Attributes
    ----------
    path : of the file
    columns : what its columns are
    spans : (n, 2) int64, begin and end of every line in bytes
    delimiter, decimal : as the file writes them
    """

    path: str
    columns: Columns
    spans: Ints = field(repr=False)
    delimiter: str
    decimal: str

    def __call__(self, indices: Ints) -> Numbers:
        """(m, k) float64, of the lines of these numbers."""
        out = np.empty((len(indices), len(self.columns.which)))
        order = np.argsort(indices, kind="stable")
        begin, end = self.spans[indices[order]].T
        cuts = np.flatnonzero(begin[1:] != end[:-1]) + 1
        with open_file(self.path) as file:
            for part in np.split(np.arange(len(order)), cuts):
                if len(part):
                    file.seek(int(begin[part[0]]))
                    data = file.read(int(end[part[-1]] - begin[part[0]]))
                    out[order[part]] = self._parsed(data, len(part))
        return out

    def _parsed(self, data: bytes, n: int) -> Numbers:
        import pyarrow as pa
        from pyarrow import csv as arrow

        names = [str(i) for i in range(len(self.columns.names))]
        wanted = [str(i) for i in self.columns.which]
        try:
            table = arrow.read_csv(
                pa.py_buffer(data),
                arrow.ReadOptions(
                    use_threads=False, block_size=max(len(data), PIECE), column_names=names
                ),
                arrow.ParseOptions(delimiter=self.delimiter),
                arrow.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.float64()),
                    include_columns=wanted,
                    decimal_point=self.decimal,
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.path}: {error}; mend the table") from None
        if len(table) != n:
            raise InputError(f"{self.path}: {n} lines hold {len(table)} rows; write one a line")
        return np.stack([column.to_numpy() for column in table.columns], axis=1)


def is_csv(path: str, _: Callable[[], bytes]) -> bool:
    """Whether a path is a table in text, by its name."""
    return path.lower().endswith((".csv", ".tsv", ".txt"))


def open_csv(path: str, asked: Asked) -> MsiSource:
    """Open a CSV; see `msiscale.msi.layouts.open_source`."""
    try:
        with open_file(path) as file:
            lines = _lines(path, file)
            for _, _, line in lines:
                header = line.decode("utf-8-sig", "replace")
                if not header.startswith("#") and header.strip():
                    break
            else:
                raise InputError(f"{path}: is empty; write the table again")
            delimiter = max(",;\t", key=header.count)
            (names,) = csv.reader(io.StringIO(header), delimiter=delimiter)
            points = delimiter == ";" and "," in header
            names = [name.replace(",", ".") if points else name for name in names]
            columns = columns_of(path, names)
            spans, places = [], []
            for number, (begin, end, line) in enumerate(lines, 2):
                if line.strip():
                    spans.append((begin, end))
                    places.append(_place(path, number, line, delimiter, columns.xy))
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the path") from None
    found = np.array(spans, np.int64).reshape(-1, 2)
    rows = CsvRows(path, columns, found, delimiter, "," if delimiter == ";" and points else ".")
    xy = np.array(places, np.float64).reshape(-1, 2)
    return image_of(path, columns.mz, xy, rows, asked=asked, notes=columns.notes)


def _place(
    path: str, number: int, line: bytes, delimiter: str, xy: tuple[int, int]
) -> tuple[float, float]:
    fields = line.split(delimiter.encode(), max(xy) + 1)
    try:
        x, y = (float(fields[i].strip(b' \r\n"').replace(b",", b".")) for i in xy)
    except (ValueError, IndexError):
        raise InputError(f"{path}: line {number} has no x and y; mend the table") from None
    return x, y


def _lines(path: str, file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Begin, end and bytes of every line of a file, which is read in pieces."""
    begin, left = 0, b""
    while piece := file.read(PIECE):
        lines = (left + piece).split(b"\n")
        left = lines.pop()
        for line in lines:
            yield begin, begin + len(line) + 1, line
            begin += len(line) + 1
        if len(left) > LONGEST:
            raise InputError(f"{path}: has a line of more than {LONGEST} bytes; is it a table?")
    if left:
        yield begin, begin + len(left), left
