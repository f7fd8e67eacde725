"""What is in a TIFF: its images, their pages, how their numbers are colours, and their µm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from tifffile import COMPRESSION, PHOTOMETRIC

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.slide.backend import plausible_mpp
from msiscale.slide.turned import TURNS
from msiscale.slide.which import Image, dyes, the_slide

MOST_TILE = 1 << 27  # pixels of a tile or strip, which is decoded whole
JPEG = {COMPRESSION.JPEG, COMPRESSION.OJPEG}
JPEG2000 = {COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB}
_OWN_COLOURS = JPEG | JPEG2000  # codecs that turn YCbCr into RGB themselves
GREY = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE}
_EXTRA = {1: "premultiplied", 2: "alpha"}  # by the tag ExtraSamples; of another it is no alpha
_ORIENTATION = 274
_SAVE = "save it as 8-bit RGB TIFF"
_UM = dict.fromkeys(("µm", "μm", "um", "micron", "micrometer"), 1.0) | {
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "m": 1e6,
}


@dataclass(frozen=True)
class TiffImage:
    """An image of a TIFF, and how it is read."""

    image: Image
    levels: list[list[Any]]  # the page of each level, or its pages of one channel each
    colours: str  # what its samples are: rgb, alpha, premultiplied, unused (a fourth) or cmyk
    odd: str  # why its tiles are not decoded here, though OpenSlide may show them; "" if they are
    power: str  # of the objective, as the file says

    @property
    def first(self) -> Any:
        """The page of level 0, or the first of them."""
        return self.levels[0][0]

    @property
    def orientation(self) -> int:
        """What the tag Orientation says: 1 is as stored, 2 to 8 are turned or mirrored."""
        found = self.first.tags.valueof(_ORIENTATION, 1)
        return int(found) if found in TURNS else 1

    @property
    def plain(self) -> bool:
        """RGB in pages of one plane, the right way up: what OpenSlide shows is what is stored."""
        return self.colours == "rgb" and all(len(p) == 1 and _is_plain(p[0]) for p in self.levels)


def images_of(tiff: tifffile.TiffFile) -> list[TiffImage]:
    """Every image of a file that has a height and a width, in the order of the file."""
    found: list[tuple[Any, Any, int]] = []  # where it begins, its series, which of its pages
    for number, series in enumerate(tiff.series):
        for part in range(_count(series)):
            page = series.pages[part] or series.keyframe
            index = page.index
            found.append((index if isinstance(index, tuple) else (index,), (number, series), part))
    if not tiff.is_ome:  # which counts its images itself
        found.sort(key=lambda item: item[0])
    told = _ome_pixels(tiff) if tiff.is_ome else []
    return [
        _described(tiff, series, told[number] if number < len(told) else None, part, place)
        for place, (_, (number, series), part) in enumerate(found, 1)
    ]


def chosen_image(
    path: str, tiff: tifffile.TiffFile, scene: int | None
) -> tuple[TiffImage, list[str]]:
    """The image that is the slide, and what to say of that; InputError if there is none."""
    images = images_of(tiff)
    slide, notes = the_slide(path, [one.image for one in images], scene)
    return next(one for one in images if one.image is slide), notes


def of_openslide(path: str, scene: int | None) -> tuple[bool, list[str]]:
    """Whether the slide of a plain TIFF is what OpenSlide shows of it, and what to say of that."""
    # which is the first page and its reduced copies: it sees neither SubIFDs nor OME-XML, and turns
    # every tile by itself where there is a tag Orientation
    try:
        with tifffile.TiffFile(path) as tiff:
            slide, notes = chosen_image(path, tiff, scene)
            others = tiff.is_ome or tiff.pages.first.subifds
            same = slide.first.offset == tiff.pages.first.offset and slide.orientation == 1
            return bool(same and not others), notes
    except InputError:
        raise
    except Exception:  # tifffile raises nearly anything of tags that are not sound
        return True, []  # OpenSlide will say what is wrong


def _count(series: Any) -> int:
    """Images of a series: pages that are alike are a stack where nothing says otherwise."""
    sizes = dict(zip(series.axes, series.shape, strict=False))
    many = [n for axis, n in sizes.items() if axis in "IQ" and n > 1]
    stack = series.kind in ("generic", "uniform", "shaped") and len(many) == 1
    if not stack or series.keyframe.photometric in GREY or many[0] != len(series.pages):
        return 1
    return int(many[0])


def _described(tiff: tifffile.TiffFile, series: Any, ome: Any, part: int, place: int) -> TiffImage:
    """The image number `place`, which is `part` of a series and the element `ome` of OME-XML."""
    one_of_many = _count(series) > 1
    levels: list[list[Any]] = []
    for level in series.levels:
        pages = [page for page in level.pages if page is not None]
        pages = pages[part : part + 1] if one_of_many else pages
        width = pages[0].imagewidth if pages else 0
        if pages and not (levels and width >= levels[-1][0].imagewidth):
            levels.append(pages)
    first = levels[0][0] = levels[0][0].aspage()
    axes = zip(series.axes, series.shape, strict=False)
    sizes = {a: n for a, n in axes if a in "YX" or (n != 1 and not (one_of_many and a in "IQ"))}
    text = str(first.description)
    channels = list(_ome_channels(ome))
    power = re.search(r"AppMag\s*=\s*([\d.]+)", text)
    name = series.name if series.kind in ("ome", "svs", "qpi", "scn", "bif") else text[:200]
    image = Image(
        place,
        (first.imagelength, first.imagewidth),
        _ome_mpp(ome) or _mpp(tiff, series, first),
        _trouble(sizes, first, channels),
        str(name),
    )
    colours = _colours(first, len(levels[0]))
    odd = _odd(series, sizes, first, len(levels[0]))
    return TiffImage(image, levels, colours, odd, power[1] if power else "")


def _trouble(sizes: dict[str, int], page: Any, channels: Sequence[str]) -> str:
    """Why it is no picture of a stained section; "" where it may be one."""
    named = f" ({', '.join(channels[:6])})" if any(channels) else ""
    if stained := dyes(channels):
        return f"fluorescence (channels {', '.join(stained[:6])})"
    if {"Y", "X"} - set(sizes):
        return f"no picture (axes {''.join(sizes)})"
    if page.photometric not in GREY:
        return ""
    planes = int(np.prod([n for axis, n in sizes.items() if axis not in "YX"] or [1]))
    kind = "" if page.dtype == np.uint8 else f" of {page.dtype or 'no known type'}"
    if planes == 1:
        return f"one grey plane{kind}{named}, as of fluorescence or a mask, and no RGB"
    return f"{planes} grey planes{kind}{named}, as of fluorescence, and no RGB"


def _colours(page: Any, pages: int) -> str:
    """What the samples of a pixel are."""
    if page.photometric == PHOTOMETRIC.SEPARATED:
        return "cmyk"
    if max(page.samplesperpixel, pages) < 4:
        return "rgb"
    extra = tuple(int(value) for value in page.extrasamples)
    # without the tag, or with four pages, it is an alpha as Pillow takes it
    return _EXTRA.get(extra[0], "unused") if extra else "alpha"


def _odd(series: Any, sizes: dict[str, int], page: Any, pages: int) -> str:
    """Why its tiles are not decoded here."""
    samples = int(np.prod([n for axis, n in sizes.items() if axis not in "YX"] or [1]))
    if set(sizes) - set("YXSC") or samples not in (3, 4) or page.dtype != np.uint8:
        return f"axes {series.axes} {series.shape} of {page.dtype}; {_SAVE}"
    if pages not in (1, samples):
        return f"{pages} pages for one image; {_SAVE}"
    codec, colours = page.compression, page.photometric
    foreign = colours == PHOTOMETRIC.YCBCR and codec not in _OWN_COLOURS
    if codec not in tifffile.TIFF.DECOMPRESSORS or foreign or codec == 33003:
        return (
            f"TIFF compression {int(codec)} cannot be decoded; save it with JPEG or deflate "
            "compression"
        )
    inks = colours == PHOTOMETRIC.SEPARATED and samples == 4 and codec not in _OWN_COLOURS
    if inks and page.tags.valueof(332, 1) == 1:  # InkSet: cyan, magenta, yellow, black
        return ""
    if colours not in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        return f"colours of the kind {PHOTOMETRIC(colours).name} are not read; {_SAVE}"
    return ""


def check_tiles(path: str, page: Any) -> None:
    """Tiles of a bearable size, and an offset and a length for every one of them."""
    h, w = tile_shape(page)
    if h * w > MOST_TILE:
        raise InputError(f"{path}: in tiles of {w} x {h} px; save it in tiles of 256 x 256 px")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    wanted = -(-page.imagelength // h) * -(-page.imagewidth // w) * planes
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if found < wanted:
        raise InputError(f"{path}: {found} tiles of {wanted} are there; copy or export it again")


def tile_shape(page: Any) -> tuple[int, int]:
    """(height, width) of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _is_plain(page: Any) -> bool:
    turned = page.tags.valueof(_ORIENTATION, 1) != 1
    return page.samplesperpixel == 3 and page.planarconfig == 1 and not turned


def _mpp(tiff: tifffile.TiffFile, series: Any, page: Any) -> PixelSize | None:
    """µm per pixel from Aperio's or ImageJ's description or the resolution tags of the page."""
    aperio = re.search(r"\|\s*MPP\s*=\s*([\d.]+)", str(page.description))
    if aperio and (found := plausible_mpp(float(aperio[1]), None)):
        return found
    unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit))
    if series.kind == "imagej" and tiff.imagej_metadata:
        unit = str(tiff.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ") or unit
    if unit not in _UM or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    x, y = (page.tags[tag].value for tag in ("XResolution", "YResolution"))
    if not (x[0] and y[0]):
        return None
    return plausible_mpp(_UM[unit] * y[1] / y[0], _UM[unit] * x[1] / x[0])


def _ome_pixels(tiff: tifffile.TiffFile) -> list[Any]:
    """The elements ``Pixels`` of the file's OME-XML, one an image."""
    try:
        root = ElementTree.fromstring(tiff.ome_metadata or "", forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException):
        return []
    return [node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"]


def _ome_channels(pixels: Any) -> Iterator[str]:
    """Names of an image's channels, and of the dyes in them."""
    for node in () if pixels is None else pixels:
        if node.tag.rpartition("}")[2] == "Channel":
            lit = "fluorescence" if node.get("ContrastMethod") == "Fluorescence" else ""
            yield " ".join(filter(None, (node.get("Name"), node.get("Fluor"), lit)))


def _ome_mpp(pixels: Any) -> PixelSize | None:
    """Physical size of a pixel by OME-XML, in µm."""
    if pixels is None:
        return None
    sizes: list[float | None] = []
    for axis in "YX":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = _UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(float(size) * unit if size and unit else None)
    return plausible_mpp(*sizes)
