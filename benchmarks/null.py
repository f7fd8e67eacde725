"""A finished run with its labels or its registration shuffled: what is left must be chance.

Within each specimen the annotation is dealt out anew over its pixels, or the features are (as if
the slide lay anywhere on the MSI); then the folds, penalties and classifiers are fitted as in the
run itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.config import RunConfig
from msiscale.models import (
    FoldModel,
    Moments,
    RowBlock,
    classification_metrics,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.pipeline.pixel_rows import Table
from msiscale.store import join, open_group, read, read_json

MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")
Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--run", default="demo/run", help="results of a run [demo/run]")
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace) -> dict[str, float]:
    """AUC as it is, and its mean, least and greatest over the shuffles."""
    run = read_json(join(words.run, "run.json"))
    patients = {s: run["patients"][s] for s in run["specimens"] if s not in run["failed"]}
    data = {s: _rows(join(words.run, "cohort.zarr", s)) for s in patients}
    rng = np.random.default_rng(words.seed)
    parameters = run["parameters"]
    models = _linear(data, patients, parameters)
    honest = _auc(data, models, patients, parameters, MODELS)
    found = {f"honest.{m}.auc": v for m, v in honest.items()}
    for shuffled in ("labels", "registration"):
        # the predictor from MSI does not see the slide, the linear maps do not see the labels
        moved = shuffled == "registration"
        scores: dict[str, list[float]] = {m: [] for m in (MODELS[1:] if moved else MODELS)}
        for i in range(words.shuffles):
            null = {s: _shuffle(rows, shuffled, rng) for s, rows in data.items()}
            if moved:
                models = _linear(null, patients, parameters)
            for model, value in _auc(null, models, patients, parameters, tuple(scores)).items():
                scores[model].append(value)
            print(f"{shuffled} {i + 1}/{words.shuffles}", flush=True)
        for model, values in scores.items():
            for name, of in (("mean", np.mean), ("least", np.min), ("greatest", np.max)):
                found[f"{shuffled}_shuffled.{model}.auc_{name}"] = float(of(values))
    return found


def _rows(url: str) -> Rows:
    """Features, spectra and labels of the labelled pixels of a specimen."""
    table = Table.open(url, "", min_coverage=RunConfig().min_coverage)
    cells = table.cells
    cancer = read(open_group(url), "cancer").astype(np.float64)
    y = np.concatenate([cancer[c.slices][table.mask[c.slices]] for c in cells])
    x, m = (np.concatenate([table.rows(n, c) for c in cells]) for n in ("features", "intensity"))
    known = np.isfinite(y)
    return x[known], m[known], y[known]


def _shuffle(rows: Rows, what: str, rng: np.random.Generator) -> Rows:
    x, m, y = rows
    order = rng.permutation(len(y))
    return (x, m, y[order]) if what == "labels" else (x[order], m, y)


def _linear(
    data: Mapping[str, Rows], patients: Mapping[str, str], parameters: Mapping[str, Any]
) -> list[FoldModel]:
    return fit_linear_folds(
        {s: Moments.of(x, m) for s, (x, m, _) in data.items()},
        leave_one_group_out(patients),
        patients,
        n_components=parameters["components"],
        alphas=parameters["alphas"],
    )


def _auc(
    data: Mapping[str, Rows],
    models: list[FoldModel],
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
        fitted = fit_classifiers(blocks, maps, folds, patients, costs=parameters["costs"])
        for name in names:
            values = [fitted[name, home[s]].predict(rows[which]) for s, rows in data.items()]
            found[name] = classification_metrics(truth, np.concatenate(values))["auc"]
    return found
