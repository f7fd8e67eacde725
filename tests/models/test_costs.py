"""C is chosen among those that fewer rows leave over, and is the one that all rows would choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from msiscale.models import costs
from msiscale.models.costs import Case, choose_costs
from msiscale.models.folds import inner_folds
from msiscale.models.joint import LinearMap, Problem
from msiscale.models.moments import Moments
from msiscale.models.passes import RowBlock

PATIENTS, ROWS, COLUMNS = 6, 3000, 40
TRIED = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def blocks_of(seed: int, count: bool = True) -> list[RowBlock]:
    rng = np.random.default_rng(seed)
    effect = rng.normal(size=COLUMNS) * np.exp(-np.arange(COLUMNS) / 5)
    found = []
    for patient in range(PATIENTS):
        shift, bias = rng.normal(size=COLUMNS) * 0.7, rng.normal()
        for _ in range(3):
            x = (rng.normal(size=(ROWS // 3, COLUMNS)) + shift).astype(np.float32)
            y = (rng.random(len(x)) < 1 / (1 + np.exp(-(x @ effect + bias)))).astype(np.float64)
            found.append(RowBlock(f"P{patient}", (x, y, None), len(x) if count else 0))
    return found


def case_of(blocks: list[RowBlock]) -> Case:
    names = [f"P{i}" for i in range(PATIENTS)]
    mapped = LinearMap.standardised(Moments.merge(Moments.of(b.rows[0]) for b in blocks))
    parts, kind = inner_folds(names, {n: n for n in names})
    inner = [(frozenset(f.train), frozenset(f.test)) for f in parts]
    return Case(Problem(mapped, frozenset(names)), inner, kind)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Rows and problems of every evaluation of many regressions."""
    found: list[tuple[int, int]] = []
    plain = costs.fit_many

    def counted(blocks, problems, **words):
        rows = sum(b.count for b in blocks)

        def heard(passes: int, left: int, gradient: float) -> None:
            assert passes > 1 and 0 <= left <= len(problems) and gradient >= 0
            found.append((rows, left))

        found.append((rows, len(problems)))
        return plain(blocks, problems, **{**words, "heard": heard})

    monkeypatch.setattr(costs, "fit_many", counted)
    yield found


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_all_rows_for_less_work(
    seed: int, work: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of(seed)
    case = case_of(blocks)
    ((exact, by, start, inner),) = choose_costs(blocks, [case], TRIED)
    whole = sum(rows * left for rows, left in work)
    work.clear()
    monkeypatch.setattr(costs, "FEW", 1800)  # every tenth row
    ((chosen, again, first, _),) = choose_costs(blocks, [case], TRIED)
    assert (chosen, again) == (exact, by)
    assert {rows for rows, _ in work} <= {1800, 9000, PATIENTS * ROWS}  # every tenth, second, all
    assert sum(rows * left for rows, left in work) < whole
    assert start is not None and first is not None
    assert [fit.left_out for fit in inner] == [part for _, part in case.inner]
    assert np.linalg.norm(first - start) < 0.5 * np.linalg.norm(start)


def test_rows_of_unknown_number_are_all_read(
    work: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of(0, count=False)
    monkeypatch.setattr(costs, "FEW", 1800)
    ((chosen, *_),) = choose_costs(blocks, [case_of(blocks)], TRIED)
    assert chosen == choose_costs(blocks_of(0), [case_of(blocks)], TRIED)[0][0]


def test_a_class_that_fewer_rows_have_lost_is_tried_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = blocks_of(1)
    for block in blocks:  # positive where every hundredth row is not
        _, y, _ = block.rows
        y[:] = 0
        y[50::100] = 1
    case = case_of(blocks)
    exact = choose_costs(blocks, [case], TRIED)[0]
    monkeypatch.setattr(costs, "FEW", PATIENTS * ROWS // 100)
    assert choose_costs(blocks, [case], TRIED)[0][:2] == exact[:2]


def test_what_is_far_behind_is_left_out_and_what_may_win_is_not() -> None:
    blocks = blocks_of(2)
    case = case_of(blocks)
    tries = [costs._Try(0, part, cost) for part in range(len(case.inner)) for cost in TRIED]
    sizes, weight = {f"P{i}": ROWS for i in range(PATIENTS)}, PATIENTS * ROWS
    free = {c: costs.effective_variables(case.problem.map, 1 / (c * weight)) for c in TRIED}
    assert 0 < free[1e-4] < free[1e-2] < free[1e-1] < COLUMNS
    # chance, and what so many more variables lose by fewer rows
    chance = 0.25 / 1800**0.5
    more = {c: (free[c] - free[1e-2]) * (1 / 1800 - 1 / weight) for c in (0.1, 1.0)}
    behind = {1e-4: 0.3, 1e-3: 1.01 * chance, 1e-2: 0.0}
    behind |= {0.1: 0.99 * (chance + more[0.1]), 1.0: 1.01 * (chance + more[1.0])}
    loss = np.array([0.5 + behind[t.cost] for t in tries])
    zero = np.zeros((COLUMNS + 1, 1))
    solution = costs.Solution(
        zero[:-1], zero[-1], zero, np.ones(2), np.ones(2) / 2, *(0.5, 0.0, 1), converged=True
    )
    tried = costs._Tried([case], tries, [solution] * len(tries), loss, np.ones(len(tries)))
    left = {t.cost for t in tried.contenders(1800, sizes)}
    assert left == {1e-2, 1e-1}
    assert {t.cost for t in tried.contenders(9000, sizes)} == {1e-2}
