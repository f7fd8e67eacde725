# ruff: noqa: E501  (a line of the page is a line here)
"""The manifest: what stops all of it, what sets one specimen aside, and where files may be."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from bad_inputs.rows import ASIDE, READS, REFUSES, Row

from msiscale.cohort import read_manifest
from msiscale.errors import InputError
from msiscale.pipeline.twins import twins

HEAD = "specimen,msi,slide"
GOOD = f"{HEAD}\na,a.imzML,a.tiff\n"
Change = Callable[[Path], None]


def files(folder: Path) -> None:
    for name in ("a.imzML", "a.tiff", "b.imzML", "b.tiff", "b.csv"):
        (folder / name).touch()


def whole(
    id: str,
    wrong: str,
    says: str,
    data: str | bytes | None,
    does: str = REFUSES,
    name: str = "m.csv",
) -> Row:
    """A manifest that is refused, or read as the specimen a."""

    def run(folder: Path) -> None:
        files(folder)
        if data is not None:
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        cohort = read_manifest(str(folder / name))
        assert [s.name for s in cohort] == ["a"] and not cohort.problems
        (a,) = cohort
        assert (a.msi, a.slide) == (str(folder / "a.imzML"), str(folder / "a.tiff"))

    return Row(id, wrong, does, says, run)


def aside(
    id: str, wrong: str, says: str, line: str, columns: str = HEAD, change: Change | None = None
) -> Row:
    """A row for specimen b that is set aside; a is read all the same."""

    def run(folder: Path) -> list[str]:
        files(folder)
        if change:
            change(folder)
        more = "," * (columns.count(",") - HEAD.count(","))
        path = folder / "m.csv"
        path.write_text(f"{columns}\na,a.imzML,a.tiff{more}\n{line}\n")
        cohort = read_manifest(str(path))
        assert [s.name for s in cohort] == ["a"]
        return list(cohort.problems.values())

    return Row(id, wrong, ASIDE, says, run)


def loop(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def parquet(rows: int) -> bytes:
    out = io.BytesIO()
    pd.DataFrame({c: [""] * rows for c in HEAD.split(",")}).to_parquet(out)
    return out.getvalue()


NO_FILE = "<manifest>: specimen b: no file <path> (column '<name>'); correct the path"
NOT_CSV = "<manifest>: not a CSV table in UTF-8 (<why>); save it as CSV"
NUMBER = (
    "<manifest>: specimen b: mpp '<text>' is not a positive number of micrometres; give one in the "
    "column mpp, for example 0.25"
)
NAME = (
    "<manifest>: specimen '<name>' (row <n>): use letters, digits, '.', '_' and '-', starting with "
    "a letter or digit, for example P01_A"
)


def shared(folder: Path) -> None:
    """One slide under two names, of two specimens that are two patients."""
    files(folder)
    for name in ("a.tiff", "b.tiff"):
        (folder / name).write_bytes(b"pixels")
    (folder / "m.csv").write_text(f"{GOOD}b,b.imzML,b.tiff\n")
    for line in twins(read_manifest(str(folder / "m.csv"))).problems:
        raise InputError(line)


ROWS = [
    Row(
        "twins",
        "the same MSI, slide or annotation under two patients, whatever the files are called",
        "refuses the cohort",
        "<file>, <file>: specimens <a> and <b> have the same slide but belong to patients <a> and <b>; give both the same patient in the manifest column patient, for example <a>, or each its own file",
        shared,
    ),
    whole("missing", "no file", "<manifest>: no such manifest; give the path of a CSV file", None),
    whole("empty", "no bytes", NOT_CSV, b""),
    whole(
        "no_rows",
        "no rows",
        "<manifest>: the manifest has no rows; add one line for each specimen",
        HEAD + "\n",
    ),
    whole(
        "latin1", "Latin-1", NOT_CSV, f"{HEAD},patient\na,a.imzML,a.tiff,Müller\n".encode("latin-1")
    ),
    whole("gzip", "gzip (of any size: it is not unpacked)", NOT_CSV, gzip.compress(bytes(1 << 24))),
    whole(
        "no_column",
        "a column missing",
        "<manifest>: no column '<name>'; a manifest needs specimen, msi, slide (optional: <names>)",
        "specimen,msi\na,a.imzML\n",
    ),
    whole(
        "unknown_column",
        "a column misspelt",
        "<manifest>: unknown column '<name>'; the columns are <names>",
        f"{HEAD},anotation\na,a.imzML,a.tiff,\n",
    ),
    whole(
        "long_row", "a row with more values than columns", NOT_CSV, GOOD + "b,b.imzML,b.tiff,1,2\n"
    ),
    whole(
        "shifted",
        "every row with one value more than columns",
        "<manifest>: rows have more values than there are columns; mend them",
        f"{HEAD}\na,a.imzML,a.tiff,1\n",
    ),
    whole(
        "crlf",
        "byte order mark, CRLF, blanks",
        "",
        ("\ufeff" + GOOD.replace(",", ", ")).replace("\n", "\r\n"),
        READS,
    ),
    whole(
        "comments",
        "lines that begin with #, as written by `msiscale init` or by a table program",
        "",
        f'# a note\n"# one, with a comma",,\n{GOOD}#b,b.imzML,b.tiff\n',
        READS,
    ),
    whole(
        "parquet_cut",
        "Parquet cut",
        "<manifest>: not a Parquet table (<why>); write it again",
        parquet(2)[:-30],
        name="m.parquet",
    ),
    whole(
        "parquet_bomb",
        "Parquet of 1,500,000 rows",
        "<manifest>: <n> rows; give 1000000 at most",
        parquet(1_500_000),
        name="m.parquet",
    ),
    aside("file_missing", "a file that is not there", NO_FILE, "b,b.imzML,none.tiff"),
    aside(
        "field_empty",
        "a file not named",
        "<manifest>: specimen b: the column '<name>' is empty; name its file, for example <name>",
        "b,,b.tiff",
    ),
    aside(
        "twice",
        "a specimen in two rows",
        "<manifest>: specimen 'b' is in 2 rows; ids must be unique",
        "b,b.imzML,b.tiff\nb,b.imzML,b.tiff",
    ),
    aside(
        "no_name",
        "no specimen id",
        "<manifest>: row <n> has no specimen id; give it a unique one in the column specimen, for example S02",
        ",b.imzML,b.tiff",
    ),
    aside("name_escapes", "a specimen called ../b", NAME, "../b,b.imzML,b.tiff"),
    aside("name_script", "a specimen called <script>", NAME, "<script>,b.imzML,b.tiff"),
    aside("name_long", "a name of 101 letters", NAME, f"{'b' * 101},b.imzML,b.tiff"),
    aside(
        "name_reserved",
        "the name of a file of results",
        "<manifest>: specimen folds: results use that name themselves; give it another",
        "folds,b.imzML,b.tiff",
    ),
    aside(
        "patient_reserved",
        "a patient by the name of a fold",
        "<manifest>: specimen b: patient 'final': results use that name; give another in the column patient, for example P01",
        "b,b.imzML,b.tiff,final",
        HEAD + ",patient",
    ),
    aside("mpp_negative", "mpp below zero", NUMBER, "b,b.imzML,b.tiff,-1", HEAD + ",mpp"),
    aside("mpp_words", "mpp in words", NUMBER, "b,b.imzML,b.tiff,half", HEAD + ",mpp"),
    aside("mpp_huge", "mpp of 1e400", NUMBER, "b,b.imzML,b.tiff,1e400", HEAD + ",mpp"),
    aside(
        "pixel_um_three",
        "pixel_um of three numbers",
        "<manifest>: specimen b: pixel_um '<text>' is not a size in µm; give it in the column pixel_um, for example 50, or x by y as 50x150",
        "b,b.imzML,b.tiff,50x50x50",
        HEAD + ",pixel_um",
    ),
    aside(
        "polarity_other",
        "a polarity that there is not",
        "<manifest>: specimen b: polarity '<text>' is none of +, -, positive, negative; give one in the column polarity, for example +",
        "b,b.imzML,b.tiff,both",
        HEAD + ",polarity",
    ),
    aside(
        "both",
        "landmarks and matrix",
        "<manifest>: specimen b: both 'landmarks' and 'matrix' are given; keep one",
        "b,b.imzML,b.tiff,b.csv,b.csv",
        HEAD + ",landmarks,matrix",
    ),
    aside("path_long", "a path of 5,000 letters", NO_FILE, f"b,b.imzML,{'b' * 5000}"),
    aside("path_null", "a path that no system has", NO_FILE, "b,b.imzML,\x01b\x02"),
    aside("link_loop", "a symbolic link to itself", NO_FILE, "b,b.imzML,loop", change=loop),
    aside(
        "pipe",
        "a pipe in place of a file",
        "<manifest>: specimen b: <path> (column 'slide') is a device, pipe or socket; give a file",
        "b,b.imzML,pipe",
        change=pipe,
    ),
    aside(
        "device",
        "/dev/zero in place of a file",
        "<manifest>: specimen b: <path> (column 'slide') is a device, pipe or socket; give a file",
        "b,b.imzML,/dev/zero",
    ),
    *(
        aside(
            f"scheme_{url.partition(':')[0]}",
            f"a URL of the scheme {url.partition(':')[0]}",
            "<manifest>: specimen b: column 'slide': <url>: scheme '<scheme>' is not read; use s3, gs, abfs, "
            "https or a path",
            f"b,b.imzML,{url}",
        )
        for url in (
            "ftp://host/x.svs",
            "sftp://host/x.svs",
            "javascript://x/%0aalert(1)",
            "simplecache::https://h/x",
            "zip://x.svs::file:///a.zip",
            "FILE:///etc/hostname",
        )
    ),
    aside(
        "memory",
        "a URL of this process's memory",
        "<manifest>: specimen b: column 'slide': <url> is in the memory of another process; use a file or an "
        "object store",
        "b,b.imzML,memory://x/y.svs",
    ),
    aside(
        "credentials",
        "a URL with a password",
        "<manifest>: specimen b: column 'slide': https://***@<host>: holds "
        "credentials; give them by the environment, not in the URL",
        "b,b.imzML,https://user:hush@host/x.svs",
    ),
    aside(
        "signature",
        "a URL with a signature",
        "<manifest>: specimen b: column 'slide': https://<host>?*** has a "
        "query ('?…'), which may hold a signature; give the plain address and credentials by the environment",
        "b,b.imzML,https://host/x.svs?sig=hush",
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)


@pytest.mark.parametrize("path", ["../secret.svs", "a/../../secret.svs", "/etc/hostname"])
def test_a_manifest_at_a_url_names_nothing_outside_its_folder(path: str) -> None:
    from msiscale.store import write_bytes

    url = "memory://cohort/m.csv"
    write_bytes(url, f"{HEAD}\na,a.imzML,{path}\n".encode())
    (line,) = read_manifest(url).problems.values()
    assert "not below the manifest; give a whole URL" in line and "\n" not in line


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "link.tiff").symlink_to(tmp_path / "a.tiff")
    (tmp_path / "m.csv").write_text(f"{HEAD}\na,a.imzML,link.tiff\n")
    assert len(read_manifest(str(tmp_path / "m.csv"))) == 1


def test_no_secret_of_a_url_is_said(tmp_path: Path) -> None:
    files(tmp_path)
    for url in ("https://user:hush@host/x", "https://host/x?sig=hush", "s3://k:hush@b/x"):
        (tmp_path / "m.csv").write_text(f"{HEAD}\na,a.imzML,{url}\n")
        assert "hush" not in str(read_manifest(str(tmp_path / "m.csv")).problems)


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    said = str(InputError("a\x1b[2Jb\nc\x00d\u202e"))
    assert said == r"a\x1b[2Jb c\x00d\u202e" and len(str(InputError("x" * 10**6))) <= 1000
