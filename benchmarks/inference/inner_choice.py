"""What it matters that the choice of C sees modes that were fitted on what it leaves out.

C of a fold is chosen by leaving out training patients in turn, in the modes (PCA) and predicted
modes (ridge) of all of the fold's training patients. Here both are also fitted anew without the
patients left out: how often C is the same, what the held-out AUC gains, and what it costs.

The spectra of a patient lie in directions of that patient's own, stronger than those of the tissue,
so that the leading modes do depend on who trains.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.common.progress import Progress
from msiscale.models import (
    Fold,
    FoldModel,
    Moments,
    RowBlock,
    fit_classifiers,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.models.classification import COSTS
from msiscale.models.costs import STEPS, TOLERANCE
from msiscale.models.folds import inner_folds
from msiscale.models.joint import Problem, fit_many, heldout_losses
from msiscale.threads import one_blas_thread

SUBJECT = "the choice of C with modes fitted anew without what it leaves out"
MODELS = {"cancer_from_msi": "m", "cancer_from_predicted_msi": "x"}
PIXELS, FEATURES, PEAKS, MODES, TISSUE = 250, 40, 120, 20, 6
OWN = 3.0  # sd of a patient's own directions, against 1 of those of the tissue
Rows = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--inner-cohorts", type=int, default=40)
    parser.add_argument("--inner-patients", type=int, nargs="+", default=[4, 8])
    parser.add_argument(
        "--inner-cost",
        type=int,
        nargs=2,
        default=[1000, 1500],
        metavar=("FEATURES", "PEAKS"),
        help="of the cohort of 8 patients whose CPU is measured",
    )


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Shares, differences of AUC with their 95 % intervals over cohorts, and CPU."""
    found: dict[str, float] = {}
    for n in words.inner_patients:
        numbers = progress.each(range(words.inner_cohorts), f"{n} patients, cohort")
        every = np.array([_cohort(drawn(n, number)) for number in numbers])  # (cohort, model, 2)
        for i, model in enumerate(MODELS):
            same, gain = every[:, i].T
            at = f"{model}.n{n}"
            half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
            found[f"inner_choice.same_c.{at}"] = float(same.mean())
            found[f"inner_choice.auc_gain.{at}"] = float(gain.mean())
            found[f"inner_choice.auc_gain_half_width.{at}"] = float(half)
    progress("CPU of the fits")
    return found | _costs(drawn(8, 0, *words.inner_cost))


def drawn(n: int, seed: int, features: int = FEATURES, peaks: int = PEAKS) -> Rows:
    """Features, spectra and cancer of `n` patients."""
    rng = np.random.default_rng(seed)
    to_features = rng.normal(size=(TISSUE, features))
    to_peaks = rng.normal(size=(TISSUE, peaks)) / np.sqrt(peaks)
    slope = rng.normal(size=TISSUE)
    found: Rows = {}
    for i in range(n):
        hidden = rng.normal(size=(PIXELS, TISSUE))
        own = rng.normal(size=(3, peaks)) / np.sqrt(peaks) * OWN
        x = hidden @ to_features + 3 * rng.normal(size=(PIXELS, features))
        x += rng.normal(size=features)  # the stain
        m = hidden @ to_peaks + rng.normal(size=(PIXELS, 3)) @ own + rng.normal(size=peaks) * 0.1
        m += 0.3 * rng.normal(size=m.shape)
        logit = 1.5 * (hidden @ slope) / np.linalg.norm(slope) - 1 + 0.7 * rng.normal()
        y = (rng.uniform(size=PIXELS) < 1 / (1 + np.exp(-logit))).astype(float)
        found[f"p{i}"] = (x.astype(np.float32), m.astype(np.float32), y)
    return found


def _sums(rows: Rows) -> dict[str, Moments]:
    return {s: Moments.of(x, m) for s, (x, m, _) in rows.items()}


def _blocks(rows: Rows, model: str) -> list[RowBlock]:
    at = 1 if MODELS[model] == "m" else 0
    return [RowBlock(s, (part[at], part[2], None)) for s, part in rows.items()]


def _inner(models: Sequence[FoldModel]) -> list[list[Fold]]:
    """The inner folds of each fold, with names of their own."""
    everyone = {s: s for model in models for s in (*model.fold.train, *model.fold.test)}
    found = []
    for model in models:
        inner, _ = inner_folds(model.fold.train, everyone)
        found.append([Fold(f"{model.fold.name}/{j}", f.train, f.test) for j, f in enumerate(inner)])
    return found


def _cohort(rows: Rows) -> list[tuple[float, float]]:
    """Of each model the share of folds with the same C, and the mean gain in AUC."""
    patients, sums = {s: s for s in rows}, _sums(rows)
    folds = leave_one_group_out(patients)
    models = fit_linear_folds(sums, folds, patients, n_components=MODES)
    inner = _inner(models)
    anew = [
        fit_linear_folds(sums, parts, patients, n_components=MODES, alphas=(model.alpha,))
        for model, parts in zip(models, inner, strict=True)
    ]
    found = []
    for name in MODELS:
        blocks = _blocks(rows, name)
        maps = {name: {m.fold.name: (m.maps or {})[name] for m in models}}
        today = fit_classifiers(blocks, maps, folds, patients)
        same, gain = [], []
        for model, refitted in zip(models, anew, strict=True):
            cost, fold = _chosen(blocks, name, refitted), model.fold
            used = today[name, fold.name]
            same.append(cost == used.C)
            if cost == used.C:
                gain.append(0.0)
                continue
            other = fit_classifiers(blocks, maps, [fold], patients, costs=(cost,))
            x = rows[fold.test[0]][1 if MODELS[name] == "m" else 0]
            y = rows[fold.test[0]][2]
            gain.append(
                roc_auc_score(y, other[name, fold.name].predict(x))
                - roc_auc_score(y, used.predict(x))
            )
        found.append((float(np.mean(same)), float(np.mean(gain))))
    return found


def _chosen(blocks: Sequence[RowBlock], name: str, refitted: Sequence[FoldModel]) -> float:
    """The C with the smallest loss on what each of the refitted models leaves out."""
    problems = [
        Problem((m.maps or {})[name], frozenset(m.fold.train), C=cost)
        for cost in COSTS
        for m in refitted
    ]
    fit = fit_many(blocks, problems, tol=TOLERANCE, max_iter=STEPS, warn=False, dtype=np.float32)
    left_out = [frozenset(m.fold.test) for _ in COSTS for m in refitted]
    loss, weight = (
        v.reshape(len(COSTS), -1).sum(axis=1)
        for v in heldout_losses(blocks, fit.solutions, left_out)
    )
    return float(COSTS[int(np.argmin(loss / weight))])


def _costs(rows: Rows) -> dict[str, float]:
    """CPU of a run's fits, and of the inner modes and maps beside them."""
    patients, sums = {s: s for s in rows}, _sums(rows)
    folds = leave_one_group_out(patients)
    with one_blas_thread():
        began = time.process_time()
        models = fit_linear_folds(sums, folds, patients, n_components=100)
        linear = time.process_time() - began
        for name in MODELS:
            maps = {name: {m.fold.name: (m.maps or {})[name] for m in models}}
            fit_classifiers(_blocks(rows, name), maps, folds, patients)
        whole = time.process_time() - began
        began = time.process_time()
        for model, parts in zip(models, _inner(models), strict=True):
            fit_linear_folds(sums, parts, patients, n_components=100, alphas=(model.alpha,))
        more = time.process_time() - began
    return {
        "inner_choice.cpu_linear_s": linear,
        "inner_choice.cpu_fit_s": whole,
        "inner_choice.cpu_more_s": more,
        "inner_choice.cpu_share": more / whole,
    }
