"""Deformed pixels: exact areas, no gaps, and the bits of the affine map where nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from msiscale import grid
from msiscale.features.preview import preview
from msiscale.grid import Block, apply, scaling, translation
from msiscale.placing import (
    GridMap,
    finer,
    from_block,
    indices,
    pixel_areas,
    pixel_corners,
    places,
    stretch,
)
from msiscale.regridding import covered_by_half, overlap, regrid

SHAPE = (7, 9)
SOURCE = (61, 58)
WHOLE = Block(0, SHAPE[0], 0, SHAPE[1])
TURN = np.array([[4.1, -2.3, 13.0], [2.2, 4.3, 1.5], [0, 0, 1]])
MIRROR = TURN @ np.diag([-1.0, 1, 1]) @ translation(-8, 0)


def waves(size: float = 0.4, seed: int = 0) -> np.ndarray:
    """Moves of the corners, smooth, up to `size` pixels."""
    rng = np.random.default_rng(seed)
    y, x = (np.linspace(0, np.pi, n + 1) for n in SHAPE)
    out = np.zeros((SHAPE[0] + 1, SHAPE[1] + 1, 2))
    for k in range(2):
        for _ in range(3):
            a, b, c, d = rng.uniform(-2, 2, 4)
            out[..., k] += np.sin(a * y + b)[:, None] * np.sin(c * x + d)
    return size * out / np.abs(out).max()


def corner_points() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0] + 1, : SHAPE[1] + 1] - 0.5
    return np.stack([x, y], axis=-1)


def dense(shared) -> np.ndarray:
    each = shared.cells()
    out = np.zeros((len(each.start) - 1, *each.source_shape))
    out[each.pixel, each.y, each.x] = each.area
    return out


@pytest.mark.parametrize("matrix", [TURN, MIRROR])
def test_a_deformation_by_nothing_has_the_bytes_of_the_affine_map(matrix: np.ndarray) -> None:
    still = GridMap(matrix, np.zeros((8, 10, 2)))
    one, other = (overlap(m, WHOLE, SOURCE) for m in (matrix, still))
    for name in ("start", "y", "x", "length", "area"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    image = np.random.default_rng(1).random((*SOURCE, 2))
    for name in ("values", "coverage"):
        np.testing.assert_array_equal(
            regrid(image, matrix, SHAPE)[name], regrid(image, still, SHAPE)[name]
        )


def test_a_constant_deformation_is_a_shift() -> None:
    by = np.broadcast_to([0.37, -0.81], (8, 10, 2))
    one = overlap(GridMap(TURN, by), WHOLE, SOURCE)
    other = overlap(TURN @ translation(0.37, -0.81), WHOLE, SOURCE)
    np.testing.assert_allclose(dense(one), dense(other), atol=1e-9)
    np.testing.assert_allclose(one.pixel_area, other.pixel_area, rtol=1e-12)


def test_a_deformation_may_be_an_affine_map() -> None:
    change = np.array([[1.06, 0.04, -0.3], [-0.05, 0.97, 0.2], [0, 0, 1]])
    placing = GridMap(TURN, apply(change, corner_points()) - corner_points())
    one, other = (overlap(m, WHOLE, SOURCE) for m in (placing, TURN @ change))
    np.testing.assert_allclose(dense(one), dense(other), atol=1e-9)
    points = np.random.default_rng(0).uniform(-0.5, 6.5, (20, 2))  # between corners too
    np.testing.assert_allclose(places(placing, points), apply(TURN @ change, points), atol=1e-9)


@pytest.mark.parametrize("matrix", [TURN, MIRROR, scaling(0.3), TURN @ scaling(3.0)])
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_shapely(matrix: np.ndarray, seed: int) -> None:
    placing = GridMap(matrix, waves(seed=seed))
    y, x = np.mgrid[: SOURCE[0], : SOURCE[1]]
    cells = shapely.box(x, y, x + 1, y + 1)
    pixels = shapely.polygons(pixel_corners(placing, WHOLE).reshape(-1, 4, 2))
    got = dense(overlap(placing, WHOLE, SOURCE))
    for pixel, areas in zip(pixels, got, strict=True):
        expected = shapely.area(shapely.intersection(cells, pixel))
        np.testing.assert_allclose(areas, expected, atol=1e-9)
    found = np.ravel(pixel_areas(placing, WHOLE))
    np.testing.assert_allclose(found, shapely.area(pixels), rtol=1e-9)


def test_nothing_is_lost_or_counted_twice_between_pixels() -> None:
    placing = GridMap(TURN, waves())
    source = 80, 80  # all of the grid lies on it
    whole = GridMap(translation(20, 8) @ TURN, placing.shift)
    shared = overlap(whole, WHOLE, source)
    assert dense(shared).sum(axis=0).max() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(shared.covered(), shared.pixel_area, rtol=1e-10)
    rim = pixel_corners(whole, WHOLE)
    ring = np.concatenate([rim[0, :, 0], rim[:, -1, 1], rim[-1, ::-1, 2], rim[::-1, 0, 3]])
    assert shared.covered().sum() == pytest.approx(shapely.Polygon(ring).area, rel=1e-10)


def test_no_block_changes_a_bit() -> None:
    placing = GridMap(TURN, waves())
    whole = dense(overlap(placing, WHOLE, SOURCE)).reshape(*SHAPE, *SOURCE)
    for block in grid.blocks(SHAPE, (3, 4)):
        part = dense(overlap(placing, block, SOURCE)).reshape(*block.shape, *SOURCE)
        np.testing.assert_array_equal(part, whole[block.slices])
    image = np.random.default_rng(1).random((*SOURCE, 2))
    one, other = (regrid(image, placing, SHAPE, block=b)["values"] for b in ((64, 64), (2, 5)))
    np.testing.assert_array_equal(one, other)
    inner = Block(2, 6, 1, 8)
    moved = pixel_corners(from_block(placing, inner), Block(0, 4, 0, 7))
    np.testing.assert_allclose(moved, pixel_corners(placing, inner), atol=1e-9)


def test_pixels_made_of_whole_others_have_their_means() -> None:
    # corners of the deformed grid that are corners of a finer, straight one: known truth
    fine = translation(3, 2) @ scaling(2.0)
    rows, columns = np.array([0, 2, 3, 6, 7]), np.array([0, 1, 4, 5, 8, 10])
    straight = np.stack(np.meshgrid(np.arange(6) * 2.0, np.arange(5) * 2.0), axis=-1)
    wanted = np.stack(np.meshgrid(columns, rows), axis=-1).astype(float)
    coarse = fine @ translation(0.5, 0.5) @ scaling(2.0)  # two of the fine to a pixel
    placing = GridMap(coarse, (wanted - straight) / 2)
    image = np.random.default_rng(3).random((24, 28))
    each = regrid(image, fine, (7, 10))["values"].to_numpy()
    found = regrid(image, placing, (4, 5))["values"].to_numpy()
    for i, j in np.ndindex(4, 5):
        part = each[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        assert found[i, j] == pytest.approx(part.mean(), rel=1e-6), (i, j)


def test_parts_of_a_pixel_fill_it() -> None:
    placing = GridMap(TURN, waves())
    parts = finer(placing, 3)
    small = np.asarray(pixel_areas(parts, WHOLE.scaled(3)))
    whole = np.asarray(pixel_areas(placing, WHOLE))
    np.testing.assert_allclose(small.reshape(7, 3, 9, 3).sum(axis=(1, 3)), whole, rtol=1e-12)
    outer, inner = pixel_corners(placing, WHOLE), pixel_corners(parts, WHOLE.scaled(3))
    np.testing.assert_allclose(inner[::3, ::3, 0], outer[:, :, 0], atol=1e-12)
    np.testing.assert_allclose(inner[2::3, 2::3, 2], outer[:, :, 2], atol=1e-12)
    np.testing.assert_array_equal(finer(TURN, 1), TURN)


def test_beyond_the_grid_the_border_goes_on() -> None:
    placing = GridMap(TURN, waves())
    far = pixel_corners(placing, Block(-3, 10, -2, 12))
    assert shapely.is_ccw(shapely.linearrings(far.reshape(-1, 4, 2))).all()
    np.testing.assert_array_equal(far[3:10, 2:11], pixel_corners(placing, WHOLE))


def test_points_are_found_again() -> None:
    placing = GridMap(TURN, waves(0.8))
    points = np.random.default_rng(0).uniform(0, 6, (50, 2))
    back = apply(np.linalg.inv(TURN), places(placing, points))
    np.testing.assert_allclose(indices(placing, back), points, atol=1e-6)
    np.testing.assert_array_equal(indices(TURN, back), back)


def test_tissue_and_preview_follow_the_deformation() -> None:
    by = np.zeros((8, 10, 2))
    by[..., 0] = 2.0  # two pixels to the right
    flat = scaling(4.0) @ translation(0.5, 0.5)
    mask = np.zeros((28, 44), bool)
    mask[:, 20:28] = True
    found = covered_by_half(mask, (1.0, 1.0), GridMap(flat, by), WHOLE)
    assert found[:, 3:5].all() and found.sum() == 14
    part = covered_by_half(mask, (1.0, 1.0), GridMap(flat, by), Block(2, 5, 3, 6))
    np.testing.assert_array_equal(part, found[2:5, 3:6])

    class Slide:
        shape, downsample = (28, 44), (1.0, 1.0)

        def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
            return np.where(mask, 0, 200).astype(np.uint8)[y : y + h, x : x + w, None].repeat(3, 2)

    seen = preview(Slide(), GridMap(flat, by), SHAPE, 2)
    assert (seen[:, 6:10] == 0).all() and (seen[:, :6] == 200).all()


def test_what_folds_is_refused() -> None:
    by = np.zeros((8, 10, 2))
    by[3, 4, 0] = 1.2
    assert stretch(by)[0] < 0 and stretch(np.zeros((8, 10, 2))) == (1, 1)
    with pytest.raises(ValueError, match="folds a pixel"):
        GridMap(TURN, by)
    with pytest.raises(ValueError, match="not finite"):
        GridMap(TURN, np.full((8, 10, 2), np.nan))
    with pytest.raises(ValueError, match="a deformation is"):
        GridMap(TURN, np.zeros((8, 10)))
