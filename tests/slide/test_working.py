from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msiscale.errors import MsiscaleWarning
from msiscale.grid import PixelSize
from msiscale.slide import working as module
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.working import WorkingImage, as_asked, working

SHAPE = (211, 307)


@functools.cache
def made() -> tuple[np.ndarray, Slide]:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    path = Path(tempfile.mkdtemp()) / "slide.png"
    Image.fromarray(pixels).save(path)
    return pixels, open_reader(path, mpp=0.25)


@functools.cache
def whole(mpp: float) -> tuple[WorkingImage, np.ndarray]:
    image = working(made()[1], mpp)
    return image, image.read(0, 0, *image.shape)


def area_mean(pixels: np.ndarray, step: float, y: int, x: int) -> np.ndarray:
    """Mean over a square, pixel by pixel, in plain Python."""
    total, area = np.zeros(3), 0.0
    for i in range(int(y * step), min(pixels.shape[0], int((y + 1) * step) + 1)):
        for j in range(int(x * step), min(pixels.shape[1], int((x + 1) * step) + 1)):
            high = max(0.0, min((y + 1) * step, i + 1) - max(y * step, i))
            wide = max(0.0, min((x + 1) * step, j + 1) - max(x * step, j))
            total += high * wide * pixels[i, j]
            area += high * wide
    return total / area


@pytest.mark.parametrize("mpp", [0.5, 0.75, 1.0, 0.33, 0.7, 2.25])
def test_is_the_area_mean(mpp: float) -> None:
    pixels, _ = made()
    image, result = whole(mpp)
    assert image.mpp == (mpp, mpp)
    step = mpp / 0.25
    assert image.shape == tuple(int(np.ceil(n / step)) for n in SHAPE)
    h, w = image.shape
    for y, x in ((0, 0), (3, 5), (h // 2, w // 3), (h - 1, w - 1), (h - 1, 0), (0, w - 1)):
        truth = area_mean(pixels, step, y, x)
        assert np.abs(result[y, x] - truth).max() <= 0.5 + 1e-2


@settings(deadline=None, max_examples=60)
@given(
    mpp=st.sampled_from([0.25, 0.33, 0.5, 0.7, 0.75, 1.0, 2.25]),
    y=st.integers(-20, 220),
    x=st.integers(-20, 320),
    h=st.integers(1, 120),
    w=st.integers(1, 120),
)
def test_does_not_depend_on_the_window(mpp: float, y: int, x: int, h: int, w: int) -> None:
    image, result = whole(mpp)
    padded = np.full((600, 700, 3), 255, np.uint8)
    padded[100 : 100 + result.shape[0], 100 : 100 + result.shape[1]] = result
    expected = padded[100 + y : 100 + y + h, 100 + x : 100 + x + w]
    np.testing.assert_array_equal(image.read(y, x, h, w), expected)


@pytest.mark.parametrize("mpp", [0.5, 0.7])
def test_does_not_depend_on_the_pieces_it_is_read_in(
    mpp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, result = whole(mpp)
    monkeypatch.setattr(module, "SOURCE_PX", 37)
    monkeypatch.setattr(module, "_rows_at_once", lambda step: 5)
    np.testing.assert_array_equal(image.read(0, 0, *image.shape), result)


def test_a_constant_stays_constant(tmp_path: Path) -> None:
    Image.new("RGB", (101, 77), (255, 128, 1)).save(tmp_path / "c.png")
    slide = open_reader(tmp_path / "c.png", mpp=0.3)
    for mpp in (0.4, 0.6, 1.7, 50.0):
        image = working(slide, mpp)
        assert (image.read(0, 0, *image.shape) == (255, 128, 1)).all()


def test_a_level_within_two_percent_is_taken_as_it_is() -> None:
    slide = replace(made()[1], mpp=PixelSize.of(0.499))
    image = working(slide, 0.5)
    assert image.mpp == (0.499, 0.499) and image.downsample == (1.0, 1.0)
    np.testing.assert_array_equal(image.read(5, 6, 70, 80), slide.read(0, 5, 6, 70, 80))


def test_the_coarsest_level_that_is_fine_enough(shared_data: Path) -> None:
    slide = open_reader(shared_data / "slides/tcga-cr-7395-01a-01-ts1.svs", mpp=0.25)
    assert [working(slide, mpp).level for mpp in (0.25, 0.4, 0.5, 1.0)] == [0, 0, 1, 1]
    assert working(slide, 1.0).downsample == (4.0, 4.0)
    fine, coarse = working(slide, 0.5), working(slide, 1.0)
    four = fine.read(400, 600, 64, 64).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(coarse.read(200, 300, 32, 32), np.floor(four + 0.5))


def test_enlarging_is_said() -> None:
    slide = made()[1]
    with pytest.warns(MsiscaleWarning, match=r"0\.25 µm per pixel, .* coarser than --mpp 0\.125"):
        image = as_asked(slide, 0.125)
    np.testing.assert_array_equal(
        image.read(0, 0, 20, 20), np.kron(made()[0][:10, :10], np.ones((2, 2, 1), np.uint8))
    )
    with pytest.raises(ValueError, match="µm per pixel"):
        working(slide, 0)
