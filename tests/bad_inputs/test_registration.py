"""Landmarks and matrices."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row

from msiscale.cohort import Specimen
from msiscale.grid import PixelSize
from msiscale.pipeline.placement import given
from msiscale.registration.landmarks import fit_landmarks, read_landmarks, read_matrix
from msiscale.registration.scale import Sizes

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


def scaled(id: str, wrong: str, says: str, document: object) -> Row:
    """A map that is held against 0.5 µm of a slide of 9000 x 4000 pixels and 50 µm of an MSI."""

    def run(folder: Path) -> None:
        table = isinstance(document, str)
        path = folder / ("marks.csv" if table else "map.json")
        path.write_text(str(document) if table else json.dumps(document))
        files = {"landmarks" if table else "matrix": str(path)}
        sizes = Sizes(PixelSize.of(0.5), PixelSize.of(50), slide=(4000, 9000), msi=(30, 80))
        slide = SimpleNamespace(shape=sizes.slide, bounds=(0, 0), mpp=sizes.mpp)
        given(Specimen("A", "a.imzML", "a.svs", "A", **files), slide, sizes)  # type: ignore[arg-type]

    does = "registers, and warns" if "would fit" in says else REFUSES
    return Row(id, wrong, does, says, run)


CONTRADICTS = (
    "<file>: it contradicts the pixel sizes: one MSI pixel would be <n> x <n> µm of the slide, "
    "where its size is stated as 50 x 50; 0.5 µm a slide pixel are stated, the MSI would need about"
    " <n>; <why>give the right one in the manifest column mpp, or the registration in level-0 "
    "pixels of the slide and indices of the MSI"
)


def meant(words: str) -> str:
    return CONTRADICTS.replace("<why>", f"it is as if {words}; ")


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
    scaled(
        "scale_um",
        "matrix to µm of the slide instead of pixels",
        meant("its slide coordinates were µm<or another>"),
        [[50, 0, 90], [0, 50, 80], [0, 0, 1]],
    ),
    scaled(
        "scale_level",
        "landmarks on a copy of the slide at a quarter",
        meant("its slide coordinates were those of a level or copy at 1/4"),
        HEAD + "".join(f"{25 * x + 9},{25 * y + 8},{x},{y}\n" for x in (0, 60) for y in (0, 25)),
    ),
    scaled(
        "scale_inverse",
        "matrix from the slide to the MSI",
        meant("it took the slide to the MSI"),
        [[0.01, 0, -1.5], [0, 0.01, -3.5], [0, 0, 1]],
    ),
    scaled(
        "scale_mpp",
        "matrix that fits another µm a pixel",
        CONTRADICTS.replace("<why>", ""),
        [[70, 0, 90], [0, 70, 80], [0, 0, 1]],
    ),
    scaled(
        "scale_rounded",
        "matrix that fits a µm a pixel which differs by less than 8 %",
        "<file>: one MSI pixel would be 52.5 x 52.5 µm of the slide, where its size is stated as "
        "50 x 50; 0.4762 µm a slide pixel would fit where 0.5 are stated; look at the manifest "
        "column mpp",
        [[105, 0, 90], [0, 105, 80], [0, 0, 1]],
    ),
    scaled(
        "axes_matrix",
        "matrix whose x and y are exchanged, on a long slide",
        "<file>: only <n> of the MSI lies on the slide: it is as if x and y of the slide were "
        "exchanged; give x (the column) before y (the row)",
        [[0, 100, 400], [100, 0, 500], [0, 0, 1]],
    ),
    scaled(
        "axes_landmarks",
        "landmarks with msi_x and msi_y exchanged",
        "<file>: <n> of 4 landmarks lie beyond the 80 x 30 pixels of the MSI: it is as if msi_x "
        "and msi_y were exchanged; give the column as x and the row as y",
        HEAD + "".join(f"{100 * x + 9},{100 * y + 8},{y},{x}\n" for x in (0, 70) for y in (0, 25)),
    ),
    scaled(
        "off_slide",
        "matrix that lays the MSI beside the slide",
        "<file>: nothing of the MSI lies on the slide; give the registration in level-0 pixels of "
        "the slide and indices of the MSI",
        [[100, 0, 20000], [0, 100, 80], [0, 0, 1]],
    ),
    matrix("matrix_named", "matrix under the key matrix", "", {"matrix": MATRIX}, READS),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)
