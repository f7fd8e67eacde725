"""Margins of what the model predicts, from the errors on patients that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msiscale.errors import SpecimenError
from msiscale.models import FoldModel
from msiscale.models.margins import BINS, LEAST_PATIENTS, LEVEL, count_errors, local_scale, margins
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.novelty import DISTANCE
from msiscale.pipeline.pixel_rows import PixelRows, sound
from msiscale.pipeline.tasks import Task
from msiscale.store import (
    HeldOut,
    StoredSpecimen,
    array_of,
    join,
    open_group,
    put,
    read,
    written,
)
from msiscale.store.held_out import PREDICTED
from msiscale.threads import one_blas_thread

GROUP = "margins"  # of ``model.zarr``, with an array a kind of prediction
INTENSITY, SCORES = "intensity", "scores"
LEAST_SPREAD = 0.01  # of the mean of an ion
SLAB = 256  # m/z whose counts of all patients are in memory
AXES = {INTENSITY: ("mz",), SCORES: ("component",)}


def write_margins(
    run: Run, model: FoldModel, tables: dict[str, PixelRows], maps: Sequence[str]
) -> None:
    """``model.zarr/margins``, from what is in ``predictions.zarr`` and in the model.

    A task a specimen reads its cube once. Memory: a worker holds one cell of 64 x 64 pixels, and
    `BINS` counts an m/z.

    Parameters
    ----------
    run
        With the model and the predictions of patients that were held out.
    model
        Of all specimens, as it is written.
    tables
        The rows of every specimen that was held out.
    maps
        Names of the probabilities.

    Raises
    ------
    SpecimenError
        A specimen's stored data are damaged.
    """
    patients = run.cohort.patients
    if len({patients[name] for name in tables}) < LEAST_PATIENTS:
        run.say(
            "fit: there is one patient only, so the error of predictions for another is not known"
        )
        return
    variance = model.explained_variance
    spread = np.sqrt((model.components**2 * variance[:, None]).sum(axis=0))
    spread = np.maximum(spread, LEAST_SPREAD * np.abs(model.mean))  # of ions that no mode holds
    sizes = {INTENSITY: spread, SCORES: np.sqrt(variance)} | {name: np.ones(1) for name in maps}
    open_group(run.state_url, "a").create_group(GROUP, overwrite=True)
    tasks, places = [], {}
    for i, (name, table) in enumerate(tables.items()):
        places[name] = join(run.state_url, GROUP, f"{i:04d}")
        args = (run.out, table, sizes, places[name])
        tasks.append(Task(name, name, noting, (run.lease, _count, args)))
    outcome = run.tasks(tasks, "margins")
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    for _, wrote in outcome.results.values():
        written.adopt(wrote["written"])
    group = open_group(join(run.out, "model.zarr"), "a").require_group(GROUP)
    for kind, size in sizes.items():
        found = np.concatenate(
            [
                margins(_of_patients(places, patients, kind, slice(at, at + SLAB)))
                for at in range(0, len(size), SLAB)
            ]
        )
        values = (found * size).astype(np.float32)
        put(group, kind, values if kind in AXES else values[0], AXES.get(kind, ()))
    group.attrs.update({"level": LEVEL, "patients": len({patients[name] for name in tables})})


def _of_patients(
    places: dict[str, str], patients: dict[str, str], kind: str, wanted: slice
) -> np.ndarray:
    """(patients, k, `BINS`) counts."""
    found: dict[str, np.ndarray] = {}
    for name, url in places.items():
        counts = np.asarray(array_of(open_group(url), kind)[wanted])
        found[patients[name]] = found.get(patients[name], 0) + counts
    return np.stack(list(found.values()))


def _count(out: str, table: PixelRows, sizes: dict[str, np.ndarray], target: str) -> dict[str, Any]:
    """Count the errors of a specimen's held-out pixels."""
    modes = read(open_group(join(out, "model.zarr")), "pca_components")
    name, spread, deviation = StoredSpecimen(table.url).name, sizes[INTENSITY], sizes[SCORES]
    with sound(join(out, "predictions.zarr"), name):
        source = HeldOut(out, name)
        components, mean = source.components(0, slice(None)), source.mean[0]
        scale = local_scale(source.stored.read(DISTANCE))
        of_ion = np.where(source.supported, spread, 0.0)
        counts = {
            INTENSITY: np.zeros((len(spread), BINS), np.int64),
            SCORES: np.zeros((len(modes), BINS), np.int64),
        }
        for cell in table.cells:
            here = table.mask[cell.slices]
            guess = np.asarray(source.stored.array(PREDICTED)[cell.slices])[here]
            truth, of = table.rows("intensity", cell), scale[cell.slices][here]
            with one_blas_thread():
                predicted = guess @ components + mean
                error = (truth - predicted) @ modes.T
            counts[SCORES] += count_errors(error, of, deviation)
            for at in range(0, len(spread), SLAB):
                some = slice(at, at + SLAB)
                left = truth[:, some] - np.maximum(predicted[:, some], 0)
                counts[INTENSITY][some] += count_errors(left, of, of_ion[some])
        truth = table.cancer()
        for which in sizes.keys() - AXES.keys():
            left = truth - source.stored.read(which)
            known = np.isfinite(left)
            counts[which] = count_errors(left[known][:, None], scale[known], np.ones(1))
    group = open_group(target, "a")
    for which, values in counts.items():
        put(group, which, values.astype(np.int32), ("target", "bin"), chunks=(SLAB, BINS))
    return {"pixels": int(table.mask.sum())}
