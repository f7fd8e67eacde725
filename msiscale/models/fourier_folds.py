"""Cross-validation of maps that are not linear: random Fourier features of each fold beside x.

The map of a fold (mean, directions, length) is made of the sums of its training specimens, so that
nothing of the specimens held out reaches it, not even their unlabelled features. Its sums are made
by another reading of all specimens; what follows (modes, penalties and weights by training patients
left out, R² on those held out) is `fit_linear_folds` on them.

Costs n + 1 readings for n folds, and ``(p + N + q)^2`` products a row in each where the linear maps
have one reading of ``(p + q)^2``. A patient is withdrawn from the ridge by subtracting, but
directions that have not seen them take a reading of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.features.layers import Group
from msiscale.models.fold_model import FoldModel
from msiscale.models.folds import Fold
from msiscale.models.fourier import DIRECTIONS, FEATURES, LENGTH, FourierMap
from msiscale.models.groups import scales
from msiscale.models.joint import LinearMap
from msiscale.models.moments import Moments, moments_of_blocks
from msiscale.models.passes import RowBlock, Rows
from msiscale.models.ridge import RidgePath
from msiscale.models.validation import LEAST_SCALE, fit_linear_folds, principal_map

ReadRows = Callable[[], Iterable[tuple[NDArray[Any], NDArray[Any]]]]
SLIDE = "slide"  # the principal axes of the features without Fourier features, in `FoldModel.maps`
DTYPE = (
    np.float64
)  # of sums: smooth features are all but collinear, and float32 products indefinite


def fit_fourier_folds(
    rows: Mapping[str, ReadRows],
    folds: Sequence[Fold],
    patients: Mapping[str, str],
    features: int = FEATURES,
    *,
    directions: int = DIRECTIONS,
    length: float = LENGTH,
    seed: int = 0,
    groups: Sequence[Group] = (),
    least_scale: float = LEAST_SCALE,
    **words: Any,
) -> Iterator[FoldModel]:
    """Fit each fold on the features of the slide and N Fourier features of them.

    Parameters
    ----------
    rows : mapping of specimen to callable
        Gives blocks (x (n, p) features, m (n, q) intensities), float32 or float64, each time that
        it is called: once, and once a fold.
    folds : sequence of Fold
        Over the specimens.
    patients : mapping of specimen to patient
        Left out whole when penalties are chosen.
    features : int
        N.
    directions, length, seed
        See `FourierMap.of`.
    groups : sequence of Group
        Of x; default a single one. The Fourier features are one more: they are scaled to the energy
        of the others and have a penalty of their own.
    least_scale, **words
        See `fit_linear_folds`.

    Yields
    ------
    FoldModel with its `fourier`, in the order of `folds`

    Raises
    ------
    ValueError
        As of `FourierMap.of` and `fit_linear_folds`.
    """
    seen = {s: moments_of_blocks((x, x[:, :0]) for x, _ in read()) for s, read in rows.items()}
    for fold in folds:
        training = Moments.merge(seen[s] for s in fold.train)
        every = groups or [Group("features", training.p)]
        made = FourierMap.of(
            training,
            features,
            directions=directions,
            length=length,
            seed=seed,
            groups=every,
            least_scale=least_scale,
        )
        sums = {s: _sums(made, rows[s]) for s in (*fold.train, *fold.test)}
        (model,) = fit_linear_folds(
            sums,
            [fold],
            patients,
            groups=[*every, group_of(made)],
            least_scale=least_scale,
            **words,
        )
        yield with_fourier(model, made, slide_axes(training, every, least_scale))


def group_of(made: FourierMap) -> Group:
    """The Fourier features as a group of channels."""
    return Group("fourier", made.features)


def slide_axes(training: Moments, groups: Sequence[Group], least_scale: float) -> LinearMap:
    """The principal axes of the slide's features (x of `training`), scaled as for a linear map."""
    return principal_map(
        RidgePath.of(training, scale=scales(training.scale("x"), groups, least_scale))
    )


def with_fourier(model: FoldModel, made: FourierMap, axes: LinearMap) -> FoldModel:
    """A fold that was fitted on sums with Fourier features, with what makes them."""
    return replace(model, fourier=made, maps={**(model.maps or {}), SLIDE: axes})


def labelled(made: FourierMap | None, blocks: Sequence[RowBlock]) -> list[RowBlock]:
    """Rows for `fit_classifiers` of a fold: those of the slide get their Fourier features."""
    if made is None:
        return list(blocks)
    return [replace(block, rows=partial(_beside, made, block.rows)) for block in blocks]


def _sums(made: FourierMap, read: ReadRows) -> Moments:
    return moments_of_blocks(((made.beside(x), m) for x, m in read()), DTYPE)


def _beside(made: FourierMap, rows: Callable[[], Rows] | Rows) -> Rows:
    x, y, w = rows() if callable(rows) else rows
    return made.beside(x), y, w
