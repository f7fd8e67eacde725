"""Binning conserves intensity, normalisation is what it says, blocks do not show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.grid import Block, blocks
from msiscale.msi import normalisation, open_source
from msiscale.msi.cube import bin_dense, bin_spectra, cube_block, layout, nearest
from msiscale.msi.spectra import Spectra, starts

MZ = st.floats(50, 2000, allow_nan=False)


def make(spectra: list[tuple[list[float], list[float]]]) -> Spectra:
    return Spectra(
        np.concatenate([np.sort(np.array(mz, float)) for mz, _ in spectra] or [np.empty(0)]),
        np.concatenate([np.array(v, np.float32) for _, v in spectra] or [np.empty(0)]).astype("f4"),
        starts([len(mz) for mz, _ in spectra]),
    )


@st.composite
def images(draw) -> tuple[Spectra, np.ndarray, float]:
    axis = np.unique(draw(st.lists(MZ, min_size=1, max_size=12)))
    ppm = draw(st.sampled_from([0.5, 5.0, 50.0, 2000.0]))
    around = st.builds(
        lambda m, shift: m * (1 + shift * ppm * 1e-6),
        st.sampled_from(axis.tolist()),
        st.floats(-2, 2),
    )
    spectra = []
    for _ in range(draw(st.integers(0, 5))):
        mz = draw(st.lists(st.one_of(MZ, around), max_size=20))
        values = draw(
            st.lists(st.integers(0, 4096), min_size=len(mz), max_size=len(mz))
        )  # whole numbers, so that sums are exact
        spectra.append((mz, values))
    return make(spectra), axis, ppm


@settings(max_examples=150, deadline=None)
@given(images())
def test_binned_intensity_is_that_of_the_peaks_near_an_axis_mz(image) -> None:
    spectra, axis, ppm = image
    binned = bin_spectra(spectra, axis, ppm)
    assert binned.shape == (len(spectra), len(axis)) and binned.dtype == np.float32
    for (mz, intensity), row in zip(spectra, binned, strict=True):
        expected = np.zeros(len(axis))
        for m, value in zip(mz, intensity, strict=True):
            distance = np.abs(m - axis)
            j = int(np.argmin(distance))
            if distance[j] <= axis[j] * (ppm * 1e-6):
                expected[j] += value
        assert row.sum() == expected.sum()
        # Which of two equally near m/z gets a peak is a matter of rounding; nothing else is.
        if not np.array_equal(row, expected):
            middle = np.abs(np.subtract.outer(mz, (axis[1:] + axis[:-1]) / 2))
            assert (middle < 1e-9).any()


def test_each_peak_goes_to_one_mz_and_ties_to_the_lower() -> None:
    spectra = make([([100.0, 150.0, 200.0, 500.0], [1, 2, 4, 8])])
    # A tolerance so wide that both windows hold the middle peak.
    np.testing.assert_array_equal(bin_spectra(spectra, [100.0, 200.0], 6e5), [[3, 4]])


def test_peaks_beyond_the_axis_are_dropped_not_folded() -> None:
    spectra = make([([10.0, 99.0, 101.0, 5000.0], [1, 1, 1, 1])])
    assert bin_spectra(spectra, [100.0], 5.0).sum() == 0
    assert bin_spectra(spectra, [100.0], 20_000.0).sum() == 2


@pytest.mark.parametrize("axis", [[], [2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, np.nan]])
def test_axes_that_are_none(axis) -> None:
    with pytest.raises(ValueError, match="axis"):
        bin_spectra(make([([1.0], [1.0])]), axis, 5.0)


def test_profile_points_are_summed_over_the_window() -> None:
    mz = np.linspace(499.99, 500.01, 41)
    spectra = make([(mz.tolist(), np.arange(41).tolist())])
    inside = np.abs(mz - 500) <= 500 * 5e-6
    assert bin_spectra(spectra, [500.0], 5.0)[0, 0] == np.arange(41)[inside].sum()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3))
def test_dense_and_ragged_binning_agree(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mz = np.sort(rng.uniform(100, 101, n))
    axis = np.unique(rng.uniform(100, 101, k))
    dense = rng.integers(0, 1000, (4, n)).astype(np.float32)
    ragged = Spectra(np.tile(mz, 4), dense.ravel(), starts([n] * 4))
    np.testing.assert_array_equal(
        bin_dense(dense, nearest(mz, axis, 500.0), len(axis)), bin_spectra(ragged, axis, 500.0)
    )


def test_normalisation_factors() -> None:
    spectra = make([([1, 2, 3], [3, 0, 4]), ([], []), ([1], [0]), ([1, 2, 3, 4], [1, 2, 3, 10])])
    np.testing.assert_array_equal(normalisation(spectra, "none"), [1, 1, 1, 1])
    np.testing.assert_array_equal(normalisation(spectra, "tic"), [7, np.nan, np.nan, 16])
    np.testing.assert_allclose(
        normalisation(spectra, "rms"),
        [np.sqrt(25 / 2), np.nan, np.nan, np.sqrt(114 / 4)],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(normalisation(spectra, "median"), [3.5, np.nan, np.nan, 2.5])
    with pytest.raises(ValueError, match="none of none, tic"):
        normalisation(spectra, "mean")


@pytest.mark.parametrize("mode", ["processed", "continuous"])
@pytest.mark.parametrize("normalise", ["none", "tic", "rms", "median"])
def test_a_cube_does_not_depend_on_its_blocks(write, mode, normalise, monkeypatch) -> None:
    rng = np.random.default_rng(5)
    axis = np.sort(rng.uniform(100, 110, 12))
    xy = [(x, y) for y in range(1, 8) for x in range(1, 7) if (x + y) % 5]
    spectra = []
    for _ in xy:
        mz = axis if mode == "continuous" else np.sort(rng.choice(axis, 9, replace=False))
        spectra.append((mz, rng.random(len(mz)).astype(np.float32)))
    spectra[3] = (spectra[3][0], np.zeros_like(spectra[3][1]))  # a blank pixel
    source = open_source(str(write(xy=xy, spectra=spectra, mode=mode).path))
    columns = np.sort(rng.choice(axis, 7, replace=False))
    options = {"tolerance_ppm": 20_000.0, "normalise": normalise}
    whole, factor = cube_block(source, columns, Block(0, 7, 0, 6), **options)
    measured = np.zeros(source.shape, bool)
    measured[tuple(source.positions.T)] = True
    if normalise != "none":
        measured[tuple(source.positions[3])] = False
    np.testing.assert_array_equal(np.isfinite(whole).all(axis=2), measured)
    np.testing.assert_array_equal(np.isnan(whole).all(axis=2), ~measured)
    np.testing.assert_array_equal(np.isfinite(factor), measured)
    import msiscale.msi.cube as module

    monkeypatch.setattr(module, "_CELLS", 20)  # and not on its batches
    for size in ((1, 1), (3, 2), (7, 6)):
        for block in blocks(source.shape, size):
            part, some = cube_block(source, columns, block, **options)
            np.testing.assert_array_equal(part, whole[block.slices])
            np.testing.assert_array_equal(some, factor[block.slices])
    by_hand = bin_spectra(source.read(np.array([0])), columns, 20_000.0)[0]
    y, x = source.positions[0]
    divisor = normalisation(source.read(np.array([0])), normalise)[0]
    np.testing.assert_array_equal(whole[y, x], by_hand / divisor)


def test_the_axis_of_a_continuous_source_is_taken_as_it_is(write) -> None:
    axis = np.array([100.0, 100.0001, 100.0001, 200.0])  # closer than any tolerance, one summed
    spectra = [(axis, np.arange(4, dtype=np.float32) + i) for i in range(2)]
    file = write(xy=[(1, 1), (2, 1)], spectra=spectra, mode="continuous")
    source = open_source(str(file.path))
    values, _ = cube_block(source, None, Block(0, 1, 0, 2))
    np.testing.assert_array_equal(values[0], [[0, 3, 3], [1, 5, 4]])
    with pytest.raises(ValueError, match="give one"):
        cube_block(open_source(str(write("ragged").path)), None, Block(0, 1, 0, 1))


@pytest.mark.parametrize("n_mz", [1, 63, 79, 500, 2500, 20_000, 300_000])
def test_layout(n_mz: int) -> None:
    chunks, shards = layout((500, 400), n_mz)
    assert all(s % c == 0 for s, c in zip(shards, chunks, strict=True))
    assert shards[2] >= n_mz and shards[0] == shards[1]
    size = shards[0] * shards[1] * shards[2] * 4
    assert size <= 64 * 2**20 or shards[0] == 8
    assert chunks[2] <= 64 and chunks[0] <= 32
