"""Groups of variables that share a scale and have a penalty of their own.

Each group is divided such that its variances have the same sum as those of any other (equal
energy); a weight then makes it count for more or less, which is a penalty of its own. Weights are
chosen by coordinate descent on the squared errors of held-out rows, all from the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from msiscale.features.layers import Group
from msiscale.grid import Floats
from msiscale.models.moments import Moments, reciprocal
from msiscale.threads import one_blas_thread

FACTORS = (0.25, 4.0)  # that a weight is tried with
SWEEPS = 2
LEAST_GAIN = 0.01  # of the squared error, below which a weight is left alone


def scales(
    deviations: Floats,
    groups: Sequence[Group],
    least: float,
    weights: Sequence[float] = (),
) -> Floats:
    """What each variable is divided by.

    Parameters
    ----------
    deviations : (p,) float64
        Standard deviations; 0 for a variable that does not vary.
    groups : sequence of Group
        Of all p variables; none for a single group.
    least : float
        A variable is divided by at least this share of the root mean square of the deviations of
        its group: one that hardly varies in training, and might in another specimen lie thousands
        of its own deviations off, cannot carry a prediction away.
    weights : sequence of float
        Of the groups; default 1 each.

    Returns
    -------
    (p,) float64, 0 where a variable does not vary or its group is not used
    """
    groups = groups or (Group("", len(deviations)),)
    found = np.zeros(len(deviations))
    for part, group in zip(slices(groups), groups, strict=True):
        own = deviations[part]
        floor = 0.0 if group.own_scale or not own.size else least * np.sqrt(np.mean(own**2))
        found[part] = np.where(own > 0, np.maximum(own, floor), 0.0)
    used = [group for group in groups if group.used]
    if len(groups) == 1:
        return found
    share = sum(group.channels for group in used) / max(len(used), 1)
    for i, (part, group) in enumerate(zip(slices(groups), groups, strict=True)):
        energy = ((deviations[part] * reciprocal(found[part])) ** 2).sum() if group.used else 0.0
        found[part] *= np.sqrt(energy / share) / (weights[i] if len(weights) else 1.0)
    return found


def slices(groups: Sequence[Group]) -> list[slice]:
    """Where each group is."""
    ends = np.cumsum([group.channels for group in groups]).tolist()
    return [slice(end - group.channels, end) for end, group in zip(ends, groups, strict=True)]


def choose_weights(
    inner: Sequence[tuple[Moments, Moments]],
    groups: Sequence[Group],
    least: float,
    alpha: float,
) -> tuple[float, ...]:
    """Weights of the groups by coordinate descent at one penalty.

    A weight changes where that lowers the squared error by `LEAST_GAIN` and does so in most of the
    parts that are held out: what is chosen on few blocks is otherwise chance.

    Parameters
    ----------
    inner : sequence of (training, held out)
        Sums of variables (x) and targets (m).
    groups, least
        As of `scales`.
    alpha : float
        Penalty (see `msiscale.models.ridge`), not below 1e-6.

    Returns
    -------
    tuple of float, one a group
    """
    weights = [1.0] * len(groups)
    losses = _losses(inner, groups, least, alpha, weights)
    for _ in range(SWEEPS):
        before = list(weights)
        for i, group in enumerate(groups):
            for factor in FACTORS if group.used else ():
                trial = [w * factor if j == i else w for j, w in enumerate(weights)]
                found = _losses(inner, groups, least, alpha, trial)
                better = found.sum() < (1 - LEAST_GAIN) * losses.sum()
                if better and (found < losses).mean() > 0.5:
                    weights, losses = trial, found
        if weights == before:
            break
    return tuple(weights)


def _losses(
    inner: Sequence[tuple[Moments, Moments]],
    groups: Sequence[Group],
    least: float,
    alpha: float,
    weights: Sequence[float],
) -> Floats:
    """Squared error over all targets, of each part held out."""
    found = []
    for training, heldout in inner:
        inverse = reciprocal(scales(training.scale("x"), groups, least, weights))
        with one_blas_thread():
            scaled = training.sxx / training.n * np.outer(inverse, inverse)
            np.einsum("ii->i", scaled)[...] += alpha
            factor = cho_factor(scaled, overwrite_a=True, check_finite=False)
            cross = inverse[:, None] * training.sxm / training.n
            beta = inverse[:, None] * cho_solve(factor, cross, check_finite=False)
            square = (
                np.trace(heldout.smm)
                - 2 * (beta * heldout.sxm).sum()
                + (beta * (heldout.sxx @ beta)).sum()
            )
            away = heldout.mean_m - training.mean_m - (heldout.mean_x - training.mean_x) @ beta
        found.append(float(square + heldout.n * (away**2).sum()))
    return np.array(found)
