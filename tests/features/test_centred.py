"""One tile around each MSI pixel: what it holds, wherever it lies and whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from msiscale.features import centred
from msiscale.features.centred import centred_block, side_of
from msiscale.features.encoders import Encoder, Encoders, load_encoder
from msiscale.grid import Block
from tests.features.test_extract import Fake, noise, turned

VIT = "timm:vit_tiny_patch16_224?img_size=64&depth=2"


class Image(Fake):
    """White around, on all sides."""

    def read(self, y, x, h, w):
        out = np.full((h, w, 3), 255, np.uint8)
        rows = np.arange(y, y + h)
        columns = np.arange(x, x + w)
        inside = np.ix_(
            (rows >= 0) & (rows < self.shape[0]), (columns >= 0) & (columns < self.shape[1])
        )
        y0, y1 = max(y, 0), min(y + h, self.shape[0])
        x0, x1 = max(x, 0), min(x + w, self.shape[1])
        if y0 < y1 and x0 < x1:
            out[inside] = self.pixels[y0:y1, x0:x1].reshape(out[inside].shape)
        return out


@pytest.fixture(scope="module")
def vit() -> Encoder:
    pytest.importorskip("timm")
    return load_encoder(VIT, "random:1")


def by_hand(image: Image, centre: np.ndarray, encoder: Encoder, side: int) -> np.ndarray:
    """The mean over the cells of the one tile around a centre (x, y)."""
    x, y = np.floor(centre - side / 2 + 0.5).astype(int)
    return encoder(image.read(y, x, side, side)).mean(axis=(0, 1))


@pytest.mark.parametrize("degrees", [0, 30])
def test_a_pixel_is_the_mean_over_its_own_tile(vit: Encoder, degrees: float) -> None:
    image = Image(noise(300, 320))
    matrix = turned(13.0, degrees, (80, 60))
    wanted = np.ones((9, 11), bool)
    wanted[3, 4] = False
    found = centred_block(image, matrix, Block(2, 11, 1, 12), wanted, vit)
    assert np.isnan(found[3, 4]).all() and np.isfinite(found[wanted]).all()
    for i, j in ((0, 0), (4, 4), (8, 10)):
        centre = (matrix @ [1 + j, 2 + i, 1])[:2]
        np.testing.assert_allclose(found[i, j], by_hand(image, centre, vit, 64), atol=1e-5)


def test_the_blocks_change_nothing(vit: Encoder) -> None:
    image, matrix = Image(noise(200, 200)), turned(11.0, 10, (20, 30))
    whole = centred_block(image, matrix, Block(0, 8, 0, 8), np.ones((8, 8), bool), vit)
    part = centred_block(image, matrix, Block(0, 8, 0, 8), np.eye(8, dtype=bool), vit)
    np.testing.assert_allclose(part[np.eye(8, dtype=bool)], whole[np.eye(8, dtype=bool)], atol=1e-5)


def test_a_network_sees_nothing_past_the_edges_of_its_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels outside the tile change nothing, for a network whose field of view is wider."""
    monkeypatch.setattr(centred, "SIDE", 64)
    network = load_encoder("efficientnet-lite0")
    assert side_of(network) == 64
    pixels = noise(256, 256)
    matrix = np.array([[1.0, 0, 128], [0, 1, 128], [0, 0, 1]])
    one = np.ones((1, 1), bool)
    first = centred_block(Image(pixels), matrix, Block(0, 1, 0, 1), one, network)
    other = noise(256, 256, seed=5)
    other[96:160, 96:160] = pixels[96:160, 96:160]
    second = centred_block(Image(other), matrix, Block(0, 1, 0, 1), one, network)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(
        first[0, 0], network(pixels[96:160, 96:160]).mean(axis=(0, 1)), atol=1e-5
    )


def test_several_encoders_stand_side_by_side(vit: Encoder) -> None:
    stains = load_encoder("stains", mpp=0.5)
    image, matrix = Image(noise(400, 400)), turned(14.0, 0, (150, 150))
    both = Encoders((stains, vit))
    wanted = np.ones((2, 3), bool)
    found = centred_block(image, matrix, Block(0, 2, 0, 3), wanted, both)
    alone = centred_block(image, matrix, Block(0, 2, 0, 3), wanted, vit)
    assert found.shape == (2, 3, both.channels)
    np.testing.assert_array_equal(found[..., stains.channels :], alone)


def test_tiles_pass_together_as_they_would_alone(vit: Encoder) -> None:
    tiles = [noise(64, 64, seed) for seed in range(20)]
    together = centred.pooled(vit, tiles)
    for tile, found in zip(tiles, together, strict=True):
        np.testing.assert_allclose(vit(tile).mean(axis=(0, 1)), found, atol=1e-5)
    assert isinstance(vit.network, nn.Module) and together.dtype == np.float32
    assert torch.get_num_threads() == 1
