"""imzML files with known spectra, written by pyimzML's own writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyimzml.ImzMLWriter import ImzMLWriter


@dataclass
class Written:
    """An imzML on disk and what was put into it."""

    path: Path
    xy: list[tuple[int, ...]]
    spectra: list[tuple[np.ndarray, np.ndarray]]

    @property
    def ibd(self) -> Path:
        return self.path.with_suffix(".ibd")

    def edit(self, *changes: tuple[str, str], count: int = -1) -> None:
        """Replace text in the XML; every change must hit."""
        text = self.path.read_text("latin-1")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, count)
        self.path.write_text(text, "latin-1")


Writer = Callable[..., Written]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Function that writes a 5 x 4 image of ragged centroids, or the spectra given."""

    def build(
        name: str = "image",
        xy: list[tuple[int, ...]] | None = None,
        spectra: list[tuple[Any, Any]] | None = None,
        **options: Any,
    ) -> Written:
        rng = np.random.default_rng(0)
        if xy is None:
            xy = [(x, y) for y in range(1, 5) for x in range(1, 6)]
        if spectra is None:
            spectra = []
            for _ in xy:
                n = int(rng.integers(3, 30))
                mz = np.sort(rng.uniform(100, 1000, n))
                spectra.append((mz, rng.integers(1, 1000, n).astype(np.float32)))
        options = {"mode": "processed", "polarity": "negative", **options}
        with ImzMLWriter(str(tmp_path / name), **options) as writer:
            for place, (mz, intensity) in zip(xy, spectra, strict=True):
                writer.addSpectrum(mz, intensity, place)
        kept = [(np.asarray(mz, float), np.asarray(i)) for mz, i in spectra]
        return Written(tmp_path / f"{name}.imzML", xy, kept)

    return build
