"""Variables of the H&E: exact means, whatever the block."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.fusion import nested
from msiscale.fusion.variables import (
    NAMES,
    halo_of,
    luminance,
    parts_of,
    raster_pixels,
    slide_on_raster,
    slide_variables,
)
from msiscale.grid import Block, scaling, translation


class Picture:
    """An image in memory, white outside."""

    downsample = (1.0, 1.0)

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape = pixels, pixels.shape[:2]

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.pixels[y : y + h, x : x + w]


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(0)
    return Picture(rng.integers(0, 256, (240, 260, 3)).astype(np.uint8))


# MSI pixels of 16 slide pixels, turned and moved
MATRIX = translation(120, -20) @ np.array([[13.9, -8.1, 0.0], [8.1, 13.9, 0.0], [0.0, 0.0, 1.0]])


def of(picture: Picture, block: Block, parts: int, per_pixel: int = 8) -> np.ndarray:
    inner, halo = nested.times(block, per_pixel // parts), halo_of(per_pixel)
    wide = Block(inner.y0 - halo, inner.y1 + halo, inner.x0 - halo, inner.x1 + halo)
    return slide_variables(slide_on_raster(picture, MATRIX, per_pixel, wide), per_pixel, parts)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_block_does_not_change_a_bit(picture: Picture, parts: int) -> None:
    whole = of(picture, Block(0, 8 * parts, 0, 6 * parts), parts)
    assert whole.shape == (8 * parts, 6 * parts, len(NAMES)) and np.isfinite(whole).all()
    for part in (Block(0, 2, 0, 3), Block(3, 8, 2, 6)):
        block = nested.times(part, parts)
        np.testing.assert_array_equal(of(picture, block, parts), whole[block.slices])


def test_those_of_a_pixel_are_the_mean_of_its_parts(picture: Picture) -> None:
    coarse, fine = (of(picture, Block(0, 4 * p, 0, 4 * p), p) for p in (1, 4))
    np.testing.assert_allclose(nested.degrade(fine, 4), coarse, atol=1e-12)


def test_off_the_slide_is_white(picture: Picture) -> None:
    found = of(picture, Block(-90, -88, -90, -88), 1)
    assert luminance(found) == pytest.approx(np.ones((2, 2)))
    assert found[..., 3:] == pytest.approx(0, abs=1e-6)


def test_colours_are_area_means(picture: Picture) -> None:
    inside = Block(2, 3, 4, 6)
    rgb = slide_on_raster(picture, scaling(16) @ translation(0.5, 0.5), 8, inside)
    expected = picture.pixels[4:6, 8:12].reshape(2, 2, 2, 3).mean(axis=(0, 2))
    np.testing.assert_allclose(rgb[0], expected, atol=1e-9)


def test_stains_are_told_apart() -> None:
    from skimage.color import hed2rgb

    hed = np.zeros((140, 140, 3))
    hed[:, :70, 0] = hed[:, 70:, 1] = 0.2
    found = slide_variables(255 * hed2rgb(hed), 8, 1)
    left, right = found[:, 1], found[:, -2]
    h, e = NAMES.index("haematoxylin"), NAMES.index("eosin")
    assert (left[:, h] > 3 * np.abs(left[:, e])).all()
    assert (right[:, e] > 3 * np.abs(right[:, h])).all()


def test_pixels_are_cut_into_powers_of_two() -> None:
    assert [parts_of(100, um) for um in (100, 99, 50, 30, 25, 1)] == [1, 2, 2, 4, 4, 128]
    assert [raster_pixels(um) for um in (100, 50, 10, 3)] == [16, 8, 2, 1]
    assert raster_pixels(10, 8) == 8
