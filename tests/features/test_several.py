"""Several encoders over one decode are each of them alone, channel for channel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from msiscale import grid
from msiscale.config import RunConfig, default_window
from msiscale.errors import InputError
from msiscale.features.encoders import Encoders, load_encoder, load_encoders
from msiscale.features.extract import extract_block, extract_features
from msiscale.grid import Block
from tests.features.test_extract import Fake, noise, turned

NAMES = "resnet50:layer3,efficientnet-lite0"  # strides of 16 and 32
WEIGHTS = "random:0,"


def both() -> Encoders:
    found = load_encoders(NAMES, WEIGHTS)
    assert isinstance(found, Encoders)
    return found


def test_each_is_what_it_is_alone_and_the_slide_is_read_once() -> None:
    image, matrix = Fake(noise(310, 270), (1.5, 1.5)), turned(60, 20, (20.0, 30.0))
    shape = (8, 8)  # partly off the slide
    wanted = np.random.default_rng(0).random(shape) < 0.9
    block = Block(0, *shape[:1], 0, *shape[1:])
    features, coverage = extract_block(image, matrix, block, wanted, both(), window=96)
    reads = len(image.reads)
    first, second = (
        extract_block(image, matrix, block, wanted, one, window=96) for one in both().each
    )
    assert len(image.reads) - reads == 2 * reads
    here = np.minimum(first[1], second[1]) > 0
    assert 0 < here.sum() < wanted.sum()
    assert (np.isfinite(features).all(2) == here).all()
    assert np.isnan(features[~here]).all()
    np.testing.assert_array_equal(coverage, np.minimum(first[1], second[1]))
    for got, alone in ((features[..., :1024], first[0]), (features[..., 1024:], second[0])):
        np.testing.assert_allclose(got[here], alone[here], atol=2e-5 * np.nanmax(np.abs(alone)))


def test_blocking_has_no_influence_on_a_single_bit() -> None:
    image, shape, matrix = Fake(noise(150, 200)), (6, 7), turned(25, -10, (20.5, 30.25))
    wanted = np.random.default_rng(1).random(shape) < 0.8
    found = set()
    for size in [(6, 7), (4, 3)]:
        features = np.empty((*shape, both().channels), np.float32)
        for block in grid.blocks(shape, size):
            features[block.slices], _ = extract_block(
                image, matrix, block, wanted, both(), window=64, around=Block(0, 6, 0, 7)
            )
        found.add(features.tobytes())
    assert len(found) == 1


def test_what_they_say_of_themselves() -> None:
    joined = both()
    assert (joined.id, joined.stride, joined.halo, joined.channels) == (NAMES, 32, 448, 2304)
    assert pickle.loads(pickle.dumps(joined)) == joined
    assert joined.sha256 != load_encoders(NAMES, "random:1,").sha256
    assert default_window(NAMES, "float32") == default_window("efficientnet-lite0", "float32")
    assert RunConfig(encoder=NAMES).pixels_a_window == default_window(NAMES, "float32")
    alone = load_encoders("resnet50:layer3", "random:0")
    assert alone is load_encoder("resnet50:layer3", "random:0")
    ds = extract_features(
        Fake(noise(64, 64)), turned(32, 0, (16, 16)), (2, 2), encoder=NAMES, weights=WEIGHTS
    )
    assert (ds.attrs["encoder"], ds.sizes["channel"]) == (NAMES, 2304)


def test_weights_are_as_many_as_encoders() -> None:
    with pytest.raises(InputError, match="one for each of the 2 encoders"):
        load_encoders(NAMES, "random:0")
    with pytest.raises(InputError, match="--encoder nothing"):
        load_encoders("efficientnet-lite0,nothing")


def test_weights_go_to_the_only_network_beside_the_stains() -> None:
    found = load_encoders("stains,efficientnet-lite0:stem", "random:5", mpp=4.0)
    assert [one.weights for one in found.each] == [None, "random:5"]
    assert [group.name for group in found.groups] == ["stains", "efficientnet-lite0:stem"]
