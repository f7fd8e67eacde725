"""What automatic registration looks at: channels of a slide, and of a specimen's cube."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import zarr
from numpy.typing import NDArray
from skimage.color import rgb2hed

from msiscale.grid import Block, Floats, PixelSize, blocks, scaling, translation
from msiscale.models.moments import Moments
from msiscale.models.pca import PCA
from msiscale.registration.picture import Picture, smoothed
from msiscale.slide.reader import Slide
from msiscale.slide.tissue import off_slide, tissue_pixels
from msiscale.slide.working import working
from msiscale.store import array_of, read
from msiscale.threads import one_blas_thread

PER_PIXEL = 4  # slide pixels to an MSI pixel, each way
MOST_PIXELS = 4_000_000  # of the slide picture
MODES = 6
MOST_MZ = 256  # strongest m/z that the modes are made of
_SIDE = 64  # of the blocks that are read, always the same: sums depend on the cut in the last bits


def slide_picture(slide: Slide, pixel_um: PixelSize) -> tuple[Picture, Floats, NDArray[np.uint8]]:
    """Tissue, haematoxylin, eosin, optical density and its texture, as an MSI pixel sees them.

    Returns
    -------
    picture : about `PER_PIXEL` pixels to an MSI pixel, at most about `MOST_PIXELS`
    to_slide : matrix from its µm (`Picture.to_um`) to level-0 pixels
    rgb : (h, w, 3) uint8, what it was made of
    """
    area = slide.shape[0] * slide.mpp[0] * slide.shape[1] * slide.mpp[1]
    mpp = max(min(pixel_um) / PER_PIXEL, float(np.sqrt(area / MOST_PIXELS)), *slide.mpp)
    image = working(slide, mpp)
    rgb = image.read(0, 0, *image.shape)
    picture = slide_channels(rgb, image.mpp, float(np.sqrt(pixel_um[0] * pixel_um[1])))
    dy, dx = image.downsample
    to_level = scaling(dx, dy) @ translation(0.5, 0.5)  # of pixel centres
    return picture, to_level @ np.linalg.inv(picture.to_um), rgb


def slide_channels(rgb: NDArray[np.uint8], mpp: PixelSize, side_um: float) -> Picture:
    """Compute the channels of `slide_picture` from an image.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8.
    mpp
        Size of its pixels, µm.
    side_um
        Side of the square pixel that the channels are smoothed to, µm.

    Returns
    -------
    Picture
        (h, w, 5) float32: tissue, haematoxylin, eosin, optical density and its texture.
    """
    tissue = tissue_pixels(rgb).astype(np.float32)
    bare = off_slide(rgb)
    stains = rgb2hed(rgb)[..., :2].astype(np.float32)
    density = -np.log10((rgb.mean(axis=-1) + 1) / 256).astype(np.float32)
    layers = np.stack([tissue, *np.moveaxis(stains, -1, 0), density, density**2], axis=-1)
    layers[bare] = np.nan
    found = smoothed(Picture(layers, mpp), side_um).values
    texture = np.sqrt(np.maximum(found[..., 4] - found[..., 3] ** 2, 0))
    return Picture(np.concatenate([found[..., :4], texture[..., None]], axis=-1), mpp)


def msi_picture(group: zarr.Group, pixel_um: PixelSize) -> Picture:
    """Compute the logarithm of the total and the first modes of a specimen's cube.

    Modes are of the square roots of the shares of the total, which makes counting noise even.
    Memory: a block of `_SIDE` pixels of the cube, and `MODES` + 1 channels of the whole.

    Returns
    -------
    Picture
        (y, x, `MODES` + 1) float32 at the cube's own resolution, NaN where nothing was measured.
    """
    with one_blas_thread():
        total, chosen = _totals(group)
        sums = Moments.empty(0, len(chosen))
        for _, _, rows in _shares(group, chosen, total):
            sums = sums + Moments.of(None, rows, dtype=np.float64)
        modes = PCA.from_moments(sums, n_components=MODES)
        values = np.full((*total.shape, 1 + modes.n_components_), np.nan, np.float32)
        for block, measured, rows in _shares(group, chosen, total):
            values[block.slices][measured, 1:] = modes.transform(rows)
    norm = array_of(group, "norm")
    level = total if norm.attrs["of"] == "none" else read(group, "norm")
    with np.errstate(invalid="ignore", divide="ignore"):
        values[..., 0] = np.where(total > 0, np.log(level), np.nan)
    return Picture(values, pixel_um)


def _totals(group: zarr.Group) -> tuple[Floats, NDArray[np.int64]]:
    """Sum of every pixel's intensities (NaN: not measured), and the m/z with the most signal."""
    cube = array_of(group, "intensity")
    total = np.full(cube.shape[:2], np.nan)
    signal = np.zeros(cube.shape[2])
    for block in blocks((cube.shape[0], cube.shape[1]), (_SIDE, _SIDE)):
        values = np.asarray(cube[block.slices], np.float64)
        total[block.slices] = values.sum(axis=-1)
        signal += np.nansum(values / np.maximum(total[block.slices], 1e-30)[..., None], axis=(0, 1))
    strongest = np.argsort(-signal, kind="stable")[:MOST_MZ]
    return total, np.sort(strongest)


def _shares(
    group: zarr.Group, chosen: NDArray[np.int64], total: Floats
) -> Iterator[tuple[Block, NDArray[np.bool_], Floats]]:
    """Blocks, their measured pixels, and the roots of those pixels' shares (pixels, m/z)."""
    cube = array_of(group, "intensity")
    for block in blocks((cube.shape[0], cube.shape[1]), (_SIDE, _SIDE)):
        measured = total[block.slices] > 0
        if measured.any():
            values = np.asarray(cube[block.slices])[measured][:, chosen].astype(np.float64)
            share = values / total[block.slices][measured][:, None]
            yield block, measured, np.sqrt(np.maximum(share, 0))
