"""Linear folds the plain way: every fold, and every inner one, reads all that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from msiscale.models import Basis, Fold, FoldModel, Moments
from msiscale.models.folds import inner_folds
from msiscale.models.validation import Asked, Rules, fit_fold

ARRAYS = (
    *("mean", "components", "explained_variance", "explained_variance_ratio", "coef"),
    *("intercept", "colour_coef", "colour_intercept", "alpha", "weights"),
)


def rereading(
    sums: Mapping[str, Moments],
    fold: Fold,
    patients: Mapping[str, str],
    *,
    n_components: int,
    alphas: Sequence[float],
    colours: int = 0,
    columns: Callable[[tuple[str, ...]], Any] | None = None,
) -> FoldModel:
    """Fit one fold whose penalty is chosen by leaving out groups of its training specimens."""

    def total(names: Sequence[str]) -> Moments:
        return Moments.merge(sums[name] for name in names)

    training = total(fold.train)
    mask = None if columns is None else columns(fold.train)
    basis = Basis.exact(training, fold.train, mask, n_components)
    inner, kind = inner_folds(fold.train, patients)
    pairs = [(basis.scores(total(f.train)), basis.scores(total(f.test))) for f in inner]
    rules = Rules(n_components, tuple(alphas), (), colours, None)
    asked = Asked("", fold, mask, None, {}, None, (), kind, None)
    return fit_fold(asked, rules, basis, training, pairs, ((s, sums[s]) for s in fold.test))


def difference(found: FoldModel, expected: FoldModel) -> float:
    """Largest difference of any array of two models, relative to the norm of the array.

    Of a map to which a classifier is fitted, the products of its rows are compared: all that the
    fit depends on, while axes of about the same variance may turn in their plane by rounding.
    """
    pairs = [(getattr(found, name), getattr(expected, name)) for name in ARRAYS]
    for name, mapped in (expected.maps or {}).items():
        mine = (found.maps or {})[name]
        a, b = mine.matrix, mapped.matrix
        pairs += [(a @ a.T, b @ b.T), (a @ mine.offset, b @ mapped.offset)]
        pairs += [(mine.variance, mapped.variance)]
    for specimen, r2 in expected.scores.items():
        pairs += [(found.scores[specimen].rss, r2.rss), (found.scores[specimen].tss, r2.tss)]
    return max(_relative(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _relative(a: Any, b: Any) -> float:
    norm = np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / norm) if norm else float(np.abs(a - b).max(initial=0))
