"""Pixels of finished runs, drawn at random: rows to compare ways to predict on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import msiscale as ms
from benchmarks.ions.heads import Rows
from msiscale.config import RunConfig
from msiscale.features.layers import Group
from msiscale.models import Fold, leave_one_group_out
from msiscale.models.partition import folds_of, group_of, spatial_blocks
from msiscale.pipeline.pixel_rows import Mask, PixelRows
from msiscale.pipeline.protocols import buffer_pixels, channel_groups
from msiscale.store import StoredSpecimen, join, open_group

PAIRS = ("msight", "roempp")
STAGES = ("ingest", "register", "features")


@dataclass(frozen=True, eq=False)
class Sampled:
    """Sampled rows, and who holds out whom.

    Attributes
    ----------
    parts : rows by specimen, or by unit of spatial blocks where there is one patient
    folds : over them
    patients : part to what is left out with it
    groups : of the channels
    """

    parts: dict[str, Rows]
    folds: list[Fold]
    patients: dict[str, str]
    groups: list[Group]


def pairs(folder: Path, out: Path) -> Iterator[Path]:
    """Runs of the real pairs in `folder`, as far as features, made in `out`."""
    for name in PAIRS:
        home = folder / f"{name}_mouse_bladder"
        if not home.is_dir():
            print(f"{home}: not there, left out")
            continue
        rows = pd.read_csv(home / "manifest.csv", dtype=str)[:1]
        for column in ("msi", "slide", "matrix"):
            rows[column] = [str(home.resolve() / file) for file in rows[column]]
        rows.to_csv(out / f"{name}.csv", index=False)
        result = ms.run(str(out / f"{name}.csv"), str(out / name), stages=STAGES)
        if result.failed:
            raise SystemExit(f"{home}: {result.failed}")
        yield out / name


def sample(run: Path, pixels: int) -> Sampled:
    """Draw `pixels` of each specimen, at most; of one patient alone blocks are held out."""
    url = str(run / "cohort.zarr")
    least = RunConfig().min_coverage
    names = sorted(open_group(url).group_keys())
    tables = {n: PixelRows.open(join(url, n), "", min_coverage=least) for n in names}
    patients = {n: str(StoredSpecimen(t.url).facts["patient"]) for n, t in tables.items()}
    few = len(set(patients.values())) < 2
    groups = channel_groups(tables, few)
    if not few:
        parts = {n: _rows(t, t.mask, pixels) for n, t in tables.items()}
        return Sampled(parts, leave_one_group_out(patients), patients, groups)
    parts = {}
    for table in tables.values():
        units = spatial_blocks(table.mask, buffer_pixels(table, groups)).units()
        share = pixels / table.mask.sum()
        parts |= {unit: _rows(table, m, round(share * m.sum())) for unit, m in units.items()}
    parts = {unit: rows for unit, rows in parts.items() if len(rows.features)}
    return Sampled(parts, folds_of(parts), {unit: group_of(unit) for unit in parts}, groups)


def _rows(table: PixelRows, mask: Mask, pixels: int) -> Rows:
    """Some of the pixels of a mask, drawn from a seed, in raster order."""
    at = np.flatnonzero(mask)
    chosen = np.random.default_rng(0).permutation(len(at))[:pixels]
    kept = np.zeros(mask.size, bool)
    kept[at[chosen]] = True
    some = replace(table, mask=kept.reshape(mask.shape))
    cancer = some.cancer()
    cells = some.cells
    if not cells:
        none = np.zeros((0, 1), np.float32)
        return Rows(none, none, none[:, 0])
    features, intensity = (
        np.concatenate([some.rows(name, cell) for cell in cells])
        for name in ("features", "intensity")
    )
    known = [cancer[cell.slices][some.mask[cell.slices]] for cell in cells]
    return Rows(features, intensity, np.concatenate(known))
