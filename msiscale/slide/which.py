"""Which image of a file is the slide: decided here, for every format.

A file may hold several: a scan and its thumbnail, label and macro image, the scenes of a
microscope, channels of fluorescence. The largest one is the slide, labels and the like left out,
if it is a picture of a stained section; where it is not, a smaller one that is does not stand in
for it. ``#scene=N`` after the file's name chooses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msiscale.errors import NOTE, InputError
from msiscale.grid import PixelSize

REMEDY = "give the brightfield scan of the stained section, saved as 8-bit RGB"
WORTH_A_WORD = 1 / 20  # of the slide's pixels: an image as large as that may be another section
_MOST_NAMED = 8
_BESIDE = re.compile(r"(?<![a-z])(label|macro|thumb(nail)?|overview|barcode)(?![a-z])", re.I)
_DYES = re.compile(
    r"dapi|hoechst|draq|fitc|tritc|cy ?[2357]|alexa|\b(af|opal|atto|bv|draq)[ -]?\d+|[ey]?gfp|yfp|"
    r"[cr]fp|texas ?red|mcherry|dsred|tomato|rhodamine|sytox|syto ?\d|\bpe\b|autofluo|fluor",
    re.I,
)


@dataclass(frozen=True)
class Image:
    """One image of a file."""

    number: int  # in the file, from 1: the N of ``#scene=N``
    shape: tuple[int, int]  # height and width
    mpp: PixelSize | None = None  # its own µm per pixel
    trouble: str = ""  # why it is no picture of a stained section; "" where it may be one
    name: str = ""

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1]

    @property
    def beside(self) -> bool:
        """Whether its name says that it is no scan."""
        return _BESIDE.search(self.name) is not None

    def __str__(self) -> str:
        height, width = self.shape
        size = f", {max(self.mpp):.3g} µm per pixel" if self.mpp else ""
        return f"image {self.number} ({width} x {height} px{size})"


def the_slide(
    path: str, images: Sequence[Image], scene: int | None, *, apart: bool = False
) -> tuple[Image, list[str]]:
    """The image that is the slide, and what to say of that choice.

    Parameters
    ----------
    path : str
        The file, for errors.
    images : sequence of Image
        All that are in it.
    scene : int, optional
        The one that the user asks for.
    apart : bool
        Whether they are of different places, so that none is a copy of another.

    Returns
    -------
    Image, list of str
        The texts do not name the file.

    Raises
    ------
    InputError
        There is no such image, or it is no picture of a stained section.
    """
    if scene is not None:
        found = [image for image in images if image.number == scene]
        if not found:
            have = ", ".join(f"#scene={image.number}" for image in images[:_MOST_NAMED])
            raise InputError(f"{path}: has no image {scene} that can be the slide; it has {have}")
        if found[0].trouble:
            raise InputError(f"{path}: {found[0]} is {found[0].trouble}; {REMEDY}")
        return found[0], []
    scans = [image for image in images if not image.beside] or list(images)
    colour = [image for image in scans if not image.trouble]
    largest = max(scans, key=lambda image: image.pixels)
    slide = max(colour, key=lambda image: image.pixels, default=None)
    if slide is None or slide.pixels < largest.pixels:
        raise InputError(f"{path}: {_refusal(largest, slide, len(images))}")
    return slide, _said(slide, colour, len(images), apart)


def _refusal(largest: Image, other: Image | None, count: int) -> str:
    if count == 1:
        return f"it is {largest.trouble}; {REMEDY}"
    asked = "" if other is None else f" (or write #scene={other.number} after its name for {other})"
    return f"{largest}, the largest of {count}, is {largest.trouble}; {REMEDY}{asked}"


def _said(slide: Image, colour: Sequence[Image], count: int, apart: bool) -> list[str]:
    others = [image for image in colour if image is not slide]
    large = [image for image in others if image.pixels >= WORTH_A_WORD * slide.pixels]
    rivals = [image for image in large if apart or not _copy(image, slide)]
    if rivals:
        listed = "; ".join(f"#scene={i.number} is {i}" for i in rivals[:_MOST_NAMED])
        return [
            f"{count} images; {slide} is taken as the slide because it is the largest: write "
            f"#scene=N after the file's name to take another ({listed})"
        ]
    if slide.number > min((image.number for image in others), default=slide.number):
        return [f"{NOTE}{slide} of {count} is taken as the slide; the others are smaller"]
    return []


def _copy(image: Image, slide: Image) -> bool:
    """Whether it has the slide's proportions and is much smaller: a thumbnail or a coarse level."""
    down = [full / part for full, part in zip(slide.shape, image.shape, strict=True)]
    rounding = 1 + 1.5 / min(image.shape)  # of the smaller one's size to whole pixels
    return min(down) > 1.5 and max(down) / min(down) <= max(1.02, rounding)


def dyes(names: Iterable[str]) -> list[str]:
    """Those of the channels' names that are of fluorescence."""
    return [name for name in names if _DYES.search(name)]
