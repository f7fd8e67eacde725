"""Tidy records of what the maps H&E -> MSI reach on held-out specimens, and of their baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats
from msiscale.models.folds import Fold
from msiscale.models.metrics import Record, tidy
from msiscale.models.moments import Moments
from msiscale.models.r2 import R2
from msiscale.models.spread import Spread

MSI_FROM_HE, MSI_FROM_COLOUR = "msi_from_he", "msi_from_colour"


def r2_records(
    fold: str, specimen: str, r2: R2, ratio: Floats, model: str = MSI_FROM_HE
) -> list[Record]:
    """Tidy records of the R² of modes and of all of them.

    Parameters
    ----------
    fold, specimen : str
        For the records.
    r2 : R2
        Its targets are t modes.
    ratio : (t,) float64
        Share of the variance that each mode explains.
    model : str
        What predicts.

    Returns
    -------
    list of dict with keys fold, specimen, model, target, metric, value
    """
    per_target = {
        "r2": r2.per_target,
        "r2_mean_spectrum": r2.baseline_per_target,
        "r2_over_mean_spectrum": r2.over_baseline_per_target,
        "explained_variance_ratio": ratio,
    }
    found = [
        record
        for metric, values in per_target.items()
        for i, value in enumerate(values)
        for record in tidy(fold, specimen, model, f"mode_{i:03d}", {metric: value})
    ]
    weighted = {
        "r2": r2.weighted,
        "r2_mean_spectrum": r2.baseline_weighted,
        "r2_over_mean_spectrum": r2.over_baseline_weighted,
        "explained_variance_ratio": float(ratio.sum()),
    }
    return found + tidy(fold, specimen, model, "weighted", weighted)


def spectrum_records(
    fold: str, specimen: str, modes: R2, heldout: Moments, training: Moments
) -> list[Record]:
    """Records of R² over all m/z of the predicted spectrum, and the most that modes could reach."""
    tss = float(np.trace(heldout.smm))
    away = heldout.mean_m - training.mean_m
    tss_train = tss + heldout.n * float(away @ away)
    outside = tss_train - modes.tss_train.sum()  # orthogonal to the modes: nothing predicts it
    if tss <= 0:
        return []
    values = {
        "r2": 1 - (outside + modes.rss.sum()) / tss,
        "r2_mean_spectrum": 1 - tss_train / tss,
        "r2_of_measured_modes": 1 - outside / tss,
    }
    return tidy(fold, specimen, MSI_FROM_HE, "spectrum", values)


def background_means(
    background: Mapping[str, Spread], folds: Sequence[Fold]
) -> list[Floats | None]:
    """Mean of the background of each fold's training specimens; None where they have none.

    Parameters
    ----------
    background : mapping of specimen to Spread
        Of measured pixels off the tissue, of those that have any.
    folds : sequence of Fold
        Whose training specimens they are.

    Returns
    -------
    list of (q,) float64 or None
        One a fold. One product gives all; a specimen that is held out has a weight of zero in it.
    """
    if not background:
        return [None] * len(folds)
    column = {name: i for i, name in enumerate(background)}
    weights = np.zeros((len(folds), len(background)))
    for row, fold in zip(weights, folds, strict=True):
        for name in fold.train:
            if name in column:
                row[column[name]] = background[name].n
    totals = weights @ np.stack([part.mean for part in background.values()])
    n = weights.sum(axis=1)
    return [total / k if k > 0 else None for total, k in zip(totals, n, strict=True)]


def mask_records(
    fold: str,
    specimen: str,
    tissue: Spread,
    off: Spread | None,
    mask: NDArray[np.bool_],
    training: Floats,
    training_off: Floats | None,
) -> list[Record]:
    """Records of squares about the training means of tissue and of background, over all squares.

    Parameters
    ----------
    fold, specimen : str
        For the records: the specimen is held out.
    tissue, off : Spread
        Of its tissue, and of its measured pixels off the tissue where it has any.
    mask : (q,) bool
        The m/z in use.
    training, training_off : (q,) float64
        Means of the training tissue and, where it has any, of its background.

    Returns
    -------
    list of dict, empty where nothing varies
    """
    parts, means = [tissue], [training]
    if off is not None and training_off is not None:
        parts.append(off)
        means.append(training_off)
    rss = sum(p.about(mean)[mask].sum() for p, mean in zip(parts, means, strict=True))
    whole = np.sum([p.n * p.mean for p in parts], axis=0) / sum(p.n for p in parts)
    tss = sum(p.about(whole)[mask].sum() for p in parts)
    if tss <= 0:
        return []
    return tidy(fold, specimen, MSI_FROM_HE, "spectrum", {"r2_tissue_mask": 1 - rss / tss})
