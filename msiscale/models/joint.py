"""L2-penalised logistic regression: many problems on one reading of the data.

Each problem sees the rows of its own groups through its own linear map ``z = x A + b`` and
minimises, over slopes beta and intercepts a, with class weights c and sample weights w,

    F = 1/W sum_i w_i c(y_i) loss(y_i, z_i beta + a) + 1/(2 C W) |beta|^2,
    W = sum_i w_i c(y_i),

which has the optimum of scikit-learn's ``LogisticRegression(C)`` on z; intercepts carry no
penalty. A pass reads every block once: the linear predictors of all problems are one product
``X @ (A beta)``, their gradients another, ``A^T (X^T R)``. The maps are rotated to the principal
axes of z, where a diagonal is a good first guess of the Hessian (Boehning and Lindsay 1988, with
the mean of p(1 - p) of the problem in the place of their 1/4); L-BFGS learns the rest.

A label is a class fraction: a pixel that is 30 % cancer is 0.3 of a positive and 0.7 of a negative.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.linalg import eigh
from scipy.sparse import diags_array

from msiscale.errors import MsiscaleWarning
from msiscale.grid import Floats
from msiscale.models.lbfgs import Descent
from msiscale.models.moments import Moments, merge_groups, reciprocal
from msiscale.models.passes import (
    Parameters,
    RowBlock,
    Totals,
    class_sums,
    objective_of,
    over,
)
from msiscale.models.rowblocks import Run
from msiscale.models.spread import Spread
from msiscale.threads import one_blas_thread

REFRESH = 12  # evaluations with one guess of the Hessian
MAX_SHARED = 4096  # variables of x above which its second moment is not worth the pass


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``z = x @ matrix + offset``: matrix (D, k), offset (k,); `variance` (k,) of z in training.

    The matrix is dense, or a sparse diagonal one (`scaled`).
    """

    matrix: Any
    offset: Floats
    variance: Floats

    @classmethod
    def standardised(
        cls,
        sums: Moments,
        projection: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        *,
        centred: bool = True,
    ) -> LinearMap:
        """Centred and scaled variables, turned to their principal axes.

        The turn leaves the fit what it would have been (the penalty does not see it).

        Parameters
        ----------
        sums : Moments
            Of the training rows, as x (D).
        projection : (D, k) array, optional
            Variables ``x @ projection``; default x itself.
        scale : (k,) array, optional
            What to divide the variables by; default their standard deviation in training.
            Variables with scale 0 are left out (slope 0).
        centred : bool
            Whether z has mean 0 in training; without an intercept to fit it should not.

        Returns
        -------
        LinearMap, dense; its z are uncorrelated in training
        """
        with one_blas_thread():
            if projection is None:
                p: Floats | None = None
                covariance, mean, sd = sums.sxx / sums.n, sums.mean_x, sums.scale("x")
            else:
                p = np.asarray(projection, dtype=np.float64)
                covariance, mean = p.T @ sums.sxx @ p / sums.n, sums.mean_x @ p
                variance = np.diag(covariance)
                floor = sums.eps**2 * variance.max(initial=0)
                sd = np.sqrt(np.where(variance > floor, variance, 0))
            inverse = reciprocal(sd if scale is None else np.asarray(scale, dtype=np.float64))
            if not centred:
                covariance, mean = covariance + np.outer(mean, mean), np.zeros_like(mean)
            scaled = covariance * np.outer(inverse, inverse)
            variance, vectors = eigh((scaled + scaled.T) / 2, driver="evd")
            turned = inverse[:, None] * vectors
            matrix = turned if p is None else p @ turned
        return cls(matrix, -(mean @ turned), np.maximum(variance, 0))

    @classmethod
    def scaled(cls, found: Spread, *, centred: bool = True) -> LinearMap:
        """Centred and scaled variables, not turned: for axes too long for second moments."""
        # the fit is the same; it needs more readings to get there
        inverse = reciprocal(found.scale)
        mean = found.mean if centred else np.zeros_like(found.mean)
        variance: Floats = (inverse > 0).astype(np.float64)
        if not centred:
            variance = variance + (found.mean * inverse) ** 2
        return cls(diags_array(inverse, format="csr"), -mean * inverse, variance)


@dataclass(frozen=True, eq=False)
class Problem:
    """One fit.

    Attributes
    ----------
    map : LinearMap
        Share the object among problems that share the map.
    groups : frozenset
        Whose rows to fit.
    C : float
        Inverse penalty, as in scikit-learn.
    balanced : bool
        Weight classes inversely to their (fractional) sums over the training rows.
    intercept : bool
    start : (k + 1, outputs) float64, optional
        Where to start (a `Solution.theta` of the same map).
    class_weight : (classes,), optional
        In the place of `balanced`.
    """

    map: LinearMap
    groups: frozenset[Hashable]
    C: float = 1.0
    balanced: bool = True
    intercept: bool = True
    start: Floats | None = None
    class_weight: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """A fitted problem: probability ``sigmoid(x @ coef + intercept)``, softmax for > 2 classes.

    Attributes
    ----------
    coef (D, outputs), intercept (outputs,) : float64; one output for two classes. NaN where the
        training rows have one class only, so that there is nothing to fit.
    theta (k + 1, outputs) : the same in the coordinates of the map, intercept last.
    class_weight (classes,)
    prevalence (classes,) : their shares of the training rows, before they are weighted.
    objective : F at the optimum (see the module).
    grad_norm : Euclidean norm of its gradient in the coordinates of the map.
    n_iter : evaluations of this problem.
    converged : whether it got there (the notes of `fit_many` say when).
    """

    coef: Floats
    intercept: Floats
    theta: Floats
    class_weight: Floats
    prevalence: Floats
    objective: float
    grad_norm: float
    n_iter: int
    converged: bool


Heard = Callable[[int, int, float], None]  # passes, problems left, largest norm of a gradient


@dataclass(frozen=True, eq=False)
class Fit:
    """Solutions, in the order of the problems, and the number of passes over the data."""

    solutions: list[Solution]
    n_passes: int


def fit_many(
    blocks: Sequence[RowBlock],
    problems: Sequence[Problem],
    *,
    tol: float = 1e-6,
    max_iter: int = 100,
    dtype: DTypeLike = np.float64,
    refresh: int | None = REFRESH,
    warn: bool = True,
    coarse: bool = False,
    run: Run | None = None,
    heard: Heard | None = None,
) -> Fit:
    """Fit all problems together; each pass reads each block once.

    Parameters
    ----------
    blocks : sequence of RowBlock
        In a fixed order; consecutive ones of a group are summed in one task.
    problems : sequence of Problem
        All of the same classes.
    tol : float
        Stop a problem when the norm of its gradient is below this.
    max_iter : int
        Evaluations of a problem at most.
    dtype : float64 or float32
        Of the products (sums are float64). float32 halves the cost; the objective is then within
        1e-8 of the optimum where variables are not collinear, 1e-6 where they are.
    refresh : int, optional
        Evaluations after which a problem gets a better preconditioner (see the notes); None never.
    warn : bool
        Of problems that need more than `max_iter`.
    coarse : bool
        Losses and residuals in float32, and done when a step promises less than 1e-6 of the loss:
        enough to tell one C from another.
    run : callable, optional
        Computes a list of picklable tasks in order (blocks with Delayed rows go to Dask instead).
    heard : callable, optional
        Told after every pass how many there were, how many problems are left, and the largest norm
        of their gradients.

    Returns
    -------
    Fit

    Notes
    -----
    A problem is done, too, when its next step promises less than the products can tell. Problems
    that are not done after `refresh` evaluations get a better preconditioner: the Hessian summed
    over the rows of all of those with the same C, each row weighted by their mean p(1 - p) (the
    folds of a cross-validation have nearly the same). It changes how fast they arrive, not where,
    and costs a second moment of X and an eigendecomposition a map: worth it for hard problems.
    """
    sums = over(blocks, class_sums, merge_groups, run)
    n_classes = len(next(iter(sums.values())))
    dtype = np.dtype(dtype)
    noise = 1e-6 if coarse else 1e-10 if dtype == np.float32 else 1e-15  # of F, relative
    states = [_State.of(p, sums, n_classes, tol, max_iter, noise) for p in problems]
    passes = 1
    while active := [s for s in states if s is not None and not s.descent.done]:
        parameters = _parameters(active, dtype, refresh, coarse)
        totals = over(blocks, partial(objective_of, parameters=parameters), Totals.__add__, run)
        passes += 1
        with one_blas_thread():
            _precondition(active, parameters, totals)
            for j, state in enumerate(active):
                state.tell(totals, j, parameters.outputs)
        if heard is not None:
            left = [s.descent.grad_norm for s in active if not s.descent.done]
            heard(passes, len(left), max(left, default=0.0))
    solutions = [_solution(p, s, n_classes) for p, s in zip(problems, states, strict=True)]
    slow = [s.grad_norm for s in solutions if s.n_iter >= max_iter and not s.converged]
    if warn and slow:
        warnings.warn(
            f"{len(slow)} of {len(problems)} logistic regressions stopped at {max_iter} evaluations"
            f" (gradient up to {max(slow):.1e}); lower C or raise max_iter",
            MsiscaleWarning,
            stacklevel=2,
        )
    return Fit(solutions, passes)


def heldout_losses(
    blocks: Sequence[RowBlock],
    solutions: Sequence[Solution],
    groups: Sequence[frozenset[Hashable]],
    *,
    run: Run | None = None,
) -> tuple[Floats, Floats]:
    """Log-loss of each solution on the rows of its own `groups`, one pass.

    Returns
    -------
    loss, weight : (len(solutions),) float64
        Sums of the loss and of the weights, both with the solution's class weights; NaN loss
        where there is no solution.
    """
    usable = [i for i, s in enumerate(solutions) if np.isfinite(s.coef).all()]
    loss, weight = np.full(len(solutions), np.nan), np.zeros(len(solutions))
    if usable:
        parameters = Parameters(
            coef=np.concatenate([solutions[i].coef for i in usable], axis=1),
            intercept=np.concatenate([solutions[i].intercept for i in usable]),
            class_weight=np.stack([solutions[i].class_weight for i in usable]),
            groups=[groups[i] for i in usable],
            dtype=np.dtype(np.float64),
            gradient=False,
        )
        totals = over(blocks, partial(objective_of, parameters=parameters), Totals.__add__, run)
        loss[usable], weight[usable] = totals.loss, totals.weight
    return loss, weight


@dataclass(eq=False)
class _State:
    problem: Problem
    class_weight: Floats
    prevalence: Floats
    total_weight: float
    penalty: float
    shape: tuple[int, int]
    descent: Descent
    axes: Axes
    refreshed: int = 0  # the evaluation at which `axes` was last renewed

    @classmethod
    def of(
        cls,
        problem: Problem,
        sums: Mapping[Hashable, Floats],
        n_classes: int,
        tol: float,
        max_iter: int,
        noise: float,
    ) -> _State | None:
        """The start of a problem; None where its rows are of one class only."""
        if not 0 < problem.C < np.inf:
            raise ValueError(f"C={problem.C!r}: give a positive number")
        parts = [s for g, s in sums.items() if g in problem.groups]
        weight = np.sum(parts, axis=0) if parts else np.zeros(n_classes)
        if (weight <= 0).any():
            return None
        if problem.class_weight is not None:
            class_weight = np.asarray(problem.class_weight, dtype=np.float64)
        elif problem.balanced:
            class_weight = weight.sum() / (n_classes * weight)
        else:
            class_weight = np.ones(n_classes)
        total = float(class_weight @ weight)
        shape = (len(problem.map.offset) + 1, 1 if n_classes == 2 else n_classes)
        start = problem.start
        if start is None:
            start = np.zeros(shape)
            if problem.intercept:
                log = np.log(class_weight * weight / total)
                start[-1] = log[1] - log[0] if n_classes == 2 else log - log.mean()
        point = np.asarray(start, dtype=np.float64).ravel()
        descent = Descent(point, tolerance=tol, max_steps=max_iter, noise=noise)
        guess = Axes(problem.map.variance, None, np.zeros(len(problem.map.offset)))
        share = weight / weight.sum()
        penalty = 1 / (problem.C * total)
        return cls(problem, class_weight, share, total, penalty, shape, descent, guess)

    @property
    def trial(self) -> Floats:
        return self.descent.trial.reshape(self.shape)

    def tell(self, totals: Totals, j: int, outputs: int) -> None:
        """Pass on what the pass found for this problem, the j-th of it."""
        columns = slice(j * outputs, (j + 1) * outputs)
        bias, mapped = totals.bias[columns], self.problem.map
        gradient = np.empty(self.shape)
        gradient[:-1] = mapped.matrix.T @ totals.gradient[:, columns] + np.outer(
            mapped.offset, bias
        )
        gradient[-1] = bias if self.problem.intercept else 0
        gradient /= self.total_weight
        slopes = self.trial[:-1]
        gradient[:-1] += self.penalty * slopes
        value = totals.loss[j] / self.total_weight + self.penalty / 2 * (slopes**2).sum()
        curvature = max(float(totals.curvature[j]) / self.total_weight, 1e-6)

        def solve(flat: Floats) -> Floats:
            # one curvature for all classes: to move every class alike changes nothing but the
            # penalty, and steps keep clear of that direction only if classes are scaled alike
            rows = flat.reshape(self.shape)
            return self.axes.solve(rows, curvature, self.penalty, self.problem.intercept).ravel()

        self.descent.tell(float(value), gradient.ravel(), solve)


@dataclass(frozen=True, eq=False)
class Axes:
    """Guess of a Hessian: ``curvature * (V diag(values) V^T + mean mean^T)``, in z and intercept.

    values (k,), vectors (k, k) or None for the identity, mean (k,) of z under its weights.
    """

    values: Floats
    vectors: Floats | None
    mean: Floats

    def solve(self, rows: Floats, curvature: float, penalty: float, intercept: bool) -> Floats:
        """Multiply rows by the inverse of the guess, with the penalty on slopes.

        Parameters
        ----------
        rows
            (k + 1, outputs) float64, the slopes in z and, last, the intercept.
        curvature
            Factor of the guess.
        penalty
            Added to the diagonal of the slopes.
        intercept
            Whether there is one; without, the last row of the result is 0.

        Returns
        -------
        ndarray
            (k + 1, outputs) float64.
        """
        slopes = rows[:-1] - np.outer(self.mean, rows[-1])  # the intercept, eliminated
        if self.vectors is not None:
            slopes = self.vectors.T @ slopes
        slopes = slopes / (curvature * self.values + penalty)[:, None]
        if self.vectors is not None:
            slopes = self.vectors @ slopes
        last = rows[-1] / curvature - self.mean @ slopes if intercept else np.zeros_like(rows[-1])
        return np.concatenate([slopes, last[None]])


def _precondition(active: Sequence[_State], parameters: Parameters, totals: Totals) -> None:
    """Renew the axes of the problems that shared a Hessian in this pass."""
    if parameters.shares is None:
        return
    made: dict[tuple[int, int, bool], Axes] = {}
    for state, share in zip(active, parameters.shares.tolist(), strict=True):
        if share not in totals.hessian:
            continue
        mapped, intercept = state.problem.map, state.problem.intercept
        key = (id(mapped), share, intercept)
        if key not in made:
            made[key] = _axes(mapped, totals.hessian[share], intercept)
        state.axes, state.refreshed = made[key], state.descent.steps


def _axes(mapped: LinearMap, hessian: Moments, intercept: bool) -> Axes:
    inner = mapped.matrix.T @ (hessian.sxx @ mapped.matrix) / hessian.n
    mean = hessian.mean_x @ mapped.matrix + mapped.offset
    if not intercept:
        inner, mean = inner + np.outer(mean, mean), np.zeros_like(mean)
    values, vectors = eigh((inner + inner.T) / 2, driver="evd")
    return Axes(np.maximum(values, 0), vectors, mean)


def _solution(problem: Problem, state: _State | None, n_classes: int) -> Solution:
    mapped = problem.map
    if state is None:
        d, k = mapped.matrix.shape
        outputs = 1 if n_classes == 2 else n_classes
        nan = partial(np.full, fill_value=np.nan)
        of_map = nan((d, outputs)), nan(outputs), nan((k + 1, outputs))
        of_class = nan(n_classes), nan(n_classes)
        return Solution(*of_map, *of_class, np.nan, np.nan, 0, converged=False)
    descent, theta = state.descent, state.descent.point.reshape(state.shape)
    return Solution(
        mapped.matrix @ theta[:-1],
        mapped.offset @ theta[:-1] + theta[-1],
        theta,
        state.class_weight,
        state.prevalence,
        float(descent.value),
        descent.grad_norm,
        descent.steps,
        descent.converged,
    )


def _parameters(
    states: Sequence[_State], dtype: np.dtype[Any], refresh: int | None, coarse: bool
) -> Parameters:
    """What the next pass needs: the trial points of `states` in the space of x."""
    members: dict[int, list[int]] = {}
    for i, s in enumerate(states):
        members.setdefault(id(s.problem.map), []).append(i)
    found: dict[int, tuple[Floats, Floats]] = {}
    for indices in members.values():  # one product a shared map
        mapped = states[indices[0]].problem.map
        theta = np.concatenate([states[i].trial for i in indices], axis=1)
        with one_blas_thread():
            both = mapped.matrix @ theta[:-1], mapped.offset @ theta[:-1] + theta[-1]
        parts = (np.split(values, len(indices), axis=-1) for values in both)
        found |= zip(indices, zip(*parts, strict=True), strict=True)
    coef, intercept = zip(*(found[i] for i in range(len(states))), strict=True)
    old = [refresh is not None and s.descent.steps - s.refreshed >= refresh for s in states]
    costs = sorted({s.problem.C for s, stale in zip(states, old, strict=True) if stale})
    shares = [
        costs.index(s.problem.C) if stale else -1 for s, stale in zip(states, old, strict=True)
    ]
    return Parameters(
        np.concatenate(coef, axis=1),
        np.concatenate(intercept),
        np.stack([s.class_weight for s in states]),
        [s.problem.groups for s in states],
        dtype,
        coarse=coarse,
        shares=np.array(shares) if costs and len(coef[0]) <= MAX_SHARED else None,
    )
