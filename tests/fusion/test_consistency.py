"""Parts whose mean is the pixel: what says whether they are, and what makes them so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from msiscale.fusion import (
    DEFAULT,
    InMemory,
    Measured,
    consistency,
    fit,
    make_consistent,
    measured_grid,
    nested,
    restore,
    score,
)
from msiscale.fusion.consistency import with_means


def phantom(shape: tuple[int, int] = (63, 58), t: int = 4) -> Measured:
    """Ions that follow a guide, some of them faint, on a round of tissue."""
    rng = np.random.default_rng(0)
    pan = sum(gaussian_filter(rng.normal(size=shape), s) * s for s in (6, 1.2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = (y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2 < 0.22
    ions = 0.5 + np.linspace(-1, 1.5, t) * pan[..., None] + 0.3 * rng.normal(size=(*shape, t))
    variables = np.stack([pan, pan**2, gaussian_filter(pan, 2)], axis=-1)
    unmeasured = np.where(mask[..., None], np.maximum(ions, 0), np.nan)
    return Measured(mask, unmeasured, pan, variables, variables)


def test_means_are_those_measured_and_nothing_is_below_zero() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1, 1, size=(11, 9, 3))
    values[2:5, 3:7] = np.nan
    coarse = rng.exponential(size=(4, 3, 3))
    coarse[0, 0, 1] = 0.0  # nothing was measured there
    coarse[3, 2] = np.nan  # or not at all
    found = with_means(values, coarse, 3)
    assert np.nanmin(found) >= 0 or np.isnan(coarse[3, 2]).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    mean, known = nested.degrade(found, 3), np.isfinite(nested.degrade(values, 3))
    known &= np.isfinite(coarse)
    np.testing.assert_allclose(mean[known], coarse[known], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found[9:, 6:], values[9:, 6:])  # nothing to be consistent with


def test_it_is_the_nearest_such_image() -> None:
    values = np.array([[0.2, 3.0], [0.9, 1.4]])[..., None]
    found = with_means(values, np.array([[[0.5]]]), 2).ravel()
    total = {"type": "eq", "fun": lambda v: v.mean() - 0.5}
    best = minimize(
        lambda v: ((v - values.ravel()) ** 2).sum(), np.full(4, 0.5), bounds=[(0, None)] * 4,
        constraints=[total], tol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(found, best.x, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_images_that_were_not_consistent_become_so(factor: int) -> None:
    data = phantom()
    images = InMemory((*data.shape, 4))
    grid = measured_grid(data, factor)
    restore(fit(data, factor, DEFAULT, alphas=(1e-3, 1e-1)), grid, DEFAULT, images)
    before = {m: s.values() for m, s in consistency(factor, grid, DEFAULT, images).items()}
    quality = {m: s.values()["rmse"] for m, s in score(data, images, DEFAULT).items()}
    assert (before["nearest"]["rmse"] < 1e-6).all()  # each part is the pixel
    assert (before["pls"]["rmse"] > before["pls_residual"]["rmse"]).all()
    make_consistent(factor, grid, DEFAULT, images)
    for method, found in consistency(factor, grid, DEFAULT, images).items():
        assert (found.values()["rmse"] < 1e-6).all(), method
        assert (found.values()["correlation"] > 1 - 1e-9).all()
        # as the truth is consistent, the nearest consistent image is no further from it
        after = score(data, images, [method])[method].values()["rmse"]
        assert (after <= quality[method] + 1e-6).all(), method
    assert np.isnan(images.images["pls"][~data.mask]).all()
