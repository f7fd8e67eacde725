"""Classical features say what they are called."""

from __future__ import annotations

import numpy as np
import torch

from msiscale.features.encoders import load_encoder
from msiscale.features.stains import FINER, WIDER, WIDTHS_UM, Stains

SIDE = 240


def described(image: np.ndarray, mpp: float = 5.0) -> dict[str, np.ndarray]:
    """The maps by name, ``name`` and ``name_WIDTH``."""
    found: list[np.ndarray] = []
    Stains(mpp).visit(torch.from_numpy(image), lambda _, values: found.append(values.numpy()))
    fine, wide = found
    names = [f"{name}_{width:g}" for width in WIDTHS_UM for name in WIDER]
    assert fine.shape[2] == len(FINER) and wide.shape[2] == len(names)
    return dict(zip(FINER, fine.transpose(2, 0, 1), strict=True)) | dict(
        zip(names, wide.transpose(2, 0, 1), strict=True)
    )


def test_a_flat_colour_has_its_densities_everywhere_and_no_texture() -> None:
    image = np.full((SIDE, SIDE, 3), (255, 128, 51), np.uint8)
    found = described(image)
    for name in ("od_red", "od_red_50", "od_red_200"):
        np.testing.assert_allclose(found[name], 0, atol=1e-6)
    for name in ("od_blue", "od_blue_100"):
        np.testing.assert_allclose(found[name], np.log10(5), rtol=1e-5)
    np.testing.assert_allclose(found["saturation"], 0.8, rtol=1e-5)
    for name in ("gradient_energy", "local_contrast_100"):
        np.testing.assert_allclose(found[name], 0, atol=1e-3)


def test_squares_average_over_their_width() -> None:
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    image[:, SIDE // 2 :] = 128
    found = described(image)
    density = np.log10(255 / 128)
    for width in WIDTHS_UM:  # an edge is spread over a width, to half a cell
        row = found[f"od_green_{width:g}"][SIDE // 8]
        between = ((row > 0.01 * density) & (row < 0.99 * density)).sum() * 4 * 5.0
        assert abs(between - width) <= 40
    assert found["orientation_coherence_100"][30, 30] > 0.95  # stripes have one direction
    random = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    assert described(random)["orientation_coherence_200"].mean() < 0.2


def test_haematoxylin_and_eosin_are_told_apart() -> None:
    image = np.full((SIDE, SIDE, 3), (70, 60, 130), np.uint8)  # nuclei
    image[:, SIDE // 2 :] = (235, 130, 180)  # cytoplasm
    found = described(image)
    left, right = np.s_[10:50, 10:50], np.s_[10:50, 70:110]
    assert found["haematoxylin"][left].mean() > 3 * found["haematoxylin"][right].mean()
    assert (
        found["nuclear_density"][left].mean() > 0.9 > 0.1 > found["nuclear_density"][right].mean()
    )


def test_the_recipe_is_part_of_its_digest_and_the_scale_of_its_halo() -> None:
    coarse, fine = load_encoder("stains", mpp=4.0), load_encoder("stains", mpp=0.5)
    assert coarse.sha256 == fine.sha256
    assert coarse.halo * 4.0 < 200 < fine.halo < 300  # pixels; at least 100 µm
    assert fine.halo * 0.5 >= 100
    assert [tuple(g) for g in fine.groups] == [("stains", 42, True, 208, True)]
