from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from msiscale.errors import InputError
from msiscale.slide import convert as module
from msiscale.slide.convert import convert
from msiscale.slide.reader import open_reader


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHUNK", 64), ("SHARD", 256), ("SMALLEST", 128), ("PIECE", 128)):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (517, 641, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    return tmp_path / "slide.png"


def test_pixels_and_pyramid(small: None, png: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    url = str(tmp_path / "slide.zarr")
    convert(png, url, mpp=0.25, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] == len(steps)
    original, slide = open_reader(png, mpp=0.25), open_reader(url)
    assert slide.mpp == (0.25, 0.25)
    assert [v.shape for v in slide.levels] == [(517, 641), (259, 321), (130, 161), (65, 81)]
    assert [v.downsample for v in slide.levels] == [(f, f) for f in (1.0, 2.0, 4.0, 8.0)]
    above = original.read(0, 0, 0, 517, 641)
    np.testing.assert_array_equal(slide.read(0, 0, 0, 517, 641), above)
    for level in (1, 2, 3):
        h, w = slide.levels[level].shape
        even = np.pad(
            above, ((0, above.shape[0] % 2), (0, above.shape[1] % 2), (0, 0)), "edge"
        ).astype(int)
        above = ((even.reshape(h, 2, w, 2, 3).sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
        np.testing.assert_array_equal(slide.read(level, 0, 0, h, w), above)


def test_metadata_are_ngff_05(small: None, png: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "slide.zarr")
    convert(png, url, mpp=0.25)
    group = zarr.open_group(url, mode="r")
    assert set(group.attrs) == {"ome"}
    ome = group.attrs["ome"]
    scales = ome["multiscales"][0]
    assert ome["version"] == "0.5" and scales["name"] == "slide"
    assert [axis["name"] for axis in scales["axes"]] == ["c", "y", "x"]
    assert scales["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 0.5, 0.5]},
        {"type": "translation", "translation": [0.0, 0.125, 0.125]},
    ]
    first = group["0"]
    assert first.metadata.dimension_names == ("c", "y", "x")
    assert first.chunks == (3, 64, 64) and first.shards == (3, 256, 256)


def test_a_conversion_cut_short_is_no_slide(
    small: None, png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "slide.zarr")

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(png, url, mpp=0.25, progress=stop)
    with pytest.raises(InputError, match=r"cut short.*msiscale convert"):
        open_reader(url)
    convert(png, url, mpp=0.25)
    assert open_reader(url).shape == (517, 641)
    convert(png, url, mpp=0.5)  # again, over a finished one
    assert open_reader(url).mpp == (0.5, 0.5)


def test_something_else_is_not_overwritten(png: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "cohort.zarr")
    zarr.open_group(url, mode="w").create_array("intensity", data=np.zeros(3))
    with pytest.raises(InputError, match="no slide"):
        convert(png, url, mpp=0.25)
    assert zarr.open_group(url, mode="r")["intensity"].shape == (3,)


def test_real_slide_and_a_store_in_memory(shared_data: Path) -> None:
    path = shared_data / "slides/cmu-1-small-region.svs"
    convert(path, "memory://converted/cmu.zarr")
    original, slide = open_reader(path), open_reader("memory://converted/cmu.zarr")
    assert slide.mpp == original.mpp and slide.shape == original.shape
    np.testing.assert_array_equal(
        slide.read(0, 900, 700, 800, 900), original.read(0, 900, 700, 800, 900)
    )
