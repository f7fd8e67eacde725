# ruff: noqa: E501  (a line of the page is a line here)
"""Slides: TIFF, PNG, OME-Zarr that are damaged, of no known size, or absurdly large."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from bad_inputs.rows import READS, REFUSES, Row
from PIL import Image

from msiscale.slide.reader import check, open_reader

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
Make = Callable[[Path], Path]


def row(
    id: str, wrong: str, says: str, make: Make, does: str = REFUSES, mpp: float | None = 0.5
) -> Row:
    """A slide of `PIXELS`, spoilt."""

    def run(folder: Path) -> None:
        slide = open_reader(make(folder), mpp=mpp)
        check(slide)
        np.testing.assert_array_equal(slide.read(0, 0, 0, *slide.shape), PIXELS)

    return Row(id, wrong, does, says, run)


def tiff(folder: Path, name: str = "slide.tiff", **options: object) -> Path:
    """`PIXELS` as a tiled TIFF."""
    words = {"tile": (16, 16), "photometric": "rgb", "compression": "deflate", "metadata": None}
    tifffile.imwrite(folder / name, PIXELS, **(words | options))
    return folder / name


def tag(path: Path, code: int, value: int) -> Path:
    """Another value in a tag of the first page."""
    with tifffile.TiffFile(path) as file:
        found = file.pages.first.tags[code]
        offset, kind = found.valueoffset, found.dtype
    form = {3: "<H", 4: "<I"}[int(kind)]
    data = bytearray(path.read_bytes())
    data[offset : offset + struct.calcsize(form)] = struct.pack(form, value)
    path.write_bytes(data)
    return path


def words(folder: Path) -> Path:
    (folder / "slide.svs").write_text("not a slide, but long enough to look at")
    return folder / "slide.svs"


def missing(folder: Path) -> Path:
    return folder / "slide.svs"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "slide.tiff")
    return folder / "slide.tiff"


def cut_tiff(folder: Path) -> Path:
    path = tiff(folder)
    os.truncate(path, 300)
    return path


def half_a_tile(folder: Path) -> Path:
    path = tiff(folder, compression="jpeg", ome=True)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data = bytearray(path.read_bytes())
    for begin, count in places:
        data[begin + count // 2 : begin + count] = bytes(count - count // 2)
    path.write_bytes(data)
    return path


def sixteen_bits(folder: Path) -> Path:
    tifffile.imwrite(folder / "slide.tiff", PIXELS.astype(np.uint16), photometric="rgb")
    return folder / "slide.tiff"


def huge_tiff(folder: Path) -> Path:
    path = tiff(folder, "slide.ome.tiff", ome=True, tile=(16, 16))
    return tag(tag(path, 256, 2_000_000_000), 257, 2_000_000_000)


def short_table(folder: Path) -> Path:
    return tag(tiff(folder, "slide.ome.tiff", ome=True), 257, 6400)


def huge_tile(folder: Path) -> Path:
    path = tiff(folder, "slide.ome.tiff", ome=True)
    return tag(tag(path, 322, 1 << 16), 323, 1 << 16)


def tile_of_nothing(folder: Path) -> Path:
    return tag(tiff(folder, "slide.ome.tiff", ome=True), 322, 0)


def png(folder: Path) -> Path:
    Image.fromarray(PIXELS).save(folder / "slide.png")
    return folder / "slide.png"


def chunk(kind: bytes, data: bytes) -> bytes:
    check_sum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check_sum


def huge_png(folder: Path) -> Path:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    path = folder / "slide.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9999))))
    return path


def text_bomb(folder: Path) -> Path:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27)))
    data = png(folder).read_bytes()
    (folder / "slide.png").write_bytes(data[:33] + text + data[33:])
    return folder / "slide.png"


def cut_png(folder: Path) -> Path:
    os.truncate(png(folder), 9000)
    return folder / "slide.png"


def transparent(folder: Path) -> Path:
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(folder / "slide.png")
    return folder / "slide.png"


def jpeg_by_another_name(folder: Path) -> Path:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG")
    (folder / "slide.tiff").write_bytes(out.getvalue())
    return folder / "slide.tiff"


def ome(
    folder: Path, path: str = "0", shape: tuple[int, ...] | None = None, **more: object
) -> Path:
    """`PIXELS` as an OME-Zarr, or an array that only says how large it is."""
    group = zarr.open_group(str(folder / "slide.zarr"), mode="w")
    if shape is None:
        group.create_array("0", data=PIXELS)
    else:
        group.create_array("0", shape=shape, dtype="u1", **more)
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}, {"name": "c"}]
    scales = [{"axes": axes, "datasets": [{"path": path}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    return folder / "slide.zarr"


def no_axes(folder: Path) -> Path:
    path = ome(folder)
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0]["datasets"] = [{"way": "0"}]
    (path / "zarr.json").write_text(json.dumps(document))
    return path


def escaping(folder: Path) -> Path:
    zarr.open_group(str(folder / "other.zarr"), mode="w").create_array("0", data=PIXELS)
    return ome(folder, "../other.zarr/0")


def pages(folder: Path, *images: np.ndarray) -> Path:
    """A TIFF with an image a page, the last of 0.5 µm."""
    with tifffile.TiffWriter(folder / "slide.tiff") as file:
        for image in images:
            kind = "minisblack" if image.ndim == 2 else "rgb"
            file.write(image, photometric=kind, metadata=None)
    return folder / "slide.tiff"


def turned(folder: Path) -> Path:
    upside_down, tags = PIXELS[::-1, ::-1], [(274, "H", 1, 3, True)]
    tifffile.imwrite(
        folder / "slide.tiff", upside_down, photometric="rgb", tile=(16, 16), extratags=tags
    )
    return folder / "slide.tiff"


def turned_png(folder: Path) -> Path:
    picture = Image.fromarray(PIXELS[::-1, ::-1])
    exif = picture.getexif()
    exif[274] = 3
    picture.save(folder / "slide.png", exif=exif)
    return folder / "slide.png"


def inks(folder: Path) -> Path:
    cmyk = np.dstack([255 - PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    Image.fromarray(cmyk, "CMYK").save(folder / "slide.tiff")
    return folder / "slide.tiff"


def lab(folder: Path) -> Path:
    tifffile.imwrite(folder / "slide.tiff", PIXELS, photometric="cielab", metadata=None)
    return folder / "slide.tiff"


def dyed_zarr(folder: Path) -> Path:
    path = ome(folder)
    document = json.loads((path / "zarr.json").read_text())
    labels = [{"label": name} for name in ("DAPI", "FITC", "Cy5")]
    document["attributes"]["ome"]["omero"] = {"channels": labels}
    (path / "zarr.json").write_text(json.dumps(document))
    return path


def of_olympus(folder: Path) -> Path:
    return tiff(folder, "slide.vsi")


def no_dicom(folder: Path) -> Path:
    (folder / "slide").mkdir()
    (folder / "slide" / "1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(500))
    return folder / "slide"


TURNED = "<file>: note: stored turned or mirrored (Orientation <n>); it is shown as that says"
SCAN = "give the brightfield scan of the stained section, saved as 8-bit RGB"
BIG = "<file>: says that it has <width> x <height> px; export the slide again"
NO_TIFF = "<file>: not a readable TIFF (<why>); copy or export it again"
OME = "<file>: damaged OME metadata (<why>); convert the slide again"
DAMAGED = (
    "<file>: level <n> cannot be read at y <y>, x <x> (<why>); the file is damaged: copy it again"
)
ROWS = [
    row("missing", "no file", "<file>: no such file; check the manifest column `slide`", missing),
    row(
        "no_slide",
        "something else by the name of a slide",
        "<file>: not a slide (no format of OpenSlide, TIFF, OME-Zarr, PNG or JPEG); check the file "
        "or export it again",
        words,
    ),
    row(
        "other_suffix",
        "a PNG called .tiff",
        "",
        jpeg_by_another_name,
        READS,
    ),
    row(
        "no_mpp",
        "no pixel size in the file",
        "<file>: the file has no µm per pixel; give it in the manifest column `mpp`",
        tiff,
        mpp=None,
    ),
    row(
        "bad_mpp",
        "a pixel size below zero",
        "<file>: mpp -1.0 is not a pixel size; give µm per pixel, as 0.25",
        tiff,
        mpp=-1.0,
    ),
    row("tiff_cut", "TIFF cut", "<file>: <why>it again", cut_tiff),
    row("half_a_tile", "JPEG tiles half written", DAMAGED, half_a_tile),
    row(
        "sixteen_bits",
        "TIFF of 16 bits",
        "<file>: axes <names> <shape> of uint16; save it as 8-bit RGB TIFF",
        sixteen_bits,
    ),
    row(
        "huge_tiff",
        "TIFF of 2e9 x 2e9 px declared",
        "<file>: <n> tiles of <m> are there; copy or export it again",
        huge_tiff,
    ),
    row(
        "tile_table_short",
        "a tile table that is too short",
        "<file>: <n> tiles of <m> are there; copy or export it again",
        short_table,
    ),
    row(
        "huge_tile",
        "tiles of 65,536 x 65,536 px declared",
        "<file>: in tiles of <width> x <height> px; save it in tiles of 256 x 256 px",
        huge_tile,
    ),
    row(
        "thumbnail_first",
        "a thumbnail before the scan",
        "<file>: note: image 2 (<size>) of 2 is taken as the slide; the others are smaller",
        lambda folder: pages(folder, PIXELS[::4, ::4], PIXELS),
        READS,
    ),
    row(
        "two_scenes",
        "two images of about the same size",
        "<file>: 2 images; image 2 (<size>) is taken as the slide because it is the largest: write "
        "#scene=N after the file's name to take another (#scene=1 is image 1 (<size>))",
        lambda folder: pages(folder, PIXELS[:, :90], PIXELS),
        READS,
    ),
    row(
        "scene_chosen",
        "the same, with `#scene=2`",
        "",
        lambda folder: Path(f"{pages(folder, np.tile(PIXELS, (2, 1, 1)), PIXELS)}#scene=2"),
        READS,
    ),
    row(
        "no_such_scene",
        "`#scene=3` of a file of two images",
        "<file>: has no image 3 that can be the slide; it has #scene=1, #scene=2",
        lambda folder: Path(f"{pages(folder, PIXELS, PIXELS)}#scene=3"),
    ),
    row(
        "fluorescence",
        "five grey planes beside an RGB thumbnail",
        "<file>: image 1 (<size>), the largest of 2, is 5 grey planes, as of fluorescence, and no "
        f"RGB; {SCAN} (or write #scene=2 after its name for image 2 (<size>))",
        lambda folder: pages(folder, *[PIXELS[..., 0]] * 5, PIXELS[::4, ::4]),
    ),
    row(
        "grey_of_16_bits",
        "one grey plane of 16 bits",
        f"<file>: it is one grey plane of uint16, as of fluorescence or a mask, and no RGB; {SCAN}",
        lambda folder: pages(folder, PIXELS[..., 0].astype(np.uint16)),
    ),
    row("turned", "TIFF with the tag Orientation", TURNED, turned, READS),
    row("turned_png", "PNG (or JPEG) turned by Exif", TURNED, turned_png, READS),
    row("cmyk", "CMYK", "", inks, READS),
    row(
        "lab",
        "Lab, not in tiles",
        "<file>: colours of the kind CIELAB are not read; save it as 8-bit RGB TIFF",
        lab,
    ),
    row(
        "vsi",
        "a format that is not read (VSI, LIF, iSyntax …)",
        "<file>: the format (Olympus VSI, whose pixels are in the folder beside it) is not read; "
        "export it as OME-TIFF from QuPath, or with bfconvert of Bio-Formats",
        of_olympus,
    ),
    row(
        "dicom_folder",
        "a folder of DICOM files that are no slide",
        "<file>: not a slide that OpenSlide can open (<why>); copy or export it again",
        no_dicom,
    ),
    row("tile_of_nothing", "tiles of no width", NO_TIFF, tile_of_nothing),
    row(
        "png_bomb",
        "PNG of 30,000 x 30,000 px in 100 bytes",
        "<file>: <width> x <height> px is too large for a PNG or JPEG; save it as a pyramidal TIFF, "
        "or smaller",
        huge_png,
    ),
    row(
        "png_text_bomb",
        "PNG with a text that unpacks to 128 MiB",
        "<file>: not a readable PNG or JPEG; export it again",
        text_bomb,
    ),
    row("png_cut", "PNG cut", "<file>: the picture is damaged (<why>); export it again", cut_png),
    row("transparent", "PNG with an alpha channel", "", transparent, READS),
    row(
        "ome_dyes",
        "OME-Zarr whose channels are dyes",
        f"<file>: it is fluorescence (channels DAPI, FITC, Cy5); {SCAN}",
        dyed_zarr,
    ),
    row("ome_no_path", "OME-Zarr without the path of its levels", OME, no_axes),
    row("ome_escapes", "OME-Zarr whose level is ../other.zarr", OME, escaping),
    row(
        "ome_huge",
        "OME-Zarr of 1e9 x 1e9 px declared",
        BIG,
        lambda folder: ome(folder, shape=(10**9, 10**9, 3), chunks=(64, 64, 3)),
    ),
    row(
        "ome_huge_chunk",
        "OME-Zarr with chunks of 3e9 bytes",
        "<file>: chunks of <shape>; write it in chunks of 512 x 512 px",
        lambda folder: ome(folder, shape=(40_000, 40_000, 3), chunks=(32_000, 32_000, 3)),
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """In the manifest, where it would stop every specimen; see test_manifest."""
    from msiscale.cohort import read_manifest

    pipe(tmp_path)
    (tmp_path / "a.imzML").touch()
    (tmp_path / "m.csv").write_text("specimen,msi,slide\na,a.imzML,slide.tiff\n")
    assert "pipe" in read_manifest(str(tmp_path / "m.csv")).problems["a"]
