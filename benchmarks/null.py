"""A finished run with its labels or its registration shuffled: what is left must be chance.

Within each specimen the annotation is dealt out anew over its pixels, or the features are (as if
the slide lay anywhere on the MSI); then the folds, penalties and classifiers are fitted as in the
run itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from msiscale.config import RunConfig
from msiscale.models import (
    Block,
    Moments,
    classification_metrics,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.pipeline.table import Table
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
    found = {f"honest.{m}.auc": v for m, v in _auc(data, patients, run["parameters"]).items()}
    for shuffled in ("labels", "registration"):
        scores: dict[str, list[float]] = {m: [] for m in MODELS}
        for i in range(words.shuffles):
            null = {s: _shuffle(rows, shuffled, rng) for s, rows in data.items()}
            for model, value in _auc(null, patients, run["parameters"]).items():
                scores[model].append(value)
            print(f"{shuffled} {i + 1}/{words.shuffles}", flush=True)
        for model, values in scores.items():
            if shuffled == "registration" and model == "cancer_from_msi":
                continue  # it does not see the slide
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


def _auc(
    data: Mapping[str, Rows], patients: Mapping[str, str], parameters: Mapping[str, list[float]]
) -> dict[str, float]:
    folds = leave_one_group_out(patients)
    sums = {s: Moments.of(x, m) for s, (x, m, _) in data.items()}
    models = fit_linear_folds(
        sums,
        folds,
        patients,
        n_components=int(parameters["components"]),  # type: ignore[call-overload]
        alphas=parameters["alphas"],
    )
    truth = np.concatenate([y for _, _, y in data.values()])
    home = {s: fold.name for fold in folds for s in fold.test}
    found = {}
    for which, wanted in ((1, MODELS[:1]), (0, MODELS[1:])):
        blocks = [Block(s, (rows[which], rows[2], None)) for s, rows in data.items()]
        maps = {k: {m.fold.name: (m.maps or {})[k] for m in models} for k in wanted}
        fitted = fit_classifiers(blocks, maps, folds, patients, costs=parameters["costs"])
        for model in wanted:
            values = [fitted[model, home[s]].predict(rows[which]) for s, rows in data.items()]
            metrics = classification_metrics(truth, np.concatenate(values))
            found[model] = metrics["auc"]
    return found
