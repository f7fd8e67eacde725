"""Whole tiles of a TIFF: the pixels of OpenSlide, and nothing damaged passes for sound."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.errors import InputError
from msiscale.slide import decoding
from msiscale.slide.backend import on_white
from msiscale.slide.openslides import OpenSlideBackend
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.tiff import _jpeg_size

REAL = ("cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs")


@pytest.fixture(scope="module")
def slides(shared_data: Path) -> list[Path]:
    return [shared_data / "slides" / name for name in REAL]


def by_openslide(path: Path, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
    with openslide.OpenSlide(str(path)) as slide:
        step = round(slide.level_downsamples[level])
        return on_white(np.asarray(slide.read_region((x * step, y * step), level, (w, h))))


@pytest.mark.parametrize("number", [0, 1])
def test_whole_slides_are_those_of_openslide(slides: list[Path], number: int) -> None:
    slide = open_reader(slides[number], mpp=0.5)
    height, width = slide.shape
    for y in range(0, height, 1024):
        for x in range(0, width, 1024):
            h, w = min(1024, height - y), min(1024, width - x)
            expected = by_openslide(slides[number], 0, y, x, h, w)
            np.testing.assert_array_equal(slide.read(0, y, x, h, w), expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_rectangle(slides: list[Path], data: st.DataObject) -> None:
    path = slides[data.draw(st.integers(0, 1))]
    slide = open_reader(path, mpp=0.5)
    y, x = (data.draw(st.integers(0, n - 1)) for n in slide.shape)
    h = data.draw(st.integers(1, min(600, slide.shape[0] - y)))
    w = data.draw(st.integers(1, min(600, slide.shape[1] - x)))
    np.testing.assert_array_equal(slide.read(0, y, x, h, w), by_openslide(path, 0, y, x, h, w))


def test_threads_change_no_pixel(slides: list[Path]) -> None:
    one = open_reader(slides[0], mpp=0.5).read(0, 100, 100, 900, 900)
    decoding.use_threads(3)
    try:
        backend = OpenSlideBackend(str(slides[0]))
        many = backend.read(0, 100, 100, 900, 900)
        backend.close()
    finally:
        decoding.use_threads(1)
    np.testing.assert_array_equal(one, many)


def damaged(path: Path, copy: Path, how: str) -> tuple[Slide, list[tuple[int, int]]]:
    """A copy with 30 tiles damaged, and the corners (y, x) of these."""
    shutil.copy(path, copy)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        columns = -(-page.imagewidth // page.tilewidth)
        tiles = random.Random(0).sample(range(len(page.dataoffsets)), 30)
        corners = [(t // columns * page.tilelength, t % columns * page.tilewidth) for t in tiles]
        places = [(page.dataoffsets[t], page.databytecounts[t]) for t in tiles]
    with copy.open("r+b") as file:
        for offset, count in places:
            file.seek(offset)
            data = bytearray(file.read(count))
            if how == "zeroed":
                data[:] = bytes(count)
            elif how == "half":
                data[count // 2 :] = bytes(count - count // 2)
            elif how == "half, with rubbish":
                data[count // 2 :] = random.Random(offset).randbytes(count - count // 2)
            elif how == "no start":
                data[:2] = b"\0\0"
            elif how == "smaller":  # a whole JPEG, of half the height
                at = data.index(b"\xff\xc0")
                data[at + 5 : at + 7] = (120).to_bytes(2, "big")
            file.seek(offset)
            file.write(data)
    return open_reader(copy, mpp=0.5), corners


HOW = ("zeroed", "half", "half, with rubbish", "no start", "smaller")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_tile_is_never_delivered(
    slides: list[Path], tmp_path: Path, number: int, how: str
) -> None:
    if number == 1 and how == "smaller":
        pytest.skip("made for JPEG only")
    copy = tmp_path / "copy.svs"
    slide, corners = damaged(slides[number], copy, how)
    sound = open_reader(slides[number], mpp=0.5)
    delivered = 0
    for y, x in corners:
        h, w = min(200, slide.shape[0] - y), min(200, slide.shape[1] - x)
        try:
            pixels = slide.read(0, y, x, h, w)
        except InputError as error:
            assert str(copy) in str(error) and "\n" not in str(error)
            continue
        # OpenSlide vouches for it
        np.testing.assert_array_equal(pixels, by_openslide(copy, 0, y, x, h, w))
        delivered += not np.array_equal(pixels, sound.read(0, y, x, h, w))
    assert delivered == 0
    bad = set(corners)
    size = 240 if number == 0 else 256
    rows, columns = slide.shape[0] // size, slide.shape[1] // size
    good = [(r * size, c * size) for r in range(rows) for c in range(columns)]
    for y, x in [corner for corner in good if corner not in bad][:10]:
        np.testing.assert_array_equal(
            slide.read(0, y, x, size, size), sound.read(0, y, x, size, size)
        )


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_slide_cut_short_does_not_open_or_does_not_read(
    slides: list[Path], tmp_path: Path, share: float
) -> None:
    copy = tmp_path / "cut.svs"
    data = slides[0].read_bytes()
    copy.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError):
        slide = open_reader(copy, mpp=0.5)
        slide.read(0, 0, 0, *slide.shape)


def test_size_of_a_jpeg() -> None:
    frame = b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x11\x08\0\x10\0\x20rest"
    assert _jpeg_size(frame) == (16, 32)
    assert _jpeg_size(b"\xff\xd8\xff\xe0\0\4ab") is None
