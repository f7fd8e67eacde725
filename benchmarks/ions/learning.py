"""Learning curves: what they say of twice the patients, against the truth of the simulation.

In one world patients differ and a few of them tell nearly all (``flat``); in the other they are
more alike, have few and noisy pixels, and each further one helps (``steep``).
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from benchmarks.common.measure import table
from benchmarks.common.progress import Progress
from msiscale.grid import Floats
from msiscale.models import Moments
from msiscale.models.learning import Order, extrapolated, learn, orders, sizes
from msiscale.models.ridge import ALPHAS
from msiscale.models.validation import Rules

SUBJECT = "what a learning curve says of twice the patients"
FEATURES, MZ = 40, 30
MANY = 60  # patients whose mean is the truth
REPEATS = 6  # trainings of as many patients, whose mean it is
FIGURES = ("error", "error_of_no_growth", "coverage_95")
RULES = Rules(20, ALPHAS, (), 0, None)


class Kind(NamedTuple):
    """A world: how much is a patient's own, noise, and pixels of a patient."""

    own: float
    noise: float
    pixels: int


KINDS = {"steep": Kind(0.3, 3.0, 60), "flat": Kind(0.6, 1.5, 400)}


def options(parser: argparse.ArgumentParser) -> None:
    """What the subject takes."""
    parser.add_argument("--curves", type=int, default=40, help="Number of cohorts (default: 40).")
    parser.add_argument(
        "--curve-patients", type=int, default=12, help="Patients of each (default: 12)."
    )


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Error and coverage of the extrapolation to twice the patients."""
    progress.total = len(KINDS) * words.curves
    figures: dict[str, float] = {}
    rows = []
    for name, kind in KINDS.items():
        numbers = progress.each(range(words.curves), f"{name} learning curve")
        found = np.array([_curve(kind, words.curve_patients, number) for number in numbers])
        mine = dict(zip(FIGURES, np.abs(found).mean(axis=0).tolist(), strict=True))
        rows.append({"R² with twice the patients": name, **mine})
        figures |= {f"ions.learning_curve_{key}.{name}": value for key, value in mine.items()}
    for key in FIGURES:
        every = [figures[f"ions.learning_curve_{key}.{name}"] for name in KINDS]
        figures[f"ions.learning_curve_{key}"] = float(np.mean(every))
    print(table(rows))
    return figures


def _curve(kind: Kind, n: int, number: int) -> tuple[float, float, bool]:
    """Errors of the curve and of its last measured point; whether the interval holds the truth."""
    world = _World(np.random.default_rng([12, number]), kind)
    names = [f"p{i}" for i in range(n)]
    sums = {name: world.patient() for name in names}
    alone, some = {name: [name] for name in names}, orders(names)
    at = sizes(some)
    rows = [row for order in some for row in learn(sums, alone, order, at, RULES)]
    by = {(row["patient"], row["patients"]): row["r2"] for row in rows}
    values = np.array([[by[name, m] for m in at] for name in names])
    (found,) = extrapolated(at, values, [2 * n])
    truth = world.truth(2 * n)
    last = float(values[:, -1].mean())
    return found.value - truth, last - truth, found.low <= truth <= found.high


class _World:
    """Patients whose chemistry follows the slide alike, but each with a part of its own."""

    def __init__(self, rng: np.random.Generator, kind: Kind) -> None:
        self.rng, self.kind = rng, kind
        self.decay = np.arange(1, FEATURES + 1) ** -0.5
        self.common = rng.standard_normal((FEATURES, MZ)) * self.decay[:, None]

    def patient(self) -> Moments:
        """The sums of a patient."""
        rng, (own, noise, pixels) = self.rng, self.kind
        mine = self.common + own * rng.standard_normal(self.common.shape) * self.decay[:, None]
        x = rng.standard_normal((pixels, FEATURES)) * self.decay
        x += 0.5 * rng.standard_normal(FEATURES)
        return Moments.from_arrays(x, x @ mine + noise * rng.standard_normal((pixels, MZ)))

    def truth(self, patients: int) -> float:
        """Mean R² over many new patients of fits to so many others."""
        test = {f"t{i}": self.patient() for i in range(MANY)}
        found: list[Floats] = []
        for repeat in range(REPEATS):
            train = {f"{repeat}-{i}": self.patient() for i in range(patients)}
            order, alone = Order(tuple(test), tuple(train)), {p: [p] for p in [*train, *test]}
            rows = learn(train | test, alone, order, [patients], RULES)
            found.append(np.array([row["r2"] for row in rows]))
        return float(np.mean(found))
