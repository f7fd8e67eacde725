"""The fits: sums a specimen, folds and classifiers from them, maps, metrics, a model."""

from __future__ import annotations

import functools
import warnings
from functools import partial
from typing import Any

import numpy as np

from msiscale import __version__
from msiscale.cohort import Specimen
from msiscale.errors import MsiscaleWarning, SpecimenError
from msiscale.models import Spread, moments_of_blocks
from msiscale.models.left_out import LEAST
from msiscale.pipeline.batch import write_batch
from msiscale.pipeline.context import Run
from msiscale.pipeline.evaluate import Evaluated, Wrote, clear, evaluate
from msiscale.pipeline.metric_tables import write_metrics
from msiscale.pipeline.metrics import PROTOCOL
from msiscale.pipeline.model import write_model
from msiscale.pipeline.pixel_rows import PixelRows, sound
from msiscale.pipeline.protocols import (
    blocks_within,
    channel_groups,
    few_folds,
    held_out_together,
    patient_folds,
    supported_columns,
    within_specimens,
)
from msiscale.pipeline.setting import Setting
from msiscale.pipeline.sums import StoredSums
from msiscale.pipeline.tasks import Task
from msiscale.pipeline.withdraw import leave_out
from msiscale.store import at_once, digest, join, open_group

CHOICES = (
    *("components", "alphas", "costs", "protocols", "pca", "scaling", "folds", "calibrate"),
    *("labels", "scaler", "average", "head"),
)


def fit(run: Run) -> None:
    """``predictions.zarr``, ``metrics.csv`` and ``model.zarr`` of the specimens that are left.

    Memory: a worker as `msiscale.models.leaving_out` says for the linear maps, and for the
    classifiers one cell of 64 x 64 pixels and a quarter of its memory of rows read again.
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
    labels = {s.name: run.stamp("register", s) for s in specimens}
    part = run.config.part(*CHOICES)
    facts = [[s.name, s.patient, keys[s.name], labels[s.name]] for s in specimens]
    axis = run.record("axis", "cohort")
    key = run.key("fit", facts, part, "" if axis is None else str(axis["digest"]))
    if run.done("fit", "cohort", key):
        return
    run.forget("fit", [s.name for s in specimens])
    with run.making("fit", key, redone=1) as record:
        opened = at_once(partial(open_pixels, run), specimens)
        tables = {s.name: table for s, table in zip(specimens, opened, strict=True)}
        patients = {s.name: s.patient for s in specimens}
        units = held_out_together(run, specimens)
        folds = patient_folds(units)
        groups = channel_groups(tables, bool(few_folds(patients, folds)))
        leave_out(run, {name for fold in folds for name in fold.test})
        maps = f"maps with {n} Fourier features" if (n := run.config.fourier) else "linear maps"
        run.say(f"fit: {maps} for {len(folds) - 1} folds, and for all specimens together")
        setting = Setting.of_patients(
            PROTOCOL,
            tables,
            folds,
            units,
            supported_columns(run),
            sums=StoredSums(
                {name: [join(run.state_url, name, "moments")] for name in tables}, run.state_url
            ),
            background=_background(run, specimens),
            groups=groups,
            people=patients,
            inner=blocks_within(tables, patients, folds, groups),
            folds_url=join(run.state_url, "folds"),
            whole=True,
            key=key,
        )
        main = evaluate(run, setting, run.predictions_url)
        _say_edges(main)
        _say_calibration(run, main)
        if not main.classifiers:
            run.say("fit: no specimen has an annotation, so no model of cancer is fitted")
        found = [main]
        for protocol in run.config.protocols:
            within = None
            if protocol != PROTOCOL:
                within = within_specimens(run, protocol, tables, main, groups, key)
            if within is not None:
                found.append(evaluate(run, within, run.predictions_url))
        write_metrics(run, [one.evaluation for one in found], patients)
        write_batch(run, main.models[-1], main.sums, patients)
        write_model(run, main.models[-1], main.classifiers, specimens, key, main.held_out, tables)
        wrote = _together([one.wrote for one in found])
        for s in specimens:
            run.write("fit", s.name, key, "done", version=__version__, **wrote.get(s.name, {}))
        record |= {"folds": len(main.held_out), "specimens": len(specimens), "loads": main.loads}
        clear(run)


def _say_edges(found: Evaluated) -> None:
    """A penalty at the end of its grid is no optimum that was found."""
    ends = [edge for edge in found.edges if edge]
    for end in sorted(set(ends)):
        text = (
            f"fit: the {end} penalty of --alphas was chosen in {ends.count(end)} of "
            f"{len(found.models)} fits; a better one may lie beyond it, so give more --alphas"
        )
        warnings.warn(text, MsiscaleWarning, stacklevel=2)


def _say_calibration(run: Run, found: Evaluated) -> None:
    """Probabilities and thresholds that the training patients could not decide."""
    fits = [c for c in found.classifiers.values() if np.isfinite(c.intercept).all()]
    plain = sum(c.calibration.by == "prior" for c in fits)
    if plain and run.config.calibrate == "patients":
        text = (
            f"fit: in {plain} of {len(fits)} classifiers, fewer than {LEAST} training patients "
            "have both classes, or their scores give no slope for the calibration; these "
            "probabilities are corrected for the class weights alone, and may be overconfident"
        )
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
    halves = sum(not c.calibration.chosen for c in fits)
    if halves and run.config.calibrate == "patients":
        text = f"fit: in {halves} of {len(fits)} classifiers, no training pixels were left out"
        warnings.warn(f"{text}; their threshold is 0.5", MsiscaleWarning, stacklevel=2)


def _together(parts: list[Wrote]) -> Wrote:
    """What several evaluations wrote of each specimen."""
    found: Wrote = {}
    for part in parts:
        for name, facts in part.items():
            known = found.setdefault(name, {"written": {}, "bytes_written": 0})
            known["written"] = {**known["written"], **facts["written"]}
            known["bytes_written"] += facts["bytes_written"]
    return found


def sum_up(run: Run) -> dict[str, str]:
    """The mergeable sums of each specimen, in ``state.zarr/<specimen>/moments``."""
    least = run.config.part("min_coverage")
    keys = {s.name: run.key("sums", _data_stamp(run, s), least) for s in run.specimens()}

    def task(specimen: Specimen) -> Task:
        args = (run.cohort_url, run.state_url, specimen, run.config.min_coverage)
        return Task(specimen.name, specimen.name, _sum_up, args)

    run.each("sums", keys, task)
    return keys


def _sum_up(cohort_url: str, state_url: str, specimen: Specimen, least: float) -> dict[str, Any]:
    table = PixelRows.open(join(cohort_url, specimen.name), "", min_coverage=least)
    table.need_any(specimen.name)
    state = open_group(join(state_url, specimen.name), "a")
    total = moments_of_blocks(
        (table.slide_rows(c), table.rows("intensity", c)) for c in table.cells
    )
    total.save(state.require_group("moments"))
    off = PixelRows.background(table.url)
    if off.mask.any():
        parts = (Spread.of(off.rows("intensity", c)) for c in off.cells)
        functools.reduce(Spread.__add__, parts).save(state.require_group("background"))
    return {"pixels": int(table.mask.sum()), "background_pixels": int(off.mask.sum())}


def _background(run: Run, specimens: list[Specimen]) -> dict[str, Spread]:
    found = {}
    for s in specimens:
        if run.upstream("sums", s)["background_pixels"]:
            with sound(run.state_url, s.name):
                found[s.name] = Spread.load(open_group(join(run.state_url, s.name, "background")))
    return found


def open_pixels(run: Run, specimen: Specimen) -> PixelRows:
    """The usable pixels of a specimen."""
    url = join(run.cohort_url, specimen.name)
    stamp = digest([_data_stamp(run, specimen), run.stamp("register", specimen)])
    return PixelRows.open(url, stamp, min_coverage=run.config.min_coverage)


def _data_stamp(run: Run, specimen: Specimen) -> list[str]:
    return [run.stamp(stage, specimen) for stage in ("ingest", "features")]
