"""Pixels that several spectra lie on."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.msi import cube_block, open_source
from msiscale.msi.asked import Asked
from msiscale.msi.index import load_index, save_index
from msiscale.store import open_group

AXIS = np.array([100.0, 200.0, 300.0])
XY = [(2, 1), (1, 1), (2, 1), (3, 1), (1, 1)]
#: By file order; pixels x 2: 0 and 2, x 1: 1 and 4, x 3: 3.
VALUES = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 8], [7, 7, 7], [0, 2, 0]], np.float32)
RIGHT = {
    "first": {2: VALUES[0], 1: VALUES[1], 3: VALUES[3]},
    "mean": {2: VALUES[[0, 2]].mean(0), 1: VALUES[[1, 4]].mean(0), 3: VALUES[3]},
}


def image_of(source) -> dict[int, np.ndarray]:
    cube, _ = cube_block(source, AXIS, Block(0, 1, 0, 3))
    return {x + 1: cube[0, x] for x in range(3)}


@pytest.mark.parametrize("mode", ["processed", "continuous"])
@pytest.mark.parametrize("how", ["first", "mean"])
def test_real_duplicates_as_asked(write, mode: str, how: str) -> None:
    file = write(xy=XY, spectra=[(AXIS, v) for v in VALUES], mode=mode)
    with pytest.raises(InputError, match=r"spectra 1 and 4 .*x 1, y 1.*2 pixels have several"):
        open_source(str(file.path))
    source = open_source(str(file.path), asked=Asked(duplicates=how))
    assert len(source.positions) == 3 and source.mode == mode
    assert any("2 pixels have several spectra that differ" in note for note in source.notes)
    found = image_of(source)
    for x, values in RIGHT[how].items():
        np.testing.assert_array_equal(found[x], values)
    nothing = source.read(np.array([], int))
    assert len(nothing) == 0


def test_the_index_of_an_image_with_means_is_the_file(write, tmp_path) -> None:
    file = write(xy=XY, spectra=[(AXIS, v) for v in VALUES])
    group = open_group(str(tmp_path / "index.zarr"), "w")
    save_index(open_source(str(file.path), asked=Asked(duplicates="mean")), group)
    assert load_index(group, str(file.path)) is None


def test_copies_and_spectra_without_signal_are_left_out(write) -> None:
    values = VALUES.copy()
    values[2], values[1] = values[0], 0
    source = open_source(str(write(xy=XY, spectra=[(AXIS, v) for v in values]).path))
    assert source.notes == [
        "note: 1 spectra are written twice; each was read once",
        "note: 1 spectra without signal lie on pixels that have another; left out",
    ]
    found = image_of(source)
    np.testing.assert_array_equal(found[1], values[4])
    np.testing.assert_array_equal(found[2], values[0])


def test_scans_at_several_ion_mobilities_are_summed(write) -> None:
    file = write(xy=XY, spectra=[(AXIS, v) for v in VALUES])
    drift = '<cvParam cvRef="MS" accession="MS:1002476" name="ion mobility drift time" value="{}"/>'
    text = file.path.read_text("latin-1").split("</scan>")
    terms = [drift.format(i) + "</scan>" for i in range(len(text) - 1)] + [""]
    file.path.write_text("".join(a + b for a, b in zip(text, terms, strict=True)), "latin-1")
    source = open_source(str(file.path))
    assert any("2 pixels have spectra of several ion mobilities" in note for note in source.notes)
    found = image_of(source)
    np.testing.assert_array_equal(found[1], VALUES[1] + VALUES[4])
    np.testing.assert_array_equal(found[2], VALUES[0] + VALUES[2])
    np.testing.assert_array_equal(found[3], VALUES[3])
