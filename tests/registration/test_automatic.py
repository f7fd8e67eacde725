"""Pictures laid on each other by known maps: found again, or refused when there is nothing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from msiscale.grid import PixelSize, apply, scaling, translation
from msiscale.registration import Alignment, Pair, Picture, deform, register_pictures
from msiscale.registration.agreement import agreement, information, whitened
from msiscale.registration.picture import Sampler, coarsened, smoothed
from msiscale.registration.refine import polished, refine
from msiscale.registration.search import search, turned

UM, SLIDE_UM = 100.0, 50.0
SHAPE = (24, 26)


@lru_cache(maxsize=4)
def slide(seed: int = 0) -> Picture:
    """A lobed blob of tissue with two kinds of inner structure; the first channel is tissue."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.standard_normal((64, 70)), s) for s in (7, 3, 2)]
    noise = [n / n.std() for n in noise]
    y, x = np.indices((64, 70))
    tissue = np.hypot((y - 32) / 23, (x - 35) / 26) + 0.12 * noise[0] < 1
    layers = [tissue, tissue * (1 + 0.4 * noise[1]), tissue * noise[2]]
    values = np.stack(layers, axis=-1).astype(np.float32)
    return smoothed(Picture(values, PixelSize(SLIDE_UM, SLIDE_UM)), UM)


def truth(degrees: float, mirrored: bool, stretch: float = 1.0) -> np.ndarray:
    """MSI indices to µm of the slide, middle to middle."""
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    linear = turned(degrees, mirrored) @ scaling(UM * stretch, UM / stretch)
    return translation(35 * SLIDE_UM, 32 * SLIDE_UM) @ linear @ translation(*-middle)


def msi_of(matrix: np.ndarray, seed: int = 0, noise: float = 0.5) -> Picture:
    """Other channels than the slide's, bent mixtures of them with noise."""
    rng = np.random.default_rng([seed, 1])
    seen = Sampler(slide(seed))(np.linalg.inv(slide(seed).to_um) @ matrix, SHAPE)
    seen = np.nan_to_num(seen)
    mixed = np.exp(0.7 * (seen @ rng.standard_normal((3, 4))))
    mixed += noise * mixed.std(axis=(0, 1)) * rng.standard_normal(mixed.shape)
    return Picture(mixed.astype(np.float32), PixelSize(UM, UM))


def error_px(found: Alignment, matrix: np.ndarray) -> float:
    y, x = np.indices(SHAPE)
    points = np.stack([x, y], axis=-1)
    miss = apply(found.matrix, points) - apply(matrix, points)
    return float(np.sqrt((miss**2).sum(axis=-1).mean()) / UM)


@pytest.mark.parametrize(
    ("degrees", "mirrored", "stretch"), [(0, False, 1.0), (131.7, True, 1.02), (297.2, False, 0.98)]
)
def test_any_turn_and_mirror_image_is_found(degrees, mirrored, stretch) -> None:
    matrix = truth(degrees, mirrored, stretch)
    found = register_pictures(msi_of(matrix), slide())
    assert found.accepted, found.why
    assert found.mirrored == mirrored
    assert error_px(found, matrix) < 0.3


def test_part_of_the_msi_on_part_of_the_slide() -> None:
    matrix = truth(70, True)
    whole = msi_of(matrix)
    part = whole.values.copy()
    part[:, :7] = np.nan
    part[5:8, 18:21] = np.nan  # a hole that was not measured
    seen = slide().values.copy()
    seen[:14] = np.nan
    found = register_pictures(whole.channels(part), slide().channels(seen))
    assert found.accepted, found.why
    assert error_px(found, matrix) < 0.5
    assert found.overlap < 1


def test_the_slide_of_another_specimen_is_refused() -> None:
    found = register_pictures(msi_of(truth(200, False)), slide(3))
    assert not found.accepted
    assert not found.clear


def test_noise_is_refused_and_nothing_is_an_error() -> None:
    rng = np.random.default_rng(5)
    noise = Picture(rng.standard_normal((*SHAPE, 4)).astype(np.float32), PixelSize(UM, UM))
    assert not register_pictures(noise, slide()).accepted
    flat = Picture(np.ones((*SHAPE, 2), np.float32), PixelSize(UM, UM))
    with pytest.raises(ValueError, match="MSI has no structure"):
        register_pictures(flat, slide())


def test_a_symmetric_slide_cannot_tell_mirror_images_apart() -> None:
    half = slide().values[:, :35]
    both = slide().channels(np.concatenate([half, half[:, ::-1]], axis=1))
    seen = Sampler(both)(np.linalg.inv(both.to_um) @ truth(20, False), SHAPE)
    found = register_pictures(Picture(np.nan_to_num(seen), PixelSize(UM, UM)), both)
    assert not found.accepted
    assert any("another place" in text for text in found.why)


def test_the_same_to_the_last_bit() -> None:
    msi = msi_of(truth(115, True))
    one, two = (register_pictures(msi, slide()) for _ in range(2))
    np.testing.assert_array_equal(one.matrix, two.matrix)
    assert (one.confidence, one.z) == (two.confidence, two.z)


def test_search_scores_what_agreement_says() -> None:
    """The FFT sums are those of the overlap: at the true rotation the score is the agreement."""
    matrix = truth(0, False)
    msi = msi_of(matrix)
    best = search(msi, slide())[0]
    assert best.degrees == 0 and not best.mirrored
    small, at = coarsened(slide(), UM)
    x = whitened(msi.values[..., :5])
    y = whitened(small.values)[..., :4]
    to_index = np.linalg.inv(small.to_um) @ np.linalg.inv(at) @ best.matrix @ msi.to_um
    told = information(x, Sampler(small.channels(y))(to_index, SHAPE))
    assert best.score == pytest.approx(told, rel=0.02)


def test_agreement_is_the_mutual_information_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    a, b, shared = (rng.standard_normal((200, 200)) for _ in range(3))
    x = np.stack([shared, a], axis=-1)
    y = np.stack([0.6 * shared + 0.8 * b], axis=-1)
    found = agreement(whitened(x), whitened(y))
    assert found.total / x[..., 0].size == pytest.approx(-0.5 * np.log(1 - 0.36), rel=0.05)
    assert found.correlations[0] == pytest.approx(0.6, abs=0.02)
    assert found.each.sum() == pytest.approx(found.total, rel=1e-6)
    assert information(whitened(x), whitened(y)) == pytest.approx(found.total, rel=1e-9)


@given(st.floats(1.0, 4.0), st.integers(8, 30), st.integers(8, 30))
@settings(max_examples=20, deadline=None)
def test_a_coarser_picture_lies_where_the_finer_does(factor, h, w) -> None:
    y, x = np.indices((h, w))
    ramp = Picture(np.stack([x, y], axis=-1).astype(np.float32), PixelSize(2.0, 2.0))
    small, at = coarsened(ramp, 2.0 * factor)
    middle = np.array([small.shape[1] // 2, small.shape[0] // 2])
    own = apply(np.linalg.inv(ramp.to_um) @ at @ small.to_um, middle)
    if np.all(own > 3 * factor) and np.all(own < np.array([w, h]) - 1 - 3 * factor):
        np.testing.assert_allclose(small.values[middle[1], middle[0]], own, atol=1e-2)


def test_the_last_step_goes_to_the_top_and_never_down() -> None:
    matrix = truth(65, True, 1.01)
    msi = msi_of(matrix, noise=0.2)
    pair = Pair(msi.channels(whitened(msi.values)), slide().channels(whitened(slide().values)))
    right = matrix @ np.linalg.inv(msi.to_um)
    off = pair.moved(right, np.array([0.4, -0.7, 0.5, 0.6, 0.8, -0.6]))
    found = polished(pair, off)
    assert pair.information(found) >= pair.information(right) > pair.information(off)
    corners = [[0, 0], [SHAPE[1] - 1, 0], [SHAPE[1] - 1, SHAPE[0] - 1], [0, SHAPE[0] - 1]]
    points = apply(msi.to_um, corners)
    assert np.abs(apply(found, points) - apply(right, points)).max() < 0.1 * UM
    again = polished(pair, found)
    assert np.abs(apply(again, points) - apply(found, points)).max() < 0.02 * UM
    lost = translation(100 * UM, 0) @ right  # beside the slide
    np.testing.assert_array_equal(polished(pair, lost), lost)


def test_the_msi_is_not_looked_at_more_finely_than_the_slide() -> None:
    from msiscale.registration import working_pair

    matrix = truth(30, False)
    coarse, _ = coarsened(slide(), 2 * UM)
    pair, to_msi = working_pair(msi_of(matrix), coarse)
    assert pair.side == pytest.approx(2 * UM) and pair.msi.shape == (12, 13)
    middle = apply(to_msi, pair.middle)
    np.testing.assert_allclose(middle, [12.5 * UM, 11.5 * UM], atol=1e-6)


def test_a_large_msi_is_registered_on_a_coarser_copy(monkeypatch) -> None:
    from msiscale.registration import automatic

    matrix = truth(250, True)
    monkeypatch.setattr(automatic, "PIXELS", 16)
    found = register_pictures(msi_of(matrix), slide())
    assert found.pair.msi.shape[0] < SHAPE[0]
    assert found.accepted and error_px(found, matrix) < 0.6


def bent(amplitude: float) -> tuple[Pair, np.ndarray, np.ndarray]:
    """A pair whose MSI is displaced by a smooth field (MSI pixels), and where it truly lies."""
    matrix = truth(40, False)
    msi = msi_of(matrix, noise=0.1)
    y, x = np.indices(SHAPE)
    wave = np.stack([np.sin(2 * np.pi * y / 24), np.cos(2 * np.pi * x / 26)], axis=-1)
    moved = np.stack([x, y], axis=-1) + amplitude * wave
    values = Sampler(msi).at(moved)
    pair = Pair(msi.channels(whitened(values)), slide().channels(whitened(slide().values)))
    whole = matrix @ np.linalg.inv(msi.to_um)
    return pair, whole, apply(matrix, moved)


def test_a_deformation_is_kept_where_there_is_one() -> None:
    pair, matrix, lies = bent(1.0)
    start = refine(pair, matrix)
    found = deform(pair, start)
    assert found.accepted, found.why
    y, x = np.indices(SHAPE)
    points = apply(pair.msi.to_um, np.stack([x, y], axis=-1))
    inside = np.s_[6:-6, 6:-6]

    def miss(field: np.ndarray | float) -> float:
        away = (apply(start, points + field) - lies)[inside]
        return float(np.sqrt((away**2).sum(axis=-1).mean()) / UM)

    assert miss(found.field) < 0.6 * miss(0.0)
    assert 0.5 <= found.jacobian[0] < 1 < found.jacobian[1] <= 2
    assert found.evidence > 0


def test_no_deformation_is_kept_where_there_is_none() -> None:
    pair, matrix, _ = bent(0.0)
    found = deform(pair, refine(pair, matrix))
    assert not found.accepted and found.evidence < 0
    assert "the images speak for it by -" in "; ".join(found.why)
    assert found.rms_px < 0.1


def test_a_deformation_of_a_large_msi_is_found_from_rough_to_fine() -> None:
    # three times the pixels of the rough look, bent by more than a structure of them is wide
    n, um = 200, 5.0
    rng = np.random.default_rng(4)
    layers = [ndimage.gaussian_filter(rng.standard_normal((n, n)), s) for s in (2, 3, 5)]
    values = np.stack([layer / layer.std() for layer in layers], axis=-1).astype(np.float32)
    still = Picture(values, PixelSize(um, um))
    y, x = np.indices((n, n)).astype(float)
    away = 5.0 * np.stack([np.sin(2 * np.pi * y / n), np.cos(2 * np.pi * x / n)], axis=-1)
    moved = Sampler(still).at(np.stack([x, y], axis=-1) + away)
    pair = Pair(still.channels(whitened(moved)), still.channels(whitened(values)))
    found = deform(pair, np.eye(3))
    assert found.accepted, found.why
    inside = np.s_[20:-20, 20:-20]
    left = (found.field / um - away)[inside]
    assert np.sqrt((left**2).sum(axis=-1).mean()) < 0.3
    assert found.most_px > 3  # pixels this small may move by more than three of them


def test_a_spline_on_a_finer_grid() -> None:
    pair, matrix, _ = bent(1.0)
    found = deform(pair, matrix)
    coarse = found.spline.at_corners(SHAPE, PixelSize(UM, UM))
    fine = found.spline.at_corners((48, 52), PixelSize(UM / 2, UM / 2))
    assert fine.shape == (49, 53, 2)
    np.testing.assert_allclose(fine[::2, ::2], coarse, atol=1e-3)
    between = found.spline.at_centres(SHAPE, PixelSize(UM, UM))
    np.testing.assert_allclose(fine[1::2, 1::2], between, atol=1e-3)
    np.testing.assert_array_equal(between, found.field)
