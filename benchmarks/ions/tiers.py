"""Tiers of ions against what the slide of a phantom tells."""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.common.progress import Progress
from benchmarks.ions.phantoms import CHANNELS, fitted, patient, predicted
from msiscale.biomarkers.readable import RATE
from msiscale.pipeline.ion_sums import image_sums
from msiscale.pipeline.ions import OfSpecimen, scores

SUBJECT = "tiers of ions against what the slide tells of them"
COHORT = 6  # patients of the headline
SIZES = (3, COHORT, 10)
SHARES = {"A": (0.6, 0.9), "B": (0.1, 0.25), "C": (0.0, 0.0)}  # of the variance, told by the slide
DIFFER = 0.2
COMPONENTS = 60


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--tier-cohorts", type=int, default=10)
    parser.add_argument("--tier-ions", type=int, default=30, help="ions of each tier")


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Share of ions that are given their tier, and of tests that mislead, by patients."""
    found: dict[str, float] = {}
    truth = [tier for tier in SHARES for _ in range(words.tier_ions)]
    for n in SIZES:
        seen: Counter[tuple[str, str]] = Counter()
        false, below = 0.0, 0.0
        for number in progress.each(range(words.tier_cohorts), f"tiers, {n} patients, cohort"):
            table = cohort(n, number, words.tier_ions)
            seen.update(zip(truth, table["tier"], strict=True))
            untold, known = np.array(truth) == "C", table["q"] <= RATE
            false += (known & untold).sum() / max(int(known.sum()), 1)
            below += float((table["p"][untold] <= RATE).mean())
        each = words.tier_cohorts * words.tier_ions
        own = {
            "tier_accuracy": sum(seen[t, t] for t in SHARES) / (each * len(SHARES)),
            "false_a": seen["C", "A"] / each,
            "false_discovery_proportion": false / words.tier_cohorts,
            "null_p_below_0.05": below / words.tier_cohorts,
        }
        found |= {f"ions.{name}.n{n}": value for name, value in own.items()}
        if n == COHORT:
            found |= {f"ions.{name}": value for name, value in own.items()}
            for a, b in product(SHARES, SHARES):
                found[f"ions.tier.{a}_called_{b}"] = seen[a, b] / each
    return found


def cohort(n: int, number: int, ions: int) -> pd.DataFrame:
    """The rows of ``ions.csv`` of one phantom cohort of n patients."""
    rng = np.random.default_rng([18, n, number])
    share = np.concatenate([rng.uniform(*SHARES[t], ions) for t in SHARES])
    weights = rng.standard_normal((CHANNELS, len(share))) * (
        rng.random((CHANNELS, len(share))) < 0.3
    )
    weights[0] += 0.5 * rng.standard_normal(len(share))
    patients = [patient(rng, weights, share, DIFFER) for _ in range(n)]
    found = {}
    models = fitted(patients, COMPONENTS)[:n]
    for i, (one, model) in enumerate(zip(patients, models, strict=True)):
        fold = np.where(one.held, 0, -1)
        classes = np.where(one.cancer, 0, 1).astype(np.int8)
        guess = predicted(model, one.features)
        constant = np.broadcast_to(model.mean, guess.shape)
        sums = image_sums(fold, classes, one.ions, guess, constant)
        found[f"P{i}"] = OfSpecimen(*sums, f"P{i}")
    mz = np.arange(1.0, len(share) + 1)
    return scores("leave_one_patient_out", mz, [""] * len(mz), found, {p: p for p in found})
