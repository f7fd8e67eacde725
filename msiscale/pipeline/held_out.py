"""Maps of every specimen by the fold that left its patient out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msiscale.errors import SpecimenError
from msiscale.models import Classifier, FoldModel
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.metrics import PROTOCOL
from msiscale.pipeline.model import COMPARED, MSI, Classifiers
from msiscale.pipeline.table import Table
from msiscale.pipeline.tasks import Task
from msiscale.store import join, open_group, put, read


def predict_held_out(
    run: Run,
    tables: Mapping[str, Table],
    models: Sequence[FoldModel],
    classifiers: Classifiers,
) -> dict[str, dict[str, Any]]:
    """Every specimen's maps by the fold that left its patient out; what was written of each."""
    urls = save_folds(join(run.state_url, "folds"), models, classifiers)
    tasks = []
    for url, model in zip(urls, models, strict=True):
        kept = [m for m in COMPARED if (m, model.fold.name) in classifiers]
        for name in model.fold.test:
            args = (url, kept, join(run.predictions_url, name), tables[name])
            tasks.append(Task(name, name, noting, (run.lease, _predict_specimen, args)))
    outcome = run.tasks(tasks, "predict")
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    return {name: wrote for name, (_, wrote) in outcome.results.items()}


def save_folds(url: str, models: Sequence[FoldModel], classifiers: Classifiers) -> list[str]:
    """The folds of a protocol, each in a group below `url`, which is made anew."""
    root, _, name = url.rpartition("/")
    folds = open_group(root, "a").create_group(name, overwrite=True)
    for i, model in enumerate(models):
        group = folds.require_group(f"{i:04d}")  # a patient's name may be no name of a folder
        model.save(group)
        for m in COMPARED:
            if (m, model.fold.name) in classifiers:
                classifiers[m, model.fold.name].save(group.require_group(m))
    return [join(url, f"{i:04d}") for i in range(len(models))]


def _predict_specimen(
    model_url: str, models: list[str], target: str, table: Table
) -> dict[str, Any]:
    saved = open_group(model_url)
    model = FoldModel.load(saved)
    classifiers = {name: Classifier.load(saved[name]) for name in models}  # type: ignore[arg-type]
    shape, modes = table.mask.shape, len(model.components)
    maps = {name: np.full(shape, np.nan, np.float32) for name in models}
    scores = {
        name: np.full((*shape, modes), np.nan, np.float32)
        for name in ("scores", "predicted_scores")
    }
    for cell in table.cells:
        spectra, features = table.rows("intensity", cell), table.rows("features", cell)
        table.spread(cell, model.project(spectra), scores["scores"])
        table.spread(cell, model.predict(features), scores["predicted_scores"])
        for name, classifier in classifiers.items():
            x = spectra if name == MSI else features
            table.spread(cell, classifier.predict(x), maps[name])
    root, name = target.rsplit("/", 1)
    # written over and never removed first: a second worker that was thought lost may do the same
    group = open_group(root, "r+").require_group(name)
    source = open_group(table.url)
    for axis in ("y", "x"):
        put(group, axis, read(source, axis), (axis,), attrs={"units": "µm"})
    put(group, "mz", read(source, "mz"), ("mz",), attrs={"units": "m/z"})
    for name, values in maps.items():
        put(group, name, values, ("y", "x"))
    for name, values in scores.items():
        put(group, name, values, ("y", "x", "component"), chunks=(64, 64, 16))
    put(group, "components", model.components.astype(np.float32), ("component", "mz"))
    put(group, "mean", model.mean.astype(np.float32), ("mz",))
    kept = {*maps, *scores, "y", "x", "mz", "components", "mean"}
    for name in set(group.keys()) - kept:  # of a fit with other models
        del group[name]
    group.attrs.update(
        {"fold": model.fold.name, "protocol": PROTOCOL, "matrix": source.attrs["matrix"]}
    )
    return {}


def merge_written(wrote: dict[str, dict[str, Any]], more: Mapping[str, dict[str, Any]]) -> None:
    """Add to what was written of each specimen."""
    for name, facts in more.items():
        known = wrote.setdefault(name, {"written": {}, "bytes_written": 0})
        known["written"] = {**known["written"], **facts["written"]}
        known["bytes_written"] += facts["bytes_written"]
