"""Regions far apart cost what their pixels cost, and are read as if they lay side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import CHOSEN, msiscale

from msiscale.errors import LostChunk
from msiscale.grid import Block
from msiscale.msi import open_source
from msiscale.msi.places import CELL, cells_of, near, regions
from msiscale.pipeline import run
from msiscale.pipeline.scattered import blocks_of, measured_cells
from msiscale.store import StoredSpecimen, open_group, remove

FAR = 20 * CELL  #: pixels that the second half is moved


def move(manifest: Path, by: int) -> None:
    """Move the right half of the first specimen down and to the right."""
    path = manifest.parent / "S01.imzML"
    text = path.read_text("latin-1")
    places = r'(position x" value=")(\d+)(".*?position y" value=")(\d+)'

    def moved(m: re.Match[str]) -> str:
        far = by if int(m[2]) > 11 else 0
        return f"{m[1]}{int(m[2]) + far}{m[3]}{int(m[4]) + far}"

    path.write_text(re.sub(places, moved, text, flags=re.S), "latin-1")


def test_a_run_over_regions_far_apart(
    finished: Path, copied: Path, scheduler: str, tmp_path: Path
) -> None:
    move(copied, FAR)
    out = tmp_path / "run"
    to_fit = ("ingest", "register", "features", "fit")
    assert not run(str(copied), str(out), scheduler=scheduler, stages=to_fit, **CHOSEN).failed
    notices = [n["text"] for n in json.loads((out / "run.json").read_text())["notices"]]
    assert any("2 regions lie apart in a grid of 1302 x 1300 pixels" in n for n in notices)
    stages = json.loads((out / "run.json").read_text())["stages"]
    before = json.loads((finished / "run.json").read_text())["stages"]
    for stage in ("ingest", "features"):
        assert stages[stage]["blocks"] <= before[stage]["blocks"] + 4
    far, near_ = StoredSpecimen.of(str(out), "S01"), StoredSpecimen.of(str(finished), "S01")
    assert far.shape == (1300, 1302)
    columns = [far.column(m) for m in near_.mz if np.abs(far.mz - m).min() < 1e-9]
    assert len(columns) > 0.9 * len(near_.mz)
    found = np.nan_to_num(far.intensity[:20, :11])
    own = np.nan_to_num(near_.intensity[:20, :11])
    np.testing.assert_allclose(found.sum(), own.sum(), rtol=1e-3)
    assert far.measured.sum() == near_.measured.sum()
    assert np.isnan(far.intensity[600:610, 600:610]).all()  # between the two
    assert msiscale("verify", out).code == 0
    group = str(out / "cohort.zarr" / "S01")
    remove(f"{group}/norm/c/0/0")  # what was written and is lost is lost all the same
    with pytest.raises(LostChunk):
        open_group(group)["norm"][:4, :4]
    assert msiscale("verify", out).code == 1


@pytest.mark.parametrize("size", [8, 64, 96, 128])
def test_blocks_that_are_made_cover_the_pixels_and_little_else(size: int) -> None:
    shape = (900, 700)
    yx = np.array([[0, 0], [5, 70], [899, 699], [450, 300]])
    cells = measured_cells(yx, shape)
    assert cells is not None
    made = blocks_of(cells, shape, size)
    for y, x in yx:
        assert any(b.y0 <= y < b.y1 and b.x0 <= x < b.x1 for b in made)
    assert len(made) <= 4 * (-(-CELL // size) + 1) ** 2
    assert blocks_of(None, (70, 70), 64)[-1] == Block(64, 70, 64, 70)


def test_dense_images_are_whole() -> None:
    dense = np.argwhere(np.ones((400, 400)))
    assert measured_cells(dense, (400, 400)) is None
    assert near(dense, notes := []).all() and notes == []


def test_a_stray_pixel_is_named_or_left_out(tmp_path: Path) -> None:
    image = np.argwhere(np.ones((50, 50)))
    for far, said, kept in ((3_000, "1 pixels lie far", 2501), (10**7, "1 stray pixels", 2500)):
        notes: list[str] = []
        mask = near(np.r_[image, [[far, far]]], notes)
        assert mask.sum() == kept and len(notes) == 1 and notes[0].startswith(said)
        assert f"x {far}, y {far}" in notes[0]


def test_regions_touch_at_corners() -> None:
    cells = cells_of(np.array([[0, 0], [CELL, CELL], [9 * CELL, 0], [9 * CELL, 1]]))
    assert cells == {(0, 0): 1, (1, 1): 1, (9, 0): 2}
    assert regions(cells) == [{(0, 0), (1, 1)}, {(9, 0)}]


def test_two_regions_of_a_slide(shared_data: Path) -> None:
    path = shared_data / "cases" / "msi" / "regions_far_apart" / "a.imzML"
    source = open_source(str(path))
    assert source.shape == (4300, 12900) and source.pixel_um == (5, 5)
    assert any("2 regions lie apart" in note for note in source.notes)
    cells = measured_cells(source.positions, source.shape)
    assert cells is not None
    side_by_side = 2 * 4  # blocks of 128 x 128 of 100 x 200 pixels, were they so, and 64 a side
    assert len(blocks_of(cells, source.shape, 64)) <= 3 * side_by_side
