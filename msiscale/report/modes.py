"""A specimen whose parts were held out by several folds, seen in one set of modes.

Each of these folds has its own modes, so that maps of a mode would not fit together. For pictures,
what was measured and what was predicted are both taken to the modes of the model of all pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.store import HeldOut, StoredSpecimen, join, open_group, read
from msiscale.threads import one_blas_thread

MODES = 24  #: at most: of maps, so many are in memory twice
DEPTH = 64  # m/z of the cube that are in memory at a time
NAMES = ("scores", "predicted_scores", "components", "mean", "mz")


class InModes(StoredSpecimen):
    """As `StoredSpecimen.predicted` of a specimen that was left out whole, made when asked for.

    Parameters
    ----------
    held
        What the folds predicted.
    out
        The run's ``--out``, for the modes of its model.
    """

    def __init__(self, held: HeldOut, out: str) -> None:
        super().__init__(held.stored.url)
        self.held, self.out = held, out

    def __reduce__(self) -> Any:
        return InModes, (self.held, self.out)

    def __contains__(self, name: str) -> bool:
        return name in NAMES or name in self.group

    def array(self, name: str) -> Any:
        """An array of `NAMES` in memory, else one of the group."""
        return self._made[name] if name in NAMES else super().array(name)

    def read(self, name: str) -> NDArray[Any]:
        """An array, whole."""
        return np.asarray(self.array(name)) if name in NAMES else super().read(name)

    @property
    def mz(self) -> NDArray[np.float64]:
        """(k,) float64, ascending."""
        return self.held.mz

    @cached_property
    def _made(self) -> Mapping[str, NDArray[Any]]:
        model = open_group(join(self.out, "model.zarr"))
        mean = read(model, "pca_mean").astype(np.float64)
        components = read(model, "pca_components")[:MODES].astype(np.float64)
        n = int(self.held.held.sum())
        scores, predicted = np.zeros((2, n, len(components)))
        for start in range(0, len(mean), DEPTH):
            wanted = slice(start, start + DEPTH)
            with one_blas_thread():
                onto = components[:, wanted].T
                scores += (self.held.measured(wanted) - mean[wanted]) @ onto
                predicted += (self.held.predicted(wanted) - mean[wanted]) @ onto
        return {
            "scores": self.held.image(scores.astype(np.float32)),
            "predicted_scores": self.held.image(predicted.astype(np.float32)),
            "components": components.astype(np.float32),
            "mean": mean.astype(np.float32),
            "mz": self.held.mz,
        }
