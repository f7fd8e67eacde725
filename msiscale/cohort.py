"""The manifest: which files belong to which specimen, read and checked row by row."""

from __future__ import annotations

import io
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

import pandas as pd

from msiscale.errors import InputError, NoAnswer
from msiscale.grid import PixelSize
from msiscale.store import at_once, exists, is_url, join, local_path, open_file, split_scene
from msiscale.store.urls import scheme

REQUIRED = ("specimen", "msi", "slide")
FILES = ("msi", "slide", "annotation", "landmarks", "matrix")
NUMBERS = ("mpp", "pixel_um")
SPECTRA = ("polarity", "ms_level", "trust_ibd")  # of the MSI file, how it is to be read
OF_ANNOTATION = ("annotation_origin", "annotation_required")
COLUMNS = (
    *(*REQUIRED, "patient", "annotation", "landmarks", "matrix", "registration", *NUMBERS),
    *(*SPECTRA, *OF_ANNOTATION),
)
RESERVED = ("all", "axis", "cohort", "folds")  # specimens by these names would meet our own files
RESERVED_PATIENTS = ("all", "final")  # and patients our own folds
MOST_ROWS = 1_000_000
MOST_ORIGIN = 1e9  # pixels; what is beyond is a mistake
_YES_OR_NO = {"": False, "no": False, "false": False, "0": False} | {
    "yes": True,
    "true": True,
    "1": True,
}
FIRST = "first row"  # attribute of a table: the number of the first row under its header
_WORDS: dict[str, dict[str, Any]] = {  # what may be written in a column, and what it stands for
    "registration": {"": None, "accept": "accept"},
    "polarity": {"": None, "+": "+", "-": "-", "positive": "+", "negative": "-"},
    "ms_level": {"": None, **{f"{n}{end}": n for n in range(1, 10) for end in ("", ".0")}},
    "trust_ibd": _YES_OR_NO,
    "annotation_required": _YES_OR_NO,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Specimen:
    """One row of the manifest, paths resolved.

    ``mpp`` is µm per level-0 slide pixel and ``pixel_um`` the MSI pixel size in µm, where the
    files do not say; ``registration`` takes one that was found by the images and refused;
    ``patient`` is the group that cross-validation keeps together. ``polarity``
    and ``ms_level`` choose the spectra of a file that has several kinds; ``trust_ibd`` reads an
    .ibd whose UUID is not that of its imzML. ``annotation_origin`` is what outlines and landmarks
    count from: ``"level0"``, ``"bounds"`` of the slide, or (x, y) in level-0 pixels; found where it
    is not said. ``annotation_required`` sets a specimen aside whose annotation says nothing.
    """

    name: str
    msi: str
    slide: str
    patient: str
    annotation: str | None = None
    landmarks: str | None = None
    matrix: str | None = None
    registration: Literal["accept"] | None = None
    mpp: float | None = None
    pixel_um: PixelSize | None = None
    polarity: Literal["+", "-"] | None = None
    ms_level: int | None = None
    trust_ibd: bool = False
    annotation_origin: str | tuple[float, float] | None = None
    annotation_required: bool = False


@dataclass(frozen=True)
class Cohort:
    """The specimens that can be tried, and what is wrong with the rows that cannot."""

    path: str
    specimens: tuple[Specimen, ...]
    problems: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Specimen]:
        return iter(self.specimens)

    def __len__(self) -> int:
        return len(self.specimens)

    @property
    def patients(self) -> dict[str, str]:
        """Specimen name -> patient."""
        return {s.name: s.patient for s in self.specimens}


def read_manifest(path: str) -> Cohort:
    """Read a manifest (CSV, or Parquet with the same columns); lines of CSV with # are comments.

    Returns
    -------
    Cohort
        A row that cannot be used is set aside in ``problems``; the others go on.

    Raises
    ------
    InputError
        The manifest as a whole cannot be read.
    """
    table = _read_table(path)
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first for names of rows
        raise InputError(f"{path}: rows have more values than there are columns; mend them")
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing))}; a manifest needs "
            f"{', '.join(REQUIRED)} (optional: {', '.join(COLUMNS[3:])})"
        )
    unknown = [c for c in table.columns if c not in COLUMNS]
    if unknown:
        raise InputError(
            f"{path}: unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}"
        )
    if table.empty:
        raise InputError(f"{path}: the manifest has no rows; add one line for each specimen")
    specimens: list[Specimen] = []
    problems: dict[str, str] = {}
    names = [_text(v) or "" for v in table["specimen"]]
    times = Counter(names)
    silent: set[str] = set()

    def read(row: tuple[int, tuple[str, dict[Any, Any]]]) -> Specimen | InputError:
        number, (name, values) = row
        try:
            if times[name] > 1:
                raise InputError(
                    f"{path}: specimen {name!r} is in {times[name]} rows; ids must be unique"
                )
            return _specimen(path, name, values, number, silent)
        except InputError as error:
            return error

    first = table.attrs.get(FIRST, 2)
    rows = list(enumerate(zip(names, table.to_dict("records"), strict=True), first))
    for (number, (name, _)), found in zip(rows, at_once(read, rows), strict=True):
        if isinstance(found, InputError):
            problems[name if _NAME.fullmatch(name) else f"row{number}"] = str(found)
        else:
            specimens.append(found)
    return Cohort(path, tuple(specimens), problems)


def _read_table(path: str) -> pd.DataFrame:
    try:
        with open_file(path) as file:
            if path.lower().endswith((".parquet", ".pq")):
                return _parquet(path, file)
            data = file.read()
            notes = [n for n, line in enumerate(data.split(b"\n")) if _is_comment(line)]
            found = pd.read_csv(
                io.BytesIO(data),
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
                skiprows=notes,
            ).rename(columns=lambda c: str(c).strip())
            head = next((i for i, n in enumerate(notes) if i != n), len(notes))
            found.attrs[FIRST] = head + 2  # as a table program counts the rows
            return found
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest; give the path of a CSV file") from None
    except InputError:
        raise
    except ValueError as error:  # pandas' own and those of the encoding are ValueErrors
        text = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: not a CSV table in UTF-8 ({text}); save it as CSV") from None
    except (IsADirectoryError, PermissionError, OSError) as error:
        text = str(error).splitlines()[0]
        raise InputError(f"{path}: the manifest cannot be read ({text})") from None


def _is_comment(line: bytes) -> bool:
    """Whether a line is for people; table programs put quotes around one that has a comma."""
    return line.removeprefix(b"\xef\xbb\xbf").lstrip(b' \t"').startswith(b"#")


def _parquet(path: str, file: BinaryIO) -> pd.DataFrame:
    """The table of a Parquet file; its rows are counted before they are unpacked."""
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(file)
        if found.metadata.num_rows > MOST_ROWS:
            raise InputError(f"{path}: {found.metadata.num_rows} rows; give {MOST_ROWS} at most")
        table: pd.DataFrame = found.read().to_pandas(ignore_metadata=True)
        return table
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many types for a damaged file
        text = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: not a Parquet table ({text}); write it again") from None


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return None
    return str(value).strip() or None


def _specimen(
    path: str, name: str, row: Mapping[Any, Any], number: int, silent: set[str]
) -> Specimen:
    if not name:
        raise InputError(
            f"{path}: row {number} has no specimen id; give it a unique one in the "
            f"column specimen, for example S{number - 1:02d}"
        )
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{path}: specimen {name!r} (row {number}): use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, for example P01_A"
        )
    where = f"{path}: specimen {name}"
    if name in RESERVED or name.endswith(".json"):
        raise InputError(f"{where}: results use that name themselves; give it another")
    files = {c: _resolve(path, _text(row.get(c))) for c in FILES}
    for column, example in (("msi", f"msi/{name}.imzML"), ("slide", f"slides/{name}.svs")):
        if files[column] is None:
            raise InputError(
                f"{where}: the column {column!r} is empty; name its file, for example {example}"
            )
    if files["landmarks"] and files["matrix"]:
        raise InputError(f"{where}: both 'landmarks' and 'matrix' are given; keep one")
    for column, file in files.items():
        if file:
            bare = split_scene(file)[0] if column == "slide" else file
            _check_file(path, where, column, bare, silent)
    said: dict[str, Any] = {
        "mpp": positive(where, _text(row.get("mpp"))),
        "pixel_um": pixel_size(where, _text(row.get("pixel_um"))),
        "annotation_origin": _origin(where, _text(row.get("annotation_origin"))),
    }
    for column, words in _WORDS.items():
        said[column] = _word(where, column, words, _text(row.get(column)))
    if said["annotation_required"] and not files["annotation"]:
        raise InputError(
            f"{where}: annotation_required is yes, but the column 'annotation' is empty; name a"
            " file there"
        )
    patient = _text(row.get("patient")) or name
    if patient in RESERVED_PATIENTS:
        raise InputError(
            f"{where}: patient {patient!r}: results use that name; give another in the "
            "column patient, for example P01"
        )
    return Specimen(name=name, patient=patient, **files, **said)  # type: ignore[arg-type]


def _check_file(manifest: str, where: str, column: str, file: str, silent: set[str]) -> None:
    """A file or folder is there, by an address that may be read, of a host that is not `silent`."""
    if is_url(file):
        try:
            kind = scheme(file)
        except InputError as error:
            raise InputError(f"{where}: column {column!r}: {error}") from None
        if kind == "memory" and not manifest.startswith("memory://"):
            raise InputError(
                f"{where}: column {column!r}: {file} is in the memory of another process; use a "
                "file or an object store"
            )
        mend = "mend the address, the network or the credentials and run the same command again"
        # a host is tried for half a minute: one that does not answer, only once
        host = file[: file.find("/", file.find("://") + 3)]
        if host in silent:
            raise InputError(f"{where}: column {column!r}: {host} does not answer; {mend}")
        try:
            there = exists(file)
        except OSError as error:
            if isinstance(error, NoAnswer):
                silent.add(host)
            raise InputError(f"{where}: column {column!r}: {error}; {mend}") from None
    else:
        try:
            mode = local_path(file).stat().st_mode
        except (OSError, ValueError):  # none there, a loop of links, no right, no possible name
            there = False
        else:
            there = True
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError(
                    f"{where}: {file} (column {column!r}) is a device, pipe or socket; give a file"
                )
    if not there:
        raise InputError(f"{where}: no file {file} (column {column!r}); correct the path")


def positive(where: str, text: str | None, column: str = "mpp") -> float | None:
    """The µm of a cell; None of an empty one. InputError where it is no such number."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        example = "0.25" if column == "mpp" else "50"
        raise InputError(
            f"{where}: {column} {text!r} is not a positive number of micrometres; give one in the "
            f"column {column}, for example {example}"
        )
    return value


def pixel_size(where: str, text: str | None) -> PixelSize | None:
    """One number, or x by y as ``50x150``. InputError where it is neither."""
    if text is None:
        return None
    parts = re.split(r"\s*[x×]\s*", text)
    sides = [] if len(parts) > 2 else [positive(where, part, "pixel_um") for part in parts]
    if not sides or None in sides:
        raise InputError(
            f"{where}: pixel_um {text!r} is not a size in µm; give it in the column pixel_um, for "
            "example 50, or x by y as 50x150"
        )
    return PixelSize.of(sides[::-1])


def _origin(where: str, text: str | None) -> str | tuple[float, float] | None:
    """``level0``, ``bounds``, or x and y as ``1000,2000``."""
    if text is None or text.lower() in ("level0", "bounds"):
        return text and text.lower()
    try:
        x, y = (float(part) for part in re.split(r"\s*[,;x×\s]\s*", text))
    except ValueError:
        x = y = float("nan")
    if not max(abs(x), abs(y)) < MOST_ORIGIN:
        raise InputError(
            f"{where}: annotation_origin {text!r} is none of level0, bounds, or x,y in level-0"
            ' pixels as "1000,2000"'
        )
    return x, y


def _word(where: str, column: str, words: Mapping[str, Any], text: str | None) -> Any:
    """What one of a column's words stands for; an empty one is the first."""
    found = words.get((text or "").lower(), words)
    if found is words:
        given = ", ".join(word for word in words if word)
        raise InputError(
            f"{where}: {column} {text!r} is none of {given}; give one in the column {column}, for "
            f"example {next(word for word in words if word)}"
        )
    return found


def _resolve(manifest: str, path: str | None) -> str | None:
    if path is None or is_url(path):
        return path
    if is_url(manifest):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise InputError(f"{manifest}: {path!r} is not below the manifest; give a whole URL")
        return join(manifest.rsplit("/", 1)[0], path)
    file = local_path(path)
    return str(file if file.is_absolute() else local_path(manifest).parent / file)
