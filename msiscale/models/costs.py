"""The C of classifiers, chosen by the loss of what is left out: all cases advance together.

Every case has some five parts to leave out for each of some five C, so that nearly all of the work
of a cross-validation is here. Where there are many rows the choice begins with every n-th of them,
some `FEW` in all, and goes on with four times as many: what comes out far behind is tried no
further, a case with one C left is decided, and what is left starts from what it found. All tries
leave out the same parts, so how far is far allows for what fewer rows change alone: the chance of
which rows they are, and, for weaker penalties, which fewer rows make look worse, half a unit of
loss per row and effective variable (the first-order term of Akaike 1974, IEEE Trans. Automat.
Contr. 19:716, with the effective variables of a ridge penalty) twice over, as neighbouring rows are
no independent ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from msiscale.grid import Floats
from msiscale.models.cache import Cached
from msiscale.models.joint import (
    Heard,
    LinearMap,
    Problem,
    Solution,
    fit_many,
    heldout_losses,
)
from msiscale.models.left_out import InnerFit
from msiscale.models.passes import RowBlock
from msiscale.models.rowblocks import Run

TOLERANCE = 1e-4  # of gradients, where only the order of held-out losses matters
STEPS = 40
FEW = 1 << 16  # rows that the choice begins with
MORE = 4  # times as many rows in the next round
CHANCE = 0.25  # two deviations of the difference of two losses of a row, some 1/8 each
UNSURE = 2.0  # times that fewer rows may count for less

Groups = frozenset[Hashable]


class Choice(NamedTuple):
    """A C, how it was chosen, where to start from, and the fits with it that left a part out."""

    C: float
    by: str
    start: Floats | None = None
    inner: tuple[InnerFit, ...] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """A problem whose C is to be chosen, and the groups to fit and to leave out in turn."""

    problem: Problem
    inner: Sequence[tuple[Groups, Groups]]  # train on, leave out
    kind: str  # what is left out


@dataclass(frozen=True, eq=False)
class _Try:
    """One C of a case, fitted to all but one part."""

    case: int
    part: int
    cost: float
    start: Floats | None = None


def choose_costs(
    blocks: Sequence[RowBlock],
    cases: Sequence[Case],
    costs: Sequence[float],
    *,
    needed: bool = False,
    run: Run | None = None,
    heard: Heard | None = None,
) -> list[Choice]:
    """For each case C, how it was chosen, and where to start from.

    Parameters
    ----------
    blocks : sequence of RowBlock
        Labelled rows of every group.
    cases : sequence of Case
        Problems and what to leave out of each.
    costs : sequence of float
        C to choose from.
    needed : bool
        Whether the fits that left a part out are, even where there is one C only.
    run, heard : callable, optional
        See `fit_many`.

    Returns
    -------
    list of Choice
    """
    if len(costs) == 1 and not needed:
        return [Choice(float(costs[0]), "given")] * len(cases)
    tries = [
        _Try(i, part, cost)
        for i, case in enumerate(cases)
        for part in range(len(case.inner))
        for cost in costs
    ]
    rows = sum(block.count for block in blocks)
    sizes = Counter[Hashable]()
    for block in blocks:
        sizes[block.group] += block.count
    step, chosen = max(1, rows // FEW), dict[int, Choice | None]()
    while tries:
        fewer = blocks if step == 1 else [_thinned(block, step) for block in blocks]
        found = _Tried.of(fewer, cases, tries, run, heard, times=step)
        left = tries if step == 1 else found.contenders(rows // step, sizes)
        of = found.costs_of(left)
        best = {i: found.best(i, left) for i, n in of.items() if step == 1 or len(n) == 1}
        chosen |= {i: choice for i, choice in best.items() if step == 1 or choice is not None}
        tries = [t for t in left if t.case not in chosen]
        step = max(1, step // MORE)
    choices = [chosen.get(i) or _default(costs) for i in range(len(cases))]
    return [c._replace(by="given") for c in choices] if len(costs) == 1 else choices


@dataclass(frozen=True, eq=False)
class _Tried:
    """Fits of tries, and their losses on what each left out."""

    cases: Sequence[Case]
    tries: Sequence[_Try]
    solutions: Sequence[Solution]
    loss: Floats
    weight: Floats

    @classmethod
    def of(
        cls,
        blocks: Sequence[RowBlock],
        cases: Sequence[Case],
        tries: Sequence[_Try],
        run: Run | None,
        heard: Heard | None,
        *,
        times: int = 1,
    ) -> _Tried:
        """Fit them; `times` fewer rows than C is meant for."""
        problems = [
            replace(
                cases[t.case].problem,
                groups=cases[t.case].inner[t.part][0],
                C=t.cost * times,
                start=t.start,
            )
            for t in tries
        ]
        fit = fit_many(
            blocks,
            problems,
            tol=TOLERANCE,
            dtype=np.float32,
            max_iter=STEPS,
            refresh=None,  # an eigendecomposition a fold, for digits that nobody asks for here
            warn=False,
            coarse=True,
            run=run,
            heard=heard,
        )
        left_out = [cases[t.case].inner[t.part][1] for t in tries]
        loss, weight = heldout_losses(blocks, fit.solutions, left_out, run=run)
        return cls(cases, tries, fit.solutions, loss, weight)

    def best(self, case: int, tries: Sequence[_Try]) -> Choice | None:
        """The C with the smallest loss among those of `tries`, and its fits."""
        wanted = {t.cost for t in tries if t.case == case}
        members: dict[float, list[int]] = {cost: [] for cost in sorted(wanted)}
        for n, t in enumerate(self.tries):
            if t.case == case and t.cost in wanted and self.weight[n] > 0:
                members[t.cost].append(n)
        if not any(members.values()):
            return None
        mean = {c: self.loss[mine].sum() / self.weight[mine].sum() for c, mine in members.items()}
        best = min(mean, key=mean.__getitem__)  # ties go to the stronger penalty
        inner = []
        for n in members[best]:
            s, left_out = self.solutions[n], self.cases[case].inner[self.tries[n].part][1]
            inner.append(InnerFit(s.coef, s.intercept, s.class_weight, left_out))
        start = np.mean([self.solutions[n].theta for n in members[best]], axis=0)
        return Choice(float(best), self.cases[case].kind, start, tuple(inner))

    def contenders(self, rows: int, sizes: Mapping[Hashable, int]) -> list[_Try]:
        """The tries, from where they are, of every C that may be the best with all rows.

        Parameters
        ----------
        rows
            Of this round.
        sizes
            Rows of each group, all of them.

        Returns
        -------
        list of _Try
        """
        fewer = 1 / rows - 1 / sum(sizes.values())
        known = [n for n in range(len(self.tries)) if self.weight[n] > 0]
        loss: dict[int, dict[float, list[tuple[float, float]]]] = {}
        for n in known:
            t = self.tries[n]
            of = loss.setdefault(t.case, {}).setdefault(t.cost, [])
            of.append((self.loss[n], self.weight[n]))
        # where fewer rows have a class too few, all are tried again
        kept = {(t.case, t.cost) for t in self.tries if t.case not in loss}
        for i, by_cost in loss.items():
            mean = {c: sum(a for a, _ in of) / sum(b for _, b in of) for c, of in by_cost.items()}
            best = min(sorted(mean), key=mean.__getitem__)
            problem = self.cases[i].problem
            weight = sum(sizes.get(group, 0) for group in problem.groups)
            free = {c: effective_variables(problem.map, 1 / (c * weight)) for c in mean}
            for cost, value in mean.items():
                more = UNSURE * max(free[cost] - free[best], 0) * fewer / 2
                if value - mean[best] <= more + CHANCE / np.sqrt(rows):
                    kept.add((i, cost))
        return [
            replace(t, start=s.theta if np.isfinite(s.theta).all() else None)
            for t, s in zip(self.tries, self.solutions, strict=True)
            if (t.case, t.cost) in kept
        ]

    @staticmethod
    def costs_of(tries: Sequence[_Try]) -> dict[int, set[float]]:
        """Those of each case."""
        found: dict[int, set[float]] = {}
        for t in tries:
            found.setdefault(t.case, set()).add(t.cost)
        return found


def effective_variables(mapped: LinearMap, penalty: float) -> float:
    """How many of the variables of a map a penalty on their squares leaves free, at most."""
    curvature = mapped.variance / 4  # a loss curves by p (1 - p) of its variables' variance
    return float((curvature / (curvature + penalty)).sum())


def _thinned(block: RowBlock, step: int) -> RowBlock:
    """Every `step`-th row of a block, kept in the place of all of them."""
    rows = block.rows
    made: Any = partial(_every, rows, step)
    if isinstance(rows, Cached):
        owner, name = rows.key
        made = Cached(((owner, step), name), partial(_every, rows.read, step), rows.most)
    return RowBlock(block.group, made, -(-block.count // step))


def _every(rows: Any, step: int) -> tuple[Any, ...]:
    made = rows() if callable(rows) else rows
    # copies, or the whole block would stay in memory with them
    return tuple(None if part is None else part[::step].copy() for part in made)


def _default(costs: Sequence[float]) -> Choice:
    return Choice(float(sorted(costs)[len(costs) // 2]), "default")
