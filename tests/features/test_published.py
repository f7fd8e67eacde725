"""Tiles as the study had them, against a plain re-writing of its scripts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from msiscale.errors import InputError
from msiscale.features.encoders import unfolded
from msiscale.features.published import published_block
from msiscale.grid import Block, scaling, translation

ENCODER = ("resnet50:layer3", "random:0", "cpu")
TILE = 512


@dataclass
class Picture:
    pixels: np.ndarray
    downsample: tuple[float, float] = (1.0, 1.0)

    @property
    def shape(self):
        return self.pixels.shape[:2]

    def read(self, y, x, h, w):
        return self.pixels[y : y + h, x : x + w]


@pytest.fixture(scope="module")
def slide():
    random = np.random.default_rng(0)
    small = random.integers(30, 256, (12, 20, 3), dtype=np.uint8)
    return Picture(np.kron(small, np.ones((60, 60, 1), np.uint8)))  # 720 x 1200: one row of 2 tiles


def as_scripted(pixels):
    """One vector a 256 px cell of the whole tiles: raw counts, batch statistics of the tile."""
    network, _ = unfolded(*ENCODER[:2])
    network.train()
    rows, columns = (n // TILE for n in pixels.shape[:2])
    found = []
    with torch.no_grad():
        for i in range(rows):
            row = []
            for j in range(columns):
                tile = pixels[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE].astype(
                    np.float32
                )
                tile[tile > 240] = 0
                out = network(torch.from_numpy(tile).permute(2, 0, 1)[None])
                row.append(functional.avg_pool2d(out, 16)[0])
            found.append(torch.cat(row, dim=2))
    return torch.cat(found, dim=1)


def test_cells_and_bilinear_sampling_are_those_of_the_scripts(slide):
    cells = as_scripted(slide.pixels)  # (channels, 2, 4)
    matrix = scaling(64.0) @ translation(0.5, 0.5)  # MSI pixels of 64 px over the slide
    block = Block(0, 11, 0, 18)
    found, coverage = published_block(
        slide, matrix, block, np.ones(block.shape, bool), ENCODER, tile=TILE
    )
    y, x = np.mgrid[0:8, 0:16]  # under the whole tiles
    where = np.stack([(x + 0.5) * 64 / 1024 * 2 - 1, (y + 0.5) * 64 / 512 * 2 - 1], axis=-1)
    grid = torch.from_numpy(where.astype(np.float32))[None]
    want = functional.grid_sample(
        cells[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0].permute(1, 2, 0)
    scale = float(want.abs().mean())
    np.testing.assert_allclose(found[:8, :16], want.numpy(), atol=2e-4 * scale, rtol=2e-3)
    assert coverage[:8, :16].all() and not coverage[8:].any() and not coverage[:, 16:].any()
    assert np.isnan(found[8:]).all()


def test_any_cut_gives_the_same_bits_and_what_was_learnt_stays(slide):
    matrix = scaling(64.0) @ translation(0.5, 0.5)
    block = Block(0, 8, 0, 16)
    wanted = np.ones(block.shape, bool)
    whole, _ = published_block(slide, matrix, block, wanted, ENCODER, tile=TILE)
    part = Block(2, 5, 6, 10)
    again, _ = published_block(slide, matrix, part, wanted[part.slices], ENCODER, tile=TILE)
    np.testing.assert_array_equal(again, whole[part.slices])


def test_a_slide_smaller_than_a_tile_is_named(slide):
    block = Block(0, 2, 0, 2)
    with pytest.raises(InputError, match="smaller than one tile of 2048"):
        published_block(slide, np.eye(3), block, np.ones((2, 2), bool), ENCODER)
    with pytest.raises(InputError, match="multiples of 256"):
        published_block(slide, np.eye(3), block, np.ones((2, 2), bool), ENCODER, tile=300)
