"""Fit the folds of a setting and hold out: sums of its parts, linear maps, classifiers, maps.

A part is a set of pixels that are trained on, or held out, together: a specimen, or those pixels of
all specimens that the same folds may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from msiscale.errors import SpecimenError
from msiscale.models import (
    R2,
    Classifier,
    Fold,
    FoldModel,
    Moments,
    fit_linear_folds,
    moments_of_blocks,
)
from msiscale.models.published import self_scaled
from msiscale.pipeline.classify import classifiers, on_cluster
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.held_out import save_folds
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import COMPARED, MSI
from msiscale.pipeline.table import Table
from msiscale.pipeline.tasks import Task
from msiscale.store import join, open_group, put, remove

TOGETHER = 8  # specimens summed up by a task
SQUARES = ("rss", "tss", "tss_train")
Masks = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Setting:
    """Who trains and who is held out.

    Attributes
    ----------
    name : of the protocol
    tables : mapping of specimen to its rows
    parts : mapping of specimen to masks (y, x) of its pixels, by name of the part
    folds : over the names of parts
    patients : mapping of part to what is left out with it when a penalty is chosen
    holds : mapping of specimen to the index (y, x) of the fold that holds a pixel out; -1: none
    columns : training parts -> the m/z that they support
    alpha, costs : the penalties, of the maps and by model of the classifiers; default chosen
    """

    name: str
    tables: Mapping[str, Table]
    parts: Mapping[str, Masks]
    folds: Sequence[Fold]
    patients: Mapping[str, str]
    holds: Mapping[str, np.ndarray]
    columns: Callable[[Sequence[str]], np.ndarray]
    alpha: float | None = None
    costs: Mapping[str, float] | None = None


def evaluate(
    run: Run, setting: Setting, root: str, below: str
) -> tuple[Evaluation, dict[str, dict[str, Any]]]:
    """What the folds of a setting are worth; maps are written to ``root/<specimen>/<below>``.

    Returns the evaluation, and what was written of each specimen.

    Memory: a worker holds the sums of one part, as for a specimen; the client the folds' models.
    Disk: the sums of every part of 8 specimens, removed in the end.
    """
    url = join(run.state_url, "protocols")
    remove(url)
    open_group(url, "a")
    try:
        sums = _sum_up(run, join(url, "sums"), setting)
        models = fit_linear_folds(
            sums,
            setting.folds,
            setting.patients,
            columns=setting.columns,
            n_components=run.config.components,
            alphas=run.config.alphas if setting.alpha is None else (setting.alpha,),
            shared_pca=run.config.pca == "all",
        )
        parts = (
            (name, _part(setting.tables[specimen], name, mask))
            for specimen, of in setting.parts.items()
            for name, mask in of.items()
        )
        fitted = classifiers(run, parts, models, setting.patients, setting.costs)
        if run.config.scaling == "own":
            fitted = self_scaled(fitted, models, sums)
        urls = save_folds(join(url, "folds"), models, fitted)
        results = _predict(run, setting, urls, root, below, bool(fitted))
    finally:
        remove(url)
    scores, wrote = {}, {}
    for name in setting.tables:  # in this order, not that in which they were done
        facts, wrote[name] = results[name]
        scores[name] = R2(float(facts["n"]), *(np.array(facts[f]) for f in SQUARES))
    found = Evaluation.of(
        setting.name,
        lambda name: join(root, name, below),
        setting.tables,
        scores,
        models,
        bool(fitted),
        within=True,
    )
    return found, wrote


def _part(table: Table, name: str, mask: np.ndarray) -> Table:
    return replace(table, mask=table.mask & mask, stamp=f"{table.stamp}/{name}")


class _Sums(Mapping[str, Moments]):
    """Sums of every part over all specimens, merged when they are asked for."""

    def __init__(self, urls: dict[str, list[str]]) -> None:
        self.urls = urls

    def __getitem__(self, name: str) -> Moments:
        return Moments.merge(Moments.load(url) for url in self.urls[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.urls)

    def __len__(self) -> int:
        return len(self.urls)


def _sum_up(run: Run, url: str, setting: Setting) -> _Sums:
    urls: dict[str, list[str]] = {}
    tasks = []
    names = list(setting.parts)
    for at in range(0, len(names), TOGETHER):
        some = names[at : at + TOGETHER]
        for part in dict.fromkeys(p for name in some for p in setting.parts[name]):
            tables = [
                _part(setting.tables[n], part, setting.parts[n][part])
                for n in some
                if part in setting.parts[n]
            ]
            of = urls.setdefault(part, [])
            of.append(join(url, f"{list(urls).index(part)}-{at}"))
            tasks.append(partial(noting, run.lease, _sum_of, (of[-1], tables)))
    for _ in on_cluster(run, "parts")(tasks):
        pass
    return _Sums(urls)


def _sum_of(url: str, tables: list[Table]) -> dict[str, Any]:
    rows = (
        (table.rows("features", cell), table.rows("intensity", cell))
        for table in tables
        for cell in table.cells
    )
    moments_of_blocks(rows).save(open_group(url, "a"))
    return {}


def _predict(
    run: Run, setting: Setting, urls: list[str], root: str, below: str, labelled: bool
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    tasks = []
    for name, table in setting.tables.items():
        target = (join(root, name), below)
        args = (urls, target, table, setting.holds[name], labelled)
        tasks.append(Task(name, name, noting, (run.lease, _predict_specimen, args)))
    outcome = run.tasks(tasks, setting.name)
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    return dict(outcome.results)


def _predict_specimen(
    urls: list[str], target: tuple[str, str], table: Table, holds: np.ndarray, labelled: bool
) -> dict[str, Any]:
    """Probability maps of a specimen, each pixel by the fold that held it out; R² of its modes."""
    shape = table.mask.shape
    maps = {name: np.full(shape, np.nan, np.float32) for name in COMPARED if labelled}
    squares: list[R2] = []
    for k in np.unique(holds[table.mask & (holds >= 0)]):
        saved = open_group(urls[k])
        model = FoldModel.load(saved)
        of = {name: Classifier.load(saved[name]) for name in maps}  # type: ignore[arg-type]
        part = _part(table, "", holds == k)
        sums = np.zeros((3, len(model.components)))
        n = 0
        for cell in part.cells:
            spectra, features = part.rows("intensity", cell), part.rows("features", cell)
            measured = model.project(spectra).astype(np.float64)  # about the mean in training
            error = measured - model.predict(features)
            sums += np.stack([(error**2).sum(0), measured.sum(0), (measured**2).sum(0)])
            n += len(measured)
            for name, classifier in of.items():
                x = spectra if name == MSI else features
                part.spread(cell, classifier.predict(x), maps[name])
        rss, mean, raw = sums
        squares.append(R2(n, rss, raw - mean**2 / n, raw))
    url, below = target
    group = open_group(url.rsplit("/", 1)[0], "a").require_group(url.rsplit("/", 1)[1])
    group = group.require_group(below)
    for name, values in maps.items():
        put(group, name, values, ("y", "x"))
    group.attrs["protocol"] = below
    total = R2.total(squares)
    return {"n": total.n, **{f: getattr(total, f).tolist() for f in SQUARES}}
