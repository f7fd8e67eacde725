"""Networks of tiles: what is computed is each tile of the slide by itself, whatever the windows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from msiscale import grid
from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder, load_encoders
from msiscale.features.extract import extract_block
from msiscale.features.probe import Geometry, tiled_geometry
from msiscale.features.tiled import Tiled
from msiscale.features.weights import write_state
from msiscale.grid import Block
from tests.features.test_extract import Fake, noise, turned, undivided

VIT = "timm:vit_tiny_patch16_224?img_size=64"
MODULE = """
from torch import nn
class Mine(nn.Module):
    tile = 32
    def __init__(self):
        super().__init__()
        self.cells = nn.Conv2d(3, 5, 8, 8)
        self.all = nn.Linear(5 * 16, 5 * 16)
    def forward(self, tiles):
        found = self.cells(tiles)
        return self.all(found.flatten(1)).reshape(found.shape)
def mine():
    return Mine(), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"encoder_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield f"own:{name}:mine"
    sys.modules.pop(name, None)


def test_tiles_lie_where_they_lay(own: str) -> None:
    encoder = load_encoder(own, "random:0")
    assert (encoder.stride, encoder.halo, encoder.channels, encoder.tile) == (8, 24, 5, 32)
    pixels = noise(96, 128)
    whole = encoder(pixels)
    for y in range(0, 96, 32):
        for x in range(0, 128, 32):
            alone = encoder(pixels[y : y + 32, x : x + 32])
            here = whole[y // 8 : y // 8 + 4, x // 8 : x // 8 + 4]
            np.testing.assert_allclose(here, alone, atol=1e-5)
    with pytest.raises(ValueError, match="whole 32 px"):
        encoder(pixels[:72])


@pytest.mark.parametrize("window", [16, 40, 64, 1000])
def test_windows_that_cut_tiles_change_nothing(own: str, window: int) -> None:
    encoder = load_encoder(own, "random:0")
    image, matrix, shape = Fake(noise(200, 150)), turned(23, 15, (30.0, 10.0)), (7, 6)
    whole = Fake(np.full((224, 160, 3), 255, np.uint8))  # of whole tiles
    whole.pixels[:200, :150] = image.pixels
    expected = undivided(whole, matrix, shape, encoder)
    got, coverage = extract_block(
        image, matrix, Block(0, 7, 0, 6), np.ones(shape, bool), encoder, window=window
    )
    inside = coverage == 1
    assert 5 < inside.sum() < 42
    np.testing.assert_allclose(got[inside], expected["values"].values[inside], atol=1e-5)


def test_blocking_has_no_influence_on_a_single_bit(own: str) -> None:
    encoder = load_encoders(f"{own},efficientnet-lite0", "random:0,random:0")
    image, matrix, shape = Fake(noise(150, 200)), turned(25, -10, (20.5, 30.25)), (6, 7)
    found = set()
    for size in [(6, 7), (4, 3)]:
        features = np.empty((*shape, encoder.channels), np.float32)
        for block in grid.blocks(shape, size):
            features[block.slices], _ = extract_block(
                image, matrix, block, np.ones(shape, bool), encoder, around=Block(0, 6, 0, 7)
            )
        found.add(features.tobytes())
    assert len(found) == 1


def test_a_vision_transformer_of_timm_gives_its_patch_tokens(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    encoder = load_encoder(VIT, "random:0")
    assert (encoder.stride, encoder.channels, encoder.tile) == (16, 192, 64)
    pixels = noise(64, 128)
    out = encoder(pixels)
    model = encoder.network.network.model
    plain = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, :, 64:] / 255
    plain = (plain - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(
        3, 1, 1
    )
    with torch.inference_mode():
        tokens = model.forward_features(plain)[0, 1:].reshape(4, 4, 192)
    np.testing.assert_allclose(out[:, 4:], tokens.numpy(), atol=1e-4)
    assert load_encoder(VIT, "random:1").sha256 != encoder.sha256
    file = str(tmp_path / "pytorch_model.bin")  # as model hubs have it
    write_state(model.state_dict(), file)
    as_trained = f"{VIT}&mean=0.5 0.5 0.5&std=0.5 0.5 0.5"  # which a file alone does not say
    np.testing.assert_array_equal(load_encoder(as_trained, file)(pixels), out)


def test_what_is_no_network_of_tiles_is_refused() -> None:
    cells = tiled_geometry("x", nn.Conv2d(3, 2, 8, 8), 32)
    assert cells == Geometry(8, 24, 2, 32)
    assert Tiled(nn.Conv2d(3, 2, 8, 8), 32)(torch.zeros(1, 3, 64, 96)).shape == (1, 2, 8, 12)
    for network, tile in [(nn.Flatten(), 32), (nn.Conv2d(3, 2, 5), 32), (nn.Conv2d(3, 2, 8, 8), 0)]:
        with pytest.raises(InputError, match="cannot run on tiles") as error:
            tiled_geometry("own:a:b", network, tile)
        assert "\n" not in str(error.value)
