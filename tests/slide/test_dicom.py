"""Folders of DICOM files."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_file import write_dicom

from msiscale.errors import InputError
from msiscale.slide.reader import check, open_reader

RNG = np.random.default_rng(0)


def picture(h: int, w: int) -> np.ndarray:
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_a_real_file_in_a_folder(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "slides/boxes_0.dcm"
    shutil.copy(path, tmp_path / "boxes_0")  # as archives hand them out, without a suffix
    (tmp_path / "README.txt").write_text("about the scan")
    slide, alone = open_reader(tmp_path), open_reader(path)
    check(slide)
    assert slide.levels == alone.levels and slide.mpp == alone.mpp
    np.testing.assert_array_equal(
        slide.read(0, 0, 0, *slide.shape), alone.read(0, 0, 0, *slide.shape)
    )


def test_levels_and_series_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    scan, coarse, other = picture(256, 384), picture(128, 192), picture(192, 192)
    write_dicom(tmp_path / "1.dcm", coarse, um=0.5, series=1)
    write_dicom(tmp_path / "2.dcm", scan, um=0.25, series=1)
    slide = open_reader(tmp_path)
    assert slide.mpp == pytest.approx((0.25, 0.25)) and len(slide.levels) == 2
    np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 384), scan)
    np.testing.assert_array_equal(slide.read(1, 0, 0, 128, 192), coarse)
    write_dicom(tmp_path / "3.dcm", other, um=1.0, series=2)
    with pytest.warns(UserWarning, match=r"#scene=2 is image 2 \(192 x 192 px, 1 µm"):
        slide = open_reader(tmp_path)
    np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 384), scan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slide = open_reader(f"{tmp_path}#scene=2")
    assert slide.mpp == pytest.approx((1.0, 1.0))
    np.testing.assert_array_equal(slide.read(0, 0, 0, 192, 192), other)


def test_a_folder_of_no_slide(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(500))
    with pytest.raises(InputError, match="not a slide that OpenSlide can open"):
        open_reader(tmp_path)
