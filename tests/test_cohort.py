"""The manifest: what is read, what is refused, and that one bad row does not stop the others."""

from pathlib import Path

import pandas as pd
import pytest

from msiscale.cohort import read_manifest
from msiscale.errors import InputError


def write(folder: Path, text: str) -> str:
    for name in ("a.imzML", "b.imzML", "a.tiff", "b.tiff", "a.csv"):
        (folder / name).touch()
    path = folder / "manifest.csv"
    path.write_text(text)
    return str(path)


def test_paths_are_relative_to_the_manifest_and_defaults_are_filled(tmp_path: Path) -> None:
    cohort = read_manifest(
        write(
            tmp_path,
            "specimen,msi,slide,patient,landmarks,mpp\n"
            "a,a.imzML,a.tiff,p1,a.csv,0.5\nb,b.imzML,b.tiff,,,\n",
        )
    )
    a, b = cohort
    assert a.msi == str(tmp_path / "a.imzML") and a.landmarks == str(tmp_path / "a.csv")
    assert (a.mpp, a.patient) == (0.5, "p1")
    assert (b.mpp, b.patient, b.annotation) == (None, "b", None)
    assert cohort.problems == {}


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    csv = write(tmp_path, "specimen,msi,slide,pixel_um\na,a.imzML,a.tiff,50\n")
    parquet = tmp_path / "manifest.parquet"
    pd.read_csv(csv).to_parquet(parquet)
    assert read_manifest(str(parquet)).specimens == read_manifest(csv).specimens


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b,b.imzML,missing.tiff", ["missing.tiff", "'slide'", "path"]),
        ("a,b.imzML,b.tiff", ["'a'", "2 rows", "unique"]),
        ("../b,b.imzML,b.tiff", ["'../b'", "letters"]),
        ("b,,b.tiff", ["'msi'", "empty"]),
        (",b.imzML,b.tiff", ["no specimen id"]),
        ("folds,b.imzML,b.tiff", ["folds", "another"]),
        ("b.json,b.imzML,b.tiff", ["b.json", "another"]),
    ],
)
def test_a_bad_row_is_set_aside_in_one_line(tmp_path: Path, row: str, words: list[str]) -> None:
    cohort = read_manifest(
        write(tmp_path, f"specimen,msi,slide\na,a.imzML,a.tiff\n{row}\ngood,a.imzML,a.tiff\n")
    )
    assert "good" in [s.name for s in cohort]
    (line,) = cohort.problems.values()
    assert "\n" not in line and all(w in line for w in words)


@pytest.mark.parametrize("mpp", ["-1", "nan", "half", "0", "inf"])
def test_a_pixel_size_must_be_a_positive_number(tmp_path: Path, mpp: str) -> None:
    cohort = read_manifest(write(tmp_path, f"specimen,msi,slide,mpp\na,a.imzML,a.tiff,{mpp}\n"))
    assert "mpp" in cohort.problems["a"]


def test_a_patient_may_not_have_the_name_of_a_fold_of_ours(tmp_path: Path) -> None:
    text = "specimen,msi,slide,patient\na,a.imzML,a.tiff,final\nb,b.imzML,b.tiff,P/1\n"
    cohort = read_manifest(write(tmp_path, text))
    assert cohort.patients == {"b": "P/1"} and "'final'" in cohort.problems["a"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("specimen,msi\na,a.imzML\n", "'slide'"),
        ("specimen,msi,slide,anotation\n", "'anotation'"),
        ("specimen,msi,slide\n", "no rows"),
        ("", "CSV"),
    ],
)
def test_an_unusable_manifest_is_one_line(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        read_manifest(write(tmp_path, text))


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("50", (50, 50)), ("50x150", (150, 50)), ("50 × 150.5", (150.5, 50)), ("", None)],
)
def test_pixel_um_is_one_number_or_x_by_y(tmp_path: Path, text: str, size: object) -> None:
    (row,) = read_manifest(
        write(tmp_path, f"specimen,msi,slide,pixel_um\na,a.imzML,a.tiff,{text}\n")
    )
    assert row.pixel_um == size


def test_columns_that_choose_spectra(tmp_path: Path) -> None:
    head = "specimen,msi,slide,polarity,ms_level,trust_ibd\n"
    rows = "a,a.imzML,a.tiff,negative,2,yes\nb,b.imzML,b.tiff,,,\n"
    a, b = read_manifest(write(tmp_path, head + rows))
    assert (a.polarity, a.ms_level, a.trust_ibd) == ("-", 2, True)
    assert (b.polarity, b.ms_level, b.trust_ibd) == (None, None, False)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("", None),
        ("Level0", "level0"),
        ("bounds", "bounds"),
        ('"1000,2000"', (1000, 2000)),
        ("1000;2000", (1000, 2000)),
        ("10.5 -3", (10.5, -3)),
    ],
)
def test_annotation_origin(tmp_path: Path, text: str, origin: object) -> None:
    head = "specimen,msi,slide,annotation_origin\n"
    (row,) = read_manifest(write(tmp_path, f"{head}a,a.imzML,a.tiff,{text}\n"))
    assert row.annotation_origin == origin


@pytest.mark.parametrize("text", ["corner", "1000", "nan;1", "1;2;3", "1e12 0"])
def test_an_origin_that_is_none(tmp_path: Path, text: str) -> None:
    head = "specimen,msi,slide,annotation_origin\n"
    cohort = read_manifest(write(tmp_path, f"{head}a,a.imzML,a.tiff,{text}\n"))
    assert "is none of level0, bounds" in cohort.problems["a"]


def test_a_required_annotation_is_there(tmp_path: Path) -> None:
    head = "specimen,msi,slide,annotation,annotation_required\n"
    cohort = read_manifest(write(tmp_path, f"{head}a,a.imzML,a.tiff,,yes\n"))
    assert "annotation_required" in cohort.problems["a"]
