"""A prediction laid elsewhere keeps its own smoothness and loses its place."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from msiscale.biomarkers.moved_images import LEAST, moved_correlation, moved_places


def disc(side: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return np.asarray(y**2 + x**2 < 1)


def test_places_are_moves_of_the_whole() -> None:
    held = disc(12)
    places = moved_places(held, 25)
    assert places.shape == (25, held.sum())
    assert len({tuple(p) for p in places}) == 25
    own = np.arange(held.sum())
    for place in places:
        there = place[place >= 0]
        assert len(set(there)) == len(there) >= LEAST * len(own)
        assert not np.array_equal(place, own)


def test_a_picture_that_moves_is_a_roll_or_a_mirror_image() -> None:
    held = np.ones((3, 4), bool)
    picture = np.arange(12)
    whole = picture.reshape(3, 4)
    every = {
        np.roll(m, (dy, dx), (0, 1)).tobytes()
        for m in (whole, whole[::-1], whole[:, ::-1], whole[::-1, ::-1])
        for dy in range(3)
        for dx in range(4)
    }
    found = moved_places(held, 100)
    assert len(found) == 47
    assert {picture[p].reshape(3, 4).tobytes() for p in found} == every - {whole.tobytes()}


def test_chance_agrees_on_the_mean_with_nothing() -> None:
    rng = np.random.default_rng(0)
    held = disc(40)
    smooth = gaussian_filter(rng.normal(size=(40, 40, 200)), (4, 4, 0))[held]
    a, b = smooth[:, :100], smooth[:, 100:]
    by_chance = moved_correlation(a, b, moved_places(held))
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)]
    assert np.std(r) > 0.2  # smooth images agree by chance
    assert abs(np.mean(by_chance)) < 0.03 and np.std(by_chance) < 0.15


def test_what_does_not_vary_or_move_tells_nothing() -> None:
    held = disc(10)
    flat = np.ones((int(held.sum()), 2))
    assert np.isnan(moved_correlation(flat, flat, moved_places(held))).all()
    alone = np.zeros((3, 3), bool)
    alone[1, 1] = True
    places = moved_places(alone)
    assert places.shape == (0, 1)
    assert np.isnan(moved_correlation(np.ones((1, 2)), np.ones((1, 2)), places)).all()
