"""Classifiers of a run's folds, their passes over the rows computed by the workers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from distributed import Client

from msiscale.errors import InputError, SpecimenError
from msiscale.models import Classifier, Fold, fit_classifiers
from msiscale.models import RowBlock as Rows
from msiscale.models.cache import CACHE_BYTES
from msiscale.models.classification import By
from msiscale.models.fold_model import Mapped
from msiscale.models.fourier_folds import labelled
from msiscale.pipeline.context import Run
from msiscale.pipeline.model import COLOUR, HE, HE_MODES, MSI, PREDICTED, Classifiers
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.tasks import Outcome, Task, note, ordered

_PASSES = itertools.count()
SAY_S = 10.0  # between two lines of how far the classifiers are
# What the rows of a model are.
SEEN = {"intensity": (MSI,), "features": (HE, HE_MODES, PREDICTED), "colour": (COLOUR,)}


@dataclass(frozen=True, eq=False)
class Inner:
    """Blocks of specimens, left out in turn where too few patients are left to choose a penalty.

    Attributes
    ----------
    parts : mapping of specimen to masks (y, x) of its blocks, by name
    folds : mapping of fold name to folds over the blocks
    members : mapping of part of a setting to its blocks
    """

    parts: Mapping[str, dict[str, np.ndarray]]
    folds: Mapping[str, Sequence[Fold]]
    members: Mapping[str, Sequence[str]]


def on_cluster(run: Run, stage: str) -> Callable[[Sequence[Callable[[], Any]]], Iterable[Any]]:
    """What `msiscale.models` calls to have a list of tasks computed, in order."""

    def compute(tasks: Sequence[Callable[[], Any]]) -> Iterable[Any]:
        named = [Task(str(i), "", task) for i, task in enumerate(tasks)]
        noticed = partial(run.notice, stage)
        label, outcome = f"{stage}-{next(_PASSES)}", Outcome()
        for report in ordered(run.client, named, label, run.lease.guard, noticed):
            note(outcome, "", report)
            if report.failure is not None and report.specimen:
                raise SpecimenError(report.failure, report.specimen)
            if report.failure is not None:
                raise (RuntimeError if report.traceback else InputError)(report.failure)
            yield report.result
        run.account.add("fit", outcome)

    return compute


def rows_kept(client: Client) -> int:
    """Bytes of rows that a worker keeps between passes: a quarter of the smallest one's memory."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    least = min((int(w["memory_limit"] or 0) for w in workers), default=0)
    return max(CACHE_BYTES, least // 4)


def classifiers(
    run: Run,
    tables: Iterable[tuple[str, PixelRows]],
    models: Sequence[Mapped],
    patients: Mapping[str, str],
    given: Mapping[str, Classifier] | None = None,
    inner: Inner | None = None,
    people: Mapping[str, str] | None = None,
    calibrate: By = "patients",
) -> Classifiers:
    """Fit every classifier of every fold, all folds together.

    Parameters
    ----------
    run : Run
        Whose workers fit them, with the penalties of its configuration.
    tables : iterable of (str, PixelRows)
        Units (specimens, or parts of all) with their rows.
    models : sequence of FoldModel, or of what has their folds and maps
        The linear maps of the folds.
    patients : mapping of str to str
        Unit -> what is left out with it when a penalty is chosen.
    given : mapping of str to Classifier, optional
        Model -> whose C and calibration to take, where nothing is to be chosen.
    inner : Inner, optional
        Where too few patients are left to choose by; then the units are its blocks.
    people : mapping of str to str, optional
        Unit -> the patient whose pixels they are; default `patients`.
    calibrate : str
        See `fit_classifiers`.

    Returns
    -------
    Classifiers
        By model and fold; empty where nothing is annotated.
    """
    said = time.monotonic()

    def heard(name: str, passes: int, left: int, gradient: float) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            run.say(
                f"fit: classifiers of {name}: pass {passes}, {left} regressions left, largest "
                f"gradient {gradient:.1e}"
            )

    room = rows_kept(run.client)
    rows: dict[str, list[Rows]] = {"intensity": [], "features": [], "colour": []}
    for unit, table in tables:
        for name, blocks in rows.items():
            blocks += table.labelled(name, unit, room, hard=run.config.labels == "hard")
    if not rows["features"]:
        return {}
    found: Classifiers = {}
    together: list[Sequence[Mapped]] = [models]
    alone = [[m] for m in models] if run.config.fourier else together  # their features differ
    for name, some in ((n, m) for n in SEEN for m in (alone if n == "features" else together)):
        maps = {model: {m.fold.name: (m.maps or {})[model] for m in some} for model in SEEN[name]}
        found |= fit_classifiers(
            labelled(some[0].fourier, rows[name]) if name == "features" else rows[name],
            maps,
            [m.fold for m in some],
            patients,
            costs=run.config.costs,
            given=given,
            members=inner.members if inner else None,
            inner=inner.folds if inner else None,
            people=people,
            calibrate=calibrate,
            run=on_cluster(run, f"logistic-{name}"),
            heard=partial(heard, name),
        )
    return found
