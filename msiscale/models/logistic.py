"""Logistic regression with scikit-learn's interface, on arrays that need not fit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from msiscale.models.costs import Case, choose_costs
from msiscale.models.estimator import SparseTaker, checked_weight, checked_x, checked_xy
from msiscale.models.folds import inner_folds
from msiscale.models.joint import LinearMap, Problem, fit_many
from msiscale.models.moments import moments, product_dtype
from msiscale.models.passes import PER_ROW, RowBlock, probabilities
from msiscale.models.pca import MAX_COLUMNS
from msiscale.models.rowblocks import (
    apply_rows,
    is_dask,
    is_labelled,
    lazily,
    missing,
    raw,
    row_blocks,
)
from msiscale.models.spread import spread

ALL = "all"


class LogisticRegression(ClassifierMixin, SparseTaker):  # type: ignore[misc]
    """L2-penalised logistic regression; variables are standardised inside.

    The optimum of scikit-learn's ``LogisticRegression(C=C)`` after its ``StandardScaler``
    (multinomial where there are more than two classes), with the data read some ten times. Above
    12,000 variables their second moments are done without, at the price of more readings.

    Parameters
    ----------
    C : float or sequence of float
        Inverse penalty on the standardised slopes; the intercept carries none. Of a sequence the
        one is chosen whose fits predict best (log-loss) when parts of the `groups` given to `fit`
        are left out in turn, five at most; every part and every C advance on the same readings.
    class_weight : "balanced", None or dict of label to weight
    fit_intercept : bool
        Without, variables are scaled but not centred.
    tol : float
        Norm of the gradient of the mean loss at which to stop.
    max_iter : int
        Passes at most.

    Attributes
    ----------
    classes_ (K,)
    coef_ (1, p) or (K, p), intercept_ (1,) or (K,) : float64, for variables as they come.
    scale_ (p,), n_features_in_
    C_ : float, the C of the fit.
    grad_norm_ : float, of the mean loss, in standardised coordinates.
    objective_ : float, mean loss and penalty at the optimum.
    n_iter_ (1,), n_passes_ : evaluations, and readings of the data by the fit (two more than
        evaluations, for the scale and the class weights; those of the choice of C not counted).

    Examples
    --------
    >>> import numpy as np
    >>> import msiscale as ms
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> cancer = (x[:, 0] > 0).astype(int)
    >>> fitted = ms.LogisticRegression(C=[0.01, 1.0]).fit(x, cancer, groups=np.arange(400) // 100)
    >>> fitted.C_, fitted.predict([[2.0, 0.0], [-2.0, 0.0]]).tolist()
    (1.0, [1, 0])
    >>> fitted.predict_proba(x).shape
    (400, 2)
    """

    def __init__(
        self,
        C: float | Sequence[float] = 1.0,
        *,
        class_weight: str | Mapping[Any, float] | None = "balanced",
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 100,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> LogisticRegression:
        """Fit to the rows of X.

        Parameters
        ----------
        X : (..., p) NumPy, Dask, xarray, scipy sparse or `CsrRows`
            float32 or float64; others become float64.
        y : (...) labels, or (..., classes) fractions
            Of fractions, `classes_` are 0, 1, ...; a row counts for each class by its fraction.
            Rows of Dask or xarray arrays with a NaN in X or y are unknown and are left out.
        sample_weight : (...), optional
            Not below zero.
        groups : (...) labels, optional
            Whom to leave out together (patients) when C is chosen.

        Returns
        -------
        LogisticRegression, itself

        Raises
        ------
        ValueError
            One class only, a C that is not positive, several C without groups, or what
            scikit-learn refuses.
        """
        costs = self._costs(groups)
        fractions = getattr(y, "ndim", 1) == getattr(X, "ndim", 2) and np.shape(y)[-1] > 1
        lazy = is_labelled(X) or is_labelled(y)
        X, y = checked_xy(self, X, y, multi_output=fractions, y_numeric=False)
        weight = checked_weight(sample_weight, X)
        self.classes_ = np.arange(y.shape[-1]) if fractions else _values(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only ({self.classes_[0]!r}); two or more are needed")
        groups = groups if groups is None or is_labelled(groups) else np.asarray(groups)
        prepare = partial(
            _prepared, classes=None if fractions else self.classes_, skip_missing=lazy
        )
        blocks = [
            RowBlock(ALL if groups is None else PER_ROW, lazily(prepare, part))
            for part in row_blocks(X, y, weight, groups)
        ]
        names = [ALL] if groups is None else _values(groups).tolist()
        if len(costs) > 1 and len(names) < 2:
            raise ValueError(f"groups has one label only ({names[0]!r}); two or more are needed")
        known = _known(X, y, weight, fractions) if lazy else weight
        self.scale_, standardised = self._standardised(X, known, lazy)
        problem = Problem(
            standardised,
            frozenset(names),
            balanced=self.class_weight == "balanced",
            intercept=self.fit_intercept,
            class_weight=self._given_weights(),
        )
        inner, kind = inner_folds(names, {name: name for name in names})
        case = Case(problem, [(frozenset(f.train), frozenset(f.test)) for f in inner], kind)
        choice = choose_costs(blocks, [case], costs)[0]
        self.C_ = choice.C
        problem = replace(problem, C=choice.C, start=choice.start)
        fit = fit_many(blocks, [problem], tol=self.tol, max_iter=self.max_iter)
        solution = fit.solutions[0]
        if not np.isfinite(solution.coef).all():
            raise ValueError("only one class has rows with a weight; two or more are needed")
        self.coef_, self.intercept_ = solution.coef.T, solution.intercept
        self.grad_norm_, self.objective_ = solution.grad_norm, solution.objective
        self.n_iter_ = np.array([solution.n_iter])
        self.n_passes_ = fit.n_passes + 1
        return self

    def _costs(self, groups: Any) -> list[float]:
        costs = [float(c) for c in np.atleast_1d(np.asarray(self.C, dtype=np.float64))]
        if not costs or not all(0 < c < np.inf for c in costs):
            raise ValueError(f"C={self.C!r}: give positive numbers")
        if len(costs) > 1 and groups is None:
            raise ValueError(f"C={self.C!r}: to choose from several, fit needs groups (patients)")
        return costs

    def _standardised(
        self, X: Any, weight: Any, lazy: bool
    ) -> tuple[NDArray[np.float64], LinearMap]:
        """Standard deviations (p,), and the map to standardised variables."""
        if X.shape[-1] > MAX_COLUMNS:
            found = spread(X, weight=weight, skip_missing=lazy)
            return found.scale, LinearMap.scaled(found, centred=self.fit_intercept)
        sums = moments(X, weight=weight, dtype=product_dtype(X), skip_missing=lazy)
        return sums.scale("x"), LinearMap.standardised(sums, centred=self.fit_intercept)

    def decision_function(self, X: Any) -> Any:
        """Linear predictor (...) for two classes, (..., K) for more, in the container of X."""
        found = self._apply(X, self._predictor, len(self._fitted().coef_), "class")
        return found[..., 0] if len(self.coef_) == 1 else found

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class (..., K) of X (..., p), in its container and precision."""
        return self._apply(
            X,
            lambda x: probabilities(self._predictor(x).astype(np.float64)).astype(x.dtype),
            len(self._fitted().classes_),
            "class",
        )

    def predict(self, X: Any) -> Any:
        """The most probable label (...) of X (..., p), in its container."""
        classes = self._fitted().classes_
        found = self._apply(
            X, lambda x: classes[self._codes(x)][:, None], 1, "class", classes.dtype
        )
        return found[..., 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; rows of Dask or xarray arrays that are unknown are left out."""
        if not (is_labelled(X) or is_labelled(y)):
            return float(super().score(X, y, sample_weight))
        eta = np.asarray(raw(self.decision_function(X)))
        truth = np.asarray(raw(y))
        eta, truth = eta.reshape(truth.size, -1), truth.ravel()
        called = self.classes_[eta.argmax(axis=1) if eta.shape[1] > 1 else (eta[:, 0] > 0) * 1]
        known = np.isfinite(eta).all(axis=1)
        if truth.dtype.kind == "f":
            known &= ~np.isnan(truth)
        weight = None if sample_weight is None else np.asarray(sample_weight).ravel()[known]
        return float(np.average((called == truth)[known], weights=weight))

    def _fitted(self) -> LogisticRegression:
        check_is_fitted(self, "coef_")
        return self

    def _apply(self, X: Any, function: Any, size: int, dim: str, dtype: Any = None) -> Any:
        return apply_rows(function, checked_x(self, X, reset=False), size, dim, dtype)

    def _predictor(self, x: Any) -> NDArray[Any]:
        return np.asarray(x @ self.coef_.T.astype(x.dtype) + self.intercept_.astype(x.dtype))

    def _codes(self, x: NDArray[Any]) -> NDArray[np.intp]:
        eta = self._predictor(x)
        return (eta[:, 0] > 0).astype(np.intp) if eta.shape[1] == 1 else eta.argmax(axis=1)

    def _given_weights(self) -> list[float] | None:
        if self.class_weight is None or self.class_weight == "balanced":
            return None
        if not isinstance(self.class_weight, Mapping):
            raise ValueError(f"class_weight={self.class_weight!r}: give 'balanced', None or a dict")
        return [float(self.class_weight.get(label, 1.0)) for label in self.classes_.tolist()]


def _values(y: Any) -> NDArray[Any]:
    """The labels that occur, sorted; NaN is none."""
    if not is_labelled(y):
        check_classification_targets(column_or_1d(y) if y.ndim == 1 else y)
        return np.unique(y)
    lazy: Any = np.unique(raw(y))
    found: NDArray[Any] = np.asarray(lazy.compute() if is_dask(lazy) else lazy)
    return found[~np.isnan(found)] if found.dtype.kind == "f" else found


def _prepared(
    x: Any,
    y: NDArray[Any],
    w: NDArray[Any] | None,
    groups: NDArray[Any] | None,
    *,
    classes: Any,
    skip_missing: bool,
) -> tuple[Any, ...]:
    """Rows with labels turned into class fractions, those with something missing left out."""
    if skip_missing:
        keep = ~missing(x)
        if y.dtype.kind == "f":
            keep &= ~np.isnan(y.reshape(len(y), -1)).any(axis=1)
        x, y = x[keep], y[keep]
        w, groups = (None if a is None else a[keep] for a in (w, groups))
    fractions = (
        y.astype(np.float64) if classes is None else (y[:, None] == classes).astype(np.float64)
    )
    return (x, fractions, w) if groups is None else (x, fractions, w, groups)


def _known(x: Any, y: Any, weight: Any, fractions: bool) -> Any:
    """Weights (...) that are 0 where the label is unknown."""
    inner = raw(y)
    if inner.dtype.kind != "f":
        return weight
    unknown = np.isnan(inner)
    known = ~(unknown.any(axis=-1) if fractions else unknown)
    return known.astype(np.float64) if weight is None else raw(weight) * known
