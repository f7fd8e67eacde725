from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale import grid
from msiscale.grid import Block
from msiscale.placing import pixel_corners
from msiscale.regridding import overlap, regrid


def affine(scale=3.7, degrees=0.0, shear=0.0, mirror=False, shift=(0.0, 0.0), ratio=1.0):
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    linear = turn @ np.array([[1, shear], [0, ratio]]) * scale
    matrix = np.eye(3)
    matrix[:2, :2] = linear @ np.diag([-1 if mirror else 1, 1])
    matrix[:2, 2] = shift
    return matrix


affines = st.builds(
    affine,
    scale=st.floats(0.2, 9),
    degrees=st.one_of(st.sampled_from([0.0, 45.0, 90.0, 180.0, 270.0]), st.floats(-180, 180)),
    shear=st.sampled_from([0.0, 0.3, -0.8]),
    mirror=st.booleans(),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    ratio=st.sampled_from([1.0, 0.5, 2.3]),
)


def centred(matrix, shape, source_shape):
    """The same map, moved so that the MSI grid's middle meets the source's."""
    middle = grid.apply(matrix, [(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    shift = np.array(source_shape[::-1]) / 2 - middle
    return grid.translation(*shift) @ matrix


@settings(max_examples=60, deadline=None)
@given(affines)
def test_areas_are_those_of_shapely(matrix):
    block = Block(2, 5, 7, 10)
    source_shape = (24, 20)
    matrix = centred(matrix, (7, 17), source_shape)
    got = np.zeros((9, *source_shape))
    shared = overlap(matrix, block, source_shape).cells()
    got[shared.pixel, shared.y, shared.x] = shared.area
    y, x = np.mgrid[: source_shape[0], : source_shape[1]]
    cells = shapely.box(x, y, x + 1, y + 1)
    pixels = shapely.polygons(pixel_corners(matrix, block).reshape(9, 4, 2))
    for pixel, areas in zip(pixels, got, strict=True):
        expected = shapely.area(shapely.intersection(cells, pixel))
        np.testing.assert_allclose(areas, expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(affines, st.floats(0, 1e5))
def test_a_pixel_inside_the_source_has_its_whole_area(matrix, far):
    matrix = grid.translation(far + 500.0, 2 * far + 700.0) @ matrix
    shared = overlap(matrix, Block(0, 4, 0, 5), (10**6, 10**6))
    det = abs(np.linalg.det(matrix[:2, :2]))
    np.testing.assert_allclose(shared.covered(), det, rtol=2e-9)
    assert (shared.coverage() == 1).all()
    assert (np.diff(shared.y * 10**6 + shared.x)[np.diff(shared.pixel) == 0] > 0).all()


@settings(max_examples=40, deadline=None)
@given(affines, st.integers(1, 5), st.integers(1, 5))
def test_a_pixel_has_the_same_bits_in_any_block(matrix, h, w):
    shape, source_shape = (7, 6), (30, 40)
    matrix = centred(matrix, shape, source_shape)
    whole = overlap(matrix, Block(0, 7, 0, 6), source_shape)
    for block in grid.blocks(shape, (h, w)):
        part = overlap(matrix, block, source_shape)
        for k, (i, j) in enumerate(np.ndindex(*block.shape)):
            p = (block.y0 + i) * shape[1] + block.x0 + j
            a, b = slice(*part.start[k : k + 2]), slice(*whole.start[p : p + 2])
            for name in ("y", "x", "area"):
                assert getattr(part, name)[a].tobytes() == getattr(whole, name)[b].tobytes()


def test_batches_do_not_change_the_areas(monkeypatch):
    matrix = affine(11.3, 20, shift=(100, 100))
    whole = overlap(matrix, Block(0, 20, 0, 20), (400, 400))
    monkeypatch.setattr("msiscale.regridding._BATCH", 1000)
    parts = overlap(matrix, Block(0, 20, 0, 20), (400, 400))
    for name in ("start", "y", "x", "area"):
        assert getattr(parts, name).tobytes() == getattr(whole, name).tobytes()


@settings(max_examples=40, deadline=None)
@given(affines, st.floats(-1e3, 1e3, allow_subnormal=False))
def test_a_constant_stays_constant(matrix, value):
    shape, source_shape = (9, 8), (17, 21)
    out = regrid(np.full(source_shape, value), centred(matrix, shape, source_shape), shape)
    values, coverage = out["values"].values, out["coverage"].values
    assert (np.isnan(values) == (coverage == 0)).all()
    np.testing.assert_allclose(values[coverage > 0], value, rtol=1e-12)
    assert coverage.min() >= 0 and coverage.max() <= 1


@settings(max_examples=30, deadline=None)
@given(affines)
def test_mass_is_conserved(matrix):
    # An MSI grid that covers the whole source: every cell is shared out completely.
    source = np.random.default_rng(1).normal(size=(6, 7, 2))
    scale = np.linalg.svd(matrix[:2, :2])[1].min()
    n = int(np.ceil(12 / scale)) + 3
    matrix = centred(matrix, (n, n), source.shape[:2])
    out = regrid(source, matrix, (n, n))
    det = abs(np.linalg.det(matrix[:2, :2]))
    mass = (out["values"] * out["coverage"].astype(float)).sum(("y", "x")) * det
    np.testing.assert_allclose(mass, source.sum((0, 1)), atol=1e-4)


def test_without_rotation_it_is_the_block_mean():
    source = np.random.default_rng(0).normal(size=(12, 20, 3))
    matrix = grid.translation(2, 2) @ grid.scaling(4.0)
    out = regrid(source, matrix, (3, 5))
    expected = source.reshape(3, 4, 5, 4, 3).mean((1, 3))
    np.testing.assert_allclose(out["values"], expected, atol=1e-12)
    assert (out["coverage"] == 1).all()


def test_cells_that_do_not_count():
    source = np.arange(16.0).reshape(4, 4)
    matrix = grid.translation(1, 1) @ grid.scaling(2.0)
    mask = np.ones((4, 4), bool)
    mask[0, 0] = False
    source[0, 1] = np.nan
    mask[2:, :2] = False
    out = regrid(source, matrix, (2, 3), mask=mask)
    np.testing.assert_allclose(out["coverage"], [[0.5, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(out["values"], [[4.5, 4.5, np.nan], [np.nan, 12.5, np.nan]])


def test_a_pixel_off_the_source_is_nan():
    out = regrid(np.ones((5, 5)), grid.translation(-1e4, 30), (3, 3))
    assert np.isnan(out["values"]).all()
    assert (out["coverage"] == 0).all()


def test_a_dask_source_is_lazy_and_gives_the_same_bits():
    source = np.random.default_rng(0).normal(size=(50, 60, 3)).astype(np.float32)
    matrix = centred(affine(3.1, 25, 0.1, True), (14, 13), source.shape[:2])
    plain = regrid(source, matrix, (14, 13))
    named = xr.DataArray(
        da.from_array(source, chunks=(16, 20, 2)), dims=("y", "x", "c"), coords={"c": list("rgb")}
    )
    lazy = regrid(named, matrix, (14, 13), block=(5, 4))
    assert isinstance(lazy["values"].data, da.Array)
    assert lazy["values"].dims == ("y", "x", "c")
    assert list(lazy["c"].values) == ["r", "g", "b"]
    assert lazy["values"].dtype == np.float32
    for name in ("values", "coverage"):
        assert lazy[name].values.tobytes() == plain[name].values.tobytes()


def test_bad_input():
    with pytest.raises(ValueError, match="1-dimensional"):
        regrid(np.ones(4), np.eye(3), (2, 2))
    with pytest.raises(ValueError, match="mask"):
        regrid(np.ones((4, 4)), np.eye(3), (2, 2), mask=np.ones((3, 3)))
    with pytest.raises(ValueError, match="singular"):
        overlap(np.diag([1.0, 0.0, 1.0]), Block(0, 1, 0, 1), (4, 4))
