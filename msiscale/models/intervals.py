"""Confidence intervals with patients as the unit: what another set of patients might have given.

Pixels of a patient are anything but independent, so patients are resampled, not pixels. A patient
is summed up once, in counts over common bins of the probability; a resample is then a weighted sum
of counts, whatever the number of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msiscale.grid import Floats
from msiscale.models.r2 import R2

BINS = 4096  # of the pooled ranks; ties within one cost an AUC 1e-4 at most
DRAWS = 1000
TOGETHER = 64  # weightings whose sums are in memory
LEVEL = 0.95
METRICS = ("auc", "average_precision", "accuracy", "balanced_accuracy", "dice", "brier")


@dataclass(frozen=True, eq=False)
class Tallies:
    """Counts of patients (rows) over bins of the probability, ascending.

    Attributes
    ----------
    positive, negative : (patients, bins) float64, pixels
    called : (bins,) bool, whether a bin is called cancer (probability of 0.5 or more)
    squares : (patients,) float64, summed squared error of the probability against the fraction
    """

    positive: Floats
    negative: Floats
    called: NDArray[np.bool_]
    squares: Floats


def tally(truth: Sequence[ArrayLike], probability: Sequence[ArrayLike]) -> Tallies:
    """Counts of each patient's pixels where both are known.

    Parameters
    ----------
    truth, probability : a map (any shape) a patient
        Annotated fraction, and probability; NaN where not known.

    Returns
    -------
    Tallies
    """
    pairs = []
    for t, p in zip(truth, probability, strict=True):
        t, p = np.ravel(np.asarray(t, float)), np.ravel(np.asarray(p, float))
        known = np.isfinite(t) & np.isfinite(p)
        pairs.append((t[known], p[known]))
    pooled = np.concatenate([p for _, p in pairs])
    edges = np.unique(np.append(np.quantile(pooled, np.linspace(0, 1, BINS + 1)[1:-1]), 0.5))
    shape = (len(pairs), len(edges) + 1)
    positive, negative, squares = np.zeros(shape), np.zeros(shape), np.zeros(len(pairs))
    for i, (t, p) in enumerate(pairs):
        at = np.searchsorted(edges, p, side="right")
        positive[i] = np.bincount(at[t >= 0.5], minlength=shape[1])
        negative[i] = np.bincount(at[t < 0.5], minlength=shape[1])
        squares[i] = ((p - t) ** 2).sum()
    called = np.append(-np.inf, edges) >= 0.5
    return Tallies(positive, negative, called, squares)


def values(counts: Tallies, weights: Floats) -> dict[str, Floats]:
    """`METRICS` of each weighting of the patients.

    Parameters
    ----------
    counts : Tallies
        Of the patients.
    weights : (draws, patients) float64
        How often each patient counts.

    Returns
    -------
    dict of (draws,) float64 arrays; NaN where a draw has one class only
    """
    found = []
    for some in np.array_split(weights, max(1, -(-len(weights) // TOGETHER))):
        # counts and weights are whole numbers, whose sums are exact in any order
        squares = [w @ counts.squares for w in some]
        sums = (some @ counts.positive, some @ counts.negative, squares)
        found += [_values(counts.called, *one) for one in zip(*sums, strict=True)]
    return {name: np.array([one[name] for one in found]) for name in METRICS}


def _values(called: NDArray[np.bool_], p: Floats, n: Floats, squares: float) -> dict[str, float]:
    """`METRICS` of counts (bins,) of positive and negative pixels, and their squared error."""
    total_p, total_n = p.sum(), n.sum()
    tp, fp = p[called].sum(), n[called].sum()
    pixels = total_p + total_n
    # from the highest probability down, ties together
    recalled, wrong = np.cumsum(p[::-1]), np.cumsum(n[::-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        ranked = (n * (total_p - np.cumsum(p)) + n * p / 2).sum() / (total_p * total_n)
        precision = np.nan_to_num(recalled / (recalled + wrong))
        steps = p[::-1] / total_p
        one = {
            "auc": ranked,
            "average_precision": (precision * steps).sum() if total_n else np.nan,
            "accuracy": (tp + total_n - fp) / pixels,
            "balanced_accuracy": (tp / total_p + 1 - fp / total_n) / 2,
            "dice": 2 * tp / (total_p + tp + fp),
            "brier": squares / pixels,
        }
    return {name: float(value) for name, value in one.items()}


def draws(patients: int, n: int = DRAWS, seed: int = 0) -> Floats:
    """``(n, patients)`` how often each patient is drawn, with replacement, in each resample."""
    picked = np.random.default_rng(seed).integers(0, patients, (n, patients))
    return np.stack([np.bincount(row, minlength=patients) for row in picked]).astype(float)


def interval(sample: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of resampled values.

    Parameters
    ----------
    sample : (draws,)
        NaN where a draw has none.
    level : float
        Share of the draws that are inside.

    Returns
    -------
    low, high : float; NaN where fewer than half of the draws are defined
    """
    known = np.asarray(sample, float)
    known = known[np.isfinite(known)]
    if 2 * len(known) < np.size(sample) or not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def r2_values(parts: Mapping[str, R2], weights: Floats) -> tuple[Floats, Floats]:
    """R² of each weighting of the patients.

    Parameters
    ----------
    parts : mapping of patient to R2
        In the order of the columns of `weights`.
    weights : (draws, patients) float64
        How often each patient counts.

    Returns
    -------
    per_target (draws, t), weighted (draws,) : float64, over the t targets that all patients have
    """
    k = min(len(part.rss) for part in parts.values())
    rss = weights @ np.stack([part.rss[:k] for part in parts.values()])
    tss = weights @ np.stack([part.tss[:k] for part in parts.values()])
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - rss / tss, 1 - rss.sum(axis=1) / tss.sum(axis=1)
