"""Pictures of a slide that a page holds: the whole of it, and its tissue more finely."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from msiscale.grid import Block
from msiscale.report.specimen import data_uri, encoded
from msiscale.slide.reader import Slide
from msiscale.slide.tissue import tissue_pixels
from msiscale.slide.working import WorkingImage, working

WHOLE = 3000  #: pixels of the slide on the longer side, at most,
ROUGH = 1500  #: or of one whose tissue has a picture of its own
SMALL = 0.7  # of the slide's longer side: tissue that is smaller has one
BYTES = 5 << 19  #: of a picture, before it is text
QUALITIES = (85, 70, 50)  # of the JPEG, the first that has no more bytes
_MARGIN = 0.05  # around the tissue


def pictures(slide: Slide) -> list[dict[str, Any]]:
    """The slide as JPEGs; a later one lies over those before it.

    Parameters
    ----------
    slide
        Read at the level that fits, never whole.

    Returns
    -------
    list of dict
        ``uri``; ``x``, ``y``: its corner in level-0 pixels; ``dx``, ``dy``: level-0 pixels to each
        of its pixels, exactly.
    """
    rough = _at(slide, slide.shape, ROUGH)
    rgb = rough.read(0, 0, *rough.shape)
    box = _tissue(rgb)
    if box is None or max(box.shape) > SMALL * max(rough.shape):
        whole = _at(slide, slide.shape, WHOLE)
        return [_picture(whole, Block(0, whole.shape[0], 0, whole.shape[1]))]
    found = [_jpeg(rgb, rough, (0, 0))]
    dy, dx = rough.downsample
    fine = _at(slide, (box.shape[0] * dy, box.shape[1] * dx), WHOLE)
    if fine.mpp.side < 0.9 * rough.mpp.side:
        sy, sx = dy / fine.downsample[0], dx / fine.downsample[1]
        edges = box.y0 * sy, box.y1 * sy, box.x0 * sx, box.x1 * sx
        there = Block(*(int(edge) for edge in edges)) & Block(0, fine.shape[0], 0, fine.shape[1])
        if there is not None:
            found.append(_picture(fine, there))
    return found


def _at(slide: Slide, level0: tuple[float, float], side: int) -> WorkingImage:
    """The slide at which so many level-0 pixels have at most about `side` pixels each way."""
    longest = max(level0[0] * slide.mpp.y, level0[1] * slide.mpp.x)
    return working(slide, max(longest / side, *slide.mpp))


def _tissue(rgb: NDArray[np.uint8]) -> Block | None:
    """The box around what looks like tissue, specks left out; None if nothing does."""
    mask = ndimage.binary_opening(tissue_pixels(rgb), iterations=3)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    by = int(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 1
    grown = Block(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1).grown(by)
    return grown & Block(0, rgb.shape[0], 0, rgb.shape[1])


def _picture(image: WorkingImage, block: Block) -> dict[str, Any]:
    return _jpeg(image.read(block.y0, block.x0, *block.shape), image, (block.y0, block.x0))


def _jpeg(rgb: NDArray[np.uint8], image: WorkingImage, corner: tuple[int, int]) -> dict[str, Any]:
    """Compressed to `BYTES` at most, if need be with half as many pixels."""
    shown, (dy, dx) = Image.fromarray(rgb), image.downsample
    place = {"x": corner[1] * dx, "y": corner[0] * dy}
    while True:
        made = (encoded(shown, "JPEG", quality) for quality in QUALITIES)
        data = next((d for d in made if len(d) <= BYTES), None)
        if data is not None:
            return {"uri": data_uri(data, "jpeg"), **place, "dx": dx, "dy": dy}
        shown, dy, dx = shown.reduce(2), 2 * dy, 2 * dx
