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
import zarr
from numpy.typing import NDArray

from msiscale import store
from msiscale.models.joint import LinearMap
from msiscale.models.moments import Moments, leave_one_out, reciprocal
from msiscale.models.pca import PCA
from msiscale.models.ridge import ALPHAS, R2, RidgePath, choose, heldout_losses, r2_from_moments
from msiscale.models.spread import Spread
from msiscale.threads import one_blas_thread

Floats = NDArray[np.float64]
Record = dict[str, Any]
Columns = Callable[[tuple[str, ...]], NDArray[np.bool_]]

MODEL = "msi_from_he"
POOLED = "all"
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
        In the order of the cohort; folds are in the order in which patients first appear and have
        their names.

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
class FoldModel:
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
        """Scores (n, k) of measured spectra (n, q)."""
        x = intensity - self.mean.astype(intensity.dtype)
        with one_blas_thread():
            return (x @ self.components.T.astype(x.dtype)).astype(np.float32)

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Scores (n, k) predicted from features (n, p)."""
        with one_blas_thread():
            found = features @ self.coef.T.astype(features.dtype)
        return (found + self.intercept.astype(features.dtype)).astype(np.float32)

    def spectrum(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Spectra (n, q) from scores (n, k); may be below zero."""
        with one_blas_thread():
            found = scores @ self.components.astype(scores.dtype)
        return (found + self.mean.astype(scores.dtype)).astype(np.float32)

    def save(self, group: zarr.Group) -> None:
        """Write the model (not its maps and metrics) into `group`."""
        for name, dims in _ARRAYS.items():
            values = getattr(self, name)
            if values.size:
                store.put(group, name, values, dims)
        group.attrs.update(
            {
                "kind": "fold_model",
                "fold": self.fold.name,
                "train": list(self.fold.train),
                "test": list(self.fold.test),
                "alpha": self.alpha,
                "alpha_by": self.alpha_by,
                "rank": self.rank,
                "shape": [*self.coef.shape, len(self.mean)],
            }
        )

    @classmethod
    def load(cls, group: zarr.Group) -> FoldModel:
        """Read what `save` wrote."""
        a: dict[str, Any] = dict(group.attrs)
        if a.get("kind") != "fold_model":
            raise ValueError(f"{group.path or '/'}: no model of a fold there")
        k, p, q = a["shape"]
        sizes = {"component": k, "channel": p, "mz": q}
        arrays: dict[str, Any] = {
            name: np.asarray(group[name][...])  # type: ignore[index]
            if name in group
            else np.zeros([sizes[d] for d in dims])
            for name, dims in _ARRAYS.items()
        }
        return cls(
            fold=Fold(a["fold"], tuple(a["train"]), tuple(a["test"])),
            alpha=a["alpha"],
            alpha_by=a["alpha_by"],
            rank=a["rank"],
            maps=None,
            records=[],
            scores={},
            **arrays,
        )


_ARRAYS = {
    "columns": ("mz",),
    "mean": ("mz",),
    "components": ("component", "mz"),
    "explained_variance": ("component",),
    "explained_variance_ratio": ("component",),
    "coef": ("component", "channel"),
    "intercept": ("component",),
}


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

    Returns
    -------
    list of FoldModel, in the order of `folds`
    """
    off = dict(background or {})
    shared = None
    if shared_pca:
        everyone = tuple(sums)
        shared = _modes(Moments.merge(sums[s] for s in everyone), everyone, columns, n_components)
    return [
        _fit_fold(fold, training, sums, patients, columns, n_components, alphas, off, shared)
        for fold, training in zip(folds, training_sums(sums, folds), strict=True)
    ]


def training_sums(sums: Mapping[str, Moments], folds: Sequence[Fold]) -> Iterator[Moments]:
    """Sums of each fold's training specimens, without a trace of the others.

    Folds that together hold out every specimen once share their partial sums.
    """
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
    sums: Mapping[str, Moments],
    patients: Mapping[str, str],
    columns: Columns | None,
    n_components: int,
    alphas: Sequence[float],
    background: Mapping[str, Spread],
    shared: tuple[NDArray[np.bool_], PCA] | None,
) -> FoldModel:
    mask, pca = shared or _modes(training, fold.train, columns, n_components)
    chosen = training.select(m=mask)

    def in_modes(part: Moments) -> Moments:
        with one_blas_thread():
            return part.select(m=mask).project(pca.components_, pca.mean_)

    modes = chosen.project(pca.components_, pca.mean_)
    path = RidgePath.of(modes, least_scale=LEAST_SCALE)
    alpha, alpha_by = _choose_alpha(fold, path, sums, patients, alphas, in_modes)
    coef, intercept = path.coefficients(alpha)
    scores, records = {}, []
    for specimen in fold.test:
        everything = sums[specimen]
        spectra = everything.select(m=mask)
        with one_blas_thread():
            heldout = spectra.project(pca.components_, pca.mean_)
        r2 = r2_from_moments(coef, intercept, heldout, modes.mean_m)
        scores[specimen] = r2
        records += r2_records(fold.name, specimen, r2, pca.explained_variance_ratio_)
        records += _spectrum_records(fold.name, specimen, r2, spectra, chosen)
        tissue = Spread.of_moments(everything, "m")
        records += _mask_records(fold, specimen, tissue, background, mask, training.mean_m)
    components = np.zeros((pca.n_components_, training.q))
    components[:, mask] = pca.components_
    mean = np.zeros(training.q)
    mean[mask] = pca.mean_
    return FoldModel(
        fold=fold,
        columns=mask,
        mean=mean,
        components=components,
        explained_variance=pca.explained_variance_,
        explained_variance_ratio=pca.explained_variance_ratio_,
        coef=coef,
        intercept=intercept,
        alpha=alpha,
        alpha_by=alpha_by,
        rank=path.rank,
        maps=_maps(path, modes, coef, components, mean),
        records=records,
        scores=scores,
    )


def _modes(
    training: Moments, specimens: tuple[str, ...], columns: Columns | None, n_components: int
) -> tuple[NDArray[np.bool_], PCA]:
    """The m/z in use, and the PCA of them."""
    mask = training.scale("m") > 0 if columns is None else np.asarray(columns(specimens), bool)
    if mask.shape != (training.q,) or not mask.any():
        raise ValueError(f"{mask.sum()} of {training.q} m/z columns are in use by {specimens}")
    return mask, PCA.from_moments(training.select(m=mask), "m", n_components)


def r2_paths(
    sums: Mapping[str, Moments],
    folds: Sequence[Fold],
    *,
    alphas: Sequence[float] = ALPHAS,
    n_components: int = 200,
) -> list[list[R2]]:
    """R² on the rows that each fold holds out, for every penalty: all from one pass's sums.

    Parameters
    ----------
    sums, folds, alphas, n_components : as for `fit_linear_folds`
        Each fold has its own PCA of m, fitted to its training specimens.

    Returns
    -------
    list over folds of a list over alphas of R2 (targets: modes)
    """
    found = []
    for fold, training in zip(folds, training_sums(sums, folds), strict=True):
        pca = PCA.from_moments(training, "m", n_components)
        with one_blas_thread():
            modes = training.project(pca.components_, pca.mean_)
            heldout = Moments.merge(sums[s] for s in fold.test)
            heldout = heldout.project(pca.components_, pca.mean_)
        losses = RidgePath.of(modes, least_scale=LEAST_SCALE).losses(alphas, heldout)
        tss = np.diag(heldout.smm)
        mean = tss + heldout.n * (heldout.mean_m - modes.mean_m) ** 2
        found.append([R2(heldout.n, rss, tss, mean) for rss in losses])
    return found


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


def _record(fold: str, specimen: str, target: str, metric: str, value: float) -> Record:
    return {
        "fold": fold,
        "specimen": specimen,
        "model": MODEL,
        "target": target,
        "metric": metric,
        "value": float(value),
    }


def r2_records(fold: str, specimen: str, r2: R2, ratio: Floats) -> list[Record]:
    """Tidy records of the R² of modes (t,) and of all of them; `ratio` (t,) is of variance."""
    found = []
    per_target = {
        "r2": r2.per_target,
        "r2_mean_spectrum": r2.baseline_per_target,
        "r2_over_mean_spectrum": r2.over_baseline_per_target,
        "explained_variance_ratio": ratio,
    }
    for metric, values in per_target.items():
        for i, value in enumerate(values):
            found.append(_record(fold, specimen, f"mode_{i:03d}", metric, value))
    weighted = {
        "r2": r2.weighted,
        "r2_mean_spectrum": r2.baseline_weighted,
        "r2_over_mean_spectrum": r2.over_baseline_weighted,
        "explained_variance_ratio": float(ratio.sum()),
    }
    found += [_record(fold, specimen, "weighted", m, v) for m, v in weighted.items()]
    return found


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
    return [_record(fold, specimen, "spectrum", m, v) for m, v in values.items()]


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
    return [_record(fold.name, specimen, "spectrum", "r2_tissue_mask", 1 - rss / tss)]
