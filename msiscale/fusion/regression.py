"""Ion images from what is known of the slide: models fitted and chosen on blocks of pixels.

Pixels fall into five folds by the square that they lie in. The first fold is the test: it takes no
part in choosing anything, and says how well the model reconstructs ion images of pixels that it
has not seen (the separate subsets of Van de Plas et al. 2015, Nature Methods 12:366). The others
choose the number of components (PLS) or the penalty (ridge), for each ion. The model that is then
used is fitted on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.fusion.pls import PLSPath, fewest, pls_losses
from msiscale.grid import Floats
from msiscale.models.moments import Moments, reciprocal
from msiscale.models.r2 import r2_from_moments
from msiscale.models.ridge import RidgePath, choose, heldout_losses
from msiscale.models.validation import LEAST_SCALE

FOLDS = 5
LEAST_PIXELS = 10  # below, there is no regression
COMPONENTS = 20  # of PLS, at most


@dataclass(frozen=True, eq=False)
class Regression:
    """A linear map of t ions on p variables, and what it was worth on pixels held out."""

    coef: Floats  # (t, p)
    intercept: Floats  # (t,)
    chosen: Floats  # (t,), number of components, or penalty
    correlation: Floats  # (t,), on the test fold, by the model fitted without it
    r2: Floats  # (t,), likewise

    def predict(self, x: NDArray[Any]) -> Floats:
        """Predict the ions; never below zero, as intensities are not.

        Parameters
        ----------
        x
            (..., p) variables, of any real type.

        Returns
        -------
        numpy.ndarray
            (..., t) float64 intensities.
        """
        return np.maximum(x.astype(np.float64) @ self.coef.T + self.intercept, 0)


def fold_of(y: NDArray[Any], x: NDArray[Any], side: int) -> NDArray[np.int64]:
    """Assign pixels to folds by squares, no two of a fold adjacent.

    Parameters
    ----------
    y
        (n,) integers, the pixels' rows.
    x
        (n,) integers, their columns.
    side
        Of a square, in pixels.

    Returns
    -------
    numpy.ndarray
        (n,) int64, from 0 to `FOLDS` - 1.
    """
    return np.asarray((y // side + 2 * (x // side)) % FOLDS)


def side_of(pixels: int) -> int:
    """Side of a square, such that some 50 of them make a specimen of so many pixels."""
    return int(np.clip(round(np.sqrt(pixels / 50)), 1, 8))


def fit_pls(folds: Sequence[Moments], most: int = COMPONENTS) -> Regression:
    """PLS2 of the ions (m) on the variables (x), from the sums of each fold."""
    return _fit(
        folds,
        lambda parts: fewest(pls_losses(parts, most)),
        lambda sums, chosen: PLSPath.of(sums, most).coefficients(chosen),
    )


def fit_ridge(folds: Sequence[Moments], alphas: Sequence[float]) -> Regression:
    """Ridge of the ions (m) on deep features (x), from the sums of each fold."""

    def best(parts: Sequence[Moments]) -> Any:
        return choose(
            heldout_losses(parts, alphas, least_scale=LEAST_SCALE), alphas, per_target=True
        )

    def fit(sums: Moments, chosen: Any) -> tuple[Floats, Floats]:
        return RidgePath.of(sums, least_scale=LEAST_SCALE).coefficients(chosen)

    return _fit(folds, best, fit)


def _fit(
    folds: Sequence[Moments],
    best: Callable[[Sequence[Moments]], Any],
    fit: Callable[[Moments, Any], tuple[Floats, Floats]],
) -> Regression:
    test, *rest = folds
    parts = [part for part in rest if part.n > 0]
    if len(parts) < 2 or not test.n:
        raise ValueError("there are too few squares of pixels to choose a model")
    chosen = best(parts)
    training = Moments.merge(parts)
    coef, intercept = fit(training, chosen)
    r2 = r2_from_moments(coef, intercept, test, training.mean_m).per_target
    found = fit(training + test, chosen)
    return Regression(*found, np.asarray(chosen, np.float64), _correlation(coef, test), r2)


def _correlation(coef: Floats, test: Moments) -> Floats:
    """Of prediction and truth on the rows of `test`; NaN where either does not vary."""
    predicted = np.sqrt(np.maximum(((coef @ test.sxx) * coef).sum(axis=1), 0))
    both = predicted * np.sqrt(np.diag(test.smm))
    shared = (coef * test.sxm.T).sum(axis=1)
    return np.where(both > 0, shared * reciprocal(both), np.nan)
