"""Landmarks and matrices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row

from msiscale.grid import PixelSize
from msiscale.registration.landmarks import fit_landmarks, read_landmarks, read_matrix

HEAD = "slide_x,slide_y,msi_x,msi_y\n"
GOOD = HEAD + "3,4,0,0\n103,4,10,0\n3,104,0,10\n103,104,10,10\n"
MATRIX = [[10.0, 0, 3], [0, 10, 4], [0, 0, 1]]


def landmarks(
    id: str, wrong: str, says: str, text: str | bytes | None, does: str = REFUSES, good: bool = True
) -> Row:
    """A file of landmarks, read and fitted; `good`: to the matrix above."""

    def run(folder: Path) -> None:
        path = folder / "marks.csv"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        slide, msi = read_landmarks(str(path))
        found = fit_landmarks(
            slide, msi, mpp=PixelSize.of(0.5), pixel_um=PixelSize.of(5), source=str(path)
        ).matrix
        assert np.isfinite(found).all()
        if good:
            np.testing.assert_allclose(found, MATRIX, atol=1e-9)

    return Row(id, wrong, does, says, run)


def matrix(id: str, wrong: str, why: str, document: object, does: str = REFUSES) -> Row:
    """A file of a matrix, which is read as the matrix above or refused."""

    def run(folder: Path) -> None:
        path = folder / "map.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        np.testing.assert_array_equal(read_matrix(str(path)).matrix, MATRIX)

    says = f"<file>: {why}; give a 3x3 list of rows, MSI pixel -> level-0 pixel" if why else ""
    return Row(id, wrong, does, says, run)


def json_row(id: str, wrong: str, text: str) -> Row:
    row = matrix(id, wrong, "", text)
    says = "<file>: not valid JSON (<why>); remove the file or mend it"
    return Row(id, wrong, REFUSES, says, row.run)


NUMBER = "<file>: row <n> has a value that is not a number; correct it"
LINE = "<file>: the landmarks lie on one line or point; add one off the line"
CSV = "<file>: not a CSV table; columns slide_x, slide_y, msi_x, msi_y"
FAR = "<file>: row <n> lies beyond 1e+09 pixels; correct it"
ROWS = [
    landmarks(
        "missing", "no file", "<file>: no such file; check the manifest column `landmarks`", None
    ),
    landmarks("empty", "no bytes", CSV, ""),
    landmarks("binary", "not text", CSV, b"\x89PNG\r\n\x1a\n\xff\xfe\x00"),
    landmarks(
        "no_column",
        "a column missing",
        "<file>: no column '<name>'; landmarks need slide_x, slide_y, msi_x, msi_y",
        GOOD.replace("msi_y", "y"),
    ),
    landmarks(
        "column_twice",
        "a column twice",
        "<file>: a column is there twice; landmarks need slide_x, slide_y, msi_x, msi_y",
        GOOD.replace("\n", ",9\n").replace("msi_y,9", "msi_y,msi_y"),
    ),
    landmarks(
        "shifted",
        "every row with one value more than columns",
        "<file>: rows have more values than there are columns; mend them",
        GOOD.replace("\n", ",7\n").replace("msi_y,7", "msi_y"),
    ),
    landmarks("word", "a value that is no number", NUMBER, GOOD + "1,2,3,four\n"),
    landmarks("blank", "a value missing", NUMBER, GOOD + "1,2,3,\n"),
    landmarks("nan", "a value of NaN", NUMBER, GOOD + "1,2,3,NaN\n"),
    landmarks("digits", "a value of 5,000 digits", NUMBER, GOOD + f"1,2,3,{'9' * 5000}\n"),
    landmarks("far", "a value of 1e300", FAR, GOOD + "1,2,3,1e300\n"),
    landmarks("comma", "decimal commas in quotes", NUMBER, GOOD + '"1,5",2,3,4\n'),
    landmarks(
        "one",
        "one pair",
        "<file>: 1 landmark pairs; similarity registration needs 2",
        HEAD + "1,2,3,4\n",
    ),
    landmarks("same", "all pairs alike", LINE, HEAD + "1,2,3,4\n" * 5),
    landmarks(
        "line",
        "all pairs on a line",
        LINE,
        HEAD + "".join(f"{9 * i},{9 * i},{i},{i}\n" for i in range(5)),
    ),
    landmarks(
        "slide_alike",
        "all slide points alike",
        LINE,
        HEAD + "1,1,0,0\n1,1,10,0\n1,1,0,10\n1,1,10,10\n",
    ),
    landmarks(
        "swapped",
        "two pairs exchanged",
        "<file>: landmarks fit to <n> µm = <n> MSI pixels; look for a swapped or misplaced pair",
        GOOD.replace("3,4,0,0", "103,4,0,0").replace("103,4,10,0", "3,4,10,0"),
        "fits them all the same",
        good=False,
    ),
    landmarks(
        "crlf",
        "byte order mark, CRLF, blanks, blank lines",
        "",
        ("\ufeff" + GOOD.replace(",", ", ") + "\n\n").replace("\n", "\r\n"),
        READS,
    ),
    json_row("matrix_words", "matrix that is no JSON", "10 0 0"),
    json_row("matrix_nested", "matrix nested 100,000 deep", "[" * 100_000),
    matrix(
        "matrix_small", "matrix of 2 x 2", "an affine matrix is 3x3, not (2, 2)", [[1, 0], [0, 1]]
    ),
    matrix(
        "matrix_singular",
        "matrix that is singular",
        "the affine matrix is singular",
        [[1, 0, 0], [0, 0, 0], [0, 0, 1]],
    ),
    matrix(
        "matrix_nan",
        "matrix with NaN",
        "the affine matrix has values that are not finite",
        "[[1, 0, NaN], [0, 1, 0], [0, 0, 1]]",
    ),
    matrix(
        "matrix_projective",
        "matrix with another last row",
        "the last row of an affine matrix is 0, 0, 1",
        [[1, 0, 0], [0, 1, 0], [0.1, 0, 1]],
    ),
    matrix(
        "matrix_far",
        "matrix with 1e300",
        "the affine matrix has a value above 1e+09",
        [[1, 0, 1e300], [0, 1, 0], [0, 0, 1]],
    ),
    matrix("matrix_named", "matrix under the key matrix", "", {"matrix": MATRIX}, READS),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)
