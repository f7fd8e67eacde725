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

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msiscale.features.layers import Group
from msiscale.grid import Floats
from msiscale.models.fold_model import Basis, FoldModel, Scored, columns_of
from msiscale.models.fold_records import background_means, mask_records, spectrum_records
from msiscale.models.fold_store import FoldStore, StoredFolds
from msiscale.models.folds import MAX_INNER, Fold, inner_groups
from msiscale.models.groups import choose_weights, scales
from msiscale.models.joint import LinearMap
from msiscale.models.leaving_out import Others, Plan, gathered
from msiscale.models.moments import Moments, leave_one_out, reciprocal
from msiscale.models.r2 import R2, r2_from_moments
from msiscale.models.ridge import ALPHAS, LEAST_ALPHA, RidgePath, refined
from msiscale.models.rowblocks import Run
from msiscale.models.spread import Spread
from msiscale.threads import one_blas_thread

Columns = Callable[[tuple[str, ...]], NDArray[np.bool_]]
Facts = dict[str, int]
Pairs = list[tuple[Moments, Moments]]  # of a part: those to train on, those to try it on

LEAST_SCALE = 0.5  # of a channel, see `groups.scales`: networks have nearly dead ones


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
    least_scale: float = LEAST_SCALE,
    run: Run | None = None,
    store: FoldStore | None = None,
    heard: Callable[[Facts], None] = lambda facts: None,
) -> Sequence[FoldModel]:
    """For every fold: m/z columns, PCA of MSI, ridge features -> modes, R² on what is held out.

    Parameters
    ----------
    sums : mapping of specimen to Moments
        Over tissue pixels; x = features (p), m = MSI intensities (q). Asked for one at a time; of
        folds that leave out a patient each at most three times (four where several go together),
        with sums made on the way that are asked for as often (`msiscale.models.leaving_out`, which
        says what memory that takes).
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
    least_scale : float
        See `groups.scales`. With 0 every feature, and for the classifiers every predicted mode, is
        divided by its own standard deviation in training.
    run : callable, optional
        Computes a list of picklable tasks, in order; then `sums` and `inner_sums` are picklable,
        and there is a `store`.
    store : FoldStore, optional
        Keeps what is made: the client holds no sums and no fold, and what is there of a fit that
        was stopped is not made again. Default in memory.
    heard : callable
        Takes what a task says when it is done: how many ``folds`` it fitted, and ``loads``, the
        sums that it read.

    Returns
    -------
    sequence of FoldModel, in the order of `folds`; those of a `store` are read when asked for

    Raises
    ------
    ValueError
        `columns` chooses no m/z, or is not of the sums' length; nothing can be left out to choose
        among several penalties.
    """
    compute = run or _here
    given = None if like is None else Given(like.alpha, like.colour_alpha, tuple(like.weights))
    penalties = tuple(map(float, alphas))
    rules = Rules(n_components, penalties, tuple(groups), colours, given, least_scale)
    if shared_pca and bases is None:
        everyone = tuple(sums)
        mask = None if columns is None else columns(everyone)
        task = partial(_whole_basis, sums, everyone, mask, n_components)
        for shared in compute([task]):
            bases = {fold.name: shared for fold in folds}
    plan = Plan.of(folds, patients, partial(_bytes_of, sums))
    known = background or {}
    means = background_means(known, folds)
    asked = []
    for i, (fold, mean) in enumerate(zip(folds, means, strict=True)):
        blocks = (inner or {}).get(fold.name)
        alone = plan is None and blocks is None
        parts, kind = inner_groups(fold.train, patients) if alone else ([], "patients")
        basis = None if bases is None else bases[fold.name]
        used = None if columns is None or basis is not None else columns(fold.train)
        off = {s: known[s] for s in fold.test if s in known}
        kind = kind if blocks is None else "blocks"
        asked.append(Asked(f"{i:04d}", fold, used, basis, off, mean, parts, kind, blocks))
    models: MutableMapping[str, FoldModel] = {} if store is None else store.models
    others = None if plan is None else Others(sums, plan, {} if store is None else store.sums)
    fitting = Fitting(sums, inner_sums or sums, rules, models, others)
    for step in fitting.steps(asked):
        for facts in compute(step):
            heard(facts)
    return [models[a.name] for a in asked] if store is None else StoredFolds(store, folds)


def _here(tasks: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    return (task() for task in tasks)


def _whole_basis(
    sums: Mapping[str, Moments],
    everyone: tuple[str, ...],
    columns: NDArray[np.bool_] | None,
    most: int,
) -> Basis:
    return Basis.exact(Moments.merge(sums[s] for s in everyone), everyone, columns, most)


def _bytes_of(sums: Mapping[str, Moments], name: str) -> int:
    """Bytes that the sums of a specimen take in memory."""
    known = getattr(sums, "bytes_of", None)  # of stored ones, which need not be read for that
    if known is not None:
        return int(known(name))
    part = sums[name]
    return part.sxx.nbytes + part.sxm.nbytes + part.smm.nbytes


class Given(NamedTuple):
    """Penalties and weights that are taken as they are."""

    alpha: float
    colour_alpha: float
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Rules:
    """What every fold is fitted by."""

    n_components: int
    alphas: tuple[float, ...]
    groups: tuple[Group, ...]
    colours: int
    given: Given | None
    least_scale: float = LEAST_SCALE

    @property
    def choose(self) -> bool:
        """Whether a penalty is chosen."""
        return self.given is None and len(self.alphas) > 1


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked for of one fold: all that is its own, small enough to be sent.

    Attributes
    ----------
    name : of its model
    fold : Fold
    columns : (q,) bool, the m/z that its training specimens support; default those that vary
    basis : in the place of the exact PCA
    off : background of the specimens held out, of those that have any
    training_off : mean of the background in training
    groups : training specimens by inner group, where no `Others` know them
    kind : what is left out to choose a penalty
    inner : folds over blocks in the place of the groups
    """

    name: str
    fold: Fold
    columns: NDArray[np.bool_] | None
    basis: Basis | None
    off: Mapping[str, Spread]
    training_off: Floats | None
    groups: Sequence[tuple[str, ...]]
    kind: str
    inner: Sequence[Fold] | None


@dataclass(frozen=True, eq=False)
class Fitting:
    """The tasks of a fit; each skips what is there already.

    Memory of a task that fits: the sums as of `leaving_out`, or without `Others` one sum a group
    and two more (with inner blocks two projected ones a block); some 20 matrices (p, p).
    """

    sums: Mapping[str, Moments]
    blocks: Mapping[str, Moments]
    rules: Rules
    models: MutableMapping[str, FoldModel]
    others: Others | None

    def steps(self, asked: Sequence[Asked]) -> Iterator[list[Callable[[], Facts]]]:
        """Lists of tasks; those of a list need all of the lists before."""
        if self.others is None:
            yield [partial(self.fit_one, one) for one in asked]
            return
        plan = self.others.plan
        if not plan.direct:
            yield [partial(self._counted, "sum_block", b) for b in range(len(plan.blocks))]
            yield [partial(self._counted, "sum_outside", g) for g in range(MAX_INNER)]
        yield [
            partial(self.fit_block, b, {place: asked[plan.places[place]] for place in places})
            for b, places in enumerate(plan.blocks)
        ]

    def fit_block(self, block: int, asked: Mapping[int, Asked]) -> Facts:
        """Fit the folds of a block, by place; each is stored as soon as it is fitted."""
        assert self.others is not None
        began = self._loads
        wanted = [place for place, one in asked.items() if one.name not in self.models]
        if wanted:
            for place, parts, groups in self.others.of_block(block, wanted):
                one = asked[place]
                held = zip(one.fold.test, parts, strict=True)
                mine = [groups[g] for g in sorted(groups)]
                self.models[one.name] = self._fitted(one, mine, held)
        return {"folds": len(asked), "loads": self._loads - began}

    def fit_one(self, asked: Asked) -> Facts:
        """Fit a fold by reading all of its training specimens."""
        began, fold = self._loads, asked.fold
        if asked.name not in self.models:
            groups = gathered(self.sums, asked.groups or [fold.train])
            held = ((s, self.sums[s]) for s in fold.test)
            found = [part for part in groups if part is not None]
            self.models[asked.name] = self._fitted(asked, found, held)
        return {"folds": 1, "loads": self._loads - began}

    def _counted(self, step: str, which: int) -> Facts:
        began = self._loads
        getattr(self.others, step)(which)
        return {"folds": 0, "loads": self._loads - began}

    @property
    def _loads(self) -> int:
        stores = [self.sums, *([] if self.blocks is self.sums else [self.blocks])]
        stores += [] if self.others is None else [self.others.made]
        return sum(getattr(store, "loads", 0) for store in stores)

    def _fitted(
        self, asked: Asked, groups: Sequence[Moments], held: Iterable[tuple[str, Moments]]
    ) -> FoldModel:
        training = Moments.merge(groups)
        basis = asked.basis or Basis.exact(
            training, asked.fold.train, asked.columns, self.rules.n_components
        )
        pairs: Pairs = []
        if self.rules.choose:
            if len(groups if asked.inner is None else asked.inner) < 2:
                raise ValueError("no part of the only specimen can be left out to choose a penalty")
            blocks = asked.inner
            pairs = of_groups(groups, basis) if blocks is None else self._of_blocks(blocks, basis)
        return fit_fold(asked, self.rules, basis, training, pairs, held)

    def _of_blocks(self, folds: Sequence[Fold], basis: Basis) -> Pairs:
        parts = [*(fold.train for fold in folds), *(fold.test for fold in folds)]
        found = gathered(self.blocks, parts, partial(_scores, basis))
        return [
            (t, h)
            for t, h in zip(found[: len(folds)], found[len(folds) :], strict=True)
            if t is not None and h is not None and t.n > 0 and h.n > 0
        ]


def of_groups(groups: Sequence[Moments], basis: Basis) -> Pairs:
    """What a penalty is chosen by: each group held out from the others, in the modes of a basis."""
    held = [_scores(basis, group) for group in groups]
    both = zip(leave_one_out(held), held, strict=True)
    return [(t, h) for t, h in both if t.n > 0 and h.n > 0]


def _scores(basis: Basis, part: Moments) -> Moments:
    """Sums of modes in the place of intensities."""
    with one_blas_thread():
        return basis.scores(part)


def fit_fold(
    asked: Asked,
    rules: Rules,
    basis: Basis,
    training: Moments,
    pairs: Pairs,
    held: Iterable[tuple[str, Moments]],
) -> FoldModel:
    """Fit one fold.

    Parameters
    ----------
    asked : Asked
        What is its own.
    rules : Rules
        What it shares with others.
    basis : Basis
        Its modes.
    training : Moments
        Of all its training specimens.
    pairs : list of (Moments, Moments)
        What the penalty is chosen by, in the modes of `basis`: training and held-out sums.
    held : iterable of (str, Moments)
        The specimens held out.

    Returns
    -------
    FoldModel
    """
    fold, used = asked.fold, basis.columns
    chosen = training.select(m=used)
    modes = chosen.project(basis.components, basis.mean)
    features, colours = columns_of(modes.p, rules.colours)
    of_features = _Map.of(modes, pairs, features, rules, rules.groups)
    of_colours = _Map.of(modes, pairs, colours, rules, ()) if rules.colours else None
    ratio = basis.explained_variance_ratio
    scored = Scored(fold, ratio, of_features.edge)
    for specimen, everything in held:
        part = _scores(basis, everything)
        r2 = scored.scores[specimen] = of_features.r2(part, modes.mean_m)
        if of_colours is not None:
            scored.colour_scores[specimen] = of_colours.r2(part, modes.mean_m)
        some = everything.select(m=used)
        scored.spectra.extend(spectrum_records(fold.name, specimen, r2, some, chosen))
        tissue, off = Spread.of_moments(everything, "m"), asked.off.get(specimen)
        means = training.mean_m, asked.training_off
        scored.spectra.extend(mask_records(fold.name, specimen, tissue, off, used, *means))
    components, mean = np.zeros((len(basis.components), training.q)), np.zeros(training.q)
    components[:, used], mean[used] = basis.components, basis.mean
    none = np.zeros((len(components), 0)), np.zeros(len(components))
    return FoldModel(
        fold,
        used,
        mean,
        components,
        basis.explained_variance,
        ratio,
        of_features.coef,
        of_features.intercept,
        *(none if of_colours is None else (of_colours.coef, of_colours.intercept)),
        of_features.alpha,
        asked.kind if rules.choose else "given",
        of_features.edge,
        [*of_features.weights],
        of_features.alpha if of_colours is None else of_colours.alpha,
        of_features.path.rank,
        maps=_maps(of_features, of_colours, modes, components, mean, rules.least_scale > 0),
        scored=scored,
    )


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
        rules: Rules,
        groups: Sequence[Group],
    ) -> _Map:
        """Choose penalty and weights by the held-out `parts`, then fit all of `modes`."""
        some = np.arange(modes.p)[columns]
        mine = modes.select(x=some)
        inner = [(t.select(x=some), h.select(x=some)) for t, h in parts]

        def path(sums: Moments, weights: Sequence[float] = ()) -> RidgePath:
            divisors = scales(sums.scale("x"), groups, rules.least_scale, weights)
            return RidgePath.of(sums, scale=divisors)

        def chosen(weights: Sequence[float] = ()) -> tuple[float, str]:
            curves = [path(training, weights).against(heldout) for training, heldout in inner]
            return refined(curves, rules.alphas)

        weights: tuple[float, ...] = (1.0,) * max(len(groups), 1)
        alpha, edge = chosen() if inner else (float(rules.alphas[0]), "")
        if rules.given is not None:
            alpha = rules.given.colour_alpha if columns.start else rules.given.alpha
            weights = rules.given.weights if groups else weights
        if inner and sum(group.used for group in groups) > 1:
            weights = choose_weights(inner, groups, rules.least_scale, max(alpha, LEAST_ALPHA))
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
    fitted: _Map,
    colours: _Map | None,
    modes: Moments,
    components: Floats,
    mean: Floats,
    measured_units: bool,
) -> dict[str, LinearMap]:
    """What classifiers see; predicted modes in units of the measured ones, or of their own."""
    path = fitted.path
    sd = np.sqrt(np.diag(modes.smm) / modes.n)
    inverse = reciprocal(sd)
    from_msi = components.T * inverse
    seen = principal_map(path)
    axes = seen.matrix
    k = min(len(sd), path.rank)  # as many modes of H&E as there are of MSI
    last = slice(len(path.values) - k, None)
    strongest = axes[:, last] * reciprocal(np.sqrt(path.values[last]))
    mean_x, features = path.sums.mean_x, modes.select(x=np.arange(modes.p)[fitted.columns])
    maps = {
        "cancer_from_msi": LinearMap(from_msi, -(mean @ from_msi), np.ones(len(sd))),
        "cancer_from_he": seen,
        "cancer_from_he_modes": LinearMap(strongest, -(mean_x @ strongest), np.ones(k)),
        "cancer_from_predicted_msi": LinearMap.standardised(
            features, fitted.coef.T, sd if measured_units else None
        ),
    }
    if colours is not None:
        maps["cancer_from_colour"] = principal_map(colours.path)
    return maps


def principal_map(path: RidgePath) -> LinearMap:
    """All principal axes of the scaled variables of a path, variances ascending."""
    axes = reciprocal(path.scale)[:, None] * path.vectors
    return LinearMap(axes, -(path.sums.mean_x @ axes), path.values)
