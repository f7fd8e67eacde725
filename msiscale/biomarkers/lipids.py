"""Lipid tables: LIPID MAPS (LMSD) as CSV, TSV or SDF, or the built-in one made from class rules."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TextIO

import pandas as pd
from fsspec.compression import compr
from fsspec.utils import infer_compression

from msiscale.biomarkers.classes import builtin_lipids, by_subclass
from msiscale.biomarkers.masses import formula_mass, hill, parse_formula
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.store import open_file

__all__ = ["builtin_lipids", "read_lipids"]

# spellings of a column, in order of preference; compared without case, spaces and underscores
_FIELDS: dict[str, tuple[str, ...]] = {
    "id": ("lmid", "lipidmapsid", "id", "regno", "molid"),
    "name": ("abbreviation", "commonname", "name", "molname", "systematicname", "synonyms"),
    "formula": ("formula", "molecularformula", "sumformula"),
}
# how likely a LIPID MAPS category is in tissue under MALDI or DESI, for ordering isobars
_CATEGORY = {"GP": 0.5, "SP": 0.5, "GL": 0.3, "ST": 0.2, "FA": 0.1, "PR": 0.05, "SL": 0.02}
_CHOLINE = ("LMGP01", "LMSP03", "LMFA0707")
_PEEK = 400
_LONGEST_LINE, _MOST_RECORDS = 1 << 20, 2_000_000  # of what a packed table may unpack to
_HEAVIEST = 1e5  # Da


def read_lipids(path: str) -> pd.DataFrame:
    """Read a lipid table, streamed: LMSD as CSV, TSV or SDF (also .gz or .zip), by path or URL.

    Column names are matched without case or underscores: LM_ID or id; ABBREVIATION, COMMON_NAME or
    NAME; FORMULA; EXACT_MASS. A structure whose LIPID MAPS sub-class and formula obey a rule of
    `classes` takes its species name ("PC 34:1"): exact mass supports no finer one. Structures of
    one name and formula become one row.

    Returns
    -------
    DataFrame with the columns id (of the first structure), name, formula (Hill), mass (Da; from the
    formula), plausibility (0...1), choline (bool), lipid_class, n_structures.

    Raises
    ------
    InputError
        When the file is missing or is not such a table.

    Warns
    -----
    MsiscaleWarning
        With the number of records that have no readable formula; they are left out.
    """
    try:
        with _text(path) as file:
            table, skipped = _collect(_records(file, path))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"{path}: no such lipid table; give an LMSD file (CSV, TSV or SDF)"
        ) from None
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, csv.Error) as error:
        raise InputError(
            f"{path}: the lipid table cannot be read ({error}); download it again"
        ) from None
    if table.empty:
        raise InputError(
            f"{path}: no lipid with a formula in it; give an LMSD file (CSV, TSV or SDF)"
        )
    if skipped:
        warnings.warn(
            f"{path}: {skipped} records without a readable formula are left out",
            MsiscaleWarning,
            stacklevel=2,
        )
    return table


@contextmanager
def _text(path: str) -> Iterator[TextIO]:
    """The table as text, unpacked by its suffix (.gz, .zip, ...)."""
    packing = infer_compression(path)
    with open_file(path) as raw:
        plain = compr[packing](raw, mode="rb") if packing else raw
        with io.TextIOWrapper(plain, encoding="utf-8", errors="replace", newline="") as text:
            yield text


def _collect(records: Iterator[dict[str, str]]) -> tuple[pd.DataFrame, int]:
    found: dict[tuple[str, str], list[Any]] = {}
    canonical: dict[str, str | None] = {}
    skipped = 0
    for number, record in enumerate(records):
        if number == _MOST_RECORDS:
            raise ValueError(f"more than {_MOST_RECORDS} records")
        text = record["formula"]
        if text not in canonical:
            try:
                known = hill(parse_formula(text))
                canonical[text] = known if 0 < formula_mass(known) < _HEAVIEST else None
            except (ValueError, OverflowError):
                canonical[text] = None
        formula = canonical[text]
        if not formula:
            skipped += 1
            continue
        name, prior, choline, kind = _species(record, formula)
        row = found.get((name, formula))
        if row is None:
            mass = formula_mass(formula)
            found[name, formula] = [record["id"], name, formula, mass, prior, choline, kind, 1]
        else:
            row[-1] += 1
            row[4] = max(row[4], prior)
    columns = ["id", "name", "formula", "mass", "plausibility", "choline", "lipid_class"]
    columns.append("n_structures")
    return pd.DataFrame(list(found.values()), columns=columns), skipped


def _species(record: Mapping[str, str], formula: str) -> tuple[str, float, bool, str]:
    """Name, plausibility, choline and class of one structure."""
    code = record["id"]
    rule = by_subclass().get((code[:8], formula)) if code.startswith("LM") else None
    if rule is not None:
        return rule
    prior = _CATEGORY.get(code[2:4], 0.05) if code.startswith("LM") else 0.2
    name = record["name"] or code or formula
    # below every rule: what is not of a common class is rarely what the mass is of
    return name, 0.3 * prior, code.startswith(_CHOLINE), ""


def _records(file: TextIO, path: str) -> Iterator[dict[str, str]]:
    """Records of a table or an SDF file, told apart by their first lines."""
    every = _lines(file)
    head = list(islice(every, _PEEK))
    if head:
        head[0] = head[0].removeprefix("\ufeff")
    lines = chain(head, every)
    if any(re.match(r"M  END|\${4}|>\s*<", line) for line in head):
        return _sdf(lines)
    first = head[0] if head else ""
    delimiter = max("\t,;", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    if not _columns(header)["formula"]:
        raise InputError(
            f"{path}: no column FORMULA and not an SDF; give an LMSD file (CSV, TSV or SDF)"
        )
    return _rows(lines, delimiter)


def _lines(file: TextIO) -> Iterator[str]:
    """Lines one by one; ValueError for one without an end, as a few bytes may unpack to."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE} characters")
        yield line


def _plain(field: str) -> str:
    return re.sub(r"[^a-z0-9]", "", field.lower())


def _columns(header: Sequence[str]) -> dict[str, list[str]]:
    """The columns of `header` that may hold each field: of names all, best first."""
    plain = {_plain(column): column for column in reversed(header)}
    found = {f: [plain[n] for n in spellings if n in plain] for f, spellings in _FIELDS.items()}
    return {f: columns if f == "name" else columns[:1] for f, columns in found.items()}


def _pick(row: Mapping[str, str | None], columns: list[str]) -> str:
    """The first of `columns` that has something in it (LMSD writes '-' for nothing)."""
    values = ((row.get(column) or "").strip() for column in columns)
    return next((value for value in values if value not in ("", "-")), "")


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(lines, delimiter=delimiter)
    columns = _columns(list(reader.fieldnames or []))
    for row in reader:
        yield {field: _pick(row, some) for field, some in columns.items()}


def _sdf(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Data items (``> <NAME>`` and the lines after it) of each SDF record."""
    items: dict[str, str] = {}
    field = None
    for line in lines:
        if line.startswith("$$$$"):
            yield _sdf_record(items)
            items, field = {}, None
        elif line.startswith(">") and "<" in line:
            field = line[line.index("<") + 1 : line.rindex(">")] if line.count(">") > 1 else None
        elif field is not None and line.strip():
            items.setdefault(field, line.strip())
    if items:
        yield _sdf_record(items)


def _sdf_record(items: dict[str, str]) -> dict[str, str]:
    return {field: _pick(items, some) for field, some in _columns(list(items)).items()}
