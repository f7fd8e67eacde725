"""The labelled pixels of a run, dealt out anew, and the fits of the run itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.config import RunConfig
from msiscale.features.layers import Group
from msiscale.models import (
    FoldModel,
    Moments,
    RowBlock,
    classification_metrics,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import open_group, read

Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]


def rows(url: str) -> Rows:
    """Features, spectra and labels of the labelled pixels of a specimen."""
    table = PixelRows.open(url, "", min_coverage=RunConfig().min_coverage)
    cells = table.cells
    cancer = read(open_group(url), "cancer").astype(np.float64)
    y = np.concatenate([cancer[c.slices][table.mask[c.slices]] for c in cells])
    x, m = (np.concatenate([table.rows(n, c) for c in cells]) for n in ("features", "intensity"))
    known = np.isfinite(y)
    return x[known], m[known], y[known]


def shuffle(rows: Rows, what: str, rng: np.random.Generator) -> Rows:
    x, m, y = rows
    order = rng.permutation(len(y))
    return (x, m, y[order]) if what == "labels" else (x[order], m, y)


def linear(
    data: Mapping[str, Rows],
    patients: Mapping[str, str],
    parameters: Mapping[str, Any],
    groups: Sequence[Group],
) -> Sequence[FoldModel]:
    return fit_linear_folds(
        {s: Moments.of(x, m) for s, (x, m, _) in data.items()},
        leave_one_group_out(patients),
        patients,
        n_components=parameters["components"],
        alphas=parameters["alphas"],
        groups=groups,
    )


def auc(
    data: Mapping[str, Rows],
    models: Sequence[FoldModel],
    patients: Mapping[str, str],
    parameters: Mapping[str, Any],
    wanted: tuple[str, ...],
) -> dict[str, float]:
    folds = [m.fold for m in models]
    truth = np.concatenate([y for _, _, y in data.values()])
    home = {s: fold.name for fold in folds for s in fold.test}
    found = {}
    for which, names in ((1, wanted[:-2]), (0, wanted[-2:])):
        if not names:
            continue
        blocks = [RowBlock(s, (rows[which], rows[2], None)) for s, rows in data.items()]
        maps = {k: {m.fold.name: (m.maps or {})[k] for m in models} for k in names}
        words = {"costs": parameters["costs"], "calibrate": "none"}
        fitted = fit_classifiers(blocks, maps, folds, patients, **words)
        for name in names:
            values = [fitted[name, home[s]].predict(rows[which]) for s, rows in data.items()]
            found[name] = classification_metrics(truth, np.concatenate(values))["auc"]
    return found
