"""Sums: any split, any order, merged and subtracted, against float64 arithmetic done at once."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.models import Moments, moments
from msiscale.models.moments import leave_one_out

FIELDS = ("n", "mean_x", "mean_m", "sxx", "sxm", "smm")


def reference(x, m, weight=None):
    """The sums in float64, all rows at once."""
    x, m = np.asarray(x, np.float64), np.asarray(m, np.float64)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    n = w.sum()
    mean_x, mean_m = w @ x / n, w @ m / n
    dx, dm = x - mean_x, m - mean_m
    values = (n, mean_x, mean_m, (dx.T * w) @ dx, (dx.T * w) @ dm, (dm.T * w) @ dm)
    return dict(zip(FIELDS, values, strict=True))


def assert_sums(found, expected, rtol):
    """Equal, with the scatter judged against its own largest variances."""
    sizes = {
        "sxx": np.max(np.diag(expected["sxx"]), initial=0),
        "smm": np.max(np.diag(expected["smm"]), initial=0),
    }
    sizes["sxm"] = np.sqrt(sizes["sxx"] * sizes["smm"])
    for name in FIELDS:
        scale = sizes.get(name, np.max(np.abs(expected[name]), initial=1e-300))
        np.testing.assert_allclose(
            getattr(found, name), expected[name], rtol=0, atol=rtol * scale + 1e-300, err_msg=name
        )


def as_dict(sums):
    return {name: getattr(sums, name) for name in FIELDS}


def sample(seed, n=200, p=4, q=3, mean=0.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * np.logspace(0, -2, p) + mean
    m = x[:, :1] + rng.normal(size=(n, q)) + mean
    return x.astype(dtype), m.astype(dtype), rng.uniform(0.1, 3, n)


@st.composite
def splits(draw):
    n = draw(st.integers(3, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=6)))
    order = draw(st.permutations(range(len(cuts) + 1)))
    mean = draw(st.sampled_from([0.0, 1.0, -300.0, 1e6]))
    return n, seed, cuts, order, mean, draw(st.booleans())


@given(splits())
@settings(max_examples=60, deadline=None)
def test_any_split_in_any_order_is_the_whole(case):
    n, seed, cuts, order, mean, weighted = case
    x, m, w = sample(seed, n, mean=mean)
    weight = w if weighted else None
    pieces = np.split(np.arange(n), cuts)
    parts = [
        Moments.of(x[i], m[i], weight=None if weight is None else weight[i], dtype=np.float64)
        for i in (pieces[j] for j in order)
    ]
    total = Moments.merge(parts)
    assert total.rows == n
    # what is lost is the float64 rounding of a value beside its mean
    assert_sums(total, reference(x, m, weight), rtol=1e-11 * max(1, abs(mean)))


@given(splits())
@settings(max_examples=60, deadline=None)
def test_subtracting_is_never_having_added(case):
    n, seed, cuts, order, mean, weighted = case
    x, m, w = sample(seed, n, mean=mean, dtype=np.float32)
    pieces = np.split(np.arange(n), cuts)
    parts = [Moments.of(x[i], m[i], weight=w[i] if weighted else None) for i in pieces]
    kept, gone = [parts[j] for j in order[1:]], parts[order[0]]
    after = Moments.merge([gone, *kept]) - gone
    if not kept:
        assert after.rows == 0 and after.n == 0 and not after.sxx.any()
        return
    expected = Moments.merge(kept)
    assert after.rows == expected.rows
    whole = Moments.merge(parts)
    for name in FIELDS:
        scale = np.max(np.abs(getattr(whole, name)), initial=1e-300)
        np.testing.assert_allclose(
            getattr(after, name), getattr(expected, name), rtol=0, atol=2e-9 * scale
        )


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5])
def test_float32_with_a_large_mean_loses_nothing(mean):
    x, m, _ = sample(1, 5000, mean=mean, dtype=np.float32)
    found = moments(x, m)  # the reference sees the same float32 values
    assert_sums(found, reference(x, m), rtol=2e-6)


def test_scatter_is_exactly_symmetric_and_merging_commutes():
    x, m, w = sample(2, dtype=np.float32)
    a, b = Moments.of(x[:90], m[:90], weight=w[:90]), Moments.of(x[90:], m[90:], weight=w[90:])
    for sums in (a, a + b, (a + b) - a):
        np.testing.assert_array_equal(sums.sxx, sums.sxx.T)
        np.testing.assert_array_equal(sums.smm, sums.smm.T)
    assert_sums(a + b, as_dict(b + a), rtol=1e-14)


def test_rows_without_weight_may_hold_anything():
    x, m, w = sample(3)
    w[:50] = 0
    x[:50] = np.nan
    found = Moments.of(x, m, weight=w, dtype=np.float64)
    assert found.rows == 150
    assert_sums(found, reference(x[50:], m[50:], w[50:]), rtol=1e-12)


def test_values_that_cannot_be_summed_are_refused():
    x, m, w = sample(4)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Moments.of(x, m)
    with pytest.raises(ValueError, match="too large"):
        Moments.of(m.astype(np.float32) * 1e25)
    with pytest.raises(ValueError, match="weight"):
        Moments.of(m, weight=-w)
    with pytest.raises(ValueError, match="different variables"):
        Moments.of(m) + Moments.of(m[:, :2])
    with pytest.raises(ValueError, match="never part"):
        Moments.of(m[:10]) - Moments.of(m)


def test_either_side_may_be_absent():
    x, m, _ = sample(5)
    both = Moments.of(x, m, dtype=np.float64)
    only_x, only_m = Moments.of(x, dtype=np.float64), Moments.of(None, m, dtype=np.float64)
    np.testing.assert_array_equal(only_x.sxx, both.sxx)
    np.testing.assert_array_equal(only_m.smm, both.smm)
    assert (only_x.p, only_x.q, only_m.p, only_m.q) == (4, 0, 0, 3)
    np.testing.assert_array_equal(only_m.swap().sxx, both.smm)


def test_selected_swapped_and_projected():
    x, m, _ = sample(6)
    found = Moments.of(x, m, dtype=np.float64)
    columns = np.array([True, False, True])
    assert_sums(found.select([3, 0], columns), reference(x[:, [3, 0]], m[:, columns]), 1e-12)
    assert_sums(found.swap(), reference(m, x), 1e-12)
    matrix, centre = np.arange(6.0).reshape(2, 3), np.array([1.0, 2, 3])
    assert_sums(found.project(matrix, centre), reference(x, (m - centre) @ matrix.T), 1e-12)
    np.testing.assert_allclose(found.covariance("x"), np.cov(x.T), rtol=1e-12)
    np.testing.assert_allclose(found.correlation("m"), np.corrcoef(m.T), rtol=1e-12)


def test_a_variable_that_does_not_vary_has_scale_zero():
    x = np.full((500, 1), 0.1, np.float32)
    parts = [Moments.of(x[:100]), Moments.of(x[100:])]
    assert Moments.merge(parts).scale("x") == 0
    assert ((parts[0] + parts[1]) - parts[0]).scale("x") == 0


def test_saved_and_read_back_bit_for_bit():
    x, m, w = sample(7, dtype=np.float32)
    for sums in (Moments.of(x, m, weight=w), Moments.of(x), Moments.of(None, m)):
        group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
        sums.save(group)
        back = Moments.load(group)
        assert (back.rows, back.eps) == (sums.rows, sums.eps)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(back, name), getattr(sums, name))


def test_leave_one_out_never_touches_the_part():
    x, m, _ = sample(8, dtype=np.float32)
    parts = [Moments.of(x[i], m[i]) for i in np.array_split(np.arange(200), 5)]
    spoiled = [*parts[:2], Moments.of(x[:7] * 1e6, m[:7]), *parts[3:]]
    without = list(leave_one_out(parts))
    for i, sums in enumerate(without):
        assert_sums(sums, as_dict(Moments.merge(parts[:i] + parts[i + 1 :])), rtol=1e-13)
    again = list(leave_one_out(spoiled))[2]
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(without[2], name))


@pytest.mark.parametrize("container", ["dask", "xarray", "xarray of dask"])
def test_containers_and_groups(container):
    x, m, w = sample(9, 240, dtype=np.float32)
    labels = np.repeat(["b", "a"], 120)
    cube, other = x.reshape(12, 20, 4), m.reshape(12, 20, 3)
    weight, groups = w.reshape(12, 20), labels.reshape(12, 20)
    if container != "xarray":
        cube = da.from_array(cube, chunks=(5, 7, 2))
        other = da.from_array(other, chunks=(5, 7, 3))
    if container != "dask":
        cube = xr.DataArray(cube, dims=("y", "x", "channel"))
    found = moments(cube, other, weight=weight, groups=groups)
    assert list(found) == ["b", "a"]
    for label in found:
        rows = labels == label
        assert_sums(found[label], reference(x[rows], m[rows], w[rows]), rtol=3e-6)


def test_missing_rows_are_left_out_only_when_asked():
    x, m, _ = sample(10)
    m[::5, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        moments(x, m)
    known = ~np.isnan(m).any(axis=1)
    found = moments(x, m, dtype=np.float64, skip_missing=True)
    assert_sums(found, reference(x[known], m[known]), rtol=1e-12)


def test_the_result_does_not_depend_on_the_scheduler():
    x, _, _ = sample(11, 4000, p=12, dtype=np.float32)
    lazy = da.from_array(x, chunks=(100, 12))
    import dask

    results = []
    for settings_ in ({"scheduler": "sync"}, {"scheduler": "threads", "num_workers": 4}):
        with dask.config.set(settings_):
            results.append(moments(lazy))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(results[0], name), getattr(results[1], name))


def test_tasks_go_through_run_and_come_to_the_same():
    x, m, _ = sample(12, 5000 * 20, p=2, q=1, dtype=np.float32)
    counts = []

    def run(tasks):
        counts.append(len(tasks))
        return [task() for task in tasks]

    plain, ran = moments(x, m), moments(x, m, run=run)
    assert counts == [2]
    np.testing.assert_array_equal(plain.sxm, ran.sxm)


def test_sums_of_groups_go_to_a_url_and_back(tmp_path):
    x, m, w = sample(4)
    groups = np.arange(200) // 70
    sums = Moments.from_arrays(da.from_array(x, chunks=(50, 2)), m, weight=w, groups=groups)
    for label, part in sums.items():
        part.save(str(tmp_path / f"{label}.zarr"))
    total = Moments.merge(Moments.load(str(tmp_path / f"{k}.zarr")) for k in sums)
    assert_sums(total, as_dict(moments(x, m, weight=w)), rtol=1e-6)
    zarr.open_group(str(tmp_path / "0.zarr"), mode="r+").attrs.put({})
    with pytest.raises(ValueError, match="no moments"):
        Moments.load(str(tmp_path / "0.zarr"))
