"""Cross-validation of the classifiers: every fold, every inner fold and every penalty at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats
from msiscale.models.calibration import Calibration
from msiscale.models.costs import Case, Choice, Groups, choose_costs
from msiscale.models.folds import MAX_INNER, Fold, inner_folds
from msiscale.models.joint import Heard, LinearMap, Problem, Solution, fit_many
from msiscale.models.left_out import score_left_out
from msiscale.models.passes import RowBlock
from msiscale.models.rowblocks import Run
from msiscale.saving import Layout, Read, Saved
from msiscale.threads import one_blas_thread

COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CALIBRATION = ("prior", "slope", "intercept", "prevalence", "threshold")  # arrays of `Calibration`
By = Literal["patients", "prior", "none"]


@dataclass(frozen=True, eq=False)
class Classifier(Saved):
    """Probability of cancer of a row, linear on the logit.

    Attributes
    ----------
    model : str, ``cancer_from_msi`` (rows are intensities), ``cancer_from_he`` or
        ``cancer_from_predicted_msi`` (rows are features).
    fold : str
    coef (D, outputs), intercept (outputs,) : float64
        NaN where the training specimens have one class only.
    C : float, inverse penalty.
    C_by : str, how it was chosen: leaving out training "patients", "specimens" or "blocks";
        "given";
        "default" (one training specimen, or too few with both classes: the middle of the costs).
    class_weight (classes,), objective, grad_norm, n_iter, converged : see `Solution`.
    calibration : Calibration, what makes probabilities of its linear predictor.
    """

    layout = Layout(
        "classifier",
        "classifier",
        {"coef": ("variable", "output"), "intercept": ("output",), "class_weight": ("class",)}
        | {f"calibration_{name}": ("output",) for name in CALIBRATION},
        ("model", "fold", "C", "C_by", "objective", "grad_norm", "n_iter", "converged"),
    )

    model: str
    fold: str
    coef: Floats
    intercept: Floats
    C: float
    C_by: str
    class_weight: Floats
    objective: float
    grad_norm: float
    n_iter: int
    converged: bool
    calibration: Calibration

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Its own arrays and facts, and beside them those of the calibration."""
        of = self.calibration
        arrays = {name: getattr(self, name) for name in ("coef", "intercept", "class_weight")}
        arrays |= {f"calibration_{name}": getattr(of, name) for name in CALIBRATION}
        facts = {name: getattr(self, name) for name in self.layout.facts}
        return arrays, facts | {"calibration_by": of.by, "threshold_chosen": of.chosen}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> Classifier:
        """The classifier again, with its calibration."""
        of: dict[str, Any] = {name: read(f"calibration_{name}") for name in CALIBRATION}
        of |= {"by": attrs["calibration_by"], "chosen": attrs["threshold_chosen"]}
        found: dict[str, Any] = {name: attrs[name] for name in cls.layout.facts}
        found |= {name: read(name) for name in ("coef", "intercept", "class_weight")}
        return cls(**found, calibration=Calibration(**of))

    @property
    def threshold(self) -> float:
        """The probability of cancer from which on to call a pixel."""
        return float(self.calibration.threshold[-1])

    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of cancer.

        Parameters
        ----------
        x : (n, D) float32 or float64
            Intensities or features, as `model` says.

        Returns
        -------
        (n,) float32, or (n, classes) of more than two classes
        """
        with one_blas_thread():
            eta = (x @ self.coef.astype(x.dtype)).astype(np.float64) + self.intercept
        p = self.calibration.probabilities(eta).astype(np.float32)
        return p[:, 1] if eta.shape[1] == 1 else p


def fit_classifiers(
    blocks: Sequence[RowBlock],
    maps: Mapping[str, Mapping[str, LinearMap]],
    folds: Sequence[Fold],
    patients: Mapping[str, str],
    *,
    costs: Sequence[float] = COSTS,
    given: Mapping[str, Classifier] | None = None,
    members: Mapping[str, Sequence[str]] | None = None,
    inner: Mapping[str, Sequence[Fold]] | None = None,
    people: Mapping[str, str] | None = None,
    calibrate: By = "patients",
    balanced: bool = True,
    max_inner: int = MAX_INNER,
    tol: float = 1e-6,
    max_iter: int = 200,
    run: Run | None = None,
    heard: Heard | None = None,
) -> dict[tuple[str, str], Classifier]:
    """Fit every model of every fold together, each with the C that its training specimens choose.

    Parameters
    ----------
    blocks : sequence of RowBlock
        Labelled rows; `group` is the specimen. All models here see the same rows (call once with
        intensities, once with features).
    maps : mapping of model to mapping of fold name to LinearMap
        Such as ``{"cancer_from_he": {m.fold.name: m.maps["cancer_from_he"] for m in models}}``.
    folds : sequence of Fold
        Those of `maps`.
    patients : mapping of specimen to patient
        To be left out whole.
    costs : sequence of float
        C to choose from, by the log-loss (class-weighted as in the fit) of the parts of the
        training specimens left out in turn.
    given : mapping of model to Classifier, optional
        Whose C, slope, intercept and threshold to take: nothing is chosen then.
    members : mapping of specimen to groups of `blocks`, optional
        Where the groups are smaller parts of a specimen than all of it.
    inner : mapping of fold name to sequence of Fold, optional
        Over these groups: what to leave out in turn when C is chosen, for folds of which
        `inner_groups` would leave out too little.
    people : mapping of specimen to patient, optional
        Whose pixels count as one patient's when probabilities are calibrated; default `patients`.
    calibrate : "patients", "prior" or "none"
        What makes probabilities of the fits: the class weights undone, and slope, intercept and
        threshold by the patients that the inner fits left out; the class weights alone; nothing.
    balanced : bool
        Class weights from the training labels.
    max_inner : int
        Inner folds at most.
    tol, max_iter : float, int
        See `fit_many`.
    run : callable, optional
        Computes a list of picklable tasks in order.
    heard : callable, optional
        Told after every pass how far it is, see `fit_many`.

    Returns
    -------
    dict of (model, fold name) to Classifier
    """

    def groups(specimens: Sequence[str]) -> Groups:
        return frozenset(g for s in specimens for g in (members[s] if members else (s,)))

    names, cases = [], []
    for model, by_fold in maps.items():
        for fold in folds:
            problem = Problem(by_fold[fold.name], groups(fold.train), balanced=balanced)
            blocks_of = (inner or {}).get(fold.name)
            parts: list[tuple[Groups, Groups]]
            if blocks_of is not None:
                kind = "blocks"
                parts = [(frozenset(f.train), frozenset(f.test)) for f in blocks_of]
            else:
                found, kind = inner_folds(fold.train, patients, max_inner)
                parts = [(groups(f.train), groups(f.test)) for f in found]
            names.append((model, fold.name))
            cases.append(Case(problem, parts, kind))
    choices: list[Choice]
    wanted = calibrate == "patients" and given is None
    if given is not None:
        choices = [Choice(given[model].C, "given") for model, _ in names]
    else:
        choices = choose_costs(blocks, cases, costs, needed=wanted, run=run, heard=heard)
    problems = [
        replace(case.problem, C=choice.C, start=choice.start)
        for case, choice in zip(cases, choices, strict=True)
    ]
    fit = fit_many(
        blocks, problems, tol=tol, max_iter=max_iter, dtype=np.float32, run=run, heard=heard
    )
    priors = [_prior(s, calibrate) for s in fit.solutions]
    if wanted:
        owners: dict[Hashable, Hashable] = {
            g: p for s, p in (people or patients).items() for g in groups([s])
        }
        left_out = score_left_out(blocks, [c.inner for c in choices], owners, run=run)
        by_few = [case.kind != "patients" for case in cases]
        calibrations = [
            one.calibrated(prior, threshold_only=few)
            for one, prior, few in zip(left_out, priors, by_few, strict=True)
        ]
    elif given is not None and calibrate == "patients":
        calibrations = [
            prior.like(given[model].calibration)
            for (model, _), prior in zip(names, priors, strict=True)
        ]
    else:
        calibrations = priors
    return {
        (model, fold): Classifier(
            model,
            fold,
            s.coef,
            s.intercept,
            choice.C,
            choice.by,
            *(s.class_weight, s.objective, s.grad_norm, s.n_iter, s.converged),
            calibration,
        )
        for (model, fold), choice, s, calibration in zip(
            names, choices, fit.solutions, calibrations, strict=True
        )
    }


def _prior(solution: Solution, calibrate: By) -> Calibration:
    """What a fit says of probabilities by itself."""
    if calibrate == "none":
        return Calibration.none(len(solution.intercept))
    return Calibration.of_prior(solution.class_weight, solution.prevalence)
