"""Which image of a file is the slide, and how its numbers are colours."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from PIL import Image, ImageOps

from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.slide.backend import on_white
from msiscale.slide.reader import Slide, check, open_reader
from msiscale.slide.turned import TURNS

RNG = np.random.default_rng(0)


def picture(h: int, w: int, channels: int = 3) -> np.ndarray:
    """Something smooth, as JPEG and JPEG XR like it."""
    cells = RNG.integers(0, 256, (h // 8 + 1, w // 8 + 1, channels), dtype=np.uint8)
    return np.kron(cells, np.ones((8, 8, 1), np.uint8))[:h, :w]


def opened(path: Path | str, **options: float) -> tuple[Slide, list[str]]:
    """A slide that was looked into, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MsiscaleWarning)
        slide = open_reader(path, **options)
        check(slide)
    said = [str(w.message) for w in caught if issubclass(w.category, MsiscaleWarning)]
    assert all(text.startswith(f"{path}: ") for text in said)
    return slide, said


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read(level, 0, 0, *slide.levels[level].shape)


def write(path: Path, *images: np.ndarray, um: tuple[float, ...] = (), **options: object) -> Path:
    """A TIFF with a page an image, each of its own µm."""
    with tifffile.TiffWriter(path) as tiff:
        for number, image in enumerate(images):
            size = 10_000 / (um[number] if um else 0.5)
            words = {"metadata": None, "resolution": (size, size), "resolutionunit": 3}
            grey = image.ndim == 2
            words |= {"photometric": "minisblack" if grey else "rgb"}
            tiff.write(image, **(words | options))
    return path


def test_thumbnail_first(shared_data: Path) -> None:
    path = shared_data / "cases/slides/mpp_of_the_wrong_page/thumb_first.tif"
    slide, said = opened(path)
    assert slide.shape == (1111, 1234) and slide.mpp == pytest.approx((0.5, 0.5))
    assert len(said) == 1 and NOTE in said[0] and "image 2 (1234 x 1111 px, 0.5 µm" in said[0]
    np.testing.assert_array_equal(whole(slide), tifffile.imread(path, series=1))


REFUSED = {
    "mpp_of_the_wrong_page/if5_plus_thumb.tif": "5 grey planes",
    "mpp_of_the_wrong_page/smalltif.tif": "grey plane of uint16",
    "fluorescence_as_rgb/ome_IF_4ch.ome.tif": "fluorescence (channels DAPI",
    "fluorescence_as_rgb/small_vectra.qptiff": "3 grey planes",
}


@pytest.mark.parametrize("name", REFUSED)
def test_fluorescence_is_no_slide(shared_data: Path, name: str) -> None:
    with pytest.raises(InputError, match=re.escape(REFUSED[name])) as error:
        open_reader(shared_data / "cases/slides" / name, mpp=0.5)
    assert "give the brightfield scan" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("coarse", [False, True])
def test_a_thumbnail_anywhere(
    tmp_path: Path, tile: tuple[int, int] | None, last: bool, coarse: bool
) -> None:
    scan, thumb = picture(511, 641), picture(128, 160)
    pages = [(scan, 0.25, 0), (thumb, 1.0, 0)][:: 1 if last else -1]
    if coarse:
        pages.append((picture(255, 320), 0.5, 1))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for image, um, kind in pages:
            tiff.write(
                image, photometric="rgb", tile=tile, subfiletype=kind, metadata=None,
                resolution=(10_000 / um, 10_000 / um), resolutionunit=3,
            )  # fmt: skip
    slide, said = opened(path)
    assert slide.mpp == pytest.approx((0.25, 0.25))
    np.testing.assert_array_equal(whole(slide), scan)
    assert len(slide.levels) > coarse  # to tifffile a thumbnail of a whole factor is a level
    assert [NOTE in text for text in said] == [] if last else [True]


def test_a_wide_label_is_not_the_slide(tmp_path: Path) -> None:
    scan, label = picture(900, 700), picture(60, 2000)
    slide, said = opened(write(tmp_path / "a.tif", label, scan, um=(9, 0.5)))
    np.testing.assert_array_equal(whole(slide), scan)
    assert len(said) == 1 and "#scene=1 is image 1 (2000 x 60 px" in said[0]
    assert open_reader(f"{tmp_path / 'a.tif'}#scene=1").shape == (60, 2000)


def test_a_label_larger_than_the_scan_is_known_by_its_name(tmp_path: Path) -> None:
    path, scan = tmp_path / "a.ome.tif", picture(300, 400)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for image, name in ((scan, "section"), (picture(900, 900), "label image")):
            size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Name": name, "axes": "YXS"}
            tiff.write(image, photometric="rgb", metadata=size)
    slide, said = opened(path)
    np.testing.assert_array_equal(whole(slide), scan)
    assert said == []


@pytest.mark.parametrize("sizes", [((512, 640), (512, 640)), ((400, 500), (512, 640))])
@pytest.mark.parametrize("ome", [False, True])
def test_scenes_are_named_and_chosen(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], ome: bool
) -> None:
    images = [picture(*size) for size in sizes]
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    if ome:
        with tifffile.TiffWriter(path, ome=True) as tiff:
            for um, image in zip((0.25, 0.5), images, strict=True):
                size = {"axes": "YXS", "PhysicalSizeX": um, "PhysicalSizeY": um}
                tiff.write(image, photometric="rgb", tile=(64, 64), metadata=size)
    else:
        write(path, *images, um=(0.25, 0.5), tile=(64, 64))
    taken = 0 if sizes[0] == sizes[1] else 1
    slide, said = opened(path)
    np.testing.assert_array_equal(whole(slide), images[taken])
    assert slide.mpp == pytest.approx([(0.25, 0.25), (0.5, 0.5)][taken])
    assert len(said) == 1 and f"#scene={2 - taken} is image" in said[0] and NOTE not in said[0]
    for number, um in ((1, 0.25), (2, 0.5)):
        slide, said = opened(f"{path}#scene={number}")
        assert said == [] and slide.mpp == pytest.approx((um, um))
        np.testing.assert_array_equal(whole(slide), images[number - 1])
    with pytest.raises(InputError, match=r"has no image 3 .* #scene=1, #scene=2"):
        open_reader(f"{path}#scene=3")
    with pytest.raises(InputError, match="from 1"):
        open_reader(f"{path}#scene=0")


def test_two_scans_with_pyramids_are_not_one_stack(tmp_path: Path) -> None:
    pages = [picture(512, 640), picture(512, 640), picture(256, 320), picture(256, 320)]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            tiff.write(
                page, photometric="rgb", tile=(64, 64), subfiletype=number // 2, metadata=None
            )
    slide, _ = opened(f"{path}#scene=2", mpp=0.5)
    assert len(slide.levels) == 2
    np.testing.assert_array_equal(whole(slide), pages[1])
    np.testing.assert_array_equal(whole(slide, 1), pages[3])


GREY = {
    "one": (np.uint8, 1),
    "two": (np.uint8, 2),
    "three": (np.uint8, 3),
    "four of 16 bits": (np.uint16, 4),
    "float": (np.float32, 1),
    "bits": (np.bool_, 1),
}


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("kind", GREY)
def test_grey_is_no_slide_with_or_without_a_thumbnail(
    tmp_path: Path, kind: str, tile: tuple[int, int] | None
) -> None:
    dtype, planes = GREY[kind]
    data = [(picture(300, 400, 1)[..., 0] > 99).astype(dtype) for _ in range(planes)]
    for more in ([], [picture(75, 100)]):
        write(tmp_path / "a.tif", *data, *more, tile=tile)
        with pytest.raises(InputError, match=r"grey plane.*give the brightfield scan"):
            open_reader(tmp_path / "a.tif", mpp=0.5)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        stack = np.stack(data) if planes > 1 else data[0]
        names = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue", "A"][:planes]}}
        metadata = names if planes > 1 else None
        tiff.write(stack, photometric="minisblack", tile=tile, metadata=metadata)
    with pytest.raises(InputError, match=r"grey planes?.* give the brightfield scan"):
        open_reader(tmp_path / "a.ome.tif", mpp=0.5)


def test_rgb_of_dyes_is_fluorescence(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(picture(100, 120).transpose(2, 0, 1))
    words = {"photometric": "rgb", "planarconfig": "separate"}
    named = {"axes": "CYX", "Channel": {"Name": ["DAPI"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, metadata=named, **words)
    with pytest.raises(InputError, match=r"fluorescence \(channels DAPI\)"):
        open_reader(tmp_path / "a.ome.tif", mpp=0.5)
    plain = {"axes": "CYX", "Channel": {"Name": ["brightfield"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, metadata=plain, **words)
    slide, said = opened(tmp_path / "a.ome.tif", mpp=0.5)
    np.testing.assert_array_equal(whole(slide), planes.transpose(1, 2, 0))
    assert said == []


def by_openslide(path: Path) -> np.ndarray:
    with openslide.OpenSlide(str(path)) as slide:
        return on_white(np.asarray(slide.read_region((0, 0), 0, slide.dimensions)))


TILED = {
    "cielab": {"photometric": "cielab"},
    "ycbcr": {"photometric": "ycbcr", "compression": "jpeg"},
    "rgb in jpeg": {"photometric": "rgb", "compression": "jpeg"},
    "cmyk": {"photometric": "separated"},
}


@pytest.mark.parametrize("kind", TILED)
def test_tiles_are_as_openslide_shows_them(tmp_path: Path, kind: str) -> None:
    data = picture(300, 400, 4 if kind == "cmyk" else 3)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, tile=(64, 64), metadata=None, **TILED[kind])
    slide, _ = opened(path, mpp=0.5)
    np.testing.assert_array_equal(whole(slide), by_openslide(path))


def test_palette_is_as_openslide_shows_it(tmp_path: Path) -> None:
    path, data = tmp_path / "a.tif", picture(128, 192, 1)[..., 0]
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(
        path, data, tile=(64, 64), metadata=None, photometric="palette", colormap=colours
    )
    slide, _ = opened(path, mpp=0.5)
    np.testing.assert_array_equal(whole(slide), by_openslide(path))
    tifffile.imwrite(path, data, metadata=None, photometric="palette", colormap=colours)
    with pytest.raises(InputError, match="8-bit RGB"):
        open_reader(path, mpp=0.5)


def test_cmyk_is_as_pillow_shows_it(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "cases/slides/cmyk_lab_tiff/cmyk_strip.tif"
    slide, _ = opened(path, mpp=0.5)
    np.testing.assert_array_equal(whole(slide), np.asarray(Image.open(path).convert("RGB")))
    inks = picture(50, 60, 4)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated", planarconfig="contig")
    Image.fromarray(inks, "CMYK").save(tmp_path / "b.tif", compression="tiff_lzw")
    for name in "ab":
        file = tmp_path / f"{name}.tif"
        expected = np.asarray(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(whole(opened(file, mpp=0.5)[0]), expected)


@pytest.mark.parametrize("kind", ["cielab", "miniswhite", "ycbcr"])
def test_strips_of_other_colours_are_refused(tmp_path: Path, kind: str) -> None:
    data = picture(50, 60)[..., 0] if kind == "miniswhite" else picture(50, 60)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=kind, metadata=None)
    with pytest.raises(InputError, match=r"8-bit RGB|cannot be decoded"):
        open_reader(tmp_path / "a.tif", mpp=0.5)


@pytest.mark.parametrize("bits", [16, 12])
def test_more_than_8_bits_of_rgb_are_refused_or_openslides(tmp_path: Path, bits: int) -> None:
    data = picture(128, 192).astype(np.uint16) << (bits - 8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", metadata=None)
    with pytest.raises(InputError, match="8-bit RGB"):
        open_reader(tmp_path / "a.tif", mpp=0.5)
    write(tmp_path / "a.tif", data, picture(32, 48))  # not the thumbnail
    with pytest.raises(InputError, match="8-bit RGB"):
        open_reader(tmp_path / "a.tif", mpp=0.5)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_a_fourth_sample(tmp_path: Path, extra: str) -> None:
    data = picture(64, 80, 4)
    if extra == "assocalpha":  # no colour is brighter than its alpha
        data[..., :3] = np.minimum(data[..., :3], data[..., 3:])
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=[extra])
    colour, alpha = data[..., :3].astype(float), data[..., 3:] / 255
    expected = {
        "unassalpha": colour * alpha + 255 * (1 - alpha),
        "assocalpha": colour + 255 * (1 - alpha),
        "unspecified": colour,
    }[extra]
    slide, _ = opened(tmp_path / "a.tif", mpp=0.5)
    assert np.abs(whole(slide) - expected).max() <= 0.5 + 1e-9


def test_a_real_brightfield_rgba(shared_data: Path) -> None:
    path = shared_data / "paired/roempp_mouse_bladder/optical.tif"
    slide, said = opened(path, mpp=10.0)
    assert said == []
    np.testing.assert_array_equal(whole(slide), on_white(tifffile.imread(path)))


LAYOUTS = {"strips": {"rowsperstrip": 7}, "tiles": {"tile": (64, 96)}}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_orientation_of_tiff(tmp_path: Path, turn: int, layout: str) -> None:
    stored, path = picture(203, 301), tmp_path / "a.tif"
    tag = [(274, "H", 1, turn, True)]
    tifffile.imwrite(
        path, stored, photometric="rgb", metadata=None, extratags=tag, **LAYOUTS[layout],
        resolution=(40_000, 20_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    slide, said = opened(path)
    image = Image.fromarray(stored)
    image.getexif()[274] = turn
    shown = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(whole(slide), shown)
    h, w = shown.shape[:2]
    np.testing.assert_array_equal(slide.read(0, 33, 44, 55, 66), shown[33:88, 44:110])
    np.testing.assert_array_equal(slide.read(0, h - 9, w - 5, 9, 5), shown[h - 9 :, w - 5 :])
    assert slide.mpp == pytest.approx((0.5, 0.25) if turn < 5 else (0.25, 0.5))
    assert len(said) == 1 and NOTE in said[0] and f"Orientation {turn}" in said[0]


def test_the_case_of_a_turned_tiff_and_jpeg(shared_data: Path) -> None:
    folder = shared_data / "cases/slides/orientation_tag"
    slide, _ = opened(folder / "orient3.tif", mpp=0.5)
    np.testing.assert_array_equal(whole(slide), tifffile.imread(folder / "orient3.tif")[::-1, ::-1])
    slide, _ = opened(folder / "orient3.jpg", mpp=0.5)
    shown = ImageOps.exif_transpose(Image.open(folder / "orient3.jpg"))
    np.testing.assert_array_equal(whole(slide), np.asarray(shown))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation_of_pictures(tmp_path: Path, turn: int, kind: str) -> None:
    image, path = Image.fromarray(picture(64, 96)), tmp_path / "a.img"
    exif = image.getexif()
    exif[274] = turn
    image.save(path, kind, exif=exif, dpi=(10_000, 5_000))
    slide, said = opened(path)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    np.testing.assert_array_equal(whole(slide), shown)
    sides = (5.08, 2.54) if turn < 5 else (2.54, 5.08)
    assert slide.mpp == pytest.approx(sides, rel=1e-3)
    assert len(said) == 1 and NOTE in said[0]


def ome_zarr(path: Path, images: dict[str, np.ndarray], labels: list[str] | None = None) -> Path:
    """Images at names in a store, "" for its own."""
    root = zarr.open_group(str(path), mode="w")
    for name, image in images.items():
        group = root.require_group(name) if name else root
        group.create_array("0", data=np.ascontiguousarray(image.transpose(2, 0, 1)))
        axes = [{"name": "c", "type": "channel"}]
        axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
        steps = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
        scales = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
        ome: dict[str, object] = {"version": "0.5", "multiscales": [scales]}
        if labels:
            ome["omero"] = {"channels": [{"label": label} for label in labels]}
        group.attrs["ome"] = ome
    return path


def test_ome_zarr_of_fluorescence_or_alpha(tmp_path: Path) -> None:
    path, dyed = tmp_path / "a.zarr", picture(50, 60, 4)
    for labels in (["DAPI", "FITC", "Cy5"], ["Hoechst", "AF488", "AF555", "AF647"]):
        ome_zarr(path, {"": dyed[..., : len(labels)]}, labels)
        with pytest.raises(InputError, match="fluorescence"):
            open_reader(path)
    ome_zarr(path, {"": dyed})
    with pytest.raises(InputError, match="no alpha"):
        open_reader(path)
    ome_zarr(path, {"": dyed}, ["R", "G", "B", "alpha"])
    np.testing.assert_array_equal(whole(opened(path)[0]), on_white(dyed))
    dyed[..., 3] = 255
    ome_zarr(path, {"": dyed})
    np.testing.assert_array_equal(whole(opened(path)[0]), dyed[..., :3])


def test_images_of_an_ome_zarr(tmp_path: Path) -> None:
    images = {"0": picture(50, 60), "1": picture(70, 80), "2": picture(9, 9)}
    path = ome_zarr(tmp_path / "a.zarr", images)
    slide, said = opened(path)
    np.testing.assert_array_equal(whole(slide), images["1"])
    assert len(said) == 1 and "#scene=1 is image 1 (60 x 50 px" in said[0]
    np.testing.assert_array_equal(whole(opened(f"{path}#scene=3")[0]), images["2"])


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.vsi", "Olympus VSI.*bfconvert"), ("a.isyntax", "iSyntax"), ("a.lif", "Leica LIF")],
)
def test_formats_of_other_vendors(tmp_path: Path, name: str, words: str) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, picture(64, 64), photometric="rgb", tile=(16, 16))  # as a VSI begins
    (tmp_path / name).write_bytes(out.getvalue())
    with pytest.raises(InputError, match=words):
        open_reader(tmp_path / name, mpp=0.5)


def test_bounds_of_a_leica_scan(shared_data: Path) -> None:
    path = shared_data / "cases/slides/qupath_bounds_offset/leica_offset.scn"
    slide, said = opened(path)
    assert slide.bounds == (1000, 2000) and said == []
    with pytest.raises(InputError, match="has no image 2"):
        open_reader(f"{path}#scene=2")
