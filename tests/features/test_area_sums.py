"""Sums made on a device are those of the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msiscale import grid
from msiscale.features import area_sums
from msiscale.features.area_sums import DeviceSums, HostSums
from msiscale.grid import Block
from msiscale.regridding import overlap

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("most", [1 << 27, 2000])  # values at once: all channels, or one or two
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_gives_the_sums_of_the_processor(
    device: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(area_sums, "MOST_VALUES", most)
    angle = np.deg2rad(20)
    turned = [[np.cos(angle), -np.sin(angle), 9], [np.sin(angle), np.cos(angle), 2], [0, 0, 1]]
    matrix = np.array(turned) @ grid.scaling(6.5)
    cells = Block(3, 40, 5, 35)
    shared = overlap(matrix, Block(0, 6, 0, 5), (45, 38)).within(cells)
    dense = torch.rand((*cells.shape, 3), dtype=torch.float32)
    host, other = HostSums(30, 3), DeviceSums(30, 3, device)
    for _ in range(2):  # they add up
        host.add(dense, shared, cells)
        other.add(dense.to(device), shared, cells)
    assert host.found().any()
    np.testing.assert_allclose(other.found(), host.found(), rtol=1e-12, atol=1e-12)
    none = shared.within(Block(0, 0, 0, 0))
    other.add(dense.to(device), none, cells)
    np.testing.assert_allclose(other.found(), host.found(), rtol=1e-12, atol=1e-12)
