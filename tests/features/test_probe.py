from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features.architecture import Architecture
from msiscale.features.encoders import ENCODERS, load_encoder
from msiscale.features.probe import Geometry, NotLocal, geometry, is_exact


@pytest.mark.parametrize(
    "name", [name for name, made in ENCODERS.items() if isinstance(made, Architecture)]
)
def test_the_recorded_geometry_is_the_measured_one(name):
    assert geometry(load_encoder(name, "random:0").network) == ENCODERS[name].geometry


def test_known_fields():
    # 5 taps, then 9 of stride 4: a cell of 4 px begins 2 + 4 px to the right of the first it sees.
    network = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2), nn.Conv2d(2, 7, 9, 4, padding=4))
    assert geometry(network) == Geometry(stride=4, halo=8, channels=7)
    assert geometry(nn.Conv2d(3, 4, 2, stride=2)) == Geometry(stride=2, halo=0, channels=4)
    assert is_exact(network.eval(), geometry(network))


class Squeeze(nn.Module):
    def forward(self, x):
        return x * x.mean(dim=(2, 3), keepdim=True)


class Position(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x + torch.arange(x.shape[-1]) % 14, 8)


def test_networks_that_see_everything_or_where_they_are_are_found(monkeypatch):
    monkeypatch.setattr("msiscale.features.probe._SIZES", (64, 128))
    with pytest.raises(NotLocal):
        geometry(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), Squeeze()))
    assert not is_exact(Position(), Geometry(8, 16, 3))


def test_timm_models_are_measured_and_those_that_are_not_local_refused(monkeypatch):
    pytest.importorskip("timm")
    encoder = load_encoder("timm:resnet18", "random:0")
    assert (encoder.stride, encoder.halo, encoder.channels) == (32, 224, 512)
    assert encoder(np.full((64, 96, 3), 200, np.uint8)).shape == (2, 3, 512)
    monkeypatch.setattr("msiscale.features.probe._SIZES", (512,))
    # attention in windows, global pooling
    for name in ("swin_tiny_patch4_window7_224", "efficientnet_b0"):
        with pytest.raises(InputError, match="only convolutional encoders") as error:
            load_encoder(f"timm:{name}", "random:0")
        assert "\n" not in str(error.value)
