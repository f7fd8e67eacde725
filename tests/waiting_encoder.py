"""The small encoder, which waits where `WAIT_S` says so: a run takes its time, and no CPU."""

from __future__ import annotations

import os
import time

import torch
from small_encoder import Colours, small
from torch import nn


class Wait(nn.Module):
    """What comes in goes out, later."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Wait."""
        time.sleep(float(os.environ.get("WAIT_S", "0")))
        return tiles


def waiting() -> tuple[nn.Module, Colours, Colours]:
    """The same features as of `small`."""
    network, mean, spread = small()
    return nn.Sequential(Wait(), *network), mean, spread
