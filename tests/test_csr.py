"""Sparse rows on disk: what is read is what was written, or an error that says where."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from msiscale.csr import CsrRows
from msiscale.errors import InputError


def matrix(n=30, p=1000, density=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return sparse.random_array((n, p), density=density, format="csr", rng=rng, dtype=np.float32)


def whole(rows):
    return sparse.vstack([rows.read(i) for i in range(rows.n_blocks)]).toarray()


@given(st.integers(1, 40), st.integers(1, 50), st.floats(0, 0.5), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_any_blocks_hold_the_matrix(tmp_path_factory, n, p, density, size):
    x = matrix(n, p, density)
    rows = CsrRows.save(str(tmp_path_factory.mktemp("csr") / "rows.zarr"), x, edges=size)
    assert rows.shape == x.shape and rows.nnz == x.nnz
    np.testing.assert_array_equal(whole(rows), x.toarray())


def test_opens_as_dask_with_the_blocks_as_chunks(tmp_path):
    x, url = matrix(), str(tmp_path / "rows.zarr")
    CsrRows.save(url, x, edges=[0, 5, 21, 30])
    lazy = CsrRows.open(url).to_dask()
    assert lazy.chunks == ((5, 16, 9), (1000,))
    np.testing.assert_array_equal(lazy[5:21].compute().toarray(), x[5:21].toarray())


def test_written_in_any_order_and_again(tmp_path):
    x, url = matrix(), str(tmp_path / "rows.zarr")
    rows = CsrRows.create(url, x.shape, edges=10)
    for i in (2, 0, 2, 1):
        CsrRows.open(url, "r+").write(i, x[10 * i : 10 * i + 10])
    np.testing.assert_array_equal(whole(rows), x.toarray())


def test_unsorted_and_double_entries_are_summed(tmp_path):
    x = sparse.csr_array(([1.0, 2.0, 4.0], ([0, 0, 0], [3, 1, 3])), shape=(1, 5))
    rows = CsrRows.save(str(tmp_path / "rows.zarr"), x)
    np.testing.assert_array_equal(rows.read(0).toarray(), [[0, 2, 0, 5, 0]])


def test_a_block_that_is_not_there_is_an_error(tmp_path):
    rows = CsrRows.create(str(tmp_path / "rows.zarr"), (30, 1000), edges=10)
    rows.write(0, matrix(10))
    with pytest.raises(InputError, match=r"block 1 \(rows 10 to 20\) was not written"):
        rows.read(1)


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
@pytest.mark.parametrize("harm", ["chunk lost", "byte changed", "array lost"])
def test_a_block_that_was_harmed_is_an_error(tmp_path, name, harm):
    rows = CsrRows.save(str(tmp_path / "rows.zarr"), matrix(density=0.1), edges=10)
    array = tmp_path / "rows.zarr" / "blocks" / "1" / name
    chunk = array / "c" / "0"
    if harm == "chunk lost":
        chunk.unlink()
    elif harm == "array lost":
        shutil.rmtree(array)
    else:
        bytes_ = bytearray(chunk.read_bytes())
        bytes_[len(bytes_) // 2] ^= 1
        chunk.write_bytes(bytes_)
    with pytest.raises(InputError, match="block 1 "):
        rows.read(1)
    rows.read(0)


@pytest.mark.parametrize("edges", [[0, 5], [1, 30], [0, 5, 5, 30], [0]])
def test_edges_go_from_the_first_to_the_last_row(tmp_path, edges):
    with pytest.raises(ValueError, match="edges"):
        CsrRows.create(str(tmp_path / "rows.zarr"), (30, 10), edges=edges)


def test_what_cannot_be_a_block_is_refused(tmp_path):
    rows = CsrRows.create(str(tmp_path / "rows.zarr"), (30, 1000), edges=10)
    with pytest.raises(ValueError, match="shape"):
        rows.write(0, matrix(9))
    bad = matrix(10)
    bad.data[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        rows.write(0, bad)
    with pytest.raises(InputError, match="not sparse rows"):
        CsrRows.open(rows.group.create_group("other"))


def test_bit_flips_are_noticed(tmp_path):
    rows = CsrRows.save(str(tmp_path / "rows.zarr"), matrix(10, density=0.1))
    chunk = tmp_path / "rows.zarr" / "blocks" / "0" / "data" / "c" / "0"
    sound = chunk.read_bytes()
    rng = np.random.default_rng(0)
    for at, bit in itertools.product(rng.integers(0, len(sound), 20), (0, 5)):
        flipped = bytearray(sound)
        flipped[at] ^= 1 << bit
        chunk.write_bytes(flipped)
        with pytest.raises(InputError):
            rows.read(0)
