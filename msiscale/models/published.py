"""Choices of the published study that flatter or blur its figures, each to be had by itself.

Ul Haque et al. 2023 as coded (github.com/inzamam1190/HEtoMALDI, logisticRegression.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from msiscale.grid import Floats
from msiscale.models.classification import Classifier
from msiscale.models.fold_model import FoldModel
from msiscale.models.moments import Moments, reciprocal
from msiscale.threads import one_blas_thread


def self_scaled(
    classifiers: Mapping[tuple[str, str], Classifier],
    models: Sequence[FoldModel],
    sums: Mapping[str, Moments],
) -> dict[tuple[str, str], Classifier]:
    """Classifiers that see the held-out rows standardised by *their own* mean and deviation.

    The study calls ``fit_transform`` of its scaler on the test fold too, which takes out whatever
    sets the test rows apart as a whole.

    Parameters
    ----------
    classifiers : mapping of (model, fold name) to Classifier
        Any of the three of the pipeline.
    models : sequence of FoldModel
        Of the same folds.
    sums : mapping of part to Moments
        Of the training and the held-out parts of every fold.

    Returns
    -------
    dict as `classifiers`; those of folds that hold nothing out as they were
    """
    found = dict(classifiers)
    for model in models:
        if not model.fold.test:
            continue
        training = Moments.merge(sums[s] for s in model.fold.train)
        held_out = Moments.merge(sums[s] for s in model.fold.test)
        for (name, fold), classifier in classifiers.items():
            if fold != model.fold.name:
                continue
            features, colours = model.slide_columns
            of: str | slice = colours if name == "cancer_from_colour" else features
            of = "m" if name == "cancer_from_msi" else of
            projection = {
                "cancer_from_msi": model.components.T,
                "cancer_from_predicted_msi": model.coef.T,
            }.get(name)
            with one_blas_thread():
                before = _location(training, of, projection)
                after = _location(held_out, of, projection)
                found[name, fold] = _rescaled(classifier, projection, before, after)
    return found


def _location(sums: Moments, of: str | slice, projection: Floats | None) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the projected variables: m, or some of x."""
    if isinstance(of, slice):
        mean, scatter = sums.mean_x[of], sums.sxx[of, of]
    else:
        mean, scatter = sums.mean_m, sums.smm
    if projection is None:
        return mean, np.sqrt(np.diag(scatter) / sums.n)
    variance = ((scatter @ projection) * projection).sum(axis=0) / sums.n
    return mean @ projection, np.sqrt(np.maximum(variance, 0))


def _rescaled(
    classifier: Classifier,
    projection: Floats | None,
    before: tuple[Floats, Floats],
    after: tuple[Floats, Floats],
) -> Classifier:
    """The same classifier of ``(z - mean after) / sd after * sd before + mean before``."""
    theta = classifier.coef
    if projection is not None:
        theta = np.asarray(np.linalg.lstsq(projection, classifier.coef, rcond=None)[0], float)
    factor = before[1] * reciprocal(after[1])
    turned = theta * factor[:, None]
    coef = turned if projection is None else projection @ turned
    shift = before[0] @ theta - after[0] @ turned
    return replace(classifier, coef=coef, intercept=classifier.intercept + shift)
