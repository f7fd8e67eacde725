from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
import torch

from msiscale import grid
from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder
from msiscale.features.extract import _ahead, extract_block, extract_features, whole_units
from msiscale.features.preview import preview
from msiscale.grid import Block
from msiscale.regridding import regrid


class Fake:
    """A working image in memory that remembers what was read."""

    def __init__(self, pixels, downsample=(1.0, 1.0)):
        self.pixels, self.downsample, self.shape = pixels, downsample, pixels.shape[:2]
        self.reads = []

    def read(self, y, x, h, w):
        self.reads.append((y, x, h, w))
        out = np.full((h, w, 3), 255, np.uint8)
        part = self.pixels[y : y + h, x : x + w]
        out[: part.shape[0], : part.shape[1]] = part
        return out


def noise(h, w, seed=0):
    random = np.random.default_rng(seed)
    image = sum(
        np.kron(random.normal(size=(-(-h // n), -(-w // n), 3)), np.ones((n, n, 1)))[:h, :w]
        for n in (1, 4, 16, 64)
    )
    return np.clip(170 + 30 * image, 0, 255).astype(np.uint8)


def turned(scale, degrees, shift):
    a = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix[:2, 2] = shift
    return matrix


def undivided(image, matrix, shape, encoder):
    """What must come out: one forward pass over the padded slide, averaged by area."""
    s = encoder.stride
    h, w = (-(-n // s) * s for n in image.shape)
    dense = encoder(image.read(0, 0, h, w)).astype(np.float64)
    dy, dx = image.downsample
    return regrid(dense, grid.scaling(1 / (dx * s), 1 / (dy * s)) @ matrix, shape)


@pytest.mark.parametrize(
    ("name", "size", "window"),
    [
        ("resnet50:layer3", (700, 90), 128),
        ("resnet50:layer3", (90, 700), 256),
        ("resnet50:layer4", (90, 900), 192),
        ("efficientnet-lite0", (96, 1440), 64),
        ("efficientnet-lite0", (1440, 70), 320),
    ],
)
def test_blocks_give_what_one_undivided_pass_gives(name, size, window):
    encoder = load_encoder(name, None if name == "efficientnet-lite0" else "random:0")
    image = Fake(noise(*size), (2.0, 2.0))
    shape = (2, 12) if size[1] > size[0] else (12, 2)
    matrix = turned(110, 6, (40, 30))
    matrix[:2, :2] *= max(size) / 700
    expected = undivided(image, matrix, shape, encoder)
    assert 0 < float(expected["coverage"].mean()) < 1
    assert max(image.reads.pop()[2:]) >= max(size)
    got, coverage = extract_block(
        image, matrix, Block(0, shape[0], 0, shape[1]), np.ones(shape, bool), encoder, window=window
    )
    assert len(image.reads) > 2
    assert max(image.reads[0][2:]) < max(size)  # a window with its halo, not the whole slide
    scale = float(np.abs(expected["values"]).max())
    np.testing.assert_allclose(got, expected["values"], atol=2e-5 * scale)
    np.testing.assert_allclose(coverage, expected["coverage"], atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocking_has_no_influence_on_a_single_bit(precision):
    encoder = load_encoder("efficientnet-lite0", precision=precision)
    image = Fake(noise(150, 200), (1.5, 1.25))
    matrix, shape = turned(29, -30, (20.5, 90.25)), (9, 10)
    wanted = np.random.default_rng(1).random(shape) < 0.8
    whole = None
    sizes = [(9, 10), (4, 3), (2, 10)]
    for size in sizes if precision == "float32" else sizes[:2]:  # a CPU is slow in bfloat16
        features = np.full((*shape, encoder.channels), -1, np.float32)
        coverage = np.full(shape, -1, np.float32)
        for block in grid.blocks(shape, size):
            features[block.slices], coverage[block.slices] = extract_block(
                image, matrix, block, wanted, encoder, window=96, around=Block(0, 9, 0, 10)
            )
        if whole is None:
            whole = features.tobytes(), coverage.tobytes()
            assert (np.isfinite(features).all(2) == (coverage > 0)).all()
            assert (coverage[~wanted] == 0).all()
            assert len(set(coverage[wanted].tolist())) > 3
        assert (features.tobytes(), coverage.tobytes()) == whole


def test_blocks_that_cut_units_or_hold_several_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("msiscale.features.extract.UNIT", 4)
    encoder = load_encoder("efficientnet-lite0", "random:0")
    image, shape = Fake(noise(150, 200)), (9, 10)
    matrix = turned(17, 20, (50, 10))
    tissue = np.random.default_rng(2).random(shape) < 0.7
    found = set()
    for size in [(9, 10), (4, 4), (8, 4), (3, 5)]:
        features = np.empty((*shape, encoder.channels), np.float32)
        for block in grid.blocks(shape, size):
            around = whole_units(block, shape)
            features[block.slices], _ = extract_block(
                image, matrix, block, tissue[around.slices], encoder, window=64, around=around
            )
        found.add(features.tobytes())
    assert len(found) == 1


def test_the_number_of_threads_has_no_influence_either():
    encoder = load_encoder("efficientnet-lite0")
    pixels = noise(256, 320)
    torch.set_num_threads(1)
    expected = encoder(pixels).tobytes()
    torch.set_num_threads(2)
    assert encoder(pixels).tobytes() == expected
    torch.set_num_threads(2)
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(encoder, [pixels] * 3):
            assert got.tobytes() == expected
    torch.set_num_threads(1)


def test_only_windows_under_wanted_pixels_are_read():
    encoder = load_encoder("efficientnet-lite0", "random:0")
    image = Fake(noise(256, 256))
    matrix, shape = turned(16, 0, (8, 8)), (16, 16)
    wanted = np.zeros(shape, bool)
    block = Block(0, 16, 0, 16)
    extract_block(image, matrix, block, wanted, encoder, window=64)
    assert image.reads == []
    wanted[5, 1] = True
    features, coverage = extract_block(image, matrix, block, wanted, encoder, window=64)
    assert image.reads == [(0, 0, 256, 256)]  # one window, its halo cut at the slide
    assert (coverage > 0).sum() == 1
    assert np.isfinite(features[5, 1]).all()


def test_the_lazy_dataset(monkeypatch):
    encoder = load_encoder("efficientnet-lite0", "random:0")
    image = Fake(noise(100, 90))
    matrix, shape = turned(11, 90, (80, 2)), (6, 7)
    tissue = np.ones(shape, bool)
    tissue[0] = False
    lazy = extract_features(
        image,
        matrix,
        shape,
        encoder="efficientnet-lite0",
        weights="random:0",
        tissue=tissue,
        block=(4, 4),
        window=64,
    )
    assert image.reads == []
    assert lazy["features"].dims == ("y", "x", "channel")
    assert lazy["features"].chunks == ((4, 2), (4, 3), (1280,))
    assert lazy.attrs["encoder"] == encoder.id
    assert lazy.attrs["weights_sha256"] == encoder.sha256
    features, coverage = extract_block(image, matrix, Block(0, 6, 0, 7), tissue, encoder, window=64)
    with dask.config.set(scheduler="synchronous"):
        done = lazy.compute()
    assert done["features"].values.tobytes() == features.tobytes()
    assert done["coverage"].values.tobytes() == coverage.tobytes()


def test_bad_options_are_one_line():
    image = Fake(noise(64, 64))
    for options, message in [
        ({"window": 16}, "--window 16: give at least the encoder's stride, 32"),
        ({"tissue": np.ones((2, 3), bool)}, "tissue"),
        ({"encoder": "nothing"}, "--encoder nothing"),
    ]:
        with pytest.raises(InputError, match=message):
            extract_features(
                image,
                np.eye(3),
                (2, 2),
                **({"encoder": "efficientnet-lite0", "weights": "random:0"} | options),
            )


def test_a_window_that_cannot_be_read_stops_the_block():
    class Broken(Fake):
        def read(self, y, x, h, w):
            raise InputError("slide.svs: broken tile")

    encoder = load_encoder("efficientnet-lite0", "random:0")
    with pytest.raises(InputError, match="broken tile"):
        extract_block(
            Broken(noise(64, 64)),
            turned(8, 0, (4, 4)),
            Block(0, 2, 0, 2),
            np.ones((2, 2), bool),
            encoder,
            window=64,
        )


def test_reading_runs_one_item_ahead():
    seen = []
    for item, result in enumerate(_ahead(lambda i: (seen.append(i), i * i)[1], range(5))):
        assert result == item**2
        assert len(seen) <= item + 2
    assert seen == list(range(5))


def test_a_real_slide(shared_data):
    slide = shared_data / "slides" / "cmu-1-small-region.svs"
    matrix, shape = turned(60, 5, (900, 900)), (3, 4)
    lazy = extract_features(
        str(slide), matrix, shape, encoder="efficientnet-lite0", mpp=2.0, window=512
    )
    with dask.config.set(scheduler="synchronous"):
        done = lazy.compute()
    assert (done["coverage"] == 1).all()
    assert done["features"].notnull().all()
    assert float(done["features"].std(("y", "x")).mean()) > 0.01


def test_preview_is_the_slide_in_the_frame_of_the_msi():
    pixels = noise(120, 160, 4)
    matrix = grid.translation(4, 4) @ grid.scaling(8.0)
    got = preview(Fake(pixels), matrix, (17, 20), 2)
    assert got.shape == (34, 40, 3)
    expected = pixels.reshape(30, 4, 40, 4, 3).mean((1, 3))
    assert np.abs(got[:30] - expected).max() <= 0.5
    assert (got[30:] == 255).all()
    half = preview(
        Fake(np.zeros((120, 160, 3), np.uint8)), grid.translation(0, 4) @ matrix, (15, 20), 1
    )
    assert np.allclose(half[-1], 128, atol=1)


def test_a_turned_preview_does_not_depend_on_its_blocks(monkeypatch):
    image, matrix = Fake(noise(90, 80)), turned(7.3, 40, (45, -10))
    whole = preview(image, matrix, (12, 13), 3)
    monkeypatch.setattr("msiscale.features.preview._READ", 400)
    assert preview(image, matrix, (12, 13), 3).tobytes() == whole.tobytes()
    assert len(image.reads) > 5
