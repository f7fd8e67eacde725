"""``corrections.csv``: what a correction between specimens is worth on this cohort.

Leave-one-patient-out, fitted again with intensities that are corrected as they are read. What a
fold holds out is corrected by its own unlabelled intensities towards the reference of the fold's
training patients (`msiscale.models.corrections`), so each fold is a fit of its own; that without a
correction is made in the same way. Nothing else of the run is corrected: this tells whether it
would be worth it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from msiscale.cohort import Specimen
from msiscale.errors import MsiscaleWarning, SpecimenError
from msiscale.grid import Block, Floats, blocks
from msiscale.models import R2, Fold, Spread, classification_metrics, leave_one_group_out
from msiscale.models.corrections import (
    Correction,
    Quantiles,
    background_ratio,
    combat,
    quantile_table,
    reference_quantiles,
)
from msiscale.models.fold_records import MSI_FROM_HE
from msiscale.models.patient_means import holm, patient_mean
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.evaluate import clear, evaluate
from msiscale.pipeline.fit import open_pixels
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import MSI, PREDICTED
from msiscale.pipeline.pixel_rows import CELL, Float32, Mask, PixelRows, sound
from msiscale.pipeline.protocols import (
    blocks_within,
    channel_groups,
    few_folds,
    held_out_together,
    supported_columns,
)
from msiscale.pipeline.setting import Setting
from msiscale.pipeline.tasks import Task
from msiscale.saving import Layout, Saved
from msiscale.store import (
    StoredSpecimen,
    at_once,
    digest,
    join,
    open_group,
    remove,
    write_csv,
)

COLUMNS = [
    *("correction", "model", "target", "metric", "value", "without"),
    *("difference", "low", "high", "patients", "trusted", "p", "p_holm"),
]
NONE = "none"
MODELS = (MSI, PREDICTED)  # what is seen of the MSI; H&E alone is the same with any correction
METRICS = ("auc", "average_precision")
SLAB = 128  # m/z of all pixels of a specimen in memory
Scores = dict[tuple[str, str, str, str], float]  # by patient, model, target and metric


@dataclass(frozen=True, eq=False)
class Own(Saved):
    """What a specimen's intensities are like, whatever its labels.

    Attributes
    ----------
    mean, scatter : (q,) float64, of the usable pixels, as of `Spread`
    off_mean : (q,) float64, mean of the measured pixels off the tissue
    quantiles : (levels, q) float64
    rows, off_rows : int
    eps : float
    """

    layout = Layout(
        "own",
        "summary of intensities",
        {"mean": ("mz",), "scatter": ("mz",), "off_mean": ("mz",), "quantiles": ("level", "mz")},
        ("rows", "off_rows", "eps"),
    )

    mean: Floats
    scatter: Floats
    off_mean: Floats
    quantiles: Floats
    rows: int
    off_rows: int
    eps: float

    @property
    def tissue(self) -> Spread:
        return Spread(self.rows, float(self.rows), self.mean, self.scatter, self.eps)

    @property
    def off(self) -> Spread:
        """Its mean alone: the scatter is not kept."""
        return Spread(
            self.off_rows, float(self.off_rows), self.off_mean, np.zeros_like(self.mean), self.eps
        )


def corrections(run: Run) -> None:
    """``corrections.csv``; nothing where no correction is asked for.

    Cost: for none, and for each correction, a fit a fold, all of whose sums are made anew. Memory:
    as `msiscale.pipeline.evaluate`, or `SLAB` m/z of a specimen's pixels.
    """
    config, specimens = run.config, list(run.specimens())
    if not config.correct:
        return
    if len({s.patient for s in specimens}) < 2:
        run.say("corrections: there is one patient only, so nothing can be compared")
        return
    fitted = run.record("fit", "cohort") or {}
    key = run.key("corrections", fitted.get("digest"), config.correct)
    if run.done("corrections", "cohort", key):
        return
    try:
        with run.making("corrections", key, redone=1):
            rows = _rows(run, specimens, key)
            write_csv(join(run.out, "corrections.csv"), rows, COLUMNS, digits=12)
    except SpecimenError as error:  # its stored data are damaged
        run.set_aside("corrections", error.specimen, "", str(error))


def _rows(run: Run, specimens: Sequence[Specimen], key: str) -> list[dict[str, Any]]:
    opened = at_once(partial(open_pixels, run), specimens)
    tables = {s.name: table for s, table in zip(specimens, opened, strict=True)}
    patients = {s.name: s.patient for s in specimens}
    root = join(run.state_url, "corrections")
    remove(root)  # of a run that was stopped
    open_group(root, "a")
    try:
        own = _summed_up(run, tables, root)
        scores: dict[str, Scores] = {}
        for name in (NONE, *run.config.correct):
            why = _refused(name, own)
            if why:
                text = f"corrections: {name} is not tried: {why}"
                warnings.warn(text, MsiscaleWarning, stacklevel=2)
                continue
            run.say("corrections: " + ("no correction" if name == NONE else name))
            scores[name] = _scores(run, name, tables, specimens, own, root, key)
    finally:
        remove(root)
    return compared(scores, list(dict.fromkeys(patients.values())))


def _refused(name: str, own: Mapping[str, Own]) -> str:
    """Why a correction cannot be made of a specimen; "" where it can of all."""
    for specimen, of in own.items() if name == "background" else ():
        try:
            background_ratio(of.off)
        except ValueError as error:
            return f"specimen {specimen} has {error}"
    return ""


def compared(scores: Mapping[str, Scores], patients: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of ``corrections.csv``.

    Parameters
    ----------
    scores : mapping of correction to scores
        Among them those of "none".
    patients : sequence of str
        In the order in which they are paired.

    Returns
    -------
    list of dict
        Mean over patients of each score with the correction and without it, and of the patients'
        differences with its interval by t; Holm's p over the rows of a metric.
    """
    rows: list[dict[str, Any]] = []
    for correction, of in scores.items():
        for what in dict.fromkeys(key[1:] for key in of):
            value, without = (
                np.array([found.get((p, *what), np.nan) for p in patients])
                for found in (of, scores[NONE])
            )
            both = np.isfinite(value) & np.isfinite(without)
            row: dict[str, Any] = dict(zip(COLUMNS[1:4], what, strict=True))
            row |= {"correction": correction, "value": patient_mean(value[both]).value}
            if correction != NONE:
                mean = patient_mean((value - without)[both])
                row |= {
                    "without": patient_mean(without[both]).value,
                    "difference": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "trusted": mean.trusted,
                    "p": mean.p,
                }
            rows.append(row | {"patients": int(both.sum())})
    for metric in {row["metric"] for row in rows}:
        family = [row for row in rows if row["metric"] == metric and "p" in row]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    return rows


def _scores(
    run: Run,
    name: str,
    tables: Mapping[str, PixelRows],
    specimens: Sequence[Specimen],
    own: Mapping[str, Own],
    root: str,
    key: str,
) -> Scores:
    """Fit with a correction; the scores of each patient are by the fold that left it out."""
    patients = {s.name: s.patient for s in specimens}
    units, columns = held_out_together(run, specimens), supported_columns(run)
    folds = leave_one_group_out(units)
    groups = channel_groups(tables, bool(few_folds(patients, folds)))
    found: Scores = {}
    for i, fold in enumerate(folds):
        # workers keep what they have read by its URL: another fit has another
        place = join(root, key[:12], name, f"{i:04d}")
        seen = dict(tables)
        if name != NONE:
            made = corrections_of(name, fold, own, patients, logarithms=_logarithms(run))
            for specimen, correction in made.items():
                url = join(place, specimen)
                correction.save(url)
                seen[specimen] = tables[specimen].corrected(url)
        setting = Setting.of_patients(
            f"corrected-{name}-{i:04d}",
            seen,
            [fold],
            units,
            columns,
            below="maps",
            inner=blocks_within(seen, patients, [fold], groups),
            groups=groups,
            people=patients,
            calibrate="none",
            key=digest([key, name, i]),
        )
        evaluation = evaluate(run, setting, join(root, "maps")).evaluation
        clear(run)
        found |= patient_scores(evaluation, {s: patients[s] for s in fold.test})
    return found


def _logarithms(run: Run) -> bool:
    return run.config.transform == "log"


def corrections_of(
    name: str,
    fold: Fold,
    own: Mapping[str, Own],
    patients: Mapping[str, str],
    *,
    logarithms: bool = False,
) -> dict[str, Correction]:
    """The corrections of a fold's specimens, those that it holds out among them.

    Parameters
    ----------
    name : str
        One of `msiscale.config.CORRECTIONS`.
    fold : Fold
        Over the specimens: what its training is like is the reference.
    own : mapping of specimen to Own
        Of all of them.
    patients : mapping of specimen to patient
        Each counts once in the mean quantiles.
    logarithms : bool
        The intensities are logarithms.

    Returns
    -------
    dict of specimen to Correction
    """
    everyone = (*fold.train, *fold.test)
    if name == "background":
        return {s: background_ratio(own[s].off, logarithms=logarithms) for s in everyone}
    if name == "combat":
        training = [own[s].tissue for s in fold.train]
        return {s: combat(training, own[s].tissue) for s in everyone}
    of: dict[str, list[Floats]] = {}
    for s in fold.train:
        of.setdefault(patients[s], []).append(own[s].quantiles)
    reference = reference_quantiles(list(of.values()))
    return {s: Quantiles(own[s].quantiles, reference) for s in everyone}


def patient_scores(one: Evaluation, patients: Mapping[str, str]) -> Scores:
    """Scores of what was held out, a patient's specimens together.

    Parameters
    ----------
    one : Evaluation
        Of a fold or more.
    patients : mapping of specimen to patient
        Of what they held out.

    Returns
    -------
    dict
        By patient, model, target and metric; NaN for cancer in one class of pixels alone.
    """
    found: Scores = {}
    for patient in dict.fromkeys(patients.values()):
        mine = [s for s, whose in patients.items() if whose == patient]
        parts = [part for s in mine for part in one.scores.get(s, ())]
        if parts:
            found[patient, MSI_FROM_HE, "weighted", "r2"] = R2.total(parts).weighted
        for model in MODELS if one.truth else ():
            truth, guess = (
                np.concatenate([np.ravel(of[s]) for s in mine])
                for of in (one.truth, one.maps[model])
            )
            known = np.isfinite(truth)
            if known.any():
                scored = classification_metrics(truth[known], guess[known])
                for metric in METRICS:
                    found[patient, model, "cancer", metric] = scored[metric]
    return found


def _summed_up(run: Run, tables: Mapping[str, PixelRows], root: str) -> dict[str, Own]:
    tasks = [
        Task(name, name, noting, (run.lease, _sum_up, (table, join(root, "own", name))))
        for name, table in tables.items()
    ]
    outcome = run.tasks(tasks, "corrections")
    for name, why in outcome.failed.items():
        raise SpecimenError(why, name)
    run.account.add("corrections", outcome)
    return {name: Own.load(join(root, "own", name)) for name in tables}


def _sum_up(table: PixelRows, url: str) -> dict[str, Any]:
    """Write what a specimen's intensities are like, some m/z at a time."""
    stored = StoredSpecimen(table.url)
    off = PixelRows.background(table.url).mask
    parts = []
    with sound(table.url.rsplit("/", 1)[0], stored.name):
        for at in range(0, len(stored.mz), SLAB):
            wanted = slice(at, at + SLAB)
            rows = _column_rows(stored, table.mask, wanted)
            away = _column_rows(stored, off, wanted).astype(np.float64)
            parts.append((Spread.of(rows), away.sum(axis=0), quantile_table(rows)))
    spreads, sums, tables = zip(*parts, strict=True)
    rows_off = int(off.sum())
    Own(
        np.concatenate([s.mean for s in spreads]),
        np.concatenate([s.scatter for s in spreads]),
        np.concatenate(sums) / max(rows_off, 1),
        np.concatenate(tables, axis=1),
        spreads[0].rows,
        rows_off,
        spreads[0].eps,
    ).save(url)
    return {}


def _column_rows(stored: StoredSpecimen, mask: Mask, wanted: slice) -> Float32:
    """(n, columns) float32 of the pixels of a mask, cell by cell."""
    height, width = mask.shape
    cells: list[Block] = [b for b in blocks((height, width), (CELL, CELL)) if mask[b.slices].any()]
    cube = stored.intensity
    found = [np.asarray(cube[(*c.slices, wanted)], np.float32)[mask[c.slices]] for c in cells]
    width = len(range(*wanted.indices(len(stored.mz))))
    return np.concatenate(found) if found else np.zeros((0, width), np.float32)
