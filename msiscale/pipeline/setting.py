"""Who trains and who is held out, in whatever way a cohort is validated.

A part is a set of pixels that are trained on, or held out, together: a specimen, or those pixels of
all specimens that the same folds may use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiscale.features.layers import Group
from msiscale.models import (
    Classifier,
    Fold,
    FoldModel,
    Moments,
    Spread,
)
from msiscale.models.classification import By
from msiscale.pipeline.classify import Inner
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.sums import Masks


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
