"""Layers of one forward pass are what the network gives at that depth, whatever the windows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from msiscale import grid
from msiscale.errors import InputError
from msiscale.features import efficientnet, resnet
from msiscale.features.banded import Banded
from msiscale.features.encoders import Encoder, as_array, load_encoder
from msiscale.features.extract import extract_block
from msiscale.features.probe import geometry
from msiscale.grid import Block
from msiscale.regridding import regrid
from tests.features.test_extract import Fake, noise, turned


class Layer(nn.Module):
    def __init__(self, network: nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: dict[int, torch.Tensor] = {}
        self.network.visit(x, lambda i, out: found.__setitem__(i, out.clone()))
        return found[self.number]


@pytest.mark.parametrize("name", ["stem", "b0", "b2", "b4", "b7", "b10"])
def test_the_table_of_efficientnet_is_what_is_measured(name: str) -> None:
    network = efficientnet.EfficientNetLite0((name,)).eval()
    assert geometry(Layer(network, 0))[:3] == efficientnet.LAYERS[name]


@pytest.mark.parametrize("name", ["layer1", "layer2"])
def test_the_table_of_resnet_is_what_is_measured(name: str) -> None:
    network = resnet.trunk(int(name[-1]), (name,)).eval()
    assert geometry(Layer(network, 0))[:3] == resnet.LAYERS[name]


def layers_of(encoder: Encoder, image: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    encoder.visit(image, lambda _, dense: found.append(as_array(dense).copy()))
    return found


def test_a_layer_is_that_of_the_whole_network() -> None:
    image = noise(64, 96)
    whole = load_encoder("efficientnet-lite0")
    some = load_encoder("efficientnet-lite0:b2+stem")
    stem, b2 = layers_of(some, image)
    given = torch.from_numpy((image / 255 - 127 / 255) / (128 / 255)).float()
    steps = dict(whole.network._steps(given.permute(2, 0, 1)[None]))
    for got, name in ((stem, "stem"), (b2, "b2")):
        expected = steps[name][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    assert [tuple(g) for g in some.groups] == [
        ("efficientnet-lite0:stem", 32, False, 2, True),
        ("efficientnet-lite0:b2", 24, False, 12, True),
    ]
    assert (some.stride, some.halo, some.channels) == (4, 12, 56)


def test_bands_give_the_layers_of_the_undivided_network() -> None:
    network = resnet.trunk(3, ("layer1", "layer3")).eval()
    image = torch.randn(1, 3, 224, 160).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain: list[torch.Tensor] = []
        network.visit(image, lambda _, out: plain.append(out.clone()))
        from msiscale.features.architecture import fold_batch_norms

        fold_batch_norms(network)
        banded: list[torch.Tensor] = []
        margin = (3, 2, 1, 4)
        Banded(network).visit(image, margin, lambda _, out: banded.append(out.clone()))
    top, bottom, left, right = margin
    for got, whole, times in zip(banded, plain, (4, 1), strict=True):
        h, w = whole.shape[2:]
        part = whole[:, :, times * top : h - times * bottom, times * left : w - times * right]
        torch.testing.assert_close(got, part, atol=1e-4 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["efficientnet-lite0:stem+b4", "stains", "colour"])
def test_windows_give_what_one_undivided_pass_gives(name: str) -> None:
    encoder = load_encoder(name, mpp=4.0)
    image, shape = Fake(noise(150, 420), (2.0, 2.0)), (3, 12)
    matrix = turned(66, 6, (40, 30))
    unit = encoder.stride
    h, w = (-(-n // unit) * unit for n in image.shape)
    dense = layers_of(encoder, image.read(0, 0, h, w))
    parts = []
    for layer, values in zip(encoder.layers, dense, strict=True):
        s = layer.stride
        cut = values[: -(-image.shape[0] // s), : -(-image.shape[1] // s)]
        placed = grid.scaling(1 / (2.0 * s), 1 / (2.0 * s)) @ matrix
        parts.append(regrid(cut.astype(np.float64), placed, shape)["values"].values)
    expected = np.concatenate(parts, axis=2)
    whole = Block(0, *shape[:1], 0, *shape[1:])
    got, coverage = extract_block(image, matrix, whole, np.ones(shape, bool), encoder, window=64)
    assert len(image.reads) > 3
    seen = coverage > 0
    assert 0 < seen.sum() < seen.size or seen.all()
    scale = np.nanmax(np.abs(expected), axis=(0, 1))
    np.testing.assert_allclose(got[seen] / scale, expected[seen] / scale, atol=3e-5)
    again = np.empty_like(got)
    for block in grid.blocks(shape, (2, 5)):
        again[block.slices], _ = extract_block(
            image, matrix, block, np.ones(shape, bool), encoder, window=64, around=whole
        )
    np.testing.assert_array_equal(again, got)


def test_layers_of_a_network_from_elsewhere_are_named_by_its_modules() -> None:
    encoder = load_encoder("own:tests.small_encoder:small:0.1+1")
    assert [(layer.stride, layer.channels) for layer in encoder.layers] == [(2, 16), (32, 96)]
    near, far = layers_of(encoder, noise(64, 64))
    assert near.min() >= 0  # after its ReLU
    whole = load_encoder("own:tests.small_encoder:small")
    np.testing.assert_array_equal(far, whole(noise(64, 64)))
    assert pickle.loads(pickle.dumps(encoder)).layers == encoder.layers


@pytest.mark.parametrize(
    "name", ["efficientnet-lite0:b99", "resnet50:layer9", "own:tests.small_encoder:small:none"]
)
def test_an_unknown_layer_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"--encoder .*: it has no (layer|module) '.*'; give"):
        load_encoder(name, "random:0")


def test_blocks_of_a_transformer_stand_side_by_side() -> None:
    pytest.importorskip("timm")
    vit = "timm:vit_tiny_patch16_224?img_size=64"
    image = noise(64, 128)
    both, one = (load_encoder(f"{vit}:{blocks}", "random:0") for blocks in ("5+2", "5"))
    assert [group.name.rpartition(":")[2] for group in both.groups] == ["2", "5"]
    np.testing.assert_allclose(both(image)[..., 192:], one(image), atol=1e-5)
    with pytest.raises(InputError, match="numbers of its blocks, 0 to 11"):
        load_encoder(f"{vit}:12", "random:0")
