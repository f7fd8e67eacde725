"""Folds within specimens: every pixel held out once, nothing near it in its training."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.models.partition import folds_of, group_of, pixel_folds, spatial_blocks


@st.composite
def masks(draw):
    shape = draw(st.tuples(st.integers(4, 24), st.integers(4, 24)))
    seed = draw(st.integers(0, 99))
    return np.random.default_rng(seed).random(shape) < draw(st.floats(0.2, 1))


def pixels(units, names, mask):
    found = np.zeros(mask.shape, int)
    for name in names:
        found += units[name]
    return found


@given(masks(), st.floats(0, 6))
@settings(max_examples=40, deadline=None)
def test_blocks_are_held_out_once_and_their_surroundings_train_nothing(mask, buffer):
    cut = spatial_blocks(mask, buffer)
    units = cut.units()
    total = pixels(units, units, mask)
    np.testing.assert_array_equal(total, mask.astype(int))
    y, x = np.nonzero(mask)
    for fold in folds_of(units):
        test, train = (pixels(units, names, mask) for names in (fold.test, fold.train))
        assert {group_of(u) for u in fold.test} == {fold.name}
        assert test.max() <= 1 and train.max() <= 1
        far = np.hypot(
            y[:, None] - y[None, test[y, x] > 0], x[:, None] - x[None, test[y, x] > 0]
        ).min(axis=1)
        np.testing.assert_array_equal(train[y, x] > 0, far > buffer)


def test_blocks_are_compact_and_of_equal_size():
    groups = spatial_blocks(np.ones((8, 12), bool), 0).groups
    assert groups.tolist()[0] == [0] * 6 + [2] * 6 and groups.tolist()[7] == [1] * 6 + [3] * 6


def test_a_buffer_that_leaves_nothing_leaves_no_fold():
    assert folds_of(spatial_blocks(np.ones((6, 6), bool), 20).units()) == []


@given(masks(), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_pixels_are_dealt_evenly_and_by_the_name_alone(mask, n):
    cut, again = pixel_folds(mask, n, "S1"), pixel_folds(mask, n, "S1")
    np.testing.assert_array_equal(cut.groups, again.groups)
    sizes = np.bincount(cut.groups[mask], minlength=n)
    assert sizes.max() - sizes.min() <= 1
    units = cut.units()
    for fold in folds_of(units):
        test, train = (pixels(units, names, mask) for names in (fold.test, fold.train))
        np.testing.assert_array_equal(test + train, mask.astype(int))


@given(masks(), st.floats(0, 3))
@settings(max_examples=20, deadline=None)
def test_inner_folds_know_nothing_of_what_the_outer_one_holds_out(mask, buffer):
    units = {f"a:b:{unit}": where for unit, where in spatial_blocks(mask, buffer).units().items()}
    y, x = np.nonzero(mask)
    for outer in folds_of(units):
        held = pixels(units, outer.test, mask)[y, x] > 0
        apart = np.hypot(y[:, None] - y[None, held], x[:, None] - x[None, held]).min(axis=1)
        for fold in folds_of(units, without=int(outer.name)):
            assert fold.name != outer.name and fold.test
            seen = pixels(units, (*fold.train, *fold.test), mask)[y, x] > 0
            assert (apart[seen] > buffer).all()
