"""Linear maps, Fourier features and boosted trees, fitted to the same rows and tried on others."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score

from msiscale.features.layers import Group
from msiscale.models import (
    PCA,
    Fold,
    FoldModel,
    Moments,
    RowBlock,
    fit_classifiers,
    fit_fourier_folds,
    fit_linear_folds,
)
from msiscale.models.fourier_folds import labelled
from msiscale.models.r2 import R2

Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]
Scores = Mapping[str, Any]  # by side, (R², AUC) of each of what is held out
MODES = 5  # of the MSI, that every side predicts
HE = "cancer_from_he"
SIDES = ("linear", "rff", "boosting")
MOST_COLUMNS = 64  # that trees are given; of more, as many principal components of the training


@dataclass(frozen=True, eq=False)
class Rows:
    """Pixels that are trained on, or held out, together.

    Attributes
    ----------
    features (n, p), intensity (n, q) : float32
    cancer (n,) : float32, 0 to 1; NaN where not annotated
    """

    features: Float32
    intensity: Float32
    cancer: Float32


def compare(
    parts: Mapping[str, Rows],
    folds: Sequence[Fold],
    patients: Mapping[str, str],
    *,
    features: int,
    groups: Sequence[Group] = (),
) -> Scores:
    """R² of the first modes, and AUC, of every side and fold on what it holds out.

    Parameters
    ----------
    parts
        Rows by name.
    folds, patients
        Over the parts; `patients` says what is left out together when a penalty is chosen.
    features
        Fourier features, N.
    groups
        Of the channels.

    Returns
    -------
    Scores
        (R², AUC) of each fold; an AUC is NaN where it holds out no annotation of both classes.
    """
    sums = {n: Moments.of(p.features, p.intensity) for n, p in parts.items()}
    linear = fit_linear_folds(sums, folds, patients, n_components=MODES, groups=groups)
    reads = {n: functools.partial(_read, p) for n, p in parts.items()}
    fourier = fit_fourier_folds(reads, folds, patients, features, groups=groups, n_components=MODES)
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for fold, plain, curved in zip(folds, linear, fourier, strict=True):
        found["linear"].append((_r2_of(plain), _auc_of(plain, parts, fold, patients)))
        found["rff"].append((_r2_of(curved), _auc_of(curved, parts, fold, patients)))
        found["boosting"].append(_boosted(plain, parts, fold))
    return found


def _read(rows: Rows) -> list[tuple[Float32, Float32]]:
    return [(rows.features, rows.intensity)]


def _r2_of(model: FoldModel) -> float:
    return R2.total(model.scores.values()).weighted


def _auc_of(
    model: FoldModel,
    parts: Mapping[str, Rows],
    fold: Fold,
    patients: Mapping[str, str],
) -> float:
    """AUC of the logistic regression of a head, its penalty chosen as a run does."""
    annotated = {name: _annotated(rows) for name, rows in parts.items()}
    truth = _truth(parts, fold.test)
    if truth.all() or not truth.any():
        return float("nan")
    blocks = [RowBlock(n, (x, y, None)) for n, (x, y) in annotated.items() if len(y)]
    seen, maps = labelled(model.fourier, blocks), {HE: {fold.name: (model.maps or {})[HE]}}
    fitted = fit_classifiers(seen, maps, [fold], patients)[HE, fold.name]
    guess = np.concatenate([fitted.predict(model.beside(annotated[n][0])) for n in fold.test])
    return _auc(truth, guess)


def _boosted(plain: FoldModel, parts: Mapping[str, Rows], fold: Fold) -> tuple[float, float]:
    """R² and AUC of boosted trees, at scikit-learn's settings, on the modes of the linear fold."""
    train, test = ([parts[n] for n in names] for names in (fold.train, fold.test))
    seen = np.concatenate([p.features for p in train])
    reduce = PCA(MOST_COLUMNS).fit(seen).transform if seen.shape[1] > MOST_COLUMNS else _as_is
    modes = plain.project(np.concatenate([p.intensity for p in train]))
    x = reduce(seen)
    trees = [HistGradientBoostingRegressor(random_state=0).fit(x, mode) for mode in modes.T]
    squares = []
    for p in test:
        measured, at = plain.project(p.intensity).astype(np.float64), reduce(p.features)
        guess = np.stack([tree.predict(at) for tree in trees], axis=1)
        about = ((measured - measured.mean(axis=0)) ** 2).sum(axis=0)
        squares.append(R2(len(at), ((measured - guess) ** 2).sum(axis=0), about, about))
    truth = _truth(parts, fold.test)
    rows, labels = (np.concatenate(a) for a in zip(*map(_annotated, train), strict=True))
    auc = float("nan")
    if truth.any() and not truth.all():
        forest = HistGradientBoostingClassifier(random_state=0).fit(reduce(rows), labels >= 0.5)
        at = np.concatenate([_annotated(p)[0] for p in test])
        auc = _auc(truth, forest.predict_proba(reduce(at))[:, 1])
    return R2.total(squares).weighted, auc


def _as_is(x: Float32) -> Float32:
    return x


def _annotated(rows: Rows) -> tuple[Float32, Floats]:
    known = np.isfinite(rows.cancer)
    return rows.features[known], rows.cancer[known].astype(np.float64)


def _truth(parts: Mapping[str, Rows], names: Sequence[str]) -> NDArray[np.bool_]:
    every = [_annotated(parts[n])[1] for n in names]
    return np.concatenate([*every, np.zeros(0)]) >= 0.5


def _auc(truth: NDArray[np.bool_], guess: NDArray[np.float32]) -> float:
    return float(roc_auc_score(truth, guess))
