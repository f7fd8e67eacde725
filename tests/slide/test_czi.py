"""Zeiss CZI, through OpenSlide and through pylibCZIrw: the same pixels, scenes and µm."""

from __future__ import annotations

import sys
from pathlib import Path

import czi_file
import numpy as np
import pytest
from czi_file import JPEG_XR, PLAIN, ZSTD0, ZSTD1, Tile, write_czi

from msiscale.errors import InputError
from msiscale.slide.czi import CziBackend
from msiscale.slide.openslides import OpenSlideBackend
from msiscale.slide.reader import check, open_reader

needs_czi = pytest.mark.skipif(
    pytest.importorskip("importlib.util").find_spec("pylibCZIrw") is None,
    reason="needs pylibCZIrw: pip install 'msiscale[czi]'",
)
RNG = np.random.default_rng(0)


def picture(h: int, w: int) -> np.ndarray:
    cells = RNG.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8)
    return np.kron(cells, np.ones((8, 8, 1), np.uint8))


def halved(image: np.ndarray) -> np.ndarray:
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return image.reshape(h, 2, w, 2, 3).mean((1, 3)).astype(np.uint8)


def cut(image: np.ndarray, x: int, y: int, scene: int | None, step: int = 1) -> list[Tile]:
    return [
        Tile(image[j : j + 256, i : i + 256], x + i * step, y + j * step, scene, 0, step)
        for j in range(0, image.shape[0], 256)
        for i in range(0, image.shape[1], 256)
    ]


LARGE, SMALL = picture(704, 896), picture(400, 512)
ONE = cut(LARGE, 101, 51, None) + cut(halved(LARGE), 101, 51, None, 2)
TWO = [
    *cut(SMALL, 1501, 301, 0), *cut(halved(SMALL), 1501, 301, 0, 2),
    *cut(LARGE, 101, 51, 1), *cut(halved(LARGE), 101, 51, 1, 2),
]  # fmt: skip
PACKED = {"plain": PLAIN, "zstd0": ZSTD0, "zstd1": ZSTD1, "jpeg xr": JPEG_XR}


@needs_czi
@pytest.mark.parametrize("packed", PACKED)
def test_pixels_of_every_compression(tmp_path: Path, packed: str) -> None:
    path = write_czi(tmp_path / "a.czi", ONE, compression=PACKED[packed])
    slide = open_reader(path)
    assert slide.backend == ("czi" if packed == "jpeg xr" else "openslide")
    assert slide.mpp == pytest.approx((0.22, 0.22)) and slide.shape == (704, 896)
    assert [level.downsample for level in slide.levels] == [(1.0, 1.0), (2.0, 2.0)]
    check(slide)
    for level, truth in enumerate((LARGE, halved(LARGE))):
        np.testing.assert_array_equal(slide.read(level, 0, 0, *truth.shape[:2]), truth)
        part = slide.read(level, 101, 77, 200, 311)
        np.testing.assert_array_equal(part, truth[101:301, 77:388])


@needs_czi
@pytest.mark.parametrize("backend", [OpenSlideBackend, CziBackend])
def test_both_readers_agree_on_scenes(
    tmp_path: Path, backend: type[OpenSlideBackend | CziBackend]
) -> None:
    path = str(write_czi(tmp_path / "a.czi", TWO))
    for scene, truth in ((None, LARGE), (1, SMALL), (2, LARGE)):
        opened = backend(path, scene)
        assert opened.bounds == (0, 0) and opened.mpp == pytest.approx((0.22, 0.22))
        assert [level.downsample for level in opened.levels] == [(1.0, 1.0), (2.0, 2.0)]
        for level, whole in enumerate((truth, halved(truth))):
            assert opened.levels[level].shape == whole.shape[:2]
            found = opened.read(level, 0, 0, *whole.shape[:2])
            np.testing.assert_array_equal(found, whole)
        said = " ".join(opened.notes)
        assert ("#scene=1 is image 1 (512 x 400 px, 0.22 µm" in said) == (scene is None)
        opened.close()


@needs_czi
def test_what_was_not_scanned_is_white(tmp_path: Path) -> None:
    tiles = [Tile(LARGE[:256, :256], 0, 0), Tile(LARGE[:256, :256], 512, 256)]
    for number, compression in enumerate((PLAIN, JPEG_XR)):
        slide = open_reader(write_czi(tmp_path / f"{number}.czi", tiles, compression=compression))
        pixels = slide.read(0, 0, 0, 512, 768)
        assert (pixels[:256, 256:] == 255).all()
        np.testing.assert_array_equal(pixels[256:, 512:], LARGE[:256, :256])


def test_fluorescence_is_refused(tmp_path: Path) -> None:
    grey = LARGE[..., 0]
    for data in (grey, grey.astype(np.uint16)):
        tiles = [Tile(data, 0, 0, None, channel) for channel in range(3)]
        path = write_czi(tmp_path / "a.czi", tiles)
        with pytest.raises(InputError, match=r"a\.czi: "):
            open_reader(path)
        pytest.importorskip("pylibCZIrw")
        with pytest.raises(InputError, match=r"3 channels of Gray.* give the brightfield scan"):
            open_reader(path)


def test_without_the_library_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    path = write_czi(tmp_path / "a.czi", ONE, compression=JPEG_XR)
    with pytest.raises(InputError, match=r"a\.czi: .*pip install 'msiscale\[czi\]'"):
        open_reader(path)
    plain = write_czi(tmp_path / "b.czi", TWO)
    with pytest.raises(InputError, match="has no image 3"):  # by OpenSlide, which needs no other
        open_reader(f"{plain}#scene=3")


@needs_czi
def test_no_scaling_and_damage(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", ONE, compression=JPEG_XR, um=None)
    with pytest.raises(InputError, match="manifest column `mpp`"):
        open_reader(path)
    slide = open_reader(path, mpp=0.22)
    assert slide.mpp == (0.22, 0.22)
    data = bytearray(path.read_bytes())
    at = data.index(czi_file.RGB[:-1])
    data[at + 60 : at + 4000] = bytes(3940)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        open_reader(path, mpp=0.22).read(0, 0, 0, 256, 256)
    path.write_bytes(data[:3000])
    with pytest.raises(InputError, match=r"a\.czi: not a readable CZI"):
        open_reader(path, mpp=0.22)


@needs_czi
def test_a_file_of_the_library_itself(tmp_path: Path) -> None:
    from pylibCZIrw import czi

    path = tmp_path / "a.czi"
    with czi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=2") as file:
        file.write(np.ascontiguousarray(LARGE[..., ::-1]), location=(-300, 40), plane={"C": 0})
        file.write_metadata(scale_x=0.25e-6, scale_y=0.25e-6)
    slide = open_reader(path)
    assert slide.backend == "czi" and slide.mpp == pytest.approx((0.25, 0.25))
    np.testing.assert_array_equal(slide.read(0, 0, 0, 704, 896), LARGE)
