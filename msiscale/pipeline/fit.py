"""The fits: sums a specimen, folds and classifiers from them, maps, metrics, a model."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from msiscale import __version__, msi
from msiscale.cohort import Specimen
from msiscale.errors import InputError, SpecimenError
from msiscale.models import Block as Rows
from msiscale.models import (
    Classifier,
    Fold,
    FoldModel,
    Moments,
    Spread,
    classification_records,
    final_fold,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
    moments_of_blocks,
    pooled_records,
)
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.model import HE, MODELS, MSI, PREDICTED, Classifiers, write_model
from msiscale.pipeline.table import Table, sound
from msiscale.pipeline.tasks import Outcome, Task, ordered
from msiscale.pipeline.withdraw import leave_out
from msiscale.store import at_once, digest, join, open_group, put, read, write_bytes

PROTOCOL = "leave_one_patient_out"
COLUMNS = ["protocol", "fold", "specimen", "model", "target", "metric", "value"]


def fit(run: Run) -> None:
    """``predictions.zarr``, ``metrics.csv`` and ``model.zarr`` of the specimens that are left.

    Memory: the client holds some (log2 of the cohort) sums and the fitted folds; a worker one
    cell of 64 x 64 pixels and 512 MiB of rows that the classifiers read again.
    """
    keys = sum_up(run)
    while list(run.specimens()):
        try:
            _fit(run, keys)
            return
        except SpecimenError as error:  # its stored data are damaged
            run.set_aside("fit", error.specimen, "", str(error))


def _fit(run: Run, keys: dict[str, str]) -> None:
    specimens = list(run.specimens())
    labels = {s.name: _stamp(run, s, "register") for s in specimens}
    part = run.config.part("components", "alphas", "costs")
    facts = [[s.name, s.patient, keys[s.name], labels[s.name]] for s in specimens]
    key = run.key("fit", facts, part, _axis_digest(run))
    if run.done("fit", "cohort", key):
        return
    run.forget("fit", ["cohort", *(s.name for s in specimens)])
    began, cpu = time.perf_counter(), time.process_time()
    opened = at_once(partial(open_table, run), specimens)
    tables = {s.name: table for s, table in zip(specimens, opened, strict=True)}
    patients = {s.name: s.patient for s in specimens}
    folds = _folds(run, patients)
    leave_out(run, {name for fold in folds for name in fold.test})
    run.say(f"fit: linear maps of {len(folds) - 1} folds, and of all specimens")
    models = fit_linear_folds(
        SavedMoments(run, tables),
        folds,
        patients,
        columns=_columns(run),
        n_components=run.config.components,
        alphas=run.config.alphas,
        background=_background(run, specimens),
    )
    classifiers = _classifiers(run, tables, models, folds, patients)
    held_out = [m for m in models if m.fold.test]
    with run.recording() as noted:
        wrote = _predict(run, tables, held_out, classifiers)
        _write_metrics(run, tables, held_out, bool(classifiers))
        write_model(run, models[-1], classifiers, specimens, key)
    for s in specimens:
        run.write("fit", s.name, key, "done", version=__version__, **wrote.get(s.name, {}))
    counts = {"folds": len(held_out), "specimens": len(specimens)}
    run.write("fit", "cohort", key, "done", **counts, written=noted.parts)
    spent = Outcome(wall_s=time.perf_counter() - began, cpu_s=time.process_time() - cpu)
    run.account.add("fit", spent, redone=1)


def sum_up(run: Run) -> dict[str, str]:
    """The mergeable sums of each specimen, in ``state.zarr/<specimen>/moments``."""
    keys = {
        s.name: run.key("sums", _data_stamp(run, s), run.config.part("min_coverage"))
        for s in run.specimens()
    }

    def task(specimen: Specimen) -> Task:
        args = (run.cohort_url, run.state_url, specimen, run.config.min_coverage)
        return Task(specimen.name, specimen.name, _sum_up, args)

    run.each("sums", keys, task)
    return keys


def _sum_up(cohort_url: str, state_url: str, specimen: Specimen, least: float) -> dict[str, Any]:
    table = Table.open(join(cohort_url, specimen.name), "", min_coverage=least)
    if not table.mask.any():
        raise InputError(
            f"specimen {specimen.name}: no MSI pixel is measured, on tissue and under the slide; "
            "check its registration"
        )
    state = open_group(join(state_url, specimen.name), "a")
    total = moments_of_blocks(
        (table.rows("features", c), table.rows("intensity", c)) for c in table.cells
    )
    total.save(state.require_group("moments"))
    off = Table.background(table.url)
    if off.mask.any():
        parts = (Spread.of(off.rows("intensity", c)) for c in off.cells)
        functools.reduce(Spread.__add__, parts).save(state.require_group("background"))
    return {"pixels": int(table.mask.sum()), "background_pixels": int(off.mask.sum())}


class SavedMoments(Mapping[str, Moments]):
    """Sums read from the store when they are asked for; the cohort's are never all in memory."""

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        self.url, self.names = run.state_url, list(names)

    def __getitem__(self, name: str) -> Moments:
        if name not in self.names:
            raise KeyError(name)
        with sound(self.url, name):
            return Moments.load(join(self.url, name, "moments"))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _background(run: Run, specimens: list[Specimen]) -> dict[str, Spread]:
    found = {}
    for s in specimens:
        if run.upstream("sums", s)["background_pixels"]:
            with sound(run.state_url, s.name):
                found[s.name] = Spread.load(open_group(join(run.state_url, s.name, "background")))
    return found


def open_table(run: Run, specimen: Specimen) -> Table:
    """The usable pixels of a specimen."""
    url = join(run.cohort_url, specimen.name)
    stamp = digest([_data_stamp(run, specimen), _stamp(run, specimen, "register")])
    return Table.open(url, stamp, min_coverage=run.config.min_coverage)


def _stamp(run: Run, specimen: Specimen, stage: str) -> str:
    return str(run.upstream(stage, specimen)["digest"])


def _data_stamp(run: Run, specimen: Specimen) -> list[str]:
    return [_stamp(run, specimen, stage) for stage in ("ingest", "features")]


def _axis_digest(run: Run) -> str:
    record = run.record("axis", "cohort")
    return "" if record is None else str(record["digest"])


def _folds(run: Run, patients: dict[str, str]) -> list[Fold]:
    """One fold a patient, then the final one; with one patient only the final one."""
    last = final_fold(list(patients))
    if len(set(patients.values())) < 2:
        run.say("fit: one patient only; the model is fitted but nothing can validate it")
        return [last]
    return [*leave_one_group_out(patients), last]


def _columns(run: Run) -> Callable[[Sequence[str]], np.ndarray]:
    axis = load_axis(run)
    return lambda train: msi.supported(axis, list(train))


_PASSES = itertools.count()


def on_cluster(run: Run, stage: str) -> Callable[[Sequence[Callable[[], Any]]], Iterable[Any]]:
    """What `msiscale.models` calls to have a list of tasks computed, in order."""

    def compute(tasks: Sequence[Callable[[], Any]]) -> Iterable[Any]:
        named = [Task(str(i), "", task) for i, task in enumerate(tasks)]
        for report in ordered(run.client, named, f"{stage}-{next(_PASSES)}", run.lease.guard):
            if report.failure is not None and report.specimen:
                raise SpecimenError(report.failure, report.specimen)
            if report.failure is not None:
                raise (RuntimeError if report.traceback else InputError)(report.failure)
            yield report.result

    return compute


def _classifiers(
    run: Run,
    tables: dict[str, Table],
    models: list[FoldModel],
    folds: list[Fold],
    patients: dict[str, str],
) -> Classifiers:
    rows: dict[str, list[Rows]] = {}
    for name in ("intensity", "features"):
        rows[name] = [b for s, table in tables.items() for b in table.labelled(name, s)]
    if not rows["features"]:
        run.say("fit: no specimen has an annotation; cancer is not fitted")
        return {}
    run.say("fit: classifiers, all folds together")
    found: Classifiers = {}
    for name, wanted in (("intensity", (MSI,)), ("features", (HE, PREDICTED))):
        maps = {model: {m.fold.name: (m.maps or {})[model] for m in models} for model in wanted}
        found |= fit_classifiers(
            rows[name],
            maps,
            folds,
            patients,
            costs=run.config.costs,
            run=on_cluster(run, f"logistic-{name}"),
        )
    return found


def _predict(
    run: Run,
    tables: dict[str, Table],
    models: list[FoldModel],
    classifiers: Classifiers,
) -> dict[str, dict[str, Any]]:
    """Every specimen's maps by the fold that left its patient out; what was written of each."""
    # made anew whole, as patients may have left
    folds = open_group(run.state_url, "a").create_group("folds", overwrite=True)
    tasks = []
    for i, model in enumerate(models):
        group = folds.require_group(f"{i:04d}")  # a patient's name may be no name of a folder
        model.save(group)
        kept = {
            m: classifiers[m, model.fold.name]
            for m in MODELS
            if (m, model.fold.name) in classifiers
        }
        for name, classifier in kept.items():
            classifier.save(group.require_group(name))
        for name in model.fold.test:
            args = (
                join(run.state_url, "folds", f"{i:04d}"),
                list(kept),
                join(run.predictions_url, name),
                tables[name],
            )
            tasks.append(Task(name, name, noting, (run.lease, _predict_specimen, args)))
    outcome = run.tasks(tasks, "predict")
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    return {name: wrote for name, (_, wrote) in outcome.results.items()}


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


def _write_metrics(
    run: Run, tables: dict[str, Table], models: list[FoldModel], labelled: bool
) -> None:
    records = [r for m in models for r in m.records] + pooled_records(models)
    folds = {name: m.fold.name for m in models for name in m.fold.test}
    if labelled and models:
        truth, maps = {}, {name: {} for name in MODELS}  # type: ignore[var-annotated]
        for name, table in tables.items():
            truth[name] = np.where(table.mask, read(open_group(table.url), "cancer"), np.nan)
            group = open_group(join(run.predictions_url, name))
            for model in MODELS:
                maps[model][name] = read(group, model)
        for model in MODELS:
            records += classification_records(truth, maps[model], model=model, folds=folds)
    rows = pd.DataFrame([{"protocol": PROTOCOL, **r} for r in records], columns=COLUMNS)
    text = rows.to_csv(index=False, lineterminator="\n", float_format="%.12g")
    write_bytes(join(run.out, "metrics.csv"), text.encode())
