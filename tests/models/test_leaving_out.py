"""Folds that leave a patient out, against the plain way, which rereads all for every fold."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.common.rereading import ARRAYS, difference, rereading
from msiscale.models import Moments, final_fold, fit_linear_folds, leave_one_group_out, validation
from msiscale.models import leaving_out as leaving
from msiscale.models.fold_store import FoldStore
from msiscale.models.folds import dealt
from msiscale.models.leaving_out import MOST, Plan

P, Q = 7, 6
WORDS = {"n_components": 4, "alphas": (0.01, 0.1, 1.0), "colours": 2}


class Counted(Mapping):
    """Sums that know how often they were asked for; `small` makes blocks of five."""

    def __init__(self, parts, size=1):
        self.parts, self.size, self.asked = parts, size, Counter()

    def bytes_of(self, name):
        return self.size

    @property
    def loads(self):
        return self.asked.total()

    def __getitem__(self, name):
        self.asked[name] += 1
        return self.parts[name]

    def __iter__(self):
        return iter(self.parts)

    def __len__(self):
        return len(self.parts)


SMALL = leaving.ROOM  # so that a block is of five patients


def cohort(patients, several=True, seed=0):
    """Sums of patients of one specimen to three, in an order that parts those of a patient."""
    rng = np.random.default_rng(seed)
    planted = rng.normal(size=(3, P)), rng.normal(size=(3, Q)) * [[9], [6], [3]] @ np.eye(Q)
    of = {}
    for turn in range(3 if several else 1):
        of |= {f"s{i}.{turn}": f"p{i}" for i in range(patients) if turn <= (i + 1) % 3}
    sums = {}
    for name in of:
        z = rng.normal(size=(60, 3))
        x, m = z @ planted[0] + rng.normal(size=(60, P)), z @ planted[1] + rng.normal(size=(60, Q))
        sums[name] = Moments.of(x, m, dtype="f8")
    return sums, of


def folds_of(of):
    held = leave_one_group_out(of) if len(set(of.values())) > 1 else []
    return [*held, final_fold(list(of))]


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name, mapped in b.maps.items():
        np.testing.assert_array_equal(a.maps[name].matrix, mapped.matrix)
    assert a.records == b.records


@pytest.mark.parametrize(("patients", "size"), [*((n, 1) for n in range(1, 13)), (22, SMALL)])
def test_the_folds_are_those_of_the_plain_way(patients, size):
    parts, of = cohort(patients)
    sums, folds = Counted(parts, size), folds_of(of)
    models = fit_linear_folds(sums, folds, of, **WORDS)
    assert [model.fold for model in models] == folds
    for model in models:
        plain = rereading(parts, model.fold, of, **WORDS)
        assert model.alpha_by == plain.alpha_by
        assert difference(model, plain) < 1e-10
    if patients > 2:  # those held out with another once more
        assert max(sums.asked.values()) <= 4


def test_groups_of_patients_are_held_out_together_and_add_no_memory():
    parts, patients = cohort(30)
    of = dealt(patients, 6)
    assert of == {s: f"fold {int(p[1:]) % 6 + 1} of 6" for s, p in patients.items()}
    sums, folds = Counted(parts, SMALL), folds_of(of)
    models = fit_linear_folds(sums, folds, of, **WORDS)
    for model in models:
        assert difference(model, rereading(parts, model.fold, of, **WORDS)) < 1e-10
    assert set(models[0].scores) == set(folds[0].test)
    assert max(sums.asked.values()) <= 4


def test_patients_dealt_first_are_in_every_group():
    patients = {f"s{i}": f"p{i // 2}" for i in range(20)}
    of = dealt(patients, 3, ["s1", "s6", "s15"])
    assert {of[s] for s in ("s0", "s7", "s14")} == {f"fold {i} of 3" for i in (1, 2, 3)}
    assert all(len({of[s] for s in patients if patients[s] == p}) == 1 for p in patients.values())
    assert dealt(patients, 10) == patients


@pytest.mark.parametrize("patients", [3, 12, 24, 60, 61, 64, 65, 84, 85, 104, 105, 300, 1000])
def test_every_patient_is_read_three_times_at_most(patients):
    of = {f"s{i}": f"p{i}" for i in range(patients)}
    plan = Plan.of(folds_of(of), of, lambda name: 25_000_000)
    assert plan is not None
    assert [j for block in plan.blocks for j in block] == list(range(patients + 1))
    assert max(map(len, plan.blocks)) <= MOST + 4
    blocks = len(plan.blocks)
    if plan.direct:
        assert blocks * patients <= 3 * patients
    else:  # own twice; of a block by group: before, after, its neighbours', and what is outside
        assert 2 * patients + 5 * (3 * (blocks - 1) + blocks) <= 3 * patients


def test_sums_made_on_the_way_count_as_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(leaving, "MOST", 8)
    monkeypatch.setattr(leaving, "WHOLE", 2)
    parts, of = cohort(25, several=False)
    store, loads = FoldStore(str(tmp_path), "a"), []
    sums = Counted(parts)
    fit_linear_folds(
        sums, folds_of(of), of, store=store, heard=lambda f: loads.append(f["loads"]), **WORDS
    )
    assert set(sums.asked.values()) == {2}
    blocks = 3
    # of the sums of blocks nothing lies before the first and after the last
    assert sum(loads) == 2 * 25 + 5 * (3 * (blocks - 1) + blocks)


@pytest.mark.parametrize(("patients", "size"), [(3, 1), (4, 1), (7, 1), (20, SMALL)])
def test_a_fold_has_never_touched_what_it_leaves_out(patients, size):
    parts, of = cohort(patients)
    folds, which = folds_of(of), patients // 2
    before = fit_linear_folds(Counted(parts, size), folds, of, **WORDS)[which]
    rng = np.random.default_rng(5)
    rows = {s: rng.normal(size=(9, P + Q)) * 1e9 for s in before.fold.test}
    changed = parts | {s: Moments.of(r[:, :P], r[:, P:], dtype="f8") for s, r in rows.items()}
    after = fit_linear_folds(Counted(changed, size), folds, of, **WORDS)[which]
    assert after.scores != before.scores
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name, mapped in before.maps.items():
        np.testing.assert_array_equal(after.maps[name].matrix, mapped.matrix)


@pytest.mark.parametrize("patients", [4, 20])
def test_the_same_bits_whatever_the_workers(patients, tmp_path):
    parts, of = cohort(patients)
    folds = folds_of(of)
    here = fit_linear_folds(Counted(parts, SMALL), folds, of, **WORDS)
    for workers in (1, 2):
        with ThreadPoolExecutor(workers) as pool:

            def sent(tasks, pool=pool):
                """As a cluster has it: each task a copy, in any order."""
                calls = [pickle.dumps(task) for task in tasks]
                return pool.map(lambda call: pickle.loads(call)(), calls)

            store = FoldStore(str(tmp_path / str(workers)), "a")
            there = fit_linear_folds(
                Counted(parts, SMALL), folds, of, run=sent, store=store, **WORDS
            )
        assert len(there) == len(here)
        for a, b in zip(there, here, strict=True):
            same(a, b)
        for scored, fold, b in zip(there.scored(), there.mapped, here, strict=True):
            assert scored.records == b.records and fold.fold == b.fold
            assert set(fold.maps) == set(b.maps)


@pytest.mark.parametrize("patients", [7, 20])
def test_only_the_fold_under_way_is_fitted_again(patients, tmp_path, monkeypatch):
    parts, of = cohort(patients)
    folds, fit = folds_of(of), validation.fit_fold
    fitted = []

    def counted(asked, *args):
        fitted.append(asked.fold.name)
        return fit(asked, *args)

    monkeypatch.setattr(validation, "fit_fold", counted)
    store = FoldStore(str(tmp_path), "a")
    words = {"store": store, **WORDS}
    write = type(store.models)._write

    def killed(self, group, item):
        if len(fitted) == 3:
            item.maps.pop("cancer_from_msi")
            write(self, group, item)
            raise KeyboardInterrupt
        write(self, group, item)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(type(store.models), "_write", killed)
        fit_linear_folds(Counted(parts, SMALL), folds, of, **words)
    under_way = fitted.pop()
    models = fit_linear_folds(Counted(parts, SMALL), folds, of, **words)
    assert under_way in fitted
    assert sorted(fitted) == sorted(fold.name for fold in folds)  # each once
    for a, b in zip(
        models, fit_linear_folds(Counted(parts, SMALL), folds, of, **WORDS), strict=True
    ):
        same(a, b)
    # one that is damaged is fitted again, and those of another fit all are
    fitted.clear()
    chunk = next(
        p
        for p in (tmp_path / "models" / "0001" / "coef").rglob("*")
        if p.parent.name == "c" or p.name == "0"
    )
    next(p for p in [chunk, *chunk.rglob("*")] if p.is_file()).write_bytes(b"no chunk")
    fit_linear_folds(Counted(parts, SMALL), folds, of, **words)
    assert fitted == [folds[1].name]
    fitted.clear()
    fit_linear_folds(Counted(parts, SMALL), folds, of, **WORDS, store=FoldStore(str(tmp_path), "b"))
    assert len(fitted) == len(folds)


def test_what_is_no_leave_one_patient_out_is_fitted_too():
    parts, of = cohort(6)
    some = leave_one_group_out(of)
    assert Plan.of(some[1:], of, lambda name: 1) is None  # somebody is never held out
    models = fit_linear_folds(Counted(parts), some[1:], of, **WORDS)
    for model in models:
        assert difference(model, rereading(parts, model.fold, of, **WORDS)) < 1e-10
    pairs = {s: str(int(p[1:]) // 2) for s, p in of.items()}  # folds of two patients each
    grouped = leave_one_group_out(pairs)
    assert Plan.of(grouped, of, lambda name: 1) is None
    sums = Counted(parts)
    for model in fit_linear_folds(sums, grouped, of, **WORDS):
        assert difference(model, rereading(parts, model.fold, of, **WORDS)) < 1e-10
    assert max(sums.asked.values()) <= 3  # a fold reads a specimen once
