"""What a task of the stage `ions` sums up of some m/z of a specimen: it adds up over specimens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from msiscale.biomarkers.moved_images import moved_correlation, moved_places
from msiscale.fusion.scores import Scores
from msiscale.grid import Floats
from msiscale.pipeline.pixel_rows import sound
from msiscale.store import HeldOut, join
from msiscale.store.held_out import COLOUR

# of each m/z of a specimen
SUMS = (
    *("specimens", "pixels", "sum", "tss", "away", "rss", "bias", "guess", "product"),
    *("ranks", "guess_ranks", "rank_product", "colour_rss", "colour_guess", "colour_product"),
    *("neighbours", "pairs", "moved", "moved_pixels", "similar", "windows"),
)
CLASSES = ("cancer", "other", "unknown")  # of the annotation
CLASS_SUMS = ("n", "mean", "scatter")  # of the measured intensities of a class
CANCER = 0.5  # annotated fraction of a pixel, from which it counts as cancer
TOGETHER = 16  # m/z in float64 at a time


def ion_sums(out: str, specimen: str, protocol: str, start: int, stop: int) -> dict[str, Any]:
    """Sum up some m/z of a specimen.

    Parameters
    ----------
    out
        The run's ``--out``.
    specimen, protocol
        Whose held-out pixels.
    start, stop
        First and last m/z.

    Returns
    -------
    dict
        ``sums`` and ``classes`` as of `image_sums`, zeros of an m/z that its folds do not have;
        ``fold``: what it was held out with.

    Raises
    ------
    ValueError
        A held-out pixel has no intensity; inside `sound`, which makes it a `SpecimenError`.
    """
    wanted = slice(start, stop)
    with sound(join(out, "predictions.zarr"), specimen):
        source = HeldOut(out, specimen, protocol)
        measured, predicted = source.measured(wanted), source.predicted(wanted)
        if not np.isfinite(measured).all():
            raise ValueError(f"{source.cohort.url}/intensity: held-out pixels without values")
        known = np.flatnonzero(source.supported[wanted])
        colour = source.predicted(wanted, COLOUR)[:, known] if source.has(COLOUR) else None
        some, classes = image_sums(
            source.fold,
            _classes(source),
            measured[:, known],
            predicted[:, known],
            source.constant(wanted)[:, known],
            colour,
        )
        sums = np.zeros((stop - start, len(SUMS)))
        sums[known] = some
        whole = np.zeros((len(classes), stop - start, *classes.shape[2:]))
        whole[:, known] = classes
        fold = str(source.stored.facts.get("fold", ""))
    return {"sums": sums.tolist(), "classes": whole.tolist(), "fold": fold}


def image_sums(
    fold: NDArray[Any],
    classes: NDArray[np.int8],
    measured: NDArray[Any],
    predicted: NDArray[Any],
    constant: NDArray[Any],
    colour: NDArray[Any] | None = None,
) -> tuple[Floats, Floats]:
    """Sum up ion images and their predictions.

    Parameters
    ----------
    fold : (y, x) int
        Which fold held a pixel out, -1 where none did. The n others are the rows below.
    classes : (n,) int8
        Index into `CLASSES`.
    measured, predicted, constant : (n, k)
        Intensities, those predicted, and those predicted by the mean of the training.
    colour : (n, k), optional
        Those predicted by colour alone.

    Returns
    -------
    sums : ndarray
        (k, `SUMS`).
    classes : ndarray
        (fold, k, `CLASSES`, `CLASS_SUMS`), of the folds in the order of their numbers.
    """
    n_mz = measured.shape[1]
    places, pairs = moved_places(fold >= 0), neighbours(fold)
    sums = np.zeros((n_mz, len(SUMS)))
    numbers = np.unique(fold[fold >= 0])
    by_class = np.zeros((len(numbers), n_mz, len(CLASSES), len(CLASS_SUMS)))
    for first in range(0, n_mz, TOGETHER):
        at = slice(first, first + TOGETHER)
        truth, guess, base = (
            values[:, at].astype(np.float64) for values in (measured, predicted, constant)
        )
        other = None if colour is None else colour[:, at].astype(np.float64)
        own = dict(zip(SUMS, np.zeros((len(SUMS), truth.shape[1])), strict=True))
        centred, moving = truth.copy(), guess.copy()
        for k, number in enumerate(numbers):
            rows = fold[fold >= 0] == number
            centred[rows] -= truth[rows].mean(axis=0)
            moving[rows] -= guess[rows].mean(axis=0)
            found = _scored(truth[rows], guess[rows])
            found["away"] = ((truth[rows] - base[rows]) ** 2).sum(axis=0)
            of_colour = {} if other is None else _about(truth[rows], other[rows])
            for name in ("rss", "guess", "product"):
                found[f"colour_{name}"] = of_colour.get(name, np.nan)
            for name, values in found.items():
                own[name] += values
            by_class[k, at] = _by_class(truth[rows], classes[rows])
        own["specimens"] += 1  # of however many folds
        own["neighbours"] += (centred[pairs[0]] * centred[pairs[1]]).sum(axis=0)
        own["pairs"] += pairs.shape[1]
        by_chance = moved_correlation(centred, moving, places)
        tells = np.isfinite(by_chance)
        own["moved"] += np.where(tells, by_chance, 0) * len(truth)
        own["moved_pixels"] += tells * len(truth)
        own["similar"], own["windows"] = _similar(fold >= 0, truth, guess)
        sums[at] = np.stack([own[name] for name in SUMS], axis=1)
    return sums, by_class


def neighbours(fold: NDArray[Any]) -> NDArray[np.intp]:
    """Pairs of pixels side by side that one fold held out.

    Parameters
    ----------
    fold
        (y, x) int, -1 where none did.

    Returns
    -------
    ndarray
        (2, pairs) indices into the held-out pixels in raster order.
    """
    held = fold >= 0
    index = np.cumsum(held).reshape(held.shape) - 1
    found = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        both = held[a] & (fold[a] == fold[b])
        found.append(np.stack([index[a][both], index[b][both]]))
    return np.concatenate(found, axis=1).astype(np.intp)


def _scored(truth: Floats, guess: Floats) -> dict[str, Any]:
    """Sums of images and their predictions, of values and of ranks."""
    centred = truth - truth.mean(axis=0)
    found: dict[str, Any] = {"pixels": len(truth), "sum": truth.sum(axis=0)}
    found |= {"tss": (centred**2).sum(axis=0)} | _about(truth, guess)
    a, b = (rankdata(values, axis=0) - (len(truth) + 1) / 2 for values in (truth, guess))
    of_ranks = {"ranks": a * a, "guess_ranks": b * b, "rank_product": a * b}
    return found | {name: values.sum(axis=0) for name, values in of_ranks.items()}


def _about(truth: Floats, guess: Floats) -> dict[str, Floats]:
    """Squared error and its bias; square and product of the prediction, about its own mean."""
    error, centred = truth - guess, guess - guess.mean(axis=0)
    return {
        "rss": (error**2).sum(axis=0),
        "bias": len(truth) * error.mean(axis=0) ** 2,
        "guess": (centred**2).sum(axis=0),
        "product": (centred * (truth - truth.mean(axis=0))).sum(axis=0),
    }


def _classes(source: HeldOut) -> NDArray[np.int8]:
    """Index into `CLASSES` of each held-out pixel."""
    found = np.full(source.shape, 2, np.int8)
    if "cancer" in source.cohort:
        fraction = source.cohort.cancer
        with np.errstate(invalid="ignore"):
            found[fraction >= CANCER], found[fraction < CANCER] = 0, 1
    return found[source.held]


def _by_class(truth: Floats, labels: NDArray[np.int8]) -> Floats:
    """(k, `CLASSES`, `CLASS_SUMS`)."""
    found = np.zeros((truth.shape[1], len(CLASSES), len(CLASS_SUMS)))
    for c in range(len(CLASSES)):
        some = truth[labels == c]
        if len(some):
            mean = some.mean(axis=0)
            found[:, c] = np.stack(
                [np.full(len(mean), float(len(some))), mean, ((some - mean) ** 2).sum(axis=0)], 1
            )
    return found


def _similar(
    held: NDArray[np.bool_], truth: Floats, guess: Floats
) -> tuple[Floats, NDArray[np.float64]]:
    """Sum of the SSIM of images over windows of held-out pixels, and how many these are."""
    pair = []
    for values in (truth, guess):
        image = np.zeros((*held.shape, truth.shape[1]))
        image[held] = values
        pair.append(image)
    span = truth.max(axis=0) - truth.min(axis=0)
    of = Scores.of(pair[0], pair[1], held, (slice(None), slice(None)), span)
    return of.similar, np.where(span > 0, of.windows, 0.0)
