"""A specimen with an ion that is higher in cancer."""

from __future__ import annotations

import numpy as np


def specimen(seed: int = 0, n_mz: int = 130, raised: int = 7) -> tuple:
    """A specimen whose m/z `raised` is higher in cancer; some pixels unmeasured or unknown."""
    rng = np.random.default_rng(seed)
    intensity = rng.poisson(3, (20, 24, n_mz)).astype(np.float32)
    cancer = np.zeros((20, 24), np.float32)
    cancer[5:12, 6:14] = rng.uniform(0.5, 1, (7, 8))
    intensity[5:12, 6:14, raised] += 6
    tissue = np.zeros((20, 24), bool)
    tissue[2:18, 2:22] = True
    intensity[3, 3] = np.nan
    cancer[4, :] = np.nan
    mz = np.linspace(600, 900, n_mz)
    return intensity, cancer, tissue, mz
