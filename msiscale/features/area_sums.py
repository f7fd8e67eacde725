"""Area-weighted sums of features, added up where the features are made.

On a GPU the features stay where they are: only the sums of a unit travel, and nothing waits for
the processor. Either way each sum is in float64, in the raster order of its cells, so that the
answer is the same bits every time.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from msiscale.features.encoders import Encoder, as_array
from msiscale.grid import Block, Floats
from msiscale.regridding import Overlap

MOST_VALUES = 1 << 27  # of a layer that are float64 at once: 1 GiB on the device


class AreaSums(Protocol):
    """Sums of a layer over the pixels of a unit."""

    def add(self, dense: Any, entries: Overlap, cells: Block) -> None:
        """Add the features (h, w, channels) of `cells`, which hold every entry."""

    def found(self) -> Floats:
        """float64 (pixels, channels), so far."""


def area_sums(encoder: Encoder, pixels: int, channels: int) -> AreaSums:
    """Sums that start at zero, on the device of an encoder if it can add in float64."""
    if encoder.device.startswith("cuda"):
        return DeviceSums(pixels, channels, encoder.device)
    return HostSums(pixels, channels)


class HostSums:
    """Sums in the memory of the process."""

    def __init__(self, pixels: int, channels: int) -> None:
        self.total = np.zeros((pixels, channels))

    def add(self, dense: Any, entries: Overlap, cells: Block) -> None:
        """See `AreaSums`."""
        self.total[entries.touched()] += entries.weighted_sum(as_array(dense), cells)

    def found(self) -> Floats:
        """See `AreaSums`."""
        return self.total


class DeviceSums:
    """Sums on a device of torch."""

    def __init__(self, pixels: int, channels: int, device: str) -> None:
        self.device = device
        self.total = torch.zeros((pixels, channels), dtype=torch.float64, device=device)

    def add(self, dense: Tensor, entries: Overlap, cells: Block) -> None:
        """See `AreaSums`."""
        touched = entries.touched()
        if not len(touched):
            return
        ends = np.concatenate([[0], np.cumsum(entries.length)])
        first = (entries.y - cells.y0) * dense.shape[1] + (entries.x - cells.x0) - ends[:-1]
        at, start, length, first_of, area_of = (
            self._sent(v)
            for v in (touched, ends[entries.start[touched]], entries.length, first, entries.area)
        )
        count = int(ends[-1])
        words = {"output_size": count}  # which is known here: nothing waits for the device
        cell = torch.repeat_interleave(first_of, length, **words)
        cell += torch.arange(count, device=self.device)
        area = torch.repeat_interleave(area_of, length, **words)
        values = dense.reshape(-1, dense.shape[2])
        step = max(1, MOST_VALUES // len(values))
        for k in range(0, values.shape[1], step):
            part = values[:, k : k + step].double().contiguous()
            # adds one after another in the order of the entries: the same bits every time
            self.total[at, k : k + step] += functional.embedding_bag(
                cell, part, start, mode="sum", per_sample_weights=area
            )

    def found(self) -> Floats:
        """See `AreaSums`."""
        return np.asarray(self.total.cpu().numpy())

    def _sent(self, values: NDArray[Any]) -> Tensor:
        here = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.startswith("cuda"):  # a copy that the GPU makes while it computes
            here = here.pin_memory()
        return here.to(self.device, non_blocking=True)
