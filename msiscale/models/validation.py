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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats
from msiscale.models.joint import LinearMap
from msiscale.models.metrics import Record, tidy
from msiscale.models.moments import Moments, leave_one_out, reciprocal
from msiscale.models.pca import PCA
from msiscale.models.ridge import ALPHAS, R2, RidgePath, choose, heldout_losses, r2_from_moments
from msiscale.models.spread import Spread
from msiscale.saving import Layout, Read, Saved
from msiscale.threads import one_blas_thread

Columns = Callable[[tuple[str, ...]], NDArray[np.bool_]]

MODEL = "msi_from_he"
MAX_INNER = 5
LEAST_SCALE = 0.5  # of a channel, see `RidgePath.of`: networks have nearly dead ones


@dataclass(frozen=True)
class Fold:
    """Specimens to train on and specimens held out, both in the order of the cohort."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def leave_one_group_out(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient, whose specimens are held out together.

    Parameters
    ----------
    patients : mapping of specimen to patient
        In the order of the cohort.

    Returns
    -------
    list of Fold, in the order in which patients first appear, with their names

    Raises
    ------
    ValueError
        Fewer than two patients.
    """
    names = list(dict.fromkeys(patients.values()))
    if len(names) < 2:
        raise ValueError(
            f"cross-validation leaves out whole patients and there is {len(names)}: add specimens"
            " of a second patient, or give the column 'patient' if they are already there"
        )
    return [
        Fold(
            name,
            train=tuple(s for s, p in patients.items() if p != name),
            test=tuple(s for s, p in patients.items() if p == name),
        )
        for name in names
    ]


def final_fold(specimens: Sequence[str]) -> Fold:
    """The fold ``final``: trained on all, nothing held out."""
    return Fold("final", tuple(specimens), ())


def inner_groups(
    train: Sequence[str], patients: Mapping[str, str], most: int = MAX_INNER
) -> tuple[list[tuple[str, ...]], str]:
    """Parts of the training specimens to leave out in turn when a penalty is chosen.

    Returns
    -------
    groups : list of tuples of specimens
        At most `most`; patients stay whole and are dealt out in order. With a single patient, its
        specimens; with a single specimen, none.
    kind : "patients", "specimens" or "none"
    """
    by_patient: dict[str, list[str]] = {}
    for s in train:
        by_patient.setdefault(patients[s], []).append(s)
    units = list(by_patient.values())
    kind = "patients"
    if len(units) < 2:
        units, kind = [[s] for s in train], "specimens"
    if len(units) < 2:
        return [], "none"
    n = min(len(units), most)
    dealt = [{s for unit in units[i::n] for s in unit} for i in range(n)]
    return [tuple(s for s in train if s in group) for group in dealt], kind


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
        How it was chosen: leaving out training "patients" or "specimens", "gcv" (one training
        specimen: generalised cross-validation), or "given" (only one to choose from).
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
        },
        ("alpha", "alpha_by", "rank"),
    )

    fold: Fold
    columns: NDArray[np.bool_]
    mean: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats
    coef: Floats
    intercept: Floats
    alpha: float
    alpha_by: str
    rank: int
    maps: dict[str, LinearMap] | None
    records: list[Record]
    scores: dict[str, R2]

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
        return arrays, fold | facts | {"shape": [*self.coef.shape, len(self.mean)]}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> FoldModel:
        """The model again, its maps, records and scores left empty."""
        sizes = dict(zip(("component", "channel", "mz"), attrs["shape"], strict=True))
        shapes = {n: tuple(sizes[d] for d in dims) for n, dims in cls.layout.arrays.items()}
        found: dict[str, Any] = {name: attrs[name] for name in cls.layout.facts}
        for name, shape in shapes.items():
            found[name] = read(name) if np.prod(shape) else np.zeros(shape)
        return cls(
            fold=Fold(attrs["fold"], tuple(attrs["train"]), tuple(attrs["test"])),
            maps=None,
            records=[],
            scores={},
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
        of the fold's PCA. One penalty serves all modes.
    background : mapping of specimen to Spread, optional
        Of the MSI intensities of measured pixels off the tissue.
    shared_pca : bool
        One PCA and one choice of m/z, of all specimens, for every fold: the study's leak.
    bases : mapping of fold name to Basis, optional
        In the place of the exact PCA (`msiscale.models.incremental`); then `columns`,
        `n_components` and `shared_pca` are not looked at.

    Returns
    -------
    list of FoldModel, in the order of `folds`

    Raises
    ------
    ValueError
        `columns` chooses no m/z, or is not of the sums' length.
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
        models.append(_fit_fold(fold, training, basis, sums, patients, alphas, background or {}))
    return models


def training_sums(sums: Mapping[str, Moments], folds: Sequence[Fold]) -> Iterator[Moments]:
    """Sums of each fold's training specimens, without a trace of the others."""
    # folds that together hold out every specimen once share their partial sums
    held = [f for f in folds if f.test]
    everyone = {s for f in held for s in f.test}
    partition = (
        len(held) > 1
        and sum(len(f.test) for f in held) == len(everyone)
        and all({*f.train} == everyone - {*f.test} for f in held)
    )
    shared = leave_one_out(_HeldOut(sums, held)) if partition else iter(())
    for fold in folds:
        if partition and fold.test:
            yield next(shared)
        else:
            yield Moments.merge(sums[s] for s in fold.train)


class _HeldOut(Sequence[Moments]):
    """The sums that each fold holds out, made when they are asked for."""

    def __init__(self, sums: Mapping[str, Moments], folds: Sequence[Fold]) -> None:
        self.sums, self.folds = sums, folds

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, i: Any) -> Any:
        return Moments.merge(self.sums[s] for s in self.folds[i].test)


def _fit_fold(
    fold: Fold,
    training: Moments,
    basis: Basis,
    sums: Mapping[str, Moments],
    patients: Mapping[str, str],
    alphas: Sequence[float],
    background: Mapping[str, Spread],
) -> FoldModel:
    used = basis.columns

    def in_modes(part: Moments) -> Moments:
        with one_blas_thread():
            return basis.scores(part)

    chosen = training.select(m=used)
    modes = chosen.project(basis.components, basis.mean)
    path = RidgePath.of(modes, least_scale=LEAST_SCALE)
    alpha, alpha_by = _choose_alpha(fold, path, sums, patients, alphas, in_modes)
    coef, intercept = path.coefficients(alpha)
    scores, records = {}, []
    for specimen in fold.test:
        everything = sums[specimen]
        r2 = r2_from_moments(coef, intercept, in_modes(everything), modes.mean_m)
        scores[specimen] = r2
        records += r2_records(fold.name, specimen, r2, basis.explained_variance_ratio)
        heldout = everything.select(m=used)
        records += _spectrum_records(fold.name, specimen, r2, heldout, chosen)
        tissue = Spread.of_moments(everything, "m")
        records += _mask_records(fold, specimen, tissue, background, used, training.mean_m)
    components, mean = np.zeros((len(basis.components), training.q)), np.zeros(training.q)
    components[:, used], mean[used] = basis.components, basis.mean
    return FoldModel(
        fold,
        used,
        mean,
        components,
        basis.explained_variance,
        basis.explained_variance_ratio,
        coef,
        intercept,
        alpha,
        alpha_by,
        path.rank,
        maps=_maps(path, modes, coef, components, mean),
        records=records,
        scores=scores,
    )


def _choose_alpha(
    fold: Fold,
    path: RidgePath,
    sums: Mapping[str, Moments],
    patients: Mapping[str, str],
    alphas: Sequence[float],
    in_modes: Callable[[Moments], Moments],
) -> tuple[float, str]:
    if len(alphas) == 1:
        return float(alphas[0]), "given"
    groups, kind = inner_groups(fold.train, patients)
    if groups:
        parts = [in_modes(Moments.merge(sums[s] for s in group)) for group in groups]
        return choose(heldout_losses(parts, alphas, least_scale=LEAST_SCALE), alphas), kind
    return choose(path.generalised_cross_validation(alphas), alphas), "gcv"


def _maps(
    path: RidgePath, modes: Moments, coef: Floats, components: Floats, mean: Floats
) -> dict[str, LinearMap]:
    sd = np.sqrt(np.diag(modes.smm) / modes.n)
    inverse = reciprocal(sd)
    from_msi = components.T * inverse
    axes = reciprocal(path.scale)[:, None] * path.vectors
    k = min(len(sd), path.rank)  # as many modes of H&E as there are of MSI
    last = slice(len(path.values) - k, None)
    strongest = axes[:, last] * reciprocal(np.sqrt(path.values[last]))
    return {
        "cancer_from_msi": LinearMap(from_msi, -(mean @ from_msi), np.ones(len(sd))),
        "cancer_from_he": LinearMap(axes, -(modes.mean_x @ axes), path.values),
        "cancer_from_he_modes": LinearMap(strongest, -(modes.mean_x @ strongest), np.ones(k)),
        "cancer_from_predicted_msi": LinearMap.standardised(modes, coef.T, sd),
    }


def r2_records(fold: str, specimen: str, r2: R2, ratio: Floats) -> list[Record]:
    """Tidy records of the R² of modes and of all of them.

    Parameters
    ----------
    fold, specimen : str
        For the records.
    r2 : R2
        Its targets are t modes.
    ratio : (t,) float64
        Share of the variance that each mode explains.

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
        for record in tidy(fold, specimen, MODEL, f"mode_{i:03d}", {metric: value})
    ]
    weighted = {
        "r2": r2.weighted,
        "r2_mean_spectrum": r2.baseline_weighted,
        "r2_over_mean_spectrum": r2.over_baseline_weighted,
        "explained_variance_ratio": float(ratio.sum()),
    }
    return found + tidy(fold, specimen, MODEL, "weighted", weighted)


def _spectrum_records(
    fold: str, specimen: str, modes: R2, heldout: Moments, training: Moments
) -> list[Record]:
    """R² over all m/z of the predicted spectrum, and the most that these modes could reach."""
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
    return tidy(fold, specimen, MODEL, "spectrum", values)


def _mean_of(parts: Sequence[Spread]) -> Floats:
    weights = np.array([p.n for p in parts])
    return np.asarray(weights @ np.stack([p.mean for p in parts]) / weights.sum())


def _mask_records(
    fold: Fold,
    specimen: str,
    tissue: Spread,
    background: Mapping[str, Spread],
    mask: NDArray[np.bool_],
    training: Floats,
) -> list[Record]:
    """Squares about the training means of tissue and of background, over all squares."""
    known = [background[s] for s in fold.train if s in background]
    parts, means = [tissue], [training]
    if specimen in background and known:
        parts.append(background[specimen])
        means.append(_mean_of(known))
    rss = sum(p.about(mean)[mask].sum() for p, mean in zip(parts, means, strict=True))
    whole = _mean_of(parts)
    tss = sum(p.about(whole)[mask].sum() for p in parts)
    if tss <= 0:
        return []
    return tidy(fold.name, specimen, MODEL, "spectrum", {"r2_tissue_mask": 1 - rss / tss})
