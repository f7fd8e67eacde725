"""Blocks of rows and the order of sums."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from msiscale.models.moments import moments
from msiscale.models.rowblocks import (
    Deferred,
    merged_in_order,
    row_blocks,
    runs_of,
)
from msiscale.threads import one_blas_thread


def blas_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_rows_of_numpy_blocks_are_in_order():
    x, y = np.arange(60).reshape(5, 4, 3), np.arange(20).reshape(5, 4)
    blocks = row_blocks(x, None, y, size=7)
    assert [len(b[0]) for b in blocks] == [7, 7, 6]
    assert all(b[1] is None for b in blocks)
    np.testing.assert_array_equal(np.concatenate([b[0] for b in blocks]), x.reshape(20, 3))
    np.testing.assert_array_equal(np.concatenate([b[2] for b in blocks]), np.arange(20))


def rows_of(part):
    return part() if isinstance(part, Deferred) else part.compute()


def test_rows_of_dask_blocks_stay_together():
    x = da.arange(60, chunks=60).reshape(5, 4, 3).rechunk((2, 3, 2))
    y = np.arange(20).reshape(5, 4)
    blocks = [tuple(map(rows_of, block)) for block in row_blocks(x, y)]
    for left, right in blocks:
        np.testing.assert_array_equal(left[:, 0], right * 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([b for _, b in blocks])), np.arange(20))


def kinds(*arrays):
    return {type(part) for block in row_blocks(*arrays) for part in block}


def test_blocks_that_share_no_work_are_read_where_they_are_summed():
    x = da.from_array(np.arange(60.0).reshape(20, 3), chunks=(4, 2))
    assert kinds(x * 2) == {Deferred}
    assert kinds(x - x.mean(axis=0)) != {Deferred}  # the mean is computed once
    assert kinds((x * 2).rechunk((7, 3))) != {Deferred}  # no chunk is made twice


@pytest.mark.parametrize("shared", [False, True])
def test_dask_sums_are_those_of_numpy(shared):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    lazy = da.from_array(x, chunks=(8, 2))
    lazy, x = (lazy - lazy.mean(axis=0), x - x.mean(axis=0)) if shared else (lazy, x)
    found = moments(lazy, da.from_array(y, chunks=8), dtype=np.float64)
    np.testing.assert_allclose(found.sxm, (x - x.mean(0)).T @ (y - y.mean(0)), atol=1e-12)


@pytest.mark.parametrize(("n", "longest"), [(1, 1), (16, 16), (17, 9), (49, 13), (200, 13)])
def test_runs_of_blocks_are_of_one_length(n, longest):
    chains = runs_of([(i,) for i in range(n)], None)
    assert [i for chain in chains for (i,) in chain] == list(range(n))
    assert max(map(len, chains)) == longest
    assert max(map(len, chains)) - min(map(len, chains)) <= 1


def test_runs_end_where_the_group_changes():
    groups = [0] * 3 + [1] * 40 + [0]
    chains = runs_of([(i,) for i in range(44)], groups)
    assert all(len({groups[i] for (i,) in chain}) == 1 for chain in chains)


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="differ in rows"):
        row_blocks(np.zeros((5, 2)), np.zeros(4))


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 40, 100])
def test_neighbours_are_merged_in_order(n):
    assert merged_in_order(([i] for i in range(n)), lambda a, b: a + b) == list(range(n))


def test_few_sums_are_held_at_once():
    alive, most = 0, 0

    def parts():
        nonlocal alive, most
        for i in range(256):
            alive += 1
            most = max(most, alive)
            yield i

    def merge(a, b):
        nonlocal alive
        alive -= 1
        return a + b

    assert merged_in_order(parts(), merge) == sum(range(256))
    assert most <= 6


def test_the_limit_survives_threads_that_overlap():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        entered, leave = threading.Event(), threading.Event()

        def other():
            with one_blas_thread():
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with one_blas_thread():
            thread.start()
            assert entered.wait(10)
            assert blas_threads() == {1}
        assert blas_threads() == {1}  # the other one is still inside
        leave.set()
        thread.join()
        assert blas_threads() == before
