"""Whether maps that follow curves tell more of a new patient than linear ones do.

In one world chemistry and cancer are linear in what the slide shows, in the other they are not.
Runs that are there (``--head-runs``) and the real pairs (``--paired``) are sampled; of one patient
blocks of tissue are held out, as far apart as the encoder sees, and that says nothing of another
patient.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.measure import table
from benchmarks.common.phantoms import smooth_field, tissue
from benchmarks.common.progress import Progress
from benchmarks.ions.heads import SIDES, Floats, Rows, Scores, compare
from benchmarks.ions.sampled import pairs, sample
from msiscale.models import leave_one_group_out
from msiscale.models.fourier import FEATURES
from msiscale.models.patient_means import patient_mean

SUBJECT = "Fourier features and boosted trees against linear maps, of new patients"
WORLDS = ("linear", "curved")
METRICS = ("r2", "auc")
PATIENTS = 6
SHAPE, AROUND = (40, 44), 40
FACTORS, CHANNELS, IONS = 5, 40, 60
TOLD = 0.6  # of an ion's variance, by the factors
NOISE = 0.5  # of a channel, in deviations
OWN = 0.3  # sd of a patient's offset of a channel, or of an ion, in deviations
CANCER = 0.3  # of the tissue


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--head-cohorts", type=int, default=10, help="Of each world (default: 10).")
    parser.add_argument("--head-features", type=int, default=FEATURES, help="Fourier features.")
    parser.add_argument("--head-pixels", type=int, default=2000, help="Of a specimen, at most.")
    parser.add_argument("--head-runs", nargs="+", default=[], metavar="RUN", help="With features.")
    parser.add_argument("--paired", metavar="DIR", help="The real pairs (docs/real-data.md).")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Differences in R² of the first modes and in AUC, with 95 % intervals."""
    found: dict[str, float] = {}
    rows = []
    both = []
    for world in WORLDS:
        numbers = progress.each(range(words.head_cohorts), f"heads, {world} world, cohort")
        each = [cohort(world, number, words.head_features) for number in numbers]
        # patients of a cohort share their training: the cohort is what counts for an interval
        means = {side: np.nanmean([one[side] for one in each], axis=1) for side in SIDES}
        both.append(means)
        rows.append(_told(world, means, found))
    rows.append(_told("", {s: np.concatenate([of[s] for of in both]) for s in SIDES}, found))
    for run in _runs(words):
        progress(f"heads, {run.name}")
        of = sample(run, words.head_pixels)
        scores = compare(
            of.parts, of.folds, of.patients, features=words.head_features, groups=of.groups
        )
        rows.append(_told(run.name, scores, found))
    print(table(rows))
    return found


def _runs(words: argparse.Namespace) -> Iterator[Path]:
    """Runs to sample."""
    yield from map(Path, words.head_runs)
    if not words.paired:
        print("heads: without --paired the real pairs are left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from pairs(Path(words.paired), Path(folder))


def cohort(world: str, number: int, features: int) -> Scores:
    """Scores of the patients of one phantom cohort, each held out in turn."""
    rng = np.random.default_rng([13, WORLDS.index(world), number])
    mixing = rng.standard_normal((FACTORS, CHANNELS)) / np.sqrt(FACTORS)
    bends = rng.standard_normal((IONS, FACTORS))
    parts = {f"P{i}": patient(rng, world, mixing, bends) for i in range(PATIENTS)}
    own = {name: name for name in parts}
    return compare(parts, leave_one_group_out(own), own, features=features)


def patient(rng: np.random.Generator, world: str, mixing: Floats, bends: Floats) -> Rows:
    """A patient of a world.

    Parameters
    ----------
    rng
        Of the patient.
    world
        "linear": ions are sums of the factors, and cancer is where the first is large. "curved":
        ions are largest where the factors are at a place of their own, and cancer is where the
        product of the first two is large.
    mixing
        (factor, channel) of the features.
    bends
        (ion, factor) weights, or places.
    """
    held = tissue(rng, SHAPE, AROUND)

    def fields(n: int) -> Floats:
        some = [smooth_field(rng, SHAPE, rng.uniform(1.5, 5), AROUND)[held] for _ in range(n)]
        return np.stack(some, axis=1)

    def offset(n: int) -> Floats:
        return np.asarray(OWN * rng.standard_normal(n))

    z = fields(FACTORS)
    x = z @ mixing + NOISE * rng.standard_normal((len(z), CHANNELS)) + offset(CHANNELS)
    if world == "linear":
        told, level = z @ bends.T, z[:, 0]
    else:
        told = np.exp(-((z[:, None] - bends) ** 2).sum(axis=2) / FACTORS)
        level = z[:, 0] * z[:, 1]
    rest = rng.standard_normal((len(z), IONS))
    m = np.sqrt(TOLD) * told / told.std(axis=0) + np.sqrt(1 - TOLD) * rest + offset(IONS)
    cancer = level > np.quantile(level, 1 - CANCER)
    return Rows(x.astype(np.float32), m.astype(np.float32), cancer.astype(np.float32))


def _told(name: str, scores: Scores, found: dict[str, float]) -> dict[str, Any]:
    """Add the keys of some scores (unit, metric) by side, and make their row of the table."""
    row: dict[str, Any] = {"": name or "both"}
    for i, metric in enumerate(METRICS):
        each = {side: np.asarray(scores[side])[:, i] for side in SIDES}
        if not np.isfinite(each["linear"]).any():  # no annotation
            continue
        key = ".".join(filter(None, ("head", name, f"linear.{metric}")))
        row[f"linear {metric}"] = found[key] = patient_mean(each["linear"]).value
        for side in SIDES[1:]:
            gain = patient_mean(each[side] - each["linear"])
            key = ".".join(filter(None, ("head", name, f"{side}_minus_linear.{metric}")))
            found |= {key: gain.value, f"{key}.low": gain.low, f"{key}.high": gain.high}
            text = f"{gain.value:+.3f} ({gain.low:+.3f}, {gain.high:+.3f})"
            row[f"{metric}: {side} - linear"] = text
    return row
