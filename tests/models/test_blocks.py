"""Blocks of rows and the order of sums."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from msiscale.models._blocks import _pairwise, one_blas_thread, row_blocks


def blas_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_rows_of_numpy_blocks_are_in_order():
    x, y = np.arange(60).reshape(5, 4, 3), np.arange(20).reshape(5, 4)
    blocks = row_blocks(x, None, y, size=7)
    assert [len(b[0]) for b in blocks] == [7, 7, 6]
    assert all(b[1] is None for b in blocks)
    np.testing.assert_array_equal(np.concatenate([b[0] for b in blocks]), x.reshape(20, 3))
    np.testing.assert_array_equal(np.concatenate([b[2] for b in blocks]), np.arange(20))


def test_rows_of_dask_blocks_stay_together():
    x = da.arange(60, chunks=60).reshape(5, 4, 3).rechunk((2, 3, 2))
    y = np.arange(20).reshape(5, 4)
    for left, right in ((a.compute(), b.compute()) for a, b in row_blocks(x, y)):
        np.testing.assert_array_equal(left[:, 0], right * 3)


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="differ in rows"):
        row_blocks(np.zeros((5, 2)), np.zeros(4))


@pytest.mark.parametrize("n", range(1, 12))
def test_neighbours_are_merged_in_order(n):
    assert _pairwise(iter("abcdefghijkl"[:n]), lambda a, b: a + b) == "abcdefghijkl"[:n]


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
