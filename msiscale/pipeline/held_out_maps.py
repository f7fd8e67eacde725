"""Held-out maps of every specimen: predicted scores of its modes and probabilities of cancer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from msiscale.errors import SpecimenError
from msiscale.models import (
    Classifier,
    FoldModel,
)
from msiscale.pipeline.classify import SEEN
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.model import COMPARED
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.setting import Setting
from msiscale.pipeline.sums import Masks, part_of
from msiscale.pipeline.tasks import Task
from msiscale.store import StoredSpecimen, join, open_group, put

SQUARES = ("rss", "tss", "tss_train")


def predict_held_out(
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
        part = part_of(table, "", holds == k)
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
