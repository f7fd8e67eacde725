"""Nested grids: means, interpolation, and that a window changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiscale.fusion import nested


def test_degraded_is_the_mean_of_what_was_measured() -> None:
    values = np.arange(20.0).reshape(4, 5, 1)
    values[0, 0] = np.nan
    coarse = nested.degrade(values, 2)[..., 0]
    assert coarse.shape == (2, 3)
    assert coarse[0, 0] == pytest.approx((1 + 5 + 6) / 3)
    assert coarse[1, 2] == pytest.approx((14 + 19) / 2)  # beyond the border there is nothing


@given(st.integers(2, 8), st.integers(1, 9), st.integers(0, 1000))
def test_degrade_undoes_nearest(factor: int, size: int, seed: int) -> None:
    coarse = np.random.default_rng(seed).normal(size=(size, size, 2))
    fine = nested.upsample(coarse, factor, "nearest")
    np.testing.assert_allclose(nested.degrade(fine, factor), coarse, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize(("kernel", "degree"), [("bilinear", 1), ("bicubic", 2)])
def test_interpolation_reproduces_polynomials(
    factor: int, kernel: nested.Kernel, degree: int
) -> None:
    def surface(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray((1 + 2 * y[:, None] - x[None, :]) ** degree)

    at = np.arange(12.0)
    fine = (np.arange(12 * factor) + 0.5) / factor - 0.5
    found = nested.upsample(surface(at, at)[..., None], factor, kernel)[..., 0]
    inner = slice(2 * factor, -2 * factor)
    np.testing.assert_allclose(found[inner, inner], surface(fine, fine)[inner, inner], atol=1e-9)


def test_filled_continues_what_was_measured() -> None:
    values = np.full((5, 5, 1), np.nan)
    values[2, 2] = 7
    found = nested.filled(values, 1)[..., 0]
    assert (found[1:4, 1:4] == 7).all() and found[0, 0] == 0
    assert (nested.filled(values, 2) == 7).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_windows_tile_the_grid(h: int, w: int, factor: int) -> None:
    seen = np.zeros((h, w), int)
    for core, around in nested.windows((h, w), factor):
        seen[core.slices] += 1
        assert around.y0 <= core.y0 and around.y1 <= h and around.x1 >= core.x1
    assert (seen == 1).all()


def test_share_counts_measured_pixels() -> None:
    mask = np.ones((3, 4), bool)
    mask[0, 0] = False
    assert nested.share(mask, 2).tolist() == [[0.75, 1.0], [0.5, 0.5]]
    assert nested.prime_factors(12) == (2, 2, 3)
