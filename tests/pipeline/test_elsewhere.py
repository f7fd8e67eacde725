"""Pixels that take their features from another place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import shift

from msiscale.grid import Block
from msiscale.pipeline.elsewhere import HERE, Elsewhere

IMAGE = np.random.default_rng(0).normal(size=(9, 11, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "where", [HERE, Elsewhere(1, -2), Elsewhere(0.5, 0.25), Elsewhere(-1.5, 2)]
)
def test_what_is_taken_is_that_of_the_place_in_any_cut(where):
    want = shift(IMAGE, (-where.dy, -where.dx, 0), order=1, mode="nearest")
    whole = where.take(IMAGE, Block(0, 9, 0, 11))
    np.testing.assert_allclose(whole, want, atol=1e-6)
    part = where.take(IMAGE, Block(2, 7, 3, 9))
    np.testing.assert_array_equal(part, whole[2:7, 3:9])


def test_mirrors_are_of_the_whole_image():
    turned = Elsewhere(flip_y=True, flip_x=True)
    np.testing.assert_array_equal(turned.take(IMAGE, Block(0, 9, 0, 11)), IMAGE[::-1, ::-1])
    np.testing.assert_array_equal(turned.take(IMAGE, Block(0, 2, 0, 3)), IMAGE[::-1, ::-1][:2, :3])
    np.testing.assert_array_equal(Elsewhere(flip_x=True).rolled(IMAGE), IMAGE[:, ::-1])


@pytest.mark.parametrize(
    "where", [Elsewhere(1, -2), Elsewhere(0.5, 0), Elsewhere(0.5, -1.5, True, False)]
)
def test_only_pixels_whose_source_is_usable_are_kept(where):
    mask = np.random.default_rng(1).random((9, 11)) < 0.7
    holes = np.where(mask, 1.0, np.nan).astype(np.float32)[..., None]
    kept = where.all_of(mask)
    values = where.take(holes, Block(0, 9, 0, 11))[..., 0]
    assert kept.any() and np.isfinite(values[kept]).all()
    edge = np.zeros_like(mask)
    edge[2:-2, 2:-2] = True  # where nothing comes from outside
    np.testing.assert_array_equal(np.isfinite(values) & edge, kept & edge)


def test_labels_roll_round():
    rolled = Elsewhere(2, 3).rolled(IMAGE)
    assert np.array_equal(rolled[0, 0], IMAGE[2, 3]) and np.array_equal(rolled[-1, -1], IMAGE[1, 2])
