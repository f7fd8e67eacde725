"""Scores of patients that inner fits left out: what slope, intercept and threshold are found by.

They are kept as counts over bins of the log-odds, which add up: no row is kept, and the order of
the rows does not matter. Memory: 4 kB a patient, fold and model.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from msiscale.grid import Floats
from msiscale.models.calibration import Calibration, against_others, platt, prior_of
from msiscale.models.moments import merge_groups
from msiscale.models.passes import RowBlock, over, rows_of
from msiscale.models.rowblocks import Run

LEAST = 3  # patients with both classes, from which on scores say more than the prior alone
EDGES = np.sinh(np.linspace(-4, 4, 127))  # of bins of the log-odds: 0.06 wide at 0, 1.7 at the ends
SURE = 1e-6  # thresholds lie between it and 1 less it

Groups = frozenset[Hashable]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Counts of rows that inner fits left out, over bins of their log-odds, by patient.

    Attributes
    ----------
    counts : mapping of patient to (outputs, 4, bins) float64: sums of the weight, of the weight
        times the fraction of the class, of the weight of rows of half or more of it, and of the
        weight times the log-odds
    """

    counts: Mapping[Hashable, Floats]

    def calibrated(self, prior: Calibration, *, threshold_only: bool = False) -> Calibration:
        """Slope, intercept and threshold by the patients left out, where they tell them.

        Parameters
        ----------
        prior : Calibration
            Of the fit whose inner fits these are.
        threshold_only : bool
            Whether what was left out is no whole patient, which is no witness of the others.

        Returns
        -------
        Calibration
            With the threshold alone where fewer than `LEAST` patients have both classes, too.
        """
        if not self.counts:
            return prior
        each = np.stack(list(self.counts.values()))  # (patients, outputs, 4, bins)
        slope, intercept, share, cut = (
            a.copy() for a in (prior.slope, prior.intercept, prior.prevalence, prior.threshold)
        )
        by, chosen = prior.by, prior.chosen
        for k in range(each.shape[1]):
            n, mine, most, odds = np.moveaxis(each[:, k], 1, 0)
            fitted = None if threshold_only else _by_patients(n, mine, odds)
            if fitted is not None:
                slope[k], intercept[k], share[k] = fitted
                by = "patients"
            threshold = best_cut(n, most)
            if threshold is not None:
                p = expit(slope[k] * threshold + intercept[k])
                cut[k], chosen = np.clip(p, SURE, 1 - SURE), True
        return Calibration(prior.prior, slope, intercept, share, cut, by, chosen)


def _by_patients(n: Floats, mine: Floats, odds: Floats) -> tuple[float, float, float] | None:
    """Slope, intercept and prevalence of a class by counts (patients, bins), patients equally."""
    total, of_class = n.sum(axis=1), mine.sum(axis=1)
    if ((of_class > 0) & (of_class < total)).sum() < LEAST:
        return None
    alike = 1 / total[total > 0]
    weight, y, x = (alike @ a[total > 0] for a in (n, mine, odds))
    kept = weight > 0
    weight, y, x = weight[kept], y[kept], x[kept]
    found = platt(x / weight, y / weight, weight)
    return None if found is None else (*found, float(y.sum() / weight.sum()))


def best_cut(n: Floats, positive: Floats) -> float | None:
    """Log-odds from which on to call a pixel, for the largest mean Dice over patients.

    Parameters
    ----------
    n, positive : (patients, bins) float64
        Pixels, and those of the class, over the bins of `EDGES`.

    Returns
    -------
    float; None where no patient has the class
    """
    some = positive.sum(axis=1) > 0
    if not some.any():
        return None
    # called from an edge on: all bins above it
    called, agreed = (a[some][:, :0:-1].cumsum(axis=1)[:, ::-1] for a in (n, positive))
    dice = 2 * agreed / (called + positive[some].sum(axis=1, keepdims=True))
    mean = dice.mean(axis=0)
    best = np.flatnonzero(mean == mean.max())
    return float(EDGES[best[len(best) // 2]])  # the middle, where nothing lies between


@dataclass(frozen=True, eq=False)
class InnerFit:
    """A fit that left groups out: its predictor (D, outputs), and who may be scored by it."""

    coef: Floats
    intercept: Floats
    class_weight: Floats
    left_out: Groups


def score_left_out(
    blocks: Sequence[RowBlock],
    cases: Sequence[Sequence[InnerFit]],
    patients: Mapping[Hashable, Hashable],
    *,
    run: Run | None = None,
) -> list[LeftOut]:
    """Score the rows that inner fits left out, in one reading.

    Parameters
    ----------
    blocks : sequence of RowBlock
        All labelled rows.
    cases : sequence of sequences of InnerFit
        The inner fits of each case, which leave out different groups.
    patients : mapping of group to patient
        A group that is not in it is a patient by itself.
    run : callable, optional
        Computes a list of picklable tasks in order.

    Returns
    -------
    list of LeftOut, one a case
    """
    inner = [fit for case in cases for fit in case]
    if not inner:
        return [LeftOut({})] * len(cases)
    coef = np.concatenate([fit.coef for fit in inner], axis=1)
    shift = np.concatenate([fit.intercept + prior_of(fit.class_weight) for fit in inner])
    groups = [fit.left_out for fit in inner]
    step = partial(_scored, coef=coef, shift=shift, groups=groups)
    found: dict[Hashable, dict[int, Floats]] = over(blocks, step, _merged, run)
    owner = [i for i, case in enumerate(cases) for _ in case]
    counts: list[dict[Hashable, Floats]] = [{} for _ in cases]
    for group, by_fit in found.items():
        patient = patients.get(group, group)
        for j, values in by_fit.items():
            mine = counts[owner[j]]
            mine[patient] = mine[patient] + values if patient in mine else values
    return [LeftOut(of) for of in counts]


Scores = dict[Hashable, dict[int, Floats]]


def _merged(a: Scores, b: Scores) -> Scores:
    return {
        g: merge_groups(a.get(g, {}), b.get(g, {})) for g in [*a, *(g for g in b if g not in a)]
    }


def _scored(
    total: Scores | None,
    group: Hashable,
    rows: Any,
    *,
    coef: Floats,
    shift: Floats,
    groups: Sequence[Groups],
) -> Scores:
    """`total` and the counts of one block, for the fits that left its group out."""
    total = {} if total is None else total
    fits = [j for j, left_out in enumerate(groups) if group in left_out]
    if not fits:
        return total
    x, y, w = rows_of(rows)
    outputs = len(shift) // len(groups)
    truth = y[:, -1:] if outputs == 1 else y
    columns = (np.array(fits)[:, None] * outputs + np.arange(outputs)).ravel()
    eta = np.asarray(x @ coef[:, columns].astype(x.dtype), np.float64) + shift[columns]
    found = {}
    for i, j in enumerate(fits):
        odds = against_others(eta[:, i * outputs : (i + 1) * outputs])
        found[j] = np.stack([_counted(odds[:, k], truth[:, k], w) for k in range(outputs)])
    return _merged(total, {group: found})


def _counted(odds: Floats, truth: Floats, weight: Floats) -> NDArray[np.float64]:
    """(4, bins) of `LeftOut.counts`."""
    at = np.searchsorted(EDGES, odds, side="right")
    most = weight * (truth >= 0.5)
    values = (weight, weight * truth, most, weight * odds)
    return np.stack([np.bincount(at, v, len(EDGES) + 1) for v in values])
