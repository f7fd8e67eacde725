"""Zarr data for the benchmarks, as the engine writes its own: sharded, zstd with a checksum."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from benchmarks.common.measure import repeated
from msiscale.store import create_array, open_group

ROWS = 4096  # of a chunk: 64 x 64 pixels, as in a cohort


def low_rank(
    path: str, rows: int, columns: int, *, seed: int = 0, factors: int = 500
) -> zarr.Array[Any]:
    """``(rows, columns)`` float32 with a spectrum j^-0.7, noise, and strong channel means.

    The test data of the reference measurements; made once, chunk by chunk.
    """
    group = open_group(path, "a")
    if "x" in group and group.attrs.get("made") == [rows, columns, seed, factors]:
        return group["x"]  # type: ignore[return-value]
    rng = np.random.default_rng(seed)
    rank = min(factors, columns)
    loadings = rng.standard_normal((rank, columns)).astype(np.float32)
    loadings *= np.arange(1, rank + 1, dtype=np.float32)[:, None] ** np.float32(-0.7)
    mean = rng.gamma(2.0, 3.0, columns).astype(np.float32)
    group.attrs.pop("made", None)
    if "x" in group:
        del group["x"]
    array = create_array(group, "x", (rows, columns), ("row", "column"), chunks=(ROWS, columns))
    for start in range(0, rows, ROWS):
        array[start : start + ROWS] = _block(
            np.random.default_rng([seed, start]), min(ROWS, rows - start), loadings, mean
        )
    group.attrs["made"] = [rows, columns, seed, factors]
    return array


def _block(
    rng: np.random.Generator, n: int, loadings: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.float32]:
    scores = rng.standard_normal((n, len(loadings)), dtype=np.float32)
    noise = rng.standard_normal((n, len(mean)), dtype=np.float32)
    return np.asarray(scores @ loadings + np.float32(0.3) * noise + mean, dtype=np.float32)


def opened(path: str) -> zarr.Array[Any]:
    """What `low_rank` made."""
    return open_group(path)["x"]  # type: ignore[return-value]


Figures = tuple[list[dict[str, Any]], dict[str, float]]  # rows of the table, and by key


@dataclass
class Plan:
    """A part of the benchmark: its steps in turn, and what comes of their results."""

    part: str
    rows: int
    columns: int
    components: int
    folder: Path
    steps: dict[str, Callable[[], Any]] = field(default_factory=dict)
    figures: Callable[[dict[str, Any]], Figures] = lambda results: ([], {})

    @classmethod
    def of(
        cls, part: str, words: argparse.Namespace, rows: int, columns: int, *, scaled: bool = True
    ) -> Plan:
        """`rows` and `columns` of docs/models.md, times the scale (`scaled`: columns as well)."""
        folder = Path(words.data) if words.data else Path.home() / ".cache" / "msiscale-benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        rows = words.rows or int(words.scale * rows)
        columns = words.columns or int((words.scale if scaled else 1) * columns)
        components = min(words.components or int(words.scale * 200), columns)
        return cls(part, rows, columns, components, folder)

    def path(self, rows: int | None = None, columns: int | None = None) -> str:
        """Where data of this size lie."""
        return str(self.folder / f"{self.part}-{rows or self.rows}-{columns or self.columns}")

    def step(self, name: str, function: str, times: int = 1, **words: Any) -> None:
        """A function of the part's module, in a process of its own."""
        target = f"benchmarks.models.{self.part}:{function}"
        self.steps[name] = partial(repeated, target, times, **words)

    def data(self, rows: int | None = None, **words: Any) -> str:
        """A step that makes `low_rank` data, unless they are there; their path."""
        path, n = self.path(rows), rows or self.rows
        self.steps[f"data, {n:,} x {self.columns:,}"] = partial(
            low_rank, path, n, self.columns, **words
        )
        return path


class Counted:
    """A Zarr array that counts the rows read, for Dask (`passes`: how often all were)."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array, self.rows = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        found = np.asarray(self.array[key])
        self.rows += len(found)
        return found

    def lazy(self) -> Any:
        """Dask array with the chunks of the store."""
        import dask.array as da

        # asarray off: as a NumPy copy the counter would see one read of everything
        return da.from_array(self, chunks=self.array.chunks, asarray=False, name=False)

    @property
    def passes(self) -> float:
        return self.rows / self.shape[0]
