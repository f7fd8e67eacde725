"""Cross-validation of the linear maps H&E -> MSI modes, from each specimen's sums alone.

Whatever is fitted for a fold (the choice of m/z columns, the PCA, the scale of the features, the
regression and its penalty) is a function of the training specimens' sums, which are merged without
ever touching those of the specimens held out.

Baselines. All sums are over tissue pixels, so a model that knew only the tissue mask would predict
one spectrum, the training tissue's mean, at each of them: on tissue the mask baseline *is* the
mean-spectrum baseline. Where sums of the background are given too, ``r2_tissue_mask`` is what the
mask alone would score over tissue and background together: how far R² flatters when background is
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.features.layers import Group
from msiscale.grid import Floats
from msiscale.models.fold_records import (
    MSI_FROM_COLOUR,
    mask_records,
    r2_records,
    spectrum_records,
)
from msiscale.models.folds import Fold, inner_folds, training_sums
from msiscale.models.groups import choose_weights, scales
from msiscale.models.joint import LinearMap
from msiscale.models.metrics import Record
from msiscale.models.moments import Moments, reciprocal
from msiscale.models.pca import PCA
from msiscale.models.r2 import R2, r2_from_moments
from msiscale.models.ridge import ALPHAS, LEAST_ALPHA, RidgePath, refined
from msiscale.models.spread import Spread
from msiscale.saving import Layout, Read, Saved
from msiscale.threads import one_blas_thread

Columns = Callable[[tuple[str, ...]], NDArray[np.bool_]]

LEAST_SCALE = 0.5  # of a channel, see `groups.scales`: networks have nearly dead ones


@dataclass(frozen=True, eq=False)
class Basis:
    """Modes of the MSI: principal components of the m/z in use.

    Attributes
    ----------
    columns (q,) : bool, the u m/z in use
    mean (u,), components (k, u), explained_variance (k,), explained_variance_ratio (k,) : float64
        Score = (intensity - mean) @ components.T.
    """

    columns: NDArray[np.bool_]
    mean: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats

    @classmethod
    def exact(
        cls, training: Moments, specimens: tuple[str, ...], columns: Columns | None, most: int
    ) -> Basis:
        """Find at most `most` components from the sums of the training specimens."""
        used = training.scale("m") > 0 if columns is None else np.asarray(columns(specimens), bool)
        if used.shape != (training.q,) or not used.any():
            raise ValueError(f"{used.sum()} of {training.q} m/z columns are in use by {specimens}")
        pca = PCA.from_moments(training.select(m=used), "m", most)
        of_variance = (pca.explained_variance_, pca.explained_variance_ratio_)
        return cls(used, pca.mean_, pca.components_, *of_variance)

    def scores(self, part: Moments) -> Moments:
        """Sums of the scores in the place of the intensities."""
        return part.select(m=self.columns).project(self.components, self.mean)


@dataclass(frozen=True, eq=False)
class FoldModel(Saved):
    """PCA of MSI and the map from features to its modes, fitted to the training specimens.

    Attributes
    ----------
    fold : Fold
    columns (q,) : bool, the m/z in use; the others have mean 0 and loadings 0.
    mean (q,), components (k, q), explained_variance (k,), explained_variance_ratio (k,) : float64
        Spectrum = mean + scores @ components.
    coef (k, p), intercept (k,) : float64
        Predicted scores = features @ coef.T + intercept.
    alpha : float, penalty of the map (see `msiscale.models.ridge`).
    alpha_by : str
        How it was chosen: leaving out training "patients", "specimens" or "blocks" of them, or
        "given" (only one to choose from).
    edge : str
        "smallest" or "largest" where it is the last of those to choose from; else "".
    weights : list of float
        Of the groups of features: how much each counts (see `msiscale.models.groups`).
    colour_coef (k, c), colour_intercept (k,), colour_alpha : the same of the colours alone.
    rank : int, of the standardised features in training.
    maps : LinearMap by classifier
        What each of ``cancer_from_msi`` (rows are intensities), ``cancer_from_he``,
        ``cancer_from_he_modes`` (its first modes, as many as there are of MSI: the comparison at
        equal rank) and ``cancer_from_predicted_msi`` (rows are features) sees of a row. Modes are
        in units of their measured standard deviation, predicted ones too: one that H&E hardly
        predicts stays small and the penalty keeps it from passing for chemistry. None after
        `load`.
    records : list of dict
        Tidy metrics on the specimens held out.
    scores : dict of specimen to R2
        What the records were made of (targets: modes).
    """

    layout = Layout(
        "fold_model",
        "model of a fold",
        {
            "columns": ("mz",),
            "mean": ("mz",),
            "components": ("component", "mz"),
            "explained_variance": ("component",),
            "explained_variance_ratio": ("component",),
            "coef": ("component", "channel"),
            "intercept": ("component",),
            "colour_coef": ("component", "density"),
            "colour_intercept": ("component",),
        },
        ("alpha", "alpha_by", "edge", "weights", "colour_alpha", "rank"),
    )

    fold: Fold
    columns: NDArray[np.bool_]
    mean: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats
    coef: Floats
    intercept: Floats
    colour_coef: Floats
    colour_intercept: Floats
    alpha: float
    alpha_by: str
    edge: str
    weights: list[float]
    colour_alpha: float
    rank: int
    maps: dict[str, LinearMap] | None
    records: list[Record]
    scores: dict[str, R2]
    colour_scores: dict[str, R2]

    @property
    def slide_columns(self) -> tuple[slice, slice]:
        """Where features and colours are in x of the sums that it was fitted on."""
        features, colours = self.coef.shape[1], self.colour_coef.shape[1]
        return _columns(features + colours, colours)

    def project(self, intensity: NDArray[Any]) -> NDArray[np.float32]:
        """Scores of measured spectra.

        Parameters
        ----------
        intensity
            (n, q) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        x = intensity - self.mean.astype(intensity.dtype)
        with one_blas_thread():
            return np.asarray(x @ self.components.T.astype(x.dtype), np.float32)

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Scores predicted from features.

        Parameters
        ----------
        features
            (n, p) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        with one_blas_thread():
            found = features @ self.coef.T.astype(features.dtype)
        return np.asarray(found + self.intercept.astype(features.dtype), np.float32)

    def predict_from_colour(self, colour: NDArray[Any]) -> NDArray[np.float32]:
        """Scores predicted from colours alone.

        Parameters
        ----------
        colour
            (n, c) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        found = colour @ self.colour_coef.T.astype(colour.dtype)
        return np.asarray(found + self.colour_intercept.astype(colour.dtype), np.float32)

    def spectrum(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Spectra from scores.

        Parameters
        ----------
        scores
            (n, k) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, q) float32, intensities; may be below zero.
        """
        with one_blas_thread():
            found = scores @ self.components.astype(scores.dtype)
        return np.asarray(found + self.mean.astype(scores.dtype), np.float32)

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The model without its maps and metrics."""
        arrays, facts = super().stored()
        fold = {"fold": self.fold.name, "train": [*self.fold.train], "test": [*self.fold.test]}
        shape = [*self.coef.shape, len(self.mean), self.colour_coef.shape[1]]
        return arrays, fold | facts | {"shape": shape}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> FoldModel:
        """The model again, its maps, records and scores left empty."""
        names = ("component", "channel", "mz", "density")
        sizes = dict(zip(names, attrs["shape"], strict=True))
        shapes = {n: tuple(sizes[d] for d in dims) for n, dims in cls.layout.arrays.items()}
        found: dict[str, Any] = {name: attrs[name] for name in cls.layout.facts}
        for name, shape in shapes.items():
            found[name] = read(name) if np.prod(shape) else np.zeros(shape)
        return cls(
            fold=Fold(attrs["fold"], tuple(attrs["train"]), tuple(attrs["test"])),
            maps=None,
            records=[],
            scores={},
            colour_scores={},
            **found,
        )


def fit_linear_folds(
    sums: Mapping[str, Moments],
    folds: Sequence[Fold],
    patients: Mapping[str, str],
    *,
    columns: Columns | None = None,
    n_components: int = 200,
    alphas: Sequence[float] = ALPHAS,
    background: Mapping[str, Spread] | None = None,
    shared_pca: bool = False,
    bases: Mapping[str, Basis] | None = None,
    groups: Sequence[Group] = (),
    colours: int = 0,
    inner: Mapping[str, Sequence[Fold]] | None = None,
    inner_sums: Mapping[str, Moments] | None = None,
    like: FoldModel | None = None,
) -> list[FoldModel]:
    """For every fold: m/z columns, PCA of MSI, ridge features -> modes, R² on what is held out.

    Parameters
    ----------
    sums : mapping of specimen to Moments
        Over tissue pixels; x = features (p), m = MSI intensities (q). Asked for one at a time, and
        more than once: a mapping that reads them from a store keeps memory at some log2(folds)
        sums.
    folds : sequence of Fold
        May have `final_fold`.
    patients : mapping of specimen to patient
        To be left out whole when a penalty is chosen.
    columns : callable, optional
        Training specimens -> (q,) bool, the m/z that they support; default those that vary.
    n_components : int
        At most; fewer where the training data have fewer.
    alphas : sequence of float
        Penalties (module `ridge`) to choose from: the one with the smallest squared error over
        all modes when parts of the training specimens are left out (`inner_groups`), in the modes
        of the fold's PCA, and then others around it. One penalty serves all modes.
    background : mapping of specimen to Spread, optional
        Of the MSI intensities of measured pixels off the tissue.
    shared_pca : bool
        One PCA and one choice of m/z, of all specimens, for every fold: the study's leak.
    bases : mapping of fold name to Basis, optional
        In the place of the exact PCA (`msiscale.models.incremental`); then `columns`,
        `n_components` and `shared_pca` are not looked at.
    groups : sequence of Group
        Of the features; default a single one.
    colours : int
        How many of x, the last, are no features but the colours of the baseline.
    inner : mapping of fold name to sequence of Fold, optional
        Over `inner_sums`: what to leave out in turn when a fold's penalty is chosen, for folds of
        which `inner_groups` would leave out too little.
    inner_sums : mapping of str to Moments, optional
        Of smaller parts; default `sums`.
    like : FoldModel, optional
        Its penalties and weights are taken; none are chosen.

    Returns
    -------
    list of FoldModel, in the order of `folds`

    Raises
    ------
    ValueError
        `columns` chooses no m/z, or is not of the sums' length; nothing can be left out to choose
        among several penalties.
    """
    shared = None
    if shared_pca and bases is None:
        everyone = tuple(sums)
        whole = Moments.merge(sums[s] for s in everyone)
        shared = Basis.exact(whole, everyone, columns, n_components)
    models = []
    for fold, training in zip(folds, training_sums(sums, folds), strict=True):
        basis = shared if bases is None else bases[fold.name]
        basis = basis or Basis.exact(training, fold.train, columns, n_components)
        found, kind, parts = (inner or {}).get(fold.name), "blocks", inner_sums or sums
        if found is None:
            (found, kind), parts = inner_folds(fold.train, patients), sums
        choice = _Choice(alphas, found, kind, parts, basis, groups, colours, like)
        models.append(_fit_fold(fold, training, sums, choice, background or {}))
    return models


@dataclass(frozen=True, eq=False)
class _Choice:
    """What a fold's maps are chosen by."""

    alphas: Sequence[float]
    inner: Sequence[Fold]
    kind: str
    sums: Mapping[str, Moments]
    basis: Basis
    groups: Sequence[Group]
    colours: int
    like: FoldModel | None

    @property
    def by(self) -> str:
        """How the penalty is chosen."""
        return "given" if self.like is not None or len(self.alphas) == 1 else self.kind

    def scores(self, part: Moments) -> Moments:
        """Sums of modes in the place of intensities."""
        with one_blas_thread():
            return self.basis.scores(part)

    def parts(self) -> list[tuple[Moments, Moments]]:
        """Training and held-out sums of every inner fold."""
        if self.by == "given":
            return []
        if not self.inner:
            raise ValueError("one specimen, of which no part can be left out to choose a penalty")
        held = (Moments.merge(self.sums[s] for s in fold.test) for fold in self.inner)
        training = training_sums(self.sums, self.inner)
        return [
            (self.scores(t), self.scores(h))
            for t, h in zip(training, held, strict=True)
            if t.n > 0 and h.n > 0
        ]


def _fit_fold(
    fold: Fold,
    training: Moments,
    sums: Mapping[str, Moments],
    choice: _Choice,
    background: Mapping[str, Spread],
) -> FoldModel:
    basis = choice.basis
    used = basis.columns
    chosen = training.select(m=used)
    modes = chosen.project(basis.components, basis.mean)
    parts = choice.parts()
    features, colours = _columns(modes.p, choice.colours)
    of_features = _Map.of(modes, parts, features, choice, choice.groups)
    of_colours = _Map.of(modes, parts, colours, choice, ()) if choice.colours else None
    scores, colour_scores, records = {}, {}, []
    for specimen in fold.test:
        everything = sums[specimen]
        heldout = choice.scores(everything)
        r2 = scores[specimen] = of_features.r2(heldout, modes.mean_m)
        ratio = basis.explained_variance_ratio
        records += r2_records(fold.name, specimen, r2, ratio)
        if of_colours is not None:
            alone = colour_scores[specimen] = of_colours.r2(heldout, modes.mean_m)
            records += r2_records(fold.name, specimen, alone, ratio, MSI_FROM_COLOUR)
        records += spectrum_records(fold.name, specimen, r2, everything.select(m=used), chosen)
        tissue = Spread.of_moments(everything, "m")
        records += mask_records(fold, specimen, tissue, background, used, training.mean_m)
    components, mean = np.zeros((len(basis.components), training.q)), np.zeros(training.q)
    components[:, used], mean[used] = basis.components, basis.mean
    none = np.zeros((len(components), 0)), np.zeros(len(components))
    return FoldModel(
        fold,
        used,
        mean,
        components,
        basis.explained_variance,
        basis.explained_variance_ratio,
        of_features.coef,
        of_features.intercept,
        *(none if of_colours is None else (of_colours.coef, of_colours.intercept)),
        of_features.alpha,
        choice.by,
        of_features.edge,
        [*of_features.weights],
        of_features.alpha if of_colours is None else of_colours.alpha,
        of_features.path.rank,
        maps=_maps(of_features, of_colours, modes, components, mean),
        records=records,
        scores=scores,
        colour_scores=colour_scores,
    )


def _columns(p: int, colours: int) -> tuple[slice, slice]:
    return slice(0, p - colours), slice(p - colours, p)


@dataclass(frozen=True, eq=False)
class _Map:
    """A ridge regression of modes on some of x.

    `path` is at equal weights: classifiers, too, see the features so.
    """

    columns: slice
    path: RidgePath
    coef: Floats
    intercept: Floats
    alpha: float
    edge: str
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls,
        modes: Moments,
        parts: Sequence[tuple[Moments, Moments]],
        columns: slice,
        choice: _Choice,
        groups: Sequence[Group],
    ) -> _Map:
        """Choose penalty and weights by the held-out `parts`, then fit all of `modes`."""
        some = np.arange(modes.p)[columns]
        mine = modes.select(x=some)
        inner = [(t.select(x=some), h.select(x=some)) for t, h in parts]

        def path(sums: Moments, weights: Sequence[float] = ()) -> RidgePath:
            return RidgePath.of(sums, scale=scales(sums.scale("x"), groups, LEAST_SCALE, weights))

        def chosen(weights: Sequence[float] = ()) -> tuple[float, str]:
            curves = [path(training, weights).against(heldout) for training, heldout in inner]
            return refined(curves, choice.alphas)

        weights: tuple[float, ...] = (1.0,) * max(len(groups), 1)
        alpha, edge = chosen() if inner else (float(choice.alphas[0]), "")
        if choice.like is not None:
            known = choice.like
            alpha = known.colour_alpha if columns.start else known.alpha
            weights = tuple(known.weights) if groups else weights
        if inner and sum(group.used for group in groups) > 1:
            weights = choose_weights(inner, groups, LEAST_SCALE, max(alpha, LEAST_ALPHA))
            if set(weights) != {1.0}:
                alpha, edge = chosen(weights)
        equal = path(mine)
        fitted = equal if set(weights) == {1.0} else path(mine, weights)
        return cls(columns, equal, *fitted.coefficients(alpha), alpha, edge, weights)

    def r2(self, heldout: Moments, train_mean: Floats) -> R2:
        """R² on held-out rows, of the modes."""
        some = heldout.select(x=np.arange(heldout.p)[self.columns])
        return r2_from_moments(self.coef, self.intercept, some, train_mean)


def _maps(
    fitted: _Map, colours: _Map | None, modes: Moments, components: Floats, mean: Floats
) -> dict[str, LinearMap]:
    path = fitted.path
    sd = np.sqrt(np.diag(modes.smm) / modes.n)
    inverse = reciprocal(sd)
    from_msi = components.T * inverse
    axes = reciprocal(path.scale)[:, None] * path.vectors
    k = min(len(sd), path.rank)  # as many modes of H&E as there are of MSI
    last = slice(len(path.values) - k, None)
    strongest = axes[:, last] * reciprocal(np.sqrt(path.values[last]))
    mean_x, features = path.sums.mean_x, modes.select(x=np.arange(modes.p)[fitted.columns])
    maps = {
        "cancer_from_msi": LinearMap(from_msi, -(mean @ from_msi), np.ones(len(sd))),
        "cancer_from_he": LinearMap(axes, -(mean_x @ axes), path.values),
        "cancer_from_he_modes": LinearMap(strongest, -(mean_x @ strongest), np.ones(k)),
        "cancer_from_predicted_msi": LinearMap.standardised(features, fitted.coef.T, sd),
    }
    if colours is not None:
        own = colours.path
        axes = reciprocal(own.scale)[:, None] * own.vectors
        maps["cancer_from_colour"] = LinearMap(axes, -(own.sums.mean_x @ axes), own.values)
    return maps
