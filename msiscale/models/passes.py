"""What one reading of the data computes for many logistic regressions: sums over blocks of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from msiscale.grid import Floats
from msiscale.models.moments import Moments, merge_groups
from msiscale.models.rowblocks import Run, reduce_blocks

T = TypeVar("T")
Rows = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]

PER_ROW = "msiscale: the rows of a block say their groups"
COLUMNS = 128  # predictors worked on at once, so that a block's temporaries stay small


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows of one group.

    Attributes
    ----------
    group : hashable
        Specimen; or `PER_ROW`.
    rows : callable, tuple or Delayed
        Gives ``(X (n, D), y (n,) fraction of the positive class or (n, classes) fractions,
        w (n,) or None)``, and with `PER_ROW` the groups (n,) after them; no NaN. A callable is
        called once a pass (picklable where `run` needs it); X may be a scipy sparse array.
    count : int
        How many rows they are; 0 where that is not known.
    """

    group: Hashable
    rows: Callable[[], Rows] | Rows | Any
    count: int = 0


def class_sums(
    total: dict[Hashable, Floats] | None, group: Hashable, rows: Any
) -> dict[Hashable, Floats]:
    """Add to `total` the sums of weights of each class over the rows of one block.

    Parameters
    ----------
    total
        (classes,) float64 by group, of earlier blocks; None before the first.
    group
        That of all the rows.
    rows
        X, y and w of the rows, or a callable that gives them, as in `RowBlock`.

    Returns
    -------
    dict
        (classes,) float64 by group.
    """
    _, y, w = rows_of(rows)
    return merge_groups(total or {}, {group: w @ y})


@dataclass
class Totals:
    """What a pass finds for P problems with K outputs each."""

    loss: Floats  # (P,)
    weight: Floats  # (P,)
    curvature: Floats  # (P,) sum of w p (1 - p), of more classes the mean over them
    bias: Floats  # (P * K,) sum of the residuals
    gradient: Floats  # (D, P * K)
    hessian: dict[int, Moments]  # of x weighted by the mean p (1 - p) of those that share it

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.loss + other.loss,
            self.weight + other.weight,
            self.curvature + other.curvature,
            self.bias + other.bias,
            self.gradient + other.gradient,
            merge_groups(self.hessian, other.hessian),
        )


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a pass needs of P problems with K outputs each, problem by problem."""

    coef: Floats  # (D, P * K)
    intercept: Floats  # (P * K,)
    class_weight: Floats  # (P, classes)
    groups: Sequence[frozenset[Hashable]]
    dtype: np.dtype[Any]
    gradient: bool = True
    coarse: bool = False  # float32 for what is computed row by row too
    shares: NDArray[np.intp] | None = None  # (P,) which Hessian to count for, -1 none

    @property
    def outputs(self) -> int:
        return int(self.coef.shape[1] // len(self.groups))


def objective_of(
    total: Totals | None, group: Hashable, rows: Any, *, parameters: Parameters
) -> Totals:
    """`total` and the terms of one block, in the columns of the problems that see its group."""
    n_problems, k = len(parameters.groups), parameters.outputs
    d = parameters.coef.shape[0] if parameters.gradient else 0
    one = partial(np.zeros, n_problems)
    found = Totals(one(), one(), one(), np.zeros(n_problems * k), np.zeros((d, n_problems * k)), {})
    member = np.array([group in groups for groups in parameters.groups])
    if not member.any():
        return found if total is None else total
    x, y, w = rows_of(rows)
    original, centre = x, np.zeros(x.shape[1])
    x = x.astype(parameters.dtype, copy=False)
    if isinstance(x, np.ndarray) and x.dtype == np.float32 and len(x):
        # about the block's own mean, so that float32 products lose nothing to it
        mean = x.mean(axis=0)
        x, centre = x - mean, mean.astype(np.float64)
    by_row = np.dtype(np.float32 if parameters.coarse else np.float64)
    y, w = y.astype(by_row, copy=False), w.astype(by_row, copy=False)
    chosen = np.flatnonzero(member)
    weights: dict[int, Any] = {}
    counts = Counter[int]()
    for start in range(0, len(chosen), max(COLUMNS // k, 1)):
        p = chosen[start : start + max(COLUMNS // k, 1)]
        c = (p[:, None] * k + np.arange(k)).ravel()
        eta = np.asarray(x @ parameters.coef[:, c].astype(x.dtype), dtype=by_row)
        eta += (centre @ parameters.coef[:, c] + parameters.intercept[c]).astype(by_row)
        f = _binary if k == 1 else _multinomial
        loss, weight, curvature, residual = f(eta, y, w, parameters.class_weight[p].astype(by_row))
        found.loss[p] += loss
        found.weight[p] += weight
        if not parameters.gradient:
            continue
        found.curvature[p] += curvature.sum(axis=0)
        r = residual.astype(x.dtype, copy=False)
        bias = r.sum(axis=0, dtype=np.float64)
        found.bias[c] += bias
        found.gradient[:, c] += x.T @ r + np.outer(centre, bias)
        if parameters.shares is not None:
            shares = parameters.shares[p]
            for share in np.unique(shares[shares >= 0]).tolist():
                mine = shares == share
                weights[share] = weights.get(share, 0.0) + curvature[:, mine].sum(axis=1)
                counts[share] += int(mine.sum())
    for share, weight in weights.items():
        found.hessian[share] = Moments.of(original, weight=weight / counts[share])
    return found if total is None else total + found


Terms = tuple[Floats, Floats, Floats, Floats]


def _binary(eta: Floats, y: Floats, w: Floats, class_weight: Floats) -> Terms:
    """Loss (P,), weight (P,), w p(1-p) (n, P) and residuals (n, P) of two-class problems."""
    negative, positive = (w * y[:, 0])[:, None], (w * y[:, 1])[:, None]
    decay = np.exp(-np.abs(eta))
    log = np.log1p(decay)
    inverse = 1 / (1 + decay)
    p = np.where(eta >= 0, inverse, decay * inverse)
    cn, cp = class_weight.T
    loss = cn * (negative.T @ (log + np.maximum(eta, 0)))[0]
    loss += cp * (positive.T @ (log + np.maximum(-eta, 0)))[0]
    both = negative * cn + positive * cp
    residual = both * p - positive * cp
    curvature = both * (decay * inverse * inverse)
    return loss, both.sum(axis=0), curvature, residual


def _multinomial(eta: Floats, y: Floats, w: Floats, class_weight: Floats) -> Terms:
    """The same of problems with K classes: eta and residuals (n, P * K)."""
    n, k = len(eta), y.shape[1]
    eta = eta.reshape(n, -1, k)
    eta = eta - eta.max(axis=2, keepdims=True)
    log_sum = np.log(np.exp(eta).sum(axis=2, keepdims=True))
    log_p = eta - log_sum
    p = np.exp(log_p)
    target = (w[:, None] * y)[:, None, :] * class_weight
    row = target.sum(axis=2, keepdims=True)
    loss = -(target * log_p).sum(axis=(0, 2))
    # K / (K - 1) of the mean: what moves one class against the others
    curvature = (row * p * (1 - p)).sum(axis=2) / (k - 1)
    return loss, row.sum(axis=(0, 2)), curvature, (row * p - target).reshape(n, -1)


def rows_of(rows: Any) -> tuple[Any, Floats, Floats]:
    """X, class fractions (n, classes) and weights (n,) of a block."""
    x, y, w = rows() if callable(rows) else rows
    y = np.asarray(y, dtype=np.float64)
    fractions = np.stack([1 - y, y], axis=1) if y.ndim == 1 else y
    if not np.isfinite(fractions).all() or (fractions < 0).any():
        raise ValueError("labels must be fractions from 0 to 1; leave out rows that have none")
    return x, fractions, np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)


def over(
    blocks: Sequence[RowBlock],
    step: Callable[..., T],
    merge: Callable[[T, T], T],
    run: Run | None,
) -> T:
    """One pass: `step` over the blocks, partial sums ending where the group changes."""
    parts = [(b.group, b.rows) for b in blocks]
    by_group: Callable[..., T] = partial(_by_group, step)
    return reduce_blocks(parts, by_group, merge, run=run, breaks=[b.group for b in blocks])


def _by_group(step: Callable[..., Any], total: Any, group: Hashable, rows: Any) -> Any:
    """`step` of a block, or of the rows of each group in it: the block is read once."""
    if group != PER_ROW:
        return step(total, group, rows)
    x, y, w, groups = rows() if callable(rows) else rows
    for label in np.unique(groups).tolist():
        mine = groups == label
        total = step(total, label, (x[mine], y[mine], None if w is None else w[mine]))
    return total


def probabilities(eta: Floats) -> Floats:
    """Class probabilities from linear predictors.

    Parameters
    ----------
    eta
        (n, 1) float64, of the positive class of two, or (n, classes > 2).

    Returns
    -------
    ndarray
        (n, classes) float64; of two classes the positive one is the last.
    """
    if eta.shape[1] == 1:
        positive = expit(eta)
        return np.concatenate([expit(-eta), positive], axis=1)
    return np.asarray(softmax(eta, axis=1))
