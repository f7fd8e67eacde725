"""Fit the folds of a setting and hold out: linear maps, classifiers, held-out maps, scores.

One engine for every way to validate. Leaving out a patient, a block of tissue or random pixels, and
the same with misplaced slides, differ in their `Setting` alone. A part is a set of pixels that are
trained on, or held out, together: a specimen, or those pixels of all specimens that the same folds
may use.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import zarr

from msiscale import __version__
from msiscale.errors import InputError, SpecimenError
from msiscale.features.layers import Group
from msiscale.models import (
    R2,
    Basis,
    Classifier,
    Fold,
    FoldModel,
    Moments,
    Spread,
    fit_linear_folds,
    moments_of_blocks,
)
from msiscale.models.classification import By
from msiscale.models.fold_model import StoredFold
from msiscale.models.fold_store import FoldStore, StoredFolds, StoredMoments
from msiscale.models.fourier_folds import DTYPE
from msiscale.models.published import self_scaled
from msiscale.models.validation import LEAST_SCALE
from msiscale.pipeline.classify import SEEN, Inner, classifiers, on_cluster
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.features import COLOURS
from msiscale.pipeline.heads import Heads
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import COMPARED, Classifiers
from msiscale.pipeline.pixel_rows import PixelRows, sound
from msiscale.pipeline.tasks import Task
from msiscale.store import StoredSpecimen, digest, join, open_group, put, remove, written

TOGETHER = 8  # specimens summed up by a task
SAY_S = 10.0  # between two lines of how many folds are fitted
IN_BATCHES = ("incremental", "quarter")  # what of `RunConfig.pca` is the study's PCA
SQUARES = ("rss", "tss", "tss_train")
Masks = dict[str, np.ndarray]
Wrote = dict[str, dict[str, Any]]  # by specimen, what was written of it


@dataclass(frozen=True, eq=False)
class Setting:
    """Who trains and who is held out.

    Attributes
    ----------
    name : of the protocol
    tables : mapping of specimen to its rows
    parts : mapping of specimen to masks (y, x) of its pixels, by name of the part
    folds : over the names of parts; one that holds nothing out is fitted too
    patients : mapping of part to what is left out with it when a penalty is chosen
    holds : mapping of specimen to the index (y, x) of the fold that holds a pixel out; -1: none
    columns : training parts -> the m/z that they support
    below : where maps go in the group of a specimen
    sums : mapping of part to its sums, where they are in the store; default made here
    background : mapping of part to the spread of spectra off the tissue
    like, classifiers : the model whose penalties the maps take, and by model the classifier whose
        C and calibration; default chosen
    people : mapping of part to patient, where `patients` holds several of them together
    calibrate : what makes probabilities of the classifiers' scores; default as the run says
    groups : of the channels of the features
    inner : what they are chosen by where too few patients are left; default patients, or specimens
    folds_url : where the fitted folds stay; default nowhere
    whole : every fold holds out whole specimens, each a part: R² is of its sums, and the scores of
        its modes are kept beside the maps
    key : digest of all that the fit depends on: what is there of one that was stopped is kept
    """

    name: str
    tables: Mapping[str, PixelRows]
    parts: Mapping[str, Masks]
    folds: Sequence[Fold]
    patients: Mapping[str, str]
    holds: Mapping[str, np.ndarray]
    columns: Callable[[Sequence[str]], np.ndarray]
    below: str = ""
    sums: Mapping[str, Moments] | None = None
    background: Mapping[str, Spread] = field(default_factory=dict)
    like: FoldModel | None = None
    classifiers: Mapping[str, Classifier] | None = None
    people: Mapping[str, str] | None = None
    calibrate: By | None = None
    groups: Sequence[Group] = ()
    inner: Inner | None = None
    folds_url: str = ""
    whole: bool = False
    key: str = ""

    @classmethod
    def of_patients(
        cls,
        name: str,
        tables: Mapping[str, PixelRows],
        folds: Sequence[Fold],
        patients: Mapping[str, str],
        columns: Callable[[Sequence[str]], np.ndarray],
        **more: Any,
    ) -> Setting:
        """Make a setting of folds over specimens: all usable pixels of one are a part.

        Parameters
        ----------
        name
            Of the protocol.
        tables
            Specimen to its rows.
        folds
            Over the specimens.
        patients
            Specimen to what is left out with it when a penalty is chosen.
        columns
            Training specimens -> the m/z that they support, (k,) bool.
        **more
            Other attributes of `Setting`, by name.

        Returns
        -------
        Setting
            Its parts named as the specimens are.
        """
        holder = {specimen: i for i, fold in enumerate(folds) for specimen in fold.test}
        return cls(
            name,
            tables,
            {n: {n: table.mask} for n, table in tables.items()},
            folds,
            patients,
            {n: np.where(t.mask, holder.get(n, -1), -1) for n, t in tables.items()},
            columns,
            **more,
        )


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
        sums = _sum_up(run, store, "parts", setting.tables, setting.parts)
    models, loads = _fit_folds(run, setting, store, sums)
    if setting.whole:
        run.say("fit: classifiers, all folds together")
    parts = (
        (name, _part(setting.tables[specimen], name, mask))
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
    results = _predict(run, setting, urls, root, bool(fitted))
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
        return _sum_up(run, store, "blocks", tables, inner.parts)

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
        extended = _sum_up(run, own, "parts", tables, setting.parts)
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


def _part(table: PixelRows, name: str, mask: np.ndarray) -> PixelRows:
    return replace(table, mask=table.mask & mask, stamp=f"{table.stamp}/{name}")


class StoredSums(Mapping[str, Moments]):
    """Sums by part, read when they are asked for: never all of a cohort in memory.

    Parameters
    ----------
    urls : mapping of part to URLs of its `Moments`, which are merged
    specimens_in : the ``.zarr`` of a run whose specimens are the parts, so that damaged sums are
        the failure of their specimen; default: they are of many
    """

    def __init__(self, urls: Mapping[str, Sequence[str]], specimens_in: str = "") -> None:
        self.urls, self.specimens_in, self.loads = urls, specimens_in, 0

    def __getitem__(self, name: str) -> Moments:
        with self._sound(name):
            self.loads += len(self.urls[name])
            return Moments.merge(Moments.load(url) for url in self.urls[name])

    def bytes_of(self, name: str) -> int:
        """Bytes that the sums of a part take in memory."""
        with self._sound(name):
            attrs: Any = open_group(self.urls[name][0]).attrs
            p, q = int(attrs["p"]), int(attrs["q"])
        return 8 * (p * p + p * q + q * q)

    def _sound(self, name: str) -> AbstractContextManager[None]:
        return sound(self.specimens_in, name) if self.specimens_in else nullcontext()

    def __iter__(self) -> Iterator[str]:
        return iter(self.urls)

    def __len__(self) -> int:
        return len(self.urls)


def _sum_up(
    run: Run,
    store: FoldStore,
    what: str,
    tables: Mapping[str, PixelRows],
    parts: Mapping[str, Masks],
) -> StoredSums:
    urls: dict[str, list[str]] = {}
    tasks = []
    names, made = list(parts), store.sums
    for at in range(0, len(names), TOGETHER):
        some = names[at : at + TOGETHER]
        for part in dict.fromkeys(p for name in some for p in parts[name]):
            mine = [_part(tables[n], part, parts[n][part]) for n in some if part in parts[n]]
            of = urls.setdefault(part, [])
            name = f"{what}-{list(urls).index(part)}-{at}"
            of.append(made.place(name))
            tasks.append(partial(noting, run.lease, _sum_of, (made, name, mine)))
    for _ in on_cluster(run, "parts")(tasks):
        pass
    return StoredSums(urls)


def _sum_of(made: StoredMoments, name: str, tables: list[PixelRows]) -> dict[str, Any]:
    if name not in made:
        blocks = (
            (table.slide_rows(cell), table.rows("intensity", cell))
            for table in tables
            for cell in table.cells
        )
        made[name] = moments_of_blocks(blocks, DTYPE if tables[0].fourier else np.float32)
    return {}


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


def _predict(
    run: Run, setting: Setting, urls: list[str], root: str, labelled: bool
) -> list[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Every specimen's maps; in their order, of each its facts and what was written."""
    tasks = []
    for name, table in setting.tables.items() if urls else ():
        target = join(root, name), setting.below, setting.name
        args = (urls, target, table, setting.holds[name], labelled, setting.whole)
        tasks.append(Task(name, name, noting, (run.lease, _predict_specimen, args)))
    outcome = run.tasks(tasks, "predict" if setting.whole else setting.name)
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("fit", outcome)
    return [(task.name, outcome.results[task.name]) for task in tasks]


def _predict_specimen(
    urls: list[str],
    target: tuple[str, str, str],
    table: PixelRows,
    holds: np.ndarray,
    labelled: bool,
    whole: bool,
) -> dict[str, Any]:
    """Write a specimen's held-out maps, and its modes' scores if `whole`; else return squares."""
    shape = table.mask.shape
    maps = {name: np.full(shape, np.nan, np.float32) for name in COMPARED if labelled}
    squares: dict[str, list[dict[str, Any]]] = {"squares": [], "colour_squares": []}
    url, below, protocol = target
    stays = whole or below == protocol  # of the fits of `robustness` only the scores are wanted
    used = [int(k) for k in np.unique(holds[table.mask & (holds >= 0)])]
    most = max((int(open_group(urls[k]).attrs["shape"][0]) for k in used), default=0)  # type: ignore[index,arg-type]
    guesses = {
        name: np.full((*shape, most) if stays else 0, np.nan, np.float32)
        for name in ("predicted_scores", "colour_scores")
    }
    bases: dict[int, Modes] = {}
    cuts: dict[str, float] = {}
    for k in used:
        saved = open_group(urls[k])
        model = FoldModel.load(saved)
        of = {name: Classifier.load(saved[name]) for name in maps}  # type: ignore[arg-type]
        cuts = {name: classifier.threshold for name, classifier in of.items()}
        part = _part(table, "", holds == k)
        modes = len(model.components)
        bases[k] = Modes.of(model, most)
        scores = np.full((*shape, modes) if whole else 0, np.nan, np.float32)
        sums, n = np.zeros((2, 3, modes)), 0
        for cell in part.cells:
            seen = {name: part.rows(name, cell) for name in SEEN}
            measured = model.project(seen["intensity"])
            both = model.predict(seen["features"]), model.predict_from_colour(seen["colour"])
            if stays:
                for predicted, out in zip(both, guesses.values(), strict=True):
                    part.spread(cell, np.pad(predicted, ((0, 0), (0, most - modes))), out)
            if whole:
                part.spread(cell, measured, scores)
            else:  # about the mean in training
                measured = measured.astype(np.float64)
                for i, predicted in enumerate(both):
                    error = (measured - predicted) ** 2
                    sums[i] += np.stack([error.sum(0), measured.sum(0), (measured**2).sum(0)])
                n += len(measured)
            seen["features"] = model.beside(seen["features"])
            for rows, names in SEEN.items():
                for name in names if of else ():
                    part.spread(cell, of[name].predict(seen[rows]), maps[name])
        if whole:
            _write_modes(url, table, model.fold.name, bases[k], scores, guesses, maps)
        else:
            for name, (rss, mean, raw) in zip(squares, sums, strict=True):
                tss = raw - mean**2 / n
                facts = dict(zip(SQUARES, (rss.tolist(), tss.tolist(), raw.tolist()), strict=True))
                squares[name].append({"n": n, **facts})
    group = _group_of(url)
    group = group.require_group(below) if below else group
    if stays and not whole:
        _write_folds(group, table, bases, guesses, holds, maps)
    for name, values in maps.items():
        put(group, name, values, ("y", "x"))
    group.attrs["protocol"] = below or protocol
    if whole:  # one fold held it out
        group.attrs["thresholds"] = cuts
    return {} if whole else dict(squares)


def _group_of(url: str) -> zarr.Group:
    # written over and never removed first: a second worker that was thought lost may do the same
    root, name = url.rsplit("/", 1)
    return open_group(root, "a").require_group(name)


@dataclass(frozen=True, eq=False)
class Modes:
    """What makes spectra of a fold's scores, as it is stored.

    Attributes
    ----------
    supported : (mz,) bool, the m/z that the fold uses
    mean : (mz,) float32
    components : (k, mz) float32
    """

    supported: np.ndarray
    mean: np.ndarray
    components: np.ndarray

    @classmethod
    def of(cls, model: FoldModel, most: int) -> Modes:
        """Those of a fold, with modes of nothing up to `most`."""
        missing = ((0, most - len(model.components)), (0, 0))
        components = np.pad(model.components.astype(np.float32), missing)
        return cls(np.asarray(model.columns, bool), model.mean.astype(np.float32), components)


def _write_axes(group: zarr.Group, source: StoredSpecimen, kept: set[str]) -> None:
    """Coordinates; arrays that are not `kept` are of a fit with other models, and go."""
    for axis in ("y", "x"):
        put(group, axis, source.read(axis), (axis,), attrs={"units": "µm"})
    put(group, "mz", source.mz, ("mz",), attrs={"units": "m/z"})
    for name in set(group.keys()) - kept - {"y", "x", "mz"}:
        del group[name]


def _write_modes(
    url: str,
    table: PixelRows,
    fold: str,
    modes: Modes,
    scores: np.ndarray,
    guesses: Mapping[str, np.ndarray],
    maps: Masks,
) -> None:
    """Scores of a specimen held out as a whole, and all that is needed to make spectra of them."""
    group, source = _group_of(url), StoredSpecimen(table.url)
    kept = {*maps, *guesses, "scores", "components", "mean", "supported"}
    _write_axes(group, source, kept)
    for name, values in {"scores": scores, **guesses}.items():
        put(group, name, values, ("y", "x", "component"), chunks=(64, 64, 16))
    put(group, "components", modes.components, ("component", "mz"))
    put(group, "mean", modes.mean, ("mz",))
    put(group, "supported", modes.supported, ("mz",))
    group.attrs.update({"fold": fold, "matrix": source.facts["matrix"]})


def _write_folds(
    group: zarr.Group,
    table: PixelRows,
    bases: Mapping[int, Modes],
    guesses: Mapping[str, np.ndarray],
    holds: np.ndarray,
    maps: Masks,
) -> None:
    """Predicted scores of a specimen whose parts were held out by several folds, and their modes.

    ``fold`` counts along the first axis of ``components``, ``mean`` and ``supported``.
    """
    fold = np.full(table.mask.shape, -1, np.int16)
    for i, k in enumerate(bases):
        fold[table.mask & (holds == k)] = i
    arrays = {
        "components": (np.stack([b.components for b in bases.values()]), ("component", "mz")),
        "mean": (np.stack([b.mean for b in bases.values()]), ("mz",)),
        "supported": (np.stack([b.supported for b in bases.values()]), ("mz",)),
    }
    kept = {*maps, *arrays, *guesses, "fold"}
    _write_axes(group, StoredSpecimen(table.url), kept)
    for name, values in guesses.items():
        put(group, name, values, ("y", "x", "component"), chunks=(64, 64, 16))
    put(group, "fold", fold, ("y", "x"))
    for name, (values, dims) in arrays.items():
        put(group, name, values, ("folds", *dims), chunks=(1, *values.shape[1:]))
