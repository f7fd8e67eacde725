"""Sums of parts of a cohort: read from the store one at a time, and made there by tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from msiscale.models import (
    Moments,
    moments_of_blocks,
)
from msiscale.models.fold_store import FoldStore, StoredMoments
from msiscale.models.fourier_folds import DTYPE
from msiscale.pipeline.classify import on_cluster
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.pixel_rows import PixelRows, sound
from msiscale.store import open_group

TOGETHER = 8  # specimens summed up by a task
Masks = dict[str, np.ndarray]


def part_of(table: PixelRows, name: str, mask: np.ndarray) -> PixelRows:
    """Take some pixels of a specimen.

    Parameters
    ----------
    table
        Its rows.
    name
        Of the part, for its stamp.
    mask
        (y, x) bool, which of its usable pixels.

    Returns
    -------
    PixelRows
    """
    return replace(table, mask=table.mask & mask, stamp=f"{table.stamp}/{name}")


class StoredSums(Mapping[str, Moments]):
    """Sums by part, read when they are asked for: never all of a cohort in memory.

    Parameters
    ----------
    urls : mapping of part to URLs of its `Moments`, which are merged
    specimens_in : the ``.zarr`` of a run whose specimens are the parts, so that damaged sums are
        the failure of their specimen; default: they are of many
    """

    def __init__(self, urls: Mapping[str, Sequence[str]], specimens_in: str = "") -> None:
        self.urls, self.specimens_in, self.loads = urls, specimens_in, 0

    def __getitem__(self, name: str) -> Moments:
        with self._sound(name):
            self.loads += len(self.urls[name])
            return Moments.merge(Moments.load(url) for url in self.urls[name])

    def bytes_of(self, name: str) -> int:
        """Bytes that the sums of a part take in memory."""
        with self._sound(name):
            attrs: Any = open_group(self.urls[name][0]).attrs
            p, q = int(attrs["p"]), int(attrs["q"])
        return 8 * (p * p + p * q + q * q)

    def _sound(self, name: str) -> AbstractContextManager[None]:
        return sound(self.specimens_in, name) if self.specimens_in else nullcontext()

    def __iter__(self) -> Iterator[str]:
        return iter(self.urls)

    def __len__(self) -> int:
        return len(self.urls)


def sum_up(
    run: Run,
    store: FoldStore,
    what: str,
    tables: Mapping[str, PixelRows],
    parts: Mapping[str, Masks],
) -> StoredSums:
    """Sum up the parts of a cohort on the workers, a few specimens a task.

    Parameters
    ----------
    run
        Whose workers do it.
    store
        Where the sums are put; those that are there are kept.
    what
        Of the names of the sums.
    tables
        Specimen to its rows.
    parts
        Specimen to masks (y, x) bool of its pixels, by name of the part.

    Returns
    -------
    StoredSums
        By part.
    """
    urls: dict[str, list[str]] = {}
    tasks = []
    names, made = list(parts), store.sums
    for at in range(0, len(names), TOGETHER):
        some = names[at : at + TOGETHER]
        for part in dict.fromkeys(p for name in some for p in parts[name]):
            mine = [part_of(tables[n], part, parts[n][part]) for n in some if part in parts[n]]
            of = urls.setdefault(part, [])
            name = f"{what}-{list(urls).index(part)}-{at}"
            of.append(made.place(name))
            tasks.append(partial(noting, run.lease, _sum_of, (made, name, mine)))
    for _ in on_cluster(run, "parts")(tasks):
        pass
    return StoredSums(urls)


def _sum_of(made: StoredMoments, name: str, tables: list[PixelRows]) -> dict[str, Any]:
    if name not in made:
        blocks = (
            (table.slide_rows(cell), table.rows("intensity", cell))
            for table in tables
            for cell in table.cells
        )
        made[name] = moments_of_blocks(blocks, DTYPE if tables[0].fourier else np.float32)
    return {}
