"""The same file under two patients is refused, whatever it is called; under one it is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from msiscale.cohort import read_manifest
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.pipeline import run
from msiscale.pipeline.check import check
from msiscale.pipeline.twins import twins

CONFIG = RunConfig(encoder="own:small_encoder:small", mpp=4.0)
FILES = {"msi": "MSI", "slide": "slide", "annotation": "annotation"}


def copy(manifest: Path, column: str, *, one_patient: bool = False) -> tuple[str, str]:
    """S03 gets a copy of S01's file under a name of its own; both paths."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    source = manifest.parent / table.loc["S01", column]
    target = source.with_name(f"other{source.suffix}")
    shutil.copyfile(source, target)
    if column == "msi":
        shutil.copyfile(source.with_suffix(".ibd"), target.with_suffix(".ibd"))
    table.loc["S03", column] = str(target.relative_to(manifest.parent))
    if one_patient:
        table.loc["S03", "patient"] = table.loc["S01", "patient"]
    table.to_csv(manifest)
    return str(source), str(target)


@pytest.mark.parametrize("column", FILES)
def test_a_copy_under_another_patient_is_refused(copied: Path, tmp_path: Path, column: str) -> None:
    a, b = copy(copied, column)
    p1, p3 = (read_manifest(str(copied)).patients[s] for s in ("S01", "S03"))
    line = (
        f"{a}, {b}: specimens S01 and S03 have the same {FILES[column]} but belong to patients "
        f"{p1} and {p3}; give both the same patient in the manifest column patient, for example "
        f"{p1}, or each its own file"
    )
    assert twins(read_manifest(str(copied))).problems == [line]
    with pytest.raises(InputError) as refused:
        run(str(copied), str(tmp_path / "run"), config=CONFIG)
    assert str(refused.value) == line
    assert not (tmp_path / "run" / "cohort.zarr").exists()


def test_check_names_it(copied: Path) -> None:
    copy(copied, "slide")
    (line,) = [line for line in check(str(copied), CONFIG).problems if "same slide" in line]
    assert "S01 and S03" in line


@pytest.mark.parametrize("column", FILES)
def test_of_one_patient_it_is_taken(copied: Path, column: str) -> None:
    _, b = copy(copied, column, one_patient=True)
    found = twins(read_manifest(str(copied)))
    assert found.problems == []
    if column == "msi":
        (notice,) = found.notices
        assert (notice.specimen, notice.file, notice.field) == ("S03", b, "msi")
        assert "the same MSI as that of specimen S01" in notice.text
    else:
        assert found.notices == []


def test_one_path_twice_is_named_once(copied: Path) -> None:
    table = pd.read_csv(copied, dtype=str, keep_default_na=False).set_index("specimen")
    table["slide"] = table.loc["S01", "slide"]
    table.to_csv(copied)
    first, second = twins(read_manifest(str(copied))).problems
    slide = copied.parent / table.loc["S01", "slide"]
    assert first.startswith(f"{slide}: specimens S01 and S02") and "S01 and S03" in second


def test_a_byte_makes_another_file(copied: Path) -> None:
    _, b = copy(copied, "slide")
    with open(b, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert twins(read_manifest(str(copied))).problems == []


def test_nothing_outlined_is_no_twin(copied: Path) -> None:
    copy(copied, "annotation")
    nothing = json.dumps({"type": "FeatureCollection", "features": []})
    table = pd.read_csv(copied, dtype=str, keep_default_na=False).set_index("specimen")
    for name in ("S01", "S03"):
        (copied.parent / table.loc[name, "annotation"]).write_text(nothing)
    assert twins(read_manifest(str(copied))).problems == []


def test_a_folder_under_two_names(copied: Path) -> None:
    table = pd.read_csv(copied, dtype=str, keep_default_na=False).set_index("specimen")
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        (copied.parent / name / "0").mkdir(parents=True)
        (copied.parent / name / "zarr.json").write_text("{}")
        (copied.parent / name / "0" / "c").write_text("pixels" if name != "c.zarr" else "others")
    table["slide"] = ["a.zarr", "c.zarr", "b.zarr"]
    table.to_csv(copied)
    (line,) = twins(read_manifest(str(copied))).problems
    assert "S01 and S03 have the same slide" in line


def test_what_cannot_be_read_is_left_to_its_stage(copied: Path) -> None:
    copy(copied, "msi")
    next(copied.parent.rglob("other.ibd")).unlink()
    assert twins(read_manifest(str(copied))).problems == []


def test_two_polarities_of_one_file_are_no_twins(copied: Path) -> None:
    copy(copied, "msi", one_patient=True)
    rows = pd.read_csv(copied, dtype=str)
    rows["polarity"] = ["+", "", "-"]
    rows.to_csv(copied, index=False)
    found = twins(read_manifest(str(copied)))
    assert not [n for n in found.notices if n.field == "msi"]
