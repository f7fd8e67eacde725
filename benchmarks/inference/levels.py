"""How often a biomarker is found where there is none, and how often where there is one.

The AUCs of a cohort and their spread by chance are drawn as `specimen_association` gives them on
smooth ion images and annotations (``tests/test_benchmarks_inference.py`` compares the two), and
`combine` makes the table of them, as a run does. One half of the ions share a few patterns, as
those of tissue do; the other half are independent, which gives chance the most to find.

Null cohorts: no ion differs in any patient (``null``); each patient's ions differ, on average over
patients by nothing, as much as chance alone has them differ (``heterogeneous``); no ion differs,
and each patient has serial sections, which are nearly the same (``serial``).
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.common.progress import Progress
from msiscale.biomarkers import combine
from msiscale.biomarkers.patients import false_discovery, random_effects

SUBJECT = "levels and power of the biomarkers' p where patients differ"
Floats = NDArray[np.float64]
KINDS = ("null", "heterogeneous", "serial")
METHODS = ("headline", "t", "dl")
RATE, SMALL = 0.05, 0.001
SHARED = 12  # patterns that one half of the ions are mixed from
SPREAD = (0.10, 0.22)  # of the AUC of a pattern, by chance
PIXELS = 0.02  # spread of an AUC by the noise of pixels
PLACES = 30  # independent ones that a spread is estimated from, in effect
SECTIONS = 3
ALIKE = 0.95  # share of the variance that serial sections have in common
PLANTED = 10
_SLOPE = float(np.sqrt(2 * np.pi))  # from an AUC near 0.5 to standard deviations


class Cohort(NamedTuple):
    """Tables as of `specimen_association`, and whose each specimen is."""

    tables: dict[str, pd.DataFrame]
    patients: dict[str, str]


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--level-cohorts", type=int, default=400, help="null ones of each kind")
    parser.add_argument("--level-power-cohorts", type=int, default=100, help="with planted ions")
    parser.add_argument("--level-patients", type=int, nargs="+", default=[3, 6, 10, 20])
    parser.add_argument("--level-ions", type=int, default=500)
    parser.add_argument(
        "--level-effect", type=float, default=1.0, help="planted, in standard deviations of an ion"
    )


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Levels of the headline, of the t-test, and of DerSimonian and Laird as it was used before."""
    found: dict[str, float] = {}
    for n in words.level_patients:
        for kind in KINDS:
            numbers = progress.each(range(words.level_cohorts), f"{kind}, {n} patients, cohort")
            every = [_p(drawn(kind, n, words.level_ions, number)) for number in numbers]
            for method in METHODS:
                p = np.stack([one[method] for one in every])
                row = f"{method}.{kind}.n{n}"
                found[f"level.{row}"] = float(np.mean([_found(one).any() for one in p]))
                found[f"p001.{row}"] = float((p < SMALL).mean())
        for kind, called in (("null", ""), ("heterogeneous", ".heterogeneous")):
            numbers = progress.each(range(words.level_power_cohorts), f"power, {n} patients")
            effect = words.level_effect
            every = [_p(drawn(kind, n, words.level_ions, k, effect)) for k in numbers]
            for method in METHODS:
                hits = np.stack([_found(one[method]) for one in every])
                found[f"power.{method}{called}.n{n}"] = float(hits[:, :PLANTED].mean())
    return found


def drawn(kind: str, n: int, ions: int, number: int, effect: float = 0.0) -> Cohort:
    """A cohort of `n` patients of a `kind`; the first ions are planted if there is an `effect`."""
    rng = np.random.default_rng([KINDS.index(kind), n, number, effect != 0])
    sections = SECTIONS if kind == "serial" else 1
    mixing = _mixing(rng, ions)
    squares = mixing**2
    patterns = len(mixing)
    axis = np.arange(1.0, ions + 1)
    nothing = dict.fromkeys(
        ("effect", "standardized_difference", "mean_cancer", "mean_other"), np.zeros(ions)
    )
    cohort = Cohort({}, {})
    for patient in range(n):
        spread = rng.uniform(*SPREAD, patterns)
        chance = spread * rng.standard_normal(patterns)
        differs = spread * rng.standard_normal(patterns) * (kind == "heterogeneous")
        for section in range(sections):
            common = ALIKE if sections > 1 else 1.0
            own = spread * rng.standard_normal(patterns)
            here = np.sqrt(common) * chance + np.sqrt(1 - common) * own + differs
            guess = spread**2 * rng.chisquare(PLACES, patterns) / PLACES
            at = _SLOPE * (here @ mixing + PIXELS * rng.standard_normal(ions))
            at[:PLANTED] += effect / np.sqrt(2)  # the AUC of normal values that differ by `effect`
            table = {"mz": axis, "auc": stats.norm.cdf(at), **nothing}
            name = f"P{patient}-{section}"
            cohort.tables[name] = pd.DataFrame(table).assign(
                auc_sd=np.sqrt(guess @ squares + PIXELS**2)
            )
            cohort.patients[name] = f"P{patient}"
    return cohort


def _mixing(rng: np.random.Generator, ions: int) -> Floats:
    """(pattern, ion) share of each pattern; what is left of an ion is the noise of its pixels."""
    half = ions // 2
    mixing = np.zeros((SHARED + half, ions))
    every = mixing[:SHARED, 0::2]
    every += rng.standard_normal(every.shape) * (rng.random(every.shape) < 0.25)
    every[0] += rng.standard_normal(every.shape[1])
    mixing[SHARED + np.arange(half), 1 + 2 * np.arange(half)] = 1.0
    size = np.sqrt((mixing**2).sum(axis=0))
    return np.asarray(mixing / np.hypot(size, size.mean() * rng.uniform(0.2, 1.0, ions)))


def _p(cohort: Cohort) -> dict[str, Floats]:
    """(ions,) p of each method, by ascending m/z."""
    table = combine(cohort.tables, cohort.patients).sort_values("mz")
    return {
        "headline": table["p"].to_numpy(),
        "t": table["p_t"].to_numpy(),
        "dl": _before(cohort),
    }


def _before(cohort: Cohort) -> Floats:
    """DerSimonian and Laird's p with sections of a patient as if independent of each other."""
    tables = list(cohort.tables.values())
    shape = (len(set(cohort.patients.values())), -1, len(tables[0]))
    auc = np.stack([t["auc"].to_numpy() for t in tables]).reshape(shape)
    sd = np.stack([t["auc_sd"].to_numpy() for t in tables]).reshape(shape)
    apart = np.sqrt((sd**2).sum(axis=1)) / sd.shape[1]
    return random_effects(auc.mean(axis=1) - 0.5, apart).p_dl


def _found(p: Floats) -> NDArray[np.bool_]:
    return np.asarray(false_discovery(p) <= RATE)
