"""Files of others' kinds, of which `shared/data/cases/msi` has one each: what is read of them.

Most are a change of one image, `base`, and are to be read as that is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row

from msiscale.errors import InputError
from msiscale.msi import open_source
from msiscale.msi.asked import Asked
from msiscale.msi.source import MsiSource

CASES: Path | None = None  # of this session, where there are any

AREA = "pixel size 2500 (no unit) is read as 50 µm: it is the area of a pixel"
STEPS = (
    "<file>: pixel size <x> 2 (no unit) and pixel size y 1 (no unit), without a unit, is taken as "
    "unknown: it may count steps of the grid; give it in the manifest column pixel_um, for example "
    "50 (µm)"
)
CASE_ROWS: list[tuple[str, str, str, str]] = [
    ("base", "nothing: most cases are a change of it", READS, ""),
    ("px_area_oldname", "IMS:1000046 by its old name, an area", READS, AREA),
    (
        *("px_cm_micrometer", "the accession of centimetres, the name of micrometres", READS),
        "<terms> is read as 50 µm: the unit is that of its name",
    ),
    (
        *("px_name_only_unit", "a unit by its name only", READS),
        "<terms> names a unit without its accession; taken as 50 µm",
    ),
    ("px_aniso_one_nounit", "sizes of 2 and 1 without a unit", REFUSES, STEPS),
    (
        *("polarity_alternates", "positive and negative lines", REFUSES),
        "<file>: holds 60 positive MS1 spectra, 60 negative MS1 spectra; choose one with the "
        "manifest column polarity, for example + (or --polarity)",
    ),
    (
        *("coordinates_um_stride50", "coordinates in µm", READS),
        "coordinates in steps of 50, from x 50, y 50, taken as pixels",
    ),
    ("formats_cosmetic", "groups that differ in the term of no compression", READS, ""),
    ("formats_empty_spectrum", "an empty spectrum of another number format", READS, ""),
    (
        *("cvparam_without_accession", "a cvParam without accession", READS),
        "note: some terms have no accession; they were read by their names, where these are known",
    ),
    (
        *("duplicate_empty", "a second, empty spectrum on a pixel", READS),
        "note: 1 spectra without signal lie on pixels that have another; left out",
    ),
    (
        *("mislabel_64_is_32", "32-bit floats called 64-bit", READS),
        "intensity arrays are called <f8, but their encoded length is that of <f4; read as <f4",
    ),
    (
        *("uuid_mismatch_no_override", "an .ibd of another UUID", REFUSES),
        "<file>: UUID <one> but <name>.ibd has <other>; pair the two files of one export, or, if "
        "you know that they are, give the manifest column trust_ibd, for example yes",
    ),
]


def spectra_of(source: MsiSource) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """m/z and intensities of every pixel, (y, x)."""
    read = source.read(np.arange(len(source.positions)))
    return {
        (int(y), int(x)): (mz.tobytes(), values.tobytes())
        for (y, x), (mz, values) in zip(source.positions, read, strict=True)
    }


def run(case: str) -> Callable[[Path], list[str]]:
    """Read a case and compare it with `base`."""

    def read(folder: Path) -> list[str]:
        assert CASES is not None
        (path,) = (CASES / case).glob("*.[iI]mz*")
        for file in path.parent.glob(f"{path.stem}.*"):
            (folder / file.name).symlink_to(file)
        source = open_source(str(folder / path.name))
        found = spectra_of(source)
        if "real" not in case:
            expected = spectra_of(open_source(str(CASES / "base" / "a.imzML")))
            if case == "formats_empty_spectrum":
                (empty,) = (p for p, (mz, _) in found.items() if not mz)
                expected[empty] = (b"", b"")
            assert found == expected
        if source.pixel_um is None:
            raise InputError(f"{source.path}: {source.unknown_size}")  # as check and run do
        assert source.pixel_um == (50, 50) and source.shape == (10, 12)
        return source.notes

    return read


ROWS = [Row(case, wrong, does, says, run(case)) for case, wrong, does, says in CASE_ROWS]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "CASES", shared_data / "cases" / "msi")
    row.check(tmp_path)


def test_an_r_package_s_own_file(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "CASES", shared_data / "cases" / "msi")
    with pytest.raises(InputError, match="steps of the grid"):
        run("px_aniso_one_nounit/out4_real")(tmp_path)


def test_what_the_user_says_opens_what_was_refused(shared_data: Path) -> None:
    cases = shared_data / "cases" / "msi"
    base = spectra_of(open_source(str(cases / "base" / "a.imzML")))
    found = {}
    for polarity in ("+", "-"):
        path = cases / "polarity_alternates" / "a.imzML"
        source = open_source(str(path), asked=Asked(polarity=polarity))
        assert source.polarity == polarity and source.pixel_um == (50, 50)
        assert any("60 of 120 spectra are read" in note for note in source.notes)
        assert source.shape == (10, 12)
        found |= spectra_of(source)
    assert found == base
    path = cases / "uuid_mismatch_no_override" / "a.imzML"
    trusted = open_source(str(path), asked=Asked(trust_ibd=True))
    assert spectra_of(trusted) == base
    assert any("may be of different images" in note for note in trusted.notes)
