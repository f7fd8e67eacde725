"""Annotations of others' kinds, of which `shared/data/cases/slides` has one each: what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bad_inputs.rows import READS, Row

from msiscale.slide.annotations import label_fraction, read_annotation
from msiscale.slide.reader import open_reader

CASES: Path | None = None  # of this session, where there are any
MATRIX = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
NO_LABEL = "counts as without an annotation"
FRAME = (
    "annotation: 1 outline(s) without a class (<area> px²), beside classed ones, are areas of "
    "interest; cancer is unknown outside of them, and what is not classed in them is not cancer"
)


def case(id: str, wrong: str, file: str, pixels: float, says: str = "", does: str = READS) -> Row:
    """A case by its file, and the MSI pixels of cancer in it."""

    def run(folder: Path) -> None:
        assert CASES is not None
        outlines = read_annotation(CASES / file, (4000, 4000))
        fraction = label_fraction(outlines, MATRIX, (40, 40))
        assert np.nansum(fraction, dtype=float) == pytest.approx(pixels, abs=0.005)
        if does == NO_LABEL:
            assert np.isnan(fraction).all()

    return Row(id, wrong, does, says, run)


def bounds(folder: Path) -> None:
    assert CASES is not None
    slide = open_reader(CASES / "qupath_bounds_offset/leica_offset.scn")
    path = CASES / "qupath_bounds_offset/qupath.geojson"
    outlines = read_annotation(path, slide.shape, slide=slide)
    matrix = np.array([[100.0, 0, 1050], [0, 100, 2050], [0, 0, 1]])
    assert label_fraction(outlines, matrix, (15, 15)).sum() == pytest.approx(56.0)


ROWS = [
    case("halo_hole", "HALO, a hole as negative region", "halo_annotations/h1.annotations", 103.25),
    case("halo_rectangle", "HALO, a rectangle", "halo_annotations/h2.annotations", 108.15),
    case("halo_xml", "HALO, called .xml", "halo_annotations/h1.xml", 108.15),
    case(
        *("invasive", "class Invasive Carcinoma beside Tumor"),
        *("class_lost_beside_a_known_one/c1.geojson", 133.15),
    ),
    case(
        *("tiger", "class invasive tumor beside tumor (TIGER)"),
        *("class_lost_beside_a_known_one/as11.xml", 133.15),
    ),
    case(
        *("asap_parent", "ASAP, a group that is part of Tumor"),
        *("class_lost_beside_a_known_one/as7.xml", 133.15),
    ),
    case(
        *("exclusion", "Camelyon's group Exclusion, which is cut out"),
        *("class_lost_beside_a_known_one/as1.xml", 103.25),
    ),
    case(
        *("overlapping", "a MultiPolygon whose parts overlap: both"),
        *("multipolygon_overlap_xor/mpo.geojson", 223.684),
    ),
    case(
        *("old_cells_too", "QuPath 0.2, an annotation and cells"),
        *("qupath02_cells_counted/oldmix.geojson", 108.15),
        "<file>: note: 20 cells, detections or tiles in it are left out; annotations alone count",
    ),
    case(
        *("old_cells", "QuPath 0.2, cells only", "qupath02_cells_counted/oldcells.geojson", 0),
        "<file>: no annotated region in it, only 20 cells, detections or tiles; the specimen counts"
        " as one without an annotation",
        NO_LABEL,
    ),
    case(
        *("frame", "an outline without a class around a Tumor"),
        *("unclassified_roi_is_cancer/c13.geojson", 108.15, FRAME),
    ),
    case(
        *("frame_too", "the same of another slide", "unclassified_roi_is_cancer/roi.geojson"),
        *(120.0, FRAME),
    ),
    Row(
        *("bounds", "QuPath's coordinates, which count from the slide's bounds", READS),
        "<file>: note: the slide's bounds begin at x, y 1000, 2000, and 100% of the outlines lie on"
        " tissue counted from there, 0% from the corner of level 0; they are taken to count from"
        " the bounds, as QuPath's",
        bounds,
    ),
]


@pytest.fixture(scope="module", autouse=True)
def cases(shared_data: Path) -> None:
    global CASES
    CASES = shared_data / "cases" / "slides"
    if not CASES.is_dir():
        pytest.skip("the cases (shared/data/cases/slides) are not here")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)
