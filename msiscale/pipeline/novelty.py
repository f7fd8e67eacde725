"""Where the model should not be believed: how unlike the others held-out patients are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msiscale.errors import SpecimenError
from msiscale.models.fold_model import Mapped
from msiscale.models.fourier_folds import SLIDE
from msiscale.models.novelty import (
    LEVELS,
    Limits,
    Novelty,
    foreign,
    histogram,
    pooled_quantiles,
)
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.tasks import Task
from msiscale.store import join, open_group, put, read, written

DISTANCE, UNEXPLAINED = "feature_distance", "feature_unexplained"


def calibrate(
    run: Run, final: Mapped, held_out: Sequence[Mapped], tables: dict[str, PixelRows]
) -> tuple[Novelty, Limits]:
    """Describe the final model's features, and how far held-out patients are from their training.

    Every specimen is measured against the patients that its fold was trained on, a task a specimen,
    into ``predictions.zarr``. Memory: a worker holds one cell of 64 x 64 pixels, and maps.

    Returns
    -------
    Novelty, Limits
        The distribution; quantiles over the pixels, each patient counting the same.

    Raises
    ------
    SpecimenError
        A specimen's stored data are damaged.
    """
    # made anew whole, as patients may have left
    state = open_group(run.state_url, "a").create_group("novelty", overwrite=True)
    tasks, patients = [], {}
    for i, model in enumerate(held_out or [final]):
        group = state.require_group(f"{i:04d}")  # a patient's name may be no name of a folder
        _of(model).save(group)
        for name in model.fold.test or model.fold.train:
            patients[name] = run.cohort.patients[name] if held_out else name
            target = join(run.predictions_url, name) if held_out else ""
            args = (join(run.state_url, "novelty", f"{i:04d}"), tables[name], target)
            tasks.append(Task(name, name, noting, (run.lease, _measure, args)))
    outcome = run.tasks(tasks, "novelty")
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    for _, wrote in outcome.results.values():
        written.adopt(wrote["written"])

    def quantiles(which: str) -> dict[str, float]:
        counts = {name: _dense(facts[which]) for name, (facts, _) in outcome.results.items()}
        found = pooled_quantiles(counts, patients, [float(level) for level in LEVELS])
        return dict(zip(LEVELS, found, strict=True))

    by = "leave_one_patient_out" if held_out else "training"
    return _of(final), Limits(quantiles("distance"), quantiles("unexplained"), by)


def _of(model: Mapped) -> Novelty:
    name = "cancer_from_he" if model.fourier is None else SLIDE  # those of the slide alone
    return Novelty.of((model.maps or {})[name])


def _measure(novelty_url: str, table: PixelRows, target: str) -> dict[str, Any]:
    """Measures of a specimen's usable pixels, written as maps; their histograms."""
    novelty = Novelty.load(open_group(novelty_url))
    distance, unexplained = (np.full(table.mask.shape, np.nan, np.float32) for _ in range(2))
    for cell in table.cells:
        far, away = novelty.measure(table.rows("features", cell))
        table.spread(cell, far, distance)
        table.spread(cell, away, unexplained)
    if target:
        group = open_group(target, "r+")
        put(group, DISTANCE, distance, ("y", "x"))
        put(group, UNEXPLAINED, unexplained, ("y", "x"))
    return {"distance": _sparse(distance), "unexplained": _sparse(foreign(unexplained, 1.0))}


def _sparse(values: np.ndarray) -> list[list[int]]:
    """Bins of a histogram that are not empty, and their counts."""
    counts = histogram(values)
    bins = np.flatnonzero(counts)
    return [bins.tolist(), counts[bins].tolist()]


def _dense(found: list[list[int]]) -> np.ndarray:
    counts = np.zeros_like(histogram([]))
    counts[found[0]] = found[1]
    return counts


def extrapolated(url: str, limits: Limits) -> np.ndarray:
    """Bool (y, x) of a specimen's predictions: unlike the training; False off the tissue."""
    group = open_group(url)
    return limits.exceeded(read(group, DISTANCE), read(group, UNEXPLAINED), 1.0)
