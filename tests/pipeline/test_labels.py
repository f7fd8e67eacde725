"""What a run and `check` make of annotations that say little, or count from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import PixelSize
from msiscale.pipeline.check import check
from msiscale.pipeline.placement import given, sizes_of
from msiscale.pipeline.register import annotated, cancer_on_grid
from msiscale.slide.reader import open_reader

UM = PixelSize.of(50.0)


@pytest.fixture
def case(shared_data: Path) -> Path:
    folder = shared_data / "cases/slides/qupath_bounds_offset"
    if not folder.is_dir():
        pytest.skip("the case (qupath_bounds_offset of shared/data) is not here")
    return folder


def specimen(case: Path, **words: object) -> Specimen:
    files = {"msi": case / "b.imzML", "slide": case / "leica_offset.scn"}
    files |= {"annotation": case / "qupath.geojson", "matrix": case / "m.json"}
    given = {name: str(path) for name, path in files.items()} | words
    return Specimen(name="s", patient="s", **given)  # type: ignore[arg-type]


def cancer(one: Specimen) -> np.ndarray:
    slide, config = open_reader(one.slide), RunConfig()
    outlines, _ = annotated(one, slide)
    matrix = given(one, slide, sizes_of(slide, UM, (11, 12))).matrix
    found = cancer_on_grid(one, slide, matrix, (11, 12), config, outlines)
    assert found is not None
    return found


def test_outlines_of_qupath_on_a_slide_with_margins(case: Path) -> None:
    with pytest.warns(MsiscaleWarning, match="count from the bounds"):
        assert cancer(specimen(case)).sum() == pytest.approx(56.0)
    with pytest.warns(MsiscaleWarning, match="as is said"):
        said = specimen(case, annotation_origin=(1000.0, 2000.0))
        assert cancer(said).sum() == pytest.approx(56.0)
    slide = open_reader(said.slide)
    assert annotated(specimen(case, annotation=None), slide) == (None, (1000, 2000))
    with pytest.warns(MsiscaleWarning):
        assert annotated(said, slide)[1] == (1000, 2000)
    level0 = specimen(case, annotation=None, annotation_origin="level0")
    assert annotated(level0, slide) == (None, (0, 0))


def test_landmarks_on_a_slide_with_margins(case: Path, tmp_path: Path) -> None:
    pairs = [(100, 100), (1100, 100), (1100, 900), (100, 900)]  # as QuPath counts
    slide = open_reader(specimen(case).slide)
    sizes = sizes_of(slide, UM, (11, 12))
    by_matrix = given(specimen(case), slide, sizes)
    for dx, dy, origin in (
        (0, 0, None),
        (0, 0, "bounds"),
        (1000, 2000, None),
        (1000, 2000, "level0"),
    ):
        lines = [f"{x + dx},{y + dy},{(x - 50) / 100},{(y - 50) / 100}" for x, y in pairs]
        (tmp_path / "l.csv").write_text("\n".join(["slide_x,slide_y,msi_x,msi_y", *lines]))
        words = {"matrix": None, "landmarks": str(tmp_path / "l.csv"), "annotation_origin": origin}
        one = specimen(case, **words)
        found = given(one, slide, sizes)
        np.testing.assert_allclose(found.matrix, by_matrix.matrix, atol=1e-6)


def test_check_says_what_coordinates_count_from(case: Path, tmp_path: Path) -> None:
    one = specimen(case)
    head = "specimen,msi,slide,annotation,matrix,pixel_um"
    files = (one.msi, one.slide, one.annotation, one.matrix)
    (tmp_path / "m.csv").write_text(f"{head}\ns,{','.join(map(str, files))},50\n")
    found = check(str(tmp_path / "m.csv"), RunConfig(encoder="stains"))
    assert not found.problems
    (notice,) = [n for n in found.notices if n.field == "annotation"]
    assert notice.severity == "note" and "bounds" in notice.text


def test_an_annotation_that_says_nothing(case: Path, tmp_path: Path) -> None:
    ring = [[1100, 2100], [1900, 2100], [1900, 2800], [1100, 2100]]
    geometry = {"type": "LineString", "coordinates": ring}
    (tmp_path / "a.geojson").write_text(json.dumps([{"type": "Feature", "geometry": geometry}]))
    one = specimen(case, annotation=str(tmp_path / "a.geojson"))
    with pytest.warns(MsiscaleWarning, match="only 1 points or lines"):
        assert np.isnan(cancer(one)).all()
    required = specimen(case, annotation=one.annotation, annotation_required=True)
    with (
        pytest.raises(InputError, match="annotation_required"),
        pytest.warns(MsiscaleWarning),
    ):
        cancer(required)
