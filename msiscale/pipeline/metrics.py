"""What a protocol held out, and its records: a specimen each, and all pixels pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiscale.models import R2, classification_records
from msiscale.models.fold_model import Scored
from msiscale.models.fold_records import MSI_FROM_COLOUR, MSI_FROM_HE, r2_records
from msiscale.models.metrics import POOLED
from msiscale.pipeline.model import COMPARED, Classifiers
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import at_once, open_group, read

PROTOCOL = "leave_one_patient_out"
ONE_CLASS = "its training pixels are of one class only, so it could not be trained"
Maps = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The held-out results of one protocol.

    Attributes
    ----------
    protocol : str
    folds : mapping of specimen to the name of the fold that held it out (``all``: several did)
    truth : mapping of specimen to annotated fraction (y, x), NaN where it is not used
    maps : mapping of model to mapping of specimen to probability (y, x)
    scores : mapping of specimen to the squares of its modes, of each fold that held some out
    colour : the same of what is predicted from colour alone
    blocks : mapping of specimen to which of several folds held a pixel out (y, x); else empty
    thresholds : mapping of model to mapping of specimen to the probability from which on a pixel is
        called cancer, chosen in the training patients: one, or (y, x); 0.5 where there is none
    ratio : (k,) explained variance ratio of the modes, mean over folds
    held_out : folds whose own records are taken as they are
    untrained : mapping of model to mapping of fold to why it could not be trained
    holds : mapping of specimen to the index of the fold that held a pixel out (y, x); -1: none
    """

    protocol: str
    folds: Mapping[str, str]
    truth: Maps
    maps: dict[str, Maps]
    scores: Mapping[str, Sequence[R2]]
    colour: Mapping[str, Sequence[R2]]
    blocks: Maps
    ratio: np.ndarray
    held_out: Sequence[Scored] = ()
    untrained: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    holds: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        """Records of what each fold held out: thousands a fold, so never all in memory."""
        return ({"protocol": self.protocol, **r} for m in self.held_out for r in m.records)

    @classmethod
    def of(
        cls,
        protocol: str,
        place: Callable[[str], str],
        tables: Mapping[str, PixelRows],
        scores: Mapping[str, Sequence[R2]],
        colour: Mapping[str, Sequence[R2]],
        models: Sequence[Scored],
        fitted: Classifiers,
        *,
        within: bool = False,
        thresholds: Mapping[str, Mapping[str, Any]] | None = None,
        holds: Mapping[str, np.ndarray],
    ) -> Evaluation:
        """Read the written maps of each specimen at its `place`.

        Memory: four values a pixel of the cohort.

        Parameters
        ----------
        protocol, scores, colour, holds
            As the attributes.
        place
            Specimen to the URL of its maps.
        tables
            Specimen to its rows.
        models
            What the folds scored.
        fitted
            The classifiers; none where nothing is annotated.
        within
            Whether every fold held out a part of each specimen.
        thresholds
            As the attribute; default 0.5.

        Returns
        -------
        Evaluation
            Without maps where no classifier was `fitted`.
        """
        folds = dict.fromkeys(tables, POOLED)
        if not within:
            folds |= {name: m.fold.name for m in models for name in m.fold.test}
        k = min((len(m.explained_variance_ratio) for m in models), default=0)
        ratio = np.array([m.explained_variance_ratio[:k] for m in models])

        def maps(name: str) -> Maps:
            group = open_group(place(name))
            wanted = [*COMPARED, *(["fold"] if within and "fold" in group else [])]
            return {model: read(group, model) for model in wanted}

        names = list(tables) if fitted and models else []
        read_maps = at_once(maps, names)
        return cls(
            protocol,
            folds,
            dict(zip(names, at_once(lambda name: tables[name].cancer(), names), strict=True)),
            {m: {n: r[m] for n, r in zip(names, read_maps, strict=True)} for m in COMPARED},
            scores,
            colour,
            {n: r["fold"] for n, r in zip(names, read_maps, strict=True) if "fold" in r},
            ratio.mean(axis=0) if len(ratio) else np.zeros(0),
            # a specimen's own records know its spectra and background too
            () if within else models,
            _untrained(fitted, [m.fold.name for m in models]),
            thresholds or {},
            holds,
        )

    def why(self, model: str, fold: str) -> str:
        """Why a model of cancer has no score in what a fold held out, or in all; "" where it has.

        Returns
        -------
        str
            Where a fold could not be trained, all pixels have no score either: the rest of them
            are of the other class alone.
        """
        folds = self.untrained.get(model, {})
        if fold == POOLED:
            return next(iter(folds.values()), "")
        return folds.get(fold, "")


def _untrained(fitted: Classifiers, folds: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (model, fold), classifier in fitted.items():
        if fold in folds and np.isnan(classifier.coef).any():
            found.setdefault(model, {})[fold] = f"fold {fold}: {ONE_CLASS}"
    return found


def regression(one: Evaluation) -> list[dict[str, Any]]:
    """Records of the modes: specimens', and pooled ones.

    Returns
    -------
    list of dict
        Without those of the evaluation itself (`Evaluation.records`).
    """
    rows: list[dict[str, Any]] = []
    for model, scores in ((MSI_FROM_HE, one.scores), (MSI_FROM_COLOUR, one.colour)):
        if not scores:
            continue
        if not one.held_out:
            for name, parts in scores.items():
                rows += r2_records(one.folds[name], name, R2.total(parts), one.ratio, model)
        total = R2.total(part for parts in scores.values() for part in parts)
        rows += r2_records(POOLED, POOLED, total, one.ratio[: len(total.rss)], model)
    return [{"protocol": one.protocol, **row} for row in rows]


def classification(one: Evaluation) -> list[dict[str, Any]]:
    """Records of the maps: specimens', and pooled ones.

    Returns
    -------
    list of dict
        Where a fold could not be trained, what it held out has no score and says ``why``; nor have
        all pixels, of which only the others would be left.
    """
    rows = []
    for model, maps in one.maps.items():
        records = classification_records(
            one.truth, maps, model=model, folds=one.folds, thresholds=one.thresholds.get(model)
        )
        for record in records:
            why = one.why(model, record["fold"])
            if why and record["metric"] != "n":
                record["value"] = np.nan
            rows.append({"protocol": one.protocol, **record, **({"why": why} if why else {})})
    return rows
