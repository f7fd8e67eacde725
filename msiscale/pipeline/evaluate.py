"""Fit the folds of a setting and hold out: linear maps, classifiers, held-out maps, scores.

One engine for every way to validate. Leaving out a patient, a block of tissue or random pixels, and
the same with misplaced slides, differ in their `Setting` alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from msiscale import __version__
from msiscale.errors import InputError
from msiscale.models import (
    R2,
    Basis,
    Classifier,
    Fold,
    FoldModel,
    Moments,
    fit_linear_folds,
)
from msiscale.models.fold_model import StoredFold
from msiscale.models.fold_store import FoldStore, StoredFolds
from msiscale.models.published import self_scaled
from msiscale.models.validation import LEAST_SCALE
from msiscale.pipeline.classify import classifiers, on_cluster
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.features import COLOURS
from msiscale.pipeline.heads import Heads
from msiscale.pipeline.held_out_maps import SQUARES, predict_held_out
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import COMPARED, Classifiers
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.setting import Setting
from msiscale.pipeline.sums import Masks, part_of, sum_up
from msiscale.pipeline.tasks import Task
from msiscale.store import digest, join, open_group, remove, written

SAY_S = 10.0  # between two lines of how many folds are fitted
IN_BATCHES = ("incremental", "quarter")  # what of `RunConfig.pca` is the study's PCA
Wrote = dict[str, dict[str, Any]]  # by specimen, what was written of it


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What an evaluation gave: its scores, the fitted folds, and what was written."""

    evaluation: Evaluation
    models: StoredFolds
    classifiers: Classifiers
    sums: Mapping[str, Moments]
    wrote: Wrote
    edges: Sequence[str]  # of the penalties, one a fold
    loads: int  # sums that were read to fit the maps

    @property
    def held_out(self) -> list[StoredFold]:
        """The folds that hold something out."""
        return [m for m in self.models.mapped if m.fold.test]


def evaluate(run: Run, setting: Setting, root: str) -> Evaluated:
    """Fit and score the folds of a setting, and write maps to ``root/<specimen>/<below>``.

    What is made on the way stays in ``state.zarr/protocols`` until `clear`: when the run is stopped
    and goes on, the folds that were fitted are not fitted again.

    Memory: a worker as `msiscale.models.leaving_out` says, or the sums of one part, as for a
    specimen; the client no sums, and of the folds what they scored. Disk: the folds with their
    maps, some (p, p) each, and sums by inner group of blocks of patients; of a setting that brings
    no sums, those of every part of 8 specimens.

    Returns
    -------
    Evaluated
        The scores, the fitted folds, and what was written.
    """
    store = _begun(run, setting)
    sums, inner = setting.sums, setting.inner
    if sums is None:
        sums = sum_up(run, store, "parts", setting.tables, setting.parts)
    models, loads = _fit_folds(run, setting, store, sums)
    if setting.whole:
        run.say("fit: classifiers, all folds together")
    parts = (
        (name, part_of(setting.tables[specimen], name, mask))
        for specimen, of in (inner.parts if inner else setting.parts).items()
        for name, mask in of.items()
    )
    calibrate = setting.calibrate or run.config.calibrate
    fitted = classifiers(
        run,
        parts,
        models.mapped,
        setting.patients,
        setting.classifiers,
        inner,
        setting.people,
        calibrate,
    )
    if run.config.scaling == "own":
        fitted = self_scaled(fitted, models, sums)
    urls = _save_folds(run, setting, models, fitted)
    results = predict_held_out(run, setting, urls, root, bool(fitted))
    scored = list(models.scored())
    held_out = [m for m in scored if m.fold.test]
    scores = {name: [r2] for m in held_out for name, r2 in m.scores.items()}
    colour = {name: [r2] for m in held_out for name, r2 in m.colour_scores.items()}
    if not setting.whole:
        scores, colour = (
            {name: [_r2(of) for of in facts[which]] for name, (facts, _) in results}
            for which in ("squares", "colour_squares")
        )
    found = Evaluation.of(
        setting.name,
        lambda name: join(root, name, *([setting.below] if setting.below else [])),
        setting.tables,
        scores,
        colour,
        held_out,
        fitted,
        within=not setting.whole,
        thresholds=_thresholds(setting, fitted),
        holds=setting.holds,
    )
    wrote = {n: wrote for n, (_, wrote) in results}
    return Evaluated(found, models, fitted, sums, wrote, [m.edge for m in scored], loads)


def clear(run: Run) -> None:
    """Remove what evaluations made on the way."""
    remove(join(run.state_url, "protocols"))


def _begun(run: Run, setting: Setting) -> FoldStore:
    """The place of what is made on the way; what is there of another fit goes."""
    stamp = digest([__version__, setting.key, setting.name])
    open_group(join(run.state_url, "protocols"), "a")
    url = join(run.state_url, "protocols", setting.name)
    group = open_group(url, "a")
    if group.attrs.get("stamp") != stamp or not setting.key:
        remove(url)
        open_group(url, "a").attrs["stamp"] = stamp
    return FoldStore(url, stamp)


def _fit_folds(
    run: Run,
    setting: Setting,
    store: FoldStore,
    sums: Mapping[str, Moments],
) -> tuple[StoredFolds, int]:
    """The linear maps of every fold, fitted by the workers; how many sums they read for it."""
    total, folds = Counter[str](), len(setting.folds)
    least_scale = 0.0 if run.config.scaler == "standard" else LEAST_SCALE
    said = time.monotonic()

    def compute(tasks: Sequence[Callable[[], Any]]) -> Iterator[Any]:
        noted = [partial(noting, run.lease, task, ()) for task in tasks]
        return (found for found, _ in on_cluster(run, "fit")(noted))

    def heard(facts: Mapping[str, int]) -> None:
        nonlocal said
        total.update(facts)
        if facts["folds"] and time.monotonic() - said > SAY_S:
            said = time.monotonic()
            run.say(f"fit: {total['folds']} of {folds} folds")

    inner = setting.inner

    def blocks_of(
        tables: Mapping[str, PixelRows], store: FoldStore, sums: Mapping[str, Moments]
    ) -> Mapping[str, Moments] | None:
        if inner is None or inner.parts is setting.parts:
            return None if inner is None else sums
        return sum_up(run, store, "blocks", tables, inner.parts)

    fit = partial(
        fit_linear_folds,
        patients=setting.patients,
        columns=setting.columns,
        n_components=run.config.components,
        alphas=run.config.alphas,
        background=setting.background,
        shared_pca=run.config.pca == "all",
        bases=_published_bases(run, setting) if run.config.pca in IN_BATCHES else None,
        colours=COLOURS,
        inner=inner.folds if inner else None,
        like=setting.like,
        least_scale=least_scale,
        run=compute,
        heard=heard,
    )
    if not run.config.fourier:
        blocks = blocks_of(setting.tables, store, sums)
        fit(sums, setting.folds, groups=setting.groups, inner_sums=blocks, store=store)
        return StoredFolds(store, setting.folds), total["loads"]
    heads = Heads(store, sums, setting.groups, COLOURS, run.config.fourier, least_scale)
    for fold, made, own in heads.unfitted(setting.folds, compute):
        tables = {name: replace(t, fourier=made) for name, t in setting.tables.items()}
        extended = sum_up(run, own, "parts", tables, setting.parts)
        blocks = blocks_of(tables, own, extended)
        fit(extended, [fold], groups=heads.groups_with(made), inner_sums=blocks, store=own)
    return StoredFolds(store, setting.folds), total["loads"]


def _thresholds(setting: Setting, fitted: Classifiers) -> dict[str, Masks]:
    """By model and specimen, the probability from which on to call a pixel: one, or (y, x)."""
    folds = [f.name for f in setting.folds if f.test]
    if not fitted or not folds:
        return {}
    found: dict[str, Masks] = {}
    for model in COMPARED:
        cuts = np.array([fitted[model, fold].threshold for fold in folds], np.float32)
        found[model] = {}
        for name, held in setting.holds.items():
            some = np.unique(cuts[np.unique(held[held >= 0])])
            # a value a pixel only where its folds differ
            each = np.where(held >= 0, cuts[held], np.float32(np.nan))
            found[model][name] = some[0] if len(some) == 1 else each
    return found


def _r2(facts: dict[str, Any]) -> R2:
    return R2(float(facts["n"]), *(np.array(facts[s]) for s in SQUARES))


def _published_bases(run: Run, setting: Setting) -> dict[str, Basis]:
    """The study's PCA, of all specimens and so the same for every fold, found by one worker."""
    columns = setting.columns(list(setting.tables))
    args = (dict(setting.tables), columns, run.config.components, run.config.pca == "quarter")
    outcome = run.tasks([Task("pca", "", _incremental_basis, args)], "pca")
    if outcome.failed:
        raise InputError(outcome.failed[""])
    return dict.fromkeys((fold.name for fold in setting.folds), outcome.results["pca"])


def _incremental_basis(
    tables: dict[str, PixelRows], columns: np.ndarray, components: int, quarter: bool
) -> Basis:
    from msiscale.models.incremental import incremental_bases  # dask-ml, which few runs need

    if quarter:
        tables = {name: table.every_second() for name, table in tables.items()}
    rows = {name: t.lazy_rows("intensity") for name, t in tables.items() if t.mask.any()}
    everyone = Fold("all", tuple(rows), ())
    found = incremental_bases(
        rows,
        [everyone],
        columns=lambda _: columns,
        n_components=components,
        shared=True,
        whole_batches=quarter,
    )
    return found[everyone.name]


def _save_folds(
    run: Run, setting: Setting, models: StoredFolds, classifiers: Classifiers
) -> list[str]:
    """The groups of the folds that hold something out, each with its classifiers.

    Where they are to stay they are made anew below ``folds_url``, a task a fold.

    Returns
    -------
    list of str
        Their URLs, in the order of the folds.
    """
    sources = [u for fold, u in zip(models.folds, models.urls, strict=True) if fold.test]
    names = [fold.name for fold in models.folds if fold.test]
    targets = sources
    if setting.folds_url:
        root, _, name = setting.folds_url.rpartition("/")
        open_group(root, "a").create_group(name, overwrite=True)
        # a patient's name may be no name of a folder
        targets = [join(setting.folds_url, f"{i:04d}") for i in range(len(sources))]
    tasks = []
    for url, target, name in zip(sources, targets, names, strict=True):
        of = {m: classifiers[m, name] for m in COMPARED if (m, name) in classifiers}
        tasks.append(partial(noting, run.lease, _save_fold, (url, target, of)))
    for _, wrote in on_cluster(run, "folds")(tasks):
        if setting.folds_url:
            written.adopt(wrote["written"])
    return targets


def _save_fold(url: str, target: str, classifiers: dict[str, Classifier]) -> dict[str, Any]:
    group = open_group(target, "a")
    if target != url:
        FoldModel.load(url).save(group)
    for name, classifier in classifiers.items():
        classifier.save(group.require_group(name))
    return {}
