"""The size of a pixel: read right where the file decides it, else unknown and said; never guessed.

Every image has 5 x 4 pixels of 50 µm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.msi import open_msi, open_source

MICRO = 'unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"'
NANO = 'unitCvRef="UO" unitAccession="UO:0000018" unitName="nanometer"'


def term(number: int, name: str, value: object, unit: str = MICRO) -> str:
    accession = f"IMS:10000{number}"
    return f'<cvParam cvRef="IMS" accession="{accession}" name="{name}" value="{value}" {unit}/>'


def x(value: object, unit: str = MICRO, name: str = "pixel size (x)") -> str:
    return term(46, name, value, unit)


def y(value: object, unit: str = MICRO) -> str:
    return term(47, "pixel size y", value, unit)


def extent(width: object, height: object, unit: str = MICRO) -> str:
    return term(44, "max dimension x", width, unit) + term(45, "max dimension y", height, unit)


def unit(accession: str, name: str) -> str:
    return f'unitAccession="{accession}" unitName="{name}"'


# terms of the scan settings -> (y, x) in µm or None, what is said
RIGHT = {
    "plain": (x(50) + y(50), (50, 50), None),
    "edges": (x(50) + y(50) + extent(250, 200), (50, 50), None),
    "outer centres": (x(50) + y(50) + extent(200, 150), (50, 50), None),
    "x and y differ": (x(50) + y(150) + extent(250, 600), (150, 50), None),
    "nanometres": (x(50000, NANO) + y(50000, NANO), (50, 50), "converted to µm"),
    "area, with an extent": (
        *(x(2500, "", "pixel size") + extent(250, 200), (50, 50)),
        "area of a pixel",
    ),
    "area of a small pixel, with an extent": (
        *(x(400, "", "pixel size") + extent(100, 80), (20, 20)),
        "area of a pixel",
    ),
    "area by the name of x, with an extent": (x(2500) + extent(250, 200), (50, 50), "area"),
    "area beside y": (x(2500, "", "pixel size") + y(50, ""), (50, 50), "area of a pixel"),
    "area by its unit": (
        *(x(400, unit("UO:0010001", "square micrometer"), "pixel area"), (20, 20)),
        "",
    ),
    "cm that is µm by name": (
        x(50, unit("UO:0000015", "micrometer")) + y(50, unit("UO:0000015", "micrometer")),
        (50, 50),
        "the unit is that of its name",
    ),
    "nm that is µm by name, with an extent": (
        x(500, unit("UO:0000018", "micrometer"))
        + y(500, unit("UO:0000018", "micrometer"))
        + extent(2500, 2000),
        (500, 500),
        "the unit is that of its name",
    ),
    "unit by name only": (
        *(x(50000, 'unitName="nanometer"') + y(50000, 'unitName="nanometer"'), (50, 50)),
        "names a unit without its accession",
    ),
    "micron": (x(50, 'unitName="microns"') + y(50, 'unitName="microns"'), (50, 50), "names a unit"),
    "no unit": (x(50, "") + y(50, ""), (50, 50), "pixel size 50 has no unit; taken as µm"),
    "x without y": (x(50), (50, 50), "stated for x only; taken as 50 µm"),
    "y without x": (y(50), (50, 50), "stated for y only; taken as 50 µm"),
    "x without y, with an extent": (x(50) + extent(250, 600), (150, 50), "x only"),
}
UNKNOWN = {
    "none": ("", "states no pixel size"),
    "old name without unit or extent": (x(400, "", "pixel size"), "400 µm or 20 µm"),
    "contradicts the extent": (
        x(50) + y(50) + extent(500, 400),
        "is 50 µm, but the extent divided by the pixels is 100 µm",
    ),
    "two units": (
        x(500, unit("UO:0000018", "micrometer")) + y(500, unit("UO:0000018", "micrometer")),
        "0.5 µm or 500 µm",
    ),
    "grid steps": (x(2, "") + y(1, ""), "may count steps of the grid"),
    "grid steps, as the extent has": (x(2, "") + y(2, "") + extent(5, 4, ""), "steps of the grid"),
    "half a metre": (x(50, unit("UO:0000015", "cm")) + y(50), "outside 0.1 µm to 1 mm"),
    "of an atom": (x(0.01) + y(0.01), "outside 0.1 µm to 1 mm"),
    "of a pascal": (x(50, unit("UO:0000110", "pascal")), "has the unit UO:0000110"),
}


@pytest.fixture
def stating(write):
    """Function that writes an image with terms in its scan settings."""

    def build(terms: str):
        file = write()
        file.edit(("</scanSettings>", terms + "</scanSettings>"))
        return file

    return build


@pytest.mark.parametrize("case", RIGHT)
def test_the_file_decides(stating, case: str) -> None:
    terms, size, note = RIGHT[case]
    source = open_source(str(stating(terms).path))
    np.testing.assert_allclose(source.pixel_um, size)
    assert source.pixel_from.endswith("of the file")
    if note is None:
        assert source.notes == []
    else:
        assert any(note in text for text in source.notes), source.notes


@pytest.mark.parametrize("case", UNKNOWN)
def test_the_file_does_not_decide(stating, case: str) -> None:
    terms, why = UNKNOWN[case]
    file = stating(terms)
    source = open_source(str(file.path))
    assert source.pixel_um is None
    assert why in source.unknown_size
    assert source.unknown_size.endswith(
        "; give it in the manifest column pixel_um, for example 50 (µm)"
    )
    assert source.unknown_size in open_msi(str(file.path)).notes
    given = open_source(str(file.path), pixel_um=50.0)
    assert given.pixel_um == (50, 50) and given.pixel_from == "given" and given.notes == []


def test_a_size_in_a_referenced_group(write) -> None:
    for ref in ('<referenceableParamGroupRef ref="sizes"/>', ""):
        file = write()
        file.edit(
            (
                "</referenceableParamGroupList>",
                f'<referenceableParamGroup id="sizes">{x(50)}{y(25)}</referenceableParamGroup>'
                "</referenceableParamGroupList>",
            ),
            ("</scanSettings>", ref + "</scanSettings>"),
        )
        assert open_source(str(file.path)).pixel_um == (25, 50)


def test_settings_that_disagree(stating) -> None:
    def second(terms: str) -> str:
        return f'{x(50)}{y(50)}</scanSettings><scanSettings id="other">{terms}'

    fits = open_source(str(stating(second(x(25) + y(25) + extent(800, 800))).path))
    assert fits.pixel_um == (50, 50)
    assert any("disagree" in note and "50 µm fits the pixels" in note for note in fits.notes)
    neither = stating(second(x(25) + y(25)))
    neither.edit(("IMS:1000042", "IMS:1000049"), ("IMS:1000043", "IMS:1000049"))
    assert "scan settings disagree on the pixel size (50 µm, 25 µm)" in (
        open_source(str(neither.path)).unknown_size
    )


@pytest.mark.parametrize(
    ("steps", "count", "stated", "expected"),
    [
        ((50, 50), None, 50, (50, 50)),  # µm
        ((37, 20), None, 50, (50, 50)),  # motor steps
        ((2, 2), 5, 50, (50, 50)),  # five pixels are declared
        ((2, 2), 9, 50, (100, 100)),  # nine are, every other was measured
        ((2, 2), None, 50, None),
    ],
)
def test_coordinates_in_steps(write, steps, count, stated, expected) -> None:
    xy = [(i * steps[0] + 7, j * steps[1] + 7) for j in range(5) for i in range(5)]
    file = write(xy=xy)
    text = file.path.read_text("latin-1")
    for axis in "xy":
        low = f'name="max count of pixels {axis}" value="'
        at = text.index(low) + len(low)
        declared = "0" if count is None else str(count if count == 5 else xy[-1][0])
        text = text[:at] + declared + text[text.index('"', at) :]
    text = text.replace("</scanSettings>", x(stated) + y(stated) + "</scanSettings>")
    file.path.write_text(text, "latin-1")
    source = open_source(str(file.path))
    assert source.shape == (5, 5) and source.origin == (7, 7)
    assert any("coordinates in steps of" in note for note in source.notes)
    assert source.pixel_um == expected, source.pixel_from
    if expected is None:
        assert "may be a pixel size of 50 µm or 100 µm" in source.unknown_size
    for (mz, _), i in zip(file.spectra, range(25), strict=True):
        np.testing.assert_array_equal(source.read(np.array([i])).mz, mz)


def test_two_spectra_or_lines_left_out_are_no_steps(write) -> None:
    assert open_source(str(write(xy=[(1, 1), (101, 1)]).path)).shape == (1, 101)
    lines = write("lines", xy=[(x, y) for y in (1, 3, 5) for x in (1, 2, 3)])
    assert open_source(str(lines.path)).shape == (5, 3)


@pytest.mark.parametrize(
    ("case", "size", "said"),
    [
        ("px_area_oldname", (50, 50), "area of a pixel"),
        ("px_cm_micrometer", (50, 50), "the unit is that of its name"),
        ("px_name_only_unit", (50, 50), "names a unit without its accession"),
        ("px_aniso_one_nounit", None, "steps of the grid"),
        ("px_aniso_one_nounit/out4_real", None, "steps of the grid"),
        ("coordinates_um_stride50", (50, 50), "coordinates in steps of 50"),
    ],
)
def test_shared_cases(shared_data: Path, case: str, size, said: str) -> None:
    (path,) = (shared_data / "cases" / "msi" / case).glob("*.[iI]mz*")
    source = open_source(str(path))
    assert source.pixel_um == size
    assert any(said in text for text in [*source.notes, source.pixel_from])
    if "out4" not in case:
        assert source.shape == (10, 12)
