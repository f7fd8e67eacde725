"""Restoring degraded images: known answers, and the same answer whatever the block."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from msiscale.fusion import (
    DEFAULT,
    InMemory,
    Measured,
    Scores,
    fit,
    measured_grid,
    nested,
    restore,
    score,
)
from msiscale.fusion.pansharpening import ihs, matching, slopes
from msiscale.fusion.restoring import METHODS, Fit
from msiscale.models import Moments

GUIDED = ("laplacian", "ihs", "gihs", "pls", "pls_residual", "ours", "ours_residual")


def phantom(
    shape: tuple[int, int] = (90, 83), t: int = 5, seed: int = 0, noise: float = 0.02
) -> Measured:
    """Ions that follow a guide of fine structure, each in its own way, on a round of tissue."""
    rng = np.random.default_rng(seed)
    coarse, fine = (gaussian_filter(rng.normal(size=shape), s) * s for s in (6, 1.2))
    pan = coarse + 2 * fine
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = (y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2 < 0.22
    mask[20:24, 30:37] = False
    tilt = np.linspace(-1, 1.5, t)
    ions = 8 + tilt * pan[..., None] + gaussian_filter(rng.normal(size=(*shape, t)), (5, 5, 0)) * 3
    ions += noise * rng.normal(size=ions.shape)
    variables = np.stack([pan, pan**2, gaussian_filter(pan, 2)], axis=-1)
    features = np.concatenate([variables, rng.normal(size=(*shape, 4))], axis=-1)
    unmeasured = np.where(mask[..., None], ions, np.nan)
    return Measured(mask, unmeasured, pan, variables, features)


def restored(data: Measured, factor: int, methods=DEFAULT) -> dict[str, NDArray[np.float32]]:  # type: ignore[no-untyped-def]
    images = InMemory((*data.shape, data.ions.shape[2]))
    found = fit(data, factor, methods, alphas=(1e-3, 1e-1))
    assert restore(found, measured_grid(data, factor), methods, images) == list(methods)
    return images.images


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_the_block_does_not_change_the_answer(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = phantom((70, 61))
    found = fit(data, factor, METHODS)
    answers = []
    for cell in (16, 40, 1000):
        monkeypatch.setattr(nested, "CELL", cell)
        images = InMemory((*data.shape, 5))
        restore(found, measured_grid(data, factor), METHODS, images)
        answers.append((images.images, score(data, images, METHODS)))
    for images, scores in answers[1:]:
        for method in METHODS:
            if "pls" in method or "ours" in method:  # a product of matrices may round otherwise
                np.testing.assert_allclose(images[method], answers[0][0][method], rtol=1e-5)
            else:
                np.testing.assert_array_equal(images[method], answers[0][0][method])
            for metric, value in scores[method].values().items():
                np.testing.assert_allclose(value, answers[0][1][method].values()[metric], rtol=1e-5)


def test_the_fit_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    data = phantom()
    whole = fit(data, 2, ("pls", "ours"))
    monkeypatch.setattr(nested, "CELL", 16)
    cut = fit(data, 2, ("pls", "ours"))
    for name in ("pls", "ours"):
        np.testing.assert_allclose(cut.models[name].coef, whole.models[name].coef, atol=1e-8)


@pytest.mark.parametrize("method", GUIDED)
def test_a_guide_helps_where_it_should(method: str) -> None:
    data = phantom(noise=0.0)
    images = InMemory((*data.shape, 5), restored(data, 4))
    found = score(data, images, DEFAULT)
    strong = [0, 4]  # ions with a slope on the guide worth the name
    guided, plain = (found[m].values()["correlation"][strong] for m in (method, "bicubic"))
    if method == "ihs":  # which takes two ions of opposite sign along with the guide
        assert guided.max() > plain.max()
    else:
        assert (guided > plain + 0.02).all()


@pytest.mark.parametrize("method", [m for m in DEFAULT if m not in ("ihs", "pls", "ours")])
def test_a_constant_stays_constant(method: str) -> None:
    data = phantom()
    flat = Measured(
        data.mask, np.full(data.ions.shape, 3.0), data.pan, data.variables, data.features
    )
    values = restored(flat, 4)[method]
    np.testing.assert_allclose(values[data.mask], 3, rtol=1e-5)
    assert np.isnan(values[~data.mask]).all()


def test_a_residual_gives_the_coarse_image_back_better() -> None:
    data = phantom()
    images = restored(data, 4)
    coarse = nested.degrade(data.read("ions", _whole(data)), 4)
    errors = {
        m: np.nanmean((nested.degrade(images[m], 4) - coarse) ** 2) for m in ("pls", "pls_residual")
    }
    assert errors["pls_residual"] < 0.1 * errors["pls"]


def test_gihs_and_laplacian_at_one_level_agree_where_slopes_do() -> None:
    data = phantom(noise=0.0)
    exact = 2 + 1.5 * np.asarray(data.pan)[..., None] + 10
    same = Measured(data.mask, exact, data.pan, data.variables)
    images = restored(same, 2, ("gihs", "laplacian"))
    np.testing.assert_allclose(images["gihs"], images["laplacian"], rtol=1e-4)
    np.testing.assert_allclose(images["gihs"][data.mask], exact[data.mask], rtol=1e-4)


def test_ihs_is_the_transform_there_and_back() -> None:
    rng = np.random.default_rng(2)
    coarse, pan = rng.normal(5, 1, (6, 6, 3)), rng.normal(0, 2, (12, 12))
    low = nested.degrade(pan, 2)
    sums = Moments.of(low.reshape(-1, 1), coarse.reshape(-1, 3), dtype=np.float64)
    scale = sums.scale("m")
    colours = nested.upsample(coarse, 2, "bicubic") / scale
    there = np.array([[1, 1, 1], [-1, -1, 2], [1, -1, 0]]) / np.array([[3], [6], [2]])
    parts = colours @ there.T  # intensity, and two that hold hue and saturation
    mean, tilt = matching(sums, slice(0, 3))
    parts[..., 0] = mean + tilt * (pan - sums.mean_x[0])
    expected = parts @ np.linalg.inv(there).T * scale
    np.testing.assert_allclose(ihs(coarse, pan, 2, sums), expected, atol=1e-10)
    matched = mean + tilt * (low - sums.mean_x[0])
    intensity = (coarse / scale).mean(axis=-1)
    assert matched.mean() == pytest.approx(intensity.mean())
    assert matched.std() == pytest.approx(intensity.std())


def test_slopes_of_a_guide_that_does_not_vary() -> None:
    sums = Moments.of(np.ones((9, 1)), np.arange(18.0).reshape(9, 2), dtype=np.float64)
    slope, variance = slopes(sums)
    assert slope.tolist() == [0, 0] and variance == 0


def test_too_few_pixels_for_a_regression() -> None:
    data = phantom((24, 24))
    found = fit(data, 12, DEFAULT)
    assert isinstance(found, Fit) and not found.models and found.pixels < 10
    images = InMemory((*data.shape, 5))
    possible = restore(found, measured_grid(data, 12), DEFAULT, images)
    assert possible == ["nearest", "bilinear", "bicubic", "laplacian", "ihs", "gihs"]


def test_deep_methods_need_features() -> None:
    data = phantom()
    bare = Measured(data.mask, data.ions, data.pan, data.variables)
    with pytest.raises(ValueError, match="deep features"):
        fit(bare, 2, ("ours",))


def test_scores_are_those_of_whole_images() -> None:
    rng = np.random.default_rng(3)
    truth, mask = rng.normal(size=(80, 70, 2)), np.ones((80, 70), bool)
    mask[:10, :9] = False
    other = truth + 0.5 * rng.normal(size=truth.shape)
    other[~mask] = np.nan
    data = Measured(mask, truth, truth[..., 0], truth)
    found = score(data, InMemory((80, 70, 2), {"m": other.astype(np.float32)}), ["m"])["m"]
    values = found.values()
    a, b = truth[mask], other[mask]
    for i in range(2):
        assert values["correlation"][i] == pytest.approx(np.corrcoef(a[:, i], b[:, i])[0, 1])
        rmse = np.sqrt(((a[:, i] - b[:, i]) ** 2).mean()) / a[:, i].std()
        assert values["rmse"][i] == pytest.approx(rmse, rel=1e-5)
        zero = [np.where(mask, v[..., i], 0) for v in (truth, other)]
        _, whole = structural_similarity(*zero, win_size=7, data_range=np.ptp(a[:, i]), full=True)
        inner = np.zeros(mask.shape, bool)
        inner[3:-3, 3:-3] = True
        inner[:13, :12] = False
        assert values["ssim"][i] == pytest.approx(whole[inner].mean(), rel=1e-5)


def test_an_image_is_like_itself() -> None:
    truth, mask = np.random.default_rng(4).normal(size=(20, 20, 1)), np.ones((20, 20), bool)
    whole = (slice(0, 20), slice(0, 20))
    values = Scores.of(truth, truth, mask, whole, np.array([5.0])).values()
    assert [float(values[k][0]) for k in values] == pytest.approx([1, 0, 1])


def _whole(data: Measured):  # type: ignore[no-untyped-def]
    from msiscale.grid import Block

    return Block(0, data.shape[0], 0, data.shape[1])
