from __future__ import annotations

import gc
import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import openslide
import psutil
import pytest
import tifffile
import zarr
from PIL import Image

from msiscale.errors import InputError
from msiscale.slide import open_slide
from msiscale.slide.backend import axis_downsample
from msiscale.slide.reader import check, open_reader

RNG = np.random.default_rng(0)


def picture(h: int, w: int, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (h, w, channels), dtype=np.uint8)


def openslide_level(path: Path, level: int) -> np.ndarray:
    slide = openslide.OpenSlide(path)
    return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]


def test_real_slides_give_openslides_pixels(shared_data: Path) -> None:
    for name, mpp in (("cmu-1-small-region.svs", None), ("tcga-cr-7395-01a-01-ts1.svs", 0.25)):
        path = shared_data / "slides" / name
        slide = open_reader(path, mpp=mpp)
        assert slide.mpp == ((0.499, 0.499) if mpp is None else (mpp, mpp))
        for level, size in enumerate(slide.levels):
            whole = openslide_level(path, level)
            assert whole.shape[:2] == size.shape
            for y, x, h, w in ((0, 0, 300, 400), (901, 777, 513, 301), (1283, 1501, 200, 300)):
                np.testing.assert_array_equal(
                    slide.read(level, y, x, h, w), whole[y : y + h, x : x + w]
                )


def test_coarse_level_is_a_factor_of_two_and_not_its_rounded_size(shared_data: Path) -> None:
    slide = open_reader(shared_data / "slides/tcga-cr-7395-01a-01-ts1.svs", mpp=0.25)
    assert slide.levels[1].downsample == (2.0, 2.0)
    assert axis_downsample(4443, 2221) == 2 and axis_downsample(4443, 2222) == 2
    assert axis_downsample(1000, 300) == pytest.approx(10 / 3)


def test_crooked_levels_do_not_depend_on_the_window(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a format that is no TIFF: no whole tiles, and OpenSlide interpolates between pixels.
    monkeypatch.setattr("msiscale.slide.openslides.OpenSlideBackend._companion", lambda *_: None)
    path = shared_data / "slides/tcga-cr-7395-01a-01-ts1.svs"
    slide = open_reader(path, mpp=0.26)
    whole = slide.read(1, 0, 0, 1783, 2221)
    for y, x in ((1, 3), (500, 511), (1001, 1303)):
        np.testing.assert_array_equal(slide.read(1, y, x, 77, 99), whole[y : y + 77, x : x + 99])
    assert np.abs(whole.astype(int) - openslide_level(path, 1)).mean() < 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled JPEG pyramid of two levels, as scanners write them."""
    path, options = tmp_path_factory.mktemp("made") / "a.ome.tif", {"tile": (256, 256)}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        options |= {"photometric": "rgb", "compression": "jpeg"}
        size = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        tiff.write(picture(1100, 1300), subifds=1, metadata=size, **options)
        tiff.write(picture(550, 650), subfiletype=1, metadata=None, **options)
    return path


def test_outside_is_white(made: Path) -> None:
    slide = open_reader(made)
    h, w = slide.shape
    corner = slide.read(0, h - 5, w - 7, 20, 20)
    assert (corner[5:] == 255).all() and (corner[:, 7:] == 255).all()
    np.testing.assert_array_equal(corner[:5, :7], slide.read(0, h - 5, w - 7, 5, 7))
    assert (slide.read(0, -50, -50, 20, 20) == 255).all()


@pytest.mark.parametrize(
    ("name", "mpp", "words"),
    [
        ("broken.svs", None, "not a slide"),
        ("unopenable.tiff", 0.5, "compression"),
        ("tcga-cr-7395-01a-01-ts1.svs", None, "manifest column `mpp`"),
        ("boxes.tiff", None, "manifest column `mpp`"),  # 72 dpi is no scan
        ("he_patch.png", None, "manifest column `mpp`"),
        ("nothing.svs", None, "no such file"),
        ("he_patch.png", -1.0, "not a pixel size"),
    ],
)
def test_bad_slides_are_one_line(
    shared_data: Path, name: str, mpp: float | None, words: str
) -> None:
    with pytest.raises(InputError) as error:
        open_reader(shared_data / "slides" / name, mpp=mpp)
    text = str(error.value)
    assert name in text and words in text and "\n" not in text


def test_unreadable_slide_fails_by_name_and_does_not_stick(
    shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "slides/unreadable.svs"
    slide = open_reader(path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"unreadable\.svs.*Bogus marker"):
            slide.read(0, 0, 0, 8, 8)
    with pytest.raises(InputError, match="damaged"):
        check(slide)
    assert open_reader(path).shape == (16, 16)


def test_other_real_files_open(shared_data: Path) -> None:
    boxes = open_reader(shared_data / "slides/boxes.tiff", mpp=1.0)
    assert [level.downsample for level in boxes.levels] == [(f, f) for f in (1.0, 2.0, 4.0, 8.0)]
    check(boxes)
    dicom = open_reader(shared_data / "slides/boxes_0.dcm")
    assert dicom.mpp == (0.499, 0.499)
    check(dicom)
    path = shared_data / "slides/cmu-1-small-region.svs"
    assert open_reader(f"file://{path}") == open_reader(path)


def test_slide_is_shared_by_threads_and_pickled(made: Path) -> None:
    slide = open_reader(made)
    truth = slide.read(0, 0, 0, 1024, 1024)
    copy = pickle.loads(pickle.dumps(slide))
    assert copy == slide
    tiles = [(y, x) for y in range(0, 1024, 256) for x in range(0, 1024, 256)]
    with ThreadPoolExecutor(4) as pool:
        for (y, x), tile in zip(
            tiles, pool.map(lambda t: copy.read(0, *t, 256, 256), tiles), strict=True
        ):
            np.testing.assert_array_equal(tile, truth[y : y + 256, x : x + 256])


LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one_strip": {},
    "deflate_strips": {"compression": "zlib", "rowsperstrip": 16},
    "tiles": {"tile": (64, 96)},
    "jpeg_tiles": {"tile": (64, 96), "compression": "jpeg"},
    "planar_tiles": {"tile": (64, 96), "planarconfig": "separate", "compression": "zlib"},
    "planar_strips": {"planarconfig": "separate", "rowsperstrip": 20},
    "lzw_predictor": {"tile": (64, 96), "compression": "lzw", "predictor": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ome", [False, True])
def test_plain_and_ome_tiff(tmp_path: Path, layout: str, ome: bool) -> None:
    options = dict(LAYOUTS[layout])
    data = picture(203, 301)
    if options.get("planarconfig"):
        data = np.ascontiguousarray(data.transpose(2, 0, 1))
    metadata = (
        {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.6} if ome else {}
    )
    path = tmp_path / ("a.ome.tiff" if ome else "a.tiff")
    tifffile.imwrite(
        path, data, photometric="rgb", metadata=metadata, resolution=(20000, 16000),
        resolutionunit="CENTIMETER", **options,
    )  # fmt: skip
    slide = open_reader(path)
    assert slide.mpp == pytest.approx((0.6, 0.5) if ome else (0.625, 0.5))
    truth = tifffile.imread(path)
    if truth.shape[0] == 3:
        truth = truth.transpose(1, 2, 0)
    for y, x, h, w in ((0, 0, 203, 301), (50, 60, 90, 100), (150, 290, 53, 11), (7, 0, 1, 1)):
        np.testing.assert_array_equal(slide.read(0, y, x, h, w), truth[y : y + h, x : x + w])


@pytest.mark.parametrize("subifds", [True, False])
def test_tiff_pyramids(tmp_path: Path, subifds: bool) -> None:
    levels = [picture(512, 640), picture(256, 320), picture(128, 160)]
    path = tmp_path / ("a.ome.tif" if subifds else "a.tif")
    with tifffile.TiffWriter(path, ome=subifds) as tiff:
        options = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
        tiff.write(
            levels[0], subifds=2 if subifds else 0, resolution=(40000, 40000),
            metadata={"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, **options,
        )  # fmt: skip
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **options)
    slide = open_reader(path)
    assert slide.mpp == pytest.approx((0.25, 0.25))
    assert [v.downsample for v in slide.levels] == [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]
    for index, level in enumerate(levels):
        np.testing.assert_array_equal(slide.read(index, 0, 0, *level.shape[:2]), level)


def test_half_a_jpeg_tile_is_not_delivered(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tiff"
    tifffile.imwrite(
        path, picture(128, 128), tile=(128, 128), compression="jpeg", photometric="rgb"
    )
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.ome\.tiff.*not a whole JPEG.*damaged"):
        open_reader(path, mpp=0.5).read(0, 0, 0, 8, 8)


def test_tiff_that_is_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    with pytest.raises(InputError, match="8-bit RGB"):
        open_reader(path, mpp=1)


def test_picture_with_transparency_lies_on_white(tmp_path: Path) -> None:
    data = picture(20, 30, 4)
    data[:10, :, 3], data[10:, :, 3] = 0, 255
    Image.fromarray(data).save(tmp_path / "a.png")
    slide = open_reader(tmp_path / "a.png", mpp=1.0)
    pixels = slide.read(0, 0, 0, 20, 30)
    assert (pixels[:10] == 255).all()
    np.testing.assert_array_equal(pixels[10:], data[10:, :, :3])
    Image.fromarray(data[..., :3]).save(tmp_path / "a.png")  # another file of the same name
    np.testing.assert_array_equal(
        open_reader(tmp_path / "a.png", mpp=1.0).read(0, 0, 0, 20, 30), data[..., :3]
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx"])
def test_ome_zarr(tmp_path: Path, version: str, axes: str) -> None:
    levels = [picture(100, 120), picture(50, 60)]
    group = zarr.open_group(
        str(tmp_path / "a.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3
    )
    kinds = {"c": {"type": "channel"}, "t": {"type": "time"}}
    datasets = []
    for index, level in enumerate(levels):
        array = level.transpose([("yxc").index(a) for a in axes if a in "yxc"])
        for position, axis in enumerate(axes):
            if axis in "tz":
                array = np.expand_dims(array, position)
        group.create_array(str(index), data=array)
        scale = [0.0005 * 2**index if a in "yx" else 1.0 for a in axes]
        transform = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(index), "coordinateTransformations": transform})
    space = {"type": "space", "unit": "millimeter"}
    scales = [{"axes": [{"name": a, **kinds.get(a, space)} for a in axes], "datasets": datasets}]
    if version == "0.4":
        group.attrs["multiscales"] = scales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    slide = open_reader(tmp_path / "a.zarr")
    assert slide.mpp == pytest.approx((0.5, 0.5))
    assert slide.levels[1].downsample == (2.0, 2.0)
    np.testing.assert_array_equal(slide.read(0, 11, 22, 33, 44), levels[0][11:44, 22:66])
    np.testing.assert_array_equal(slide.read(1, 0, 0, 50, 60), levels[1])


def test_zarr_that_is_no_slide(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_array("b", data=np.zeros(3))
    with pytest.raises(InputError, match="multiscales"):
        open_reader(tmp_path / "a.zarr", mpp=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no OME-Zarr"):
        open_reader(tmp_path / "empty", mpp=1)


def test_remote_tiff_and_picture() -> None:
    data = picture(70, 80)
    for name, write in (
        ("a.tif", lambda f: tifffile.imwrite(f, data, tile=(16, 16), photometric="rgb")),
        ("a.png", lambda f: Image.fromarray(data).save(f, format="PNG")),
    ):
        buffer = io.BytesIO()
        write(buffer)
        with fsspec.open(f"memory://slides/{name}", "wb") as file:
            file.write(buffer.getvalue())
        slide = open_reader(f"memory://slides/{name}", mpp=0.5)
        np.testing.assert_array_equal(slide.read(0, 5, 6, 40, 50), data[5:45, 6:56])


def test_remote_file_that_is_not_there() -> None:
    for name in ("x.svs", "x.png", "x.zarr"):
        with pytest.raises(InputError, match=name):
            open_reader(f"memory://slides/{name}", mpp=0.5)


def test_a_thread_that_ends_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(64, 64), photometric="rgb")
    gc.collect()  # what other tests left
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with ThreadPoolExecutor(1) as pool:
            slide = pool.submit(open_reader, path, mpp=0.5).result()
            pool.submit(slide.read, 0, 0, 0, 9, 9).result()
        gc.collect()
    assert not [f for f in psutil.Process().open_files() if f.path == str(path)]


def test_a_slide_that_is_opened_again_is_open_once(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(64, 64), photometric="rgb")
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(3):
            open_reader(path, mpp=0.5).read(0, 0, 0, 9, 9)
        gc.collect()
    assert len([f for f in psutil.Process().open_files() if f.path == str(path)]) == 1


def test_open_slide_is_lazy_and_labelled(made: Path) -> None:
    image = open_slide(made, mpp=0.25, level=1)
    assert image.dims == ("y", "x", "c") and image.shape == (550, 650, 3)
    assert image.chunks is not None and image.attrs["mpp"] == [0.5, 0.5]
    assert float(image.y[0]) == 0.25 and float(image.x[10]) == 5.25
    part = image.isel(y=slice(400, 500), x=slice(500, 550)).compute(scheduler="threads")
    truth = tifffile.imread(made, level=1)
    np.testing.assert_array_equal(part, truth[400:500, 500:550])
    with pytest.raises(ValueError, match="levels 0 to 1"):
        open_slide(made, mpp=0.25, level=2)
