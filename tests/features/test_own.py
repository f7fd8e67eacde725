"""A user's own encoder runs by its name, here and in other processes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder
from msiscale.features.weights import write_state

MODULE = """
import torch
from torch import nn
def mine():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1))
    return network, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
def wide():
    from torch import nn
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1)), (0, 0, 0), (1, 1, 1)
def broken():
    raise KeyError("no such thing")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"encoder_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_it_runs_with_the_geometry_that_was_measured(module: str) -> None:
    encoder = load_encoder(f"own:{module}:mine")
    assert (encoder.stride, encoder.channels, encoder.halo) == (8, 6, 8)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    out = encoder(pixels)
    plain = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.2
    with torch.inference_mode():
        expected = encoder.network(plain)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(encoder))
    assert again.sha256 == encoder.sha256


def test_weights_from_a_file(module: str, tmp_path: Path) -> None:
    network = load_encoder(f"own:{module}:mine", "random:3").network
    path = str(tmp_path / "w.safetensors")
    write_state(network.state_dict(), path)
    loaded = load_encoder(f"own:{module}:mine", path).network
    for a, b in zip(network.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("function", "message"),
    [("nothing", "cannot be made"), ("broken", "no such thing"), ("wide", "cannot be made|convol")],
)
def test_what_is_no_encoder_is_one_line(module: str, function: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_encoder(f"own:{module}:{function}")
    assert "\n" not in str(error.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(InputError, match="own:no_such_module:f"):
        load_encoder("own:no_such_module:f")
