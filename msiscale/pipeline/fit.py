"""The fits: sums a specimen, folds and classifiers from them, maps, metrics, a model."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from msiscale import __version__, msi
from msiscale.cohort import Specimen
from msiscale.errors import InputError, SpecimenError
from msiscale.models import (
    Fold,
    Moments,
    Spread,
    final_fold,
    fit_linear_folds,
    leave_one_group_out,
    moments_of_blocks,
)
from msiscale.models.published import self_scaled
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.batch import write_batch
from msiscale.pipeline.classify import classifiers
from msiscale.pipeline.context import Run
from msiscale.pipeline.held_out import merge_written, predict_held_out
from msiscale.pipeline.metrics import PROTOCOL, Evaluation, write_metrics
from msiscale.pipeline.model import write_model
from msiscale.pipeline.protocols import within_specimens
from msiscale.pipeline.table import Table, sound
from msiscale.pipeline.tasks import Outcome, Task
from msiscale.pipeline.withdraw import leave_out
from msiscale.store import at_once, digest, join, open_group


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
    part = run.config.part("components", "alphas", "costs", "protocols", "pca", "scaling")
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
        columns=columns_of(run),
        n_components=run.config.components,
        alphas=run.config.alphas,
        background=_background(run, specimens),
        shared_pca=run.config.pca == "all",
    )
    run.say("fit: classifiers, all folds together")
    fitted = classifiers(run, tables.items(), models, patients)
    if not fitted:
        run.say("fit: no specimen has an annotation; cancer is not fitted")
    elif run.config.scaling == "own":
        fitted = self_scaled(fitted, models, SavedMoments(run, tables))
    held_out = [m for m in models if m.fold.test]
    with run.recording() as noted:
        wrote = predict_held_out(run, tables, held_out, fitted)
        scores = {name: r2 for m in held_out for name, r2 in m.scores.items()}
        found = [
            Evaluation.of(
                PROTOCOL,
                partial(join, run.predictions_url),
                tables,
                scores,
                held_out,
                bool(fitted),
            )
        ]
        for protocol in run.config.protocols:
            if protocol == PROTOCOL:
                continue
            final = models[-1], fitted
            within = within_specimens(run, protocol, specimens, tables, final)
            if within is not None:
                found.append(within[0])
                merge_written(wrote, within[1])
        write_metrics(run, found, patients)
        write_batch(run, models[-1], SavedMoments(run, tables), patients)
        write_model(run, models[-1], fitted, specimens, key, held_out, tables)
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


def columns_of(run: Run) -> Callable[[Sequence[str]], np.ndarray]:
    """Training specimens -> the m/z that they support."""
    axis = load_axis(run)
    return lambda train: msi.supported(axis, list(train))
