"""Real sections: right places are accepted whatever the tissue's outline, other tissue is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.registration.sections import STAINS, pair, pseudo_msi, section
from msiscale.grid import PixelSize
from msiscale.pipeline.pictures import slide_picture
from msiscale.registration import register_pictures
from msiscale.registration.automatic import LEAST_EVIDENCE, _z
from msiscale.slide.reader import open_reader


@pytest.fixture(scope="module")
def lung(shared_data: Path) -> str:
    folder = shared_data / "registration" / "lung3"
    if not folder.is_dir():
        pytest.skip("shared/data/registration is not here")
    return str(folder)


def others(shared_data: Path) -> tuple[str, ...]:
    files = (
        "paired/msight_mouse_bladder/prostate_he_example.tif",
        "slides/cmu-1-small-region.svs",
        "paired/roempp_mouse_bladder/optical.tif",
    )
    return tuple(str(shared_data / f) for f in files if (shared_data / f).is_file())


@pytest.mark.parametrize(("stain", "other"), [("He", "CD31"), ("Cc10", "He"), ("CD31", "CD31")])
def test_a_serial_section_is_placed(lung: str, stain: str, other: str) -> None:
    """At 100 µm, where a second does; tissue is everywhere, so Dice tells nothing."""
    (row,) = pair("sections_coarse", stain, other, lung, [4])
    assert row["accepted"], row
    assert row["error_px"] < row["best_px"] + 0.3


def test_other_tissue_is_refused(shared_data: Path, lung: str) -> None:
    msi, *_ = pseudo_msi(f"{lung}/He.jpg", 100.0, (38, 38), [5])
    for path in others(shared_data)[:2]:
        slide = open_reader(path, mpp=3800 / max(open_reader(path, mpp=1.0).shape))
        found = register_pictures(msi, slide_picture(slide, PixelSize(100.0, 100.0))[0])
        assert not found.accepted and not found.clear, (path, found.confidence, found.z)


@pytest.mark.slow(reason="places some sixty pseudo-MSI of real sections, two minutes")
def test_nine_of_ten_right_places_and_no_wrong_one(shared_data: Path, lung: str) -> None:
    rows = [
        row
        for index in range(len(STAINS))
        for row in section(index, lung, others(shared_data), seed=1)
    ]
    right = [r for r in rows if r["right"]]
    wrong = [r for r in rows if not r["right"]]
    accepted = sum(r["accepted"] for r in right)
    assert accepted >= 0.9 * len(right), [r for r in right if not r["accepted"]]
    assert not [r for r in wrong if r["accepted"]]
    assert max(r["evidence"] for r in wrong if not r["stretched"]) < LEAST_EVIDENCE / 1.5


def test_what_was_not_measured_is_no_evidence() -> None:
    """A rim of empty pixels, or a quarter of the grid, leaves the standard errors alone."""
    rng = np.random.default_rng(0)
    better = 0.2 + rng.standard_normal((24, 24))
    alone = _z(better, np.zeros((24, 24)))
    padded = np.zeros((96, 96))
    padded[10:34, 60:84] = better
    assert _z(padded, np.zeros((96, 96))) == pytest.approx(alone)
    # and they are those of the blocks' sum: a mean of independent pixels, over its own error
    told = better.sum() / np.sqrt(better.size * better.var())
    assert alone == pytest.approx(told, rel=0.15)
