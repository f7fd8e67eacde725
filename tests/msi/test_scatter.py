"""The window around an m/z: the scatter of peaks that is known, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.msi import open_source
from msiscale.msi.peaks import PeakSums, binned, peak_sums
from msiscale.msi.scatter import ASSUMED, LEAST_PPM, WIDE, Scatter, common_window, scatter_of
from msiscale.msi.window import LAWS, Window

IONS = np.sort(np.random.default_rng(0).uniform(300, 1200, 60))
STEP = 0.5e-6


def sums_of(mz: np.ndarray, n_pixels: int) -> PeakSums:
    """Sums of peaks of intensity 1 a pixel."""
    place = np.log(mz) / STEP
    bins, count = np.unique(np.floor(place).astype(np.int64), return_counts=True)
    weight = count.astype(np.int64) * 1000
    return PeakSums(STEP, n_pixels, False, bins, count, count, weight, weight * 128)


def centroids(ppm: float, power: float = 0.0, seed: int = 1, shift: float = 0.0) -> PeakSums:
    rng = np.random.default_rng(seed)
    scatter = ppm * (IONS / 500) ** power * rng.standard_normal((200, len(IONS)))
    own = IONS * (1 + 1e-6 * (shift + scatter))
    return sums_of(np.concatenate([own.ravel(), rng.uniform(300, 1200, 10_000)]), 200)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, -1.0])
def test_scatter_and_law_of_centroids(power) -> None:
    choice = common_window({"a": scatter_of(centroids(8.0, power))})
    assert choice.window.power == power
    assert choice.window.half_ppm(500.0) == pytest.approx(WIDE * 8, rel=0.12)
    assert choice.window.half_ppm(1000.0) == pytest.approx(WIDE * 8 * 2**power, rel=0.12)
    assert LAWS[power] in choice.text() or power == 0
    assert not choice.different()


@settings(max_examples=20, deadline=None)
@given(ppm=st.floats(1.5, 40), seed=st.integers(0, 100))
def test_the_window_follows_the_scatter(ppm, seed) -> None:
    window = common_window({"a": scatter_of(centroids(ppm, seed=seed))}).window
    assert window.half_ppm(700.0) == pytest.approx(WIDE * ppm, rel=0.2)


def test_width_of_profile_peaks(write) -> None:
    rng = np.random.default_rng(3)
    grid = np.linspace(20, 24.5, 12_000) ** 2
    clean = sum(np.exp(-0.5 * ((grid / m - 1) / 60e-6) ** 2) for m in np.linspace(410, 595, 25))
    pixels = [
        (grid, (300 * clean + np.abs(rng.normal(0, 3, 12_000))).astype("f4")) for _ in range(9)
    ]
    xy = [(i + 1, 1) for i in range(9)]
    file = write(xy=xy, spectra=pixels, mode="continuous", spec_type="profile")
    scatter = scatter_of(peak_sums(open_source(str(file.path))))
    assert scatter.profile
    np.testing.assert_allclose(scatter.ppm, 60, rtol=0.1)


def test_too_few_peaks_and_exact_ones() -> None:
    few = common_window({"a": scatter_of(sums_of(IONS[:5], 3))})
    assert few.window == ASSUMED and "assumed" in few.text() and "--tolerance-ppm" in few.text()
    exact = common_window({"a": scatter_of(sums_of(np.repeat(IONS, 50), 50))})
    assert exact.window == Window(LEAST_PPM)
    nothing = scatter_of(sums_of(np.zeros(0), 3))
    assert nothing == Scatter() and common_window({"a": nothing}).window == ASSUMED


def test_specimens_that_lie_apart_widen_the_window() -> None:
    shifts = {"a": -4.0, "b": 0.0, "c": 4.0}
    parts = {
        n: scatter_of(centroids(2.0, seed=i, shift=s)) for i, (n, s) in enumerate(shifts.items())
    }
    choice = common_window(parts)
    np.testing.assert_allclose(choice.apart - choice.apart[1], [-4, 0, 4], atol=0.6)
    assert 4 + 2 < choice.window.half_ppm(700.0) < 25
    assert "between specimens" in choice.text()


def test_specimens_that_differ_are_named() -> None:
    parts = {f"s{i}": scatter_of(centroids(1.5, seed=i)) for i in range(4)}
    parts["tof"] = scatter_of(centroids(20.0, seed=9))
    choice = common_window(parts)
    assert choice.window.half_ppm(700.0) > 50  # for nearly all
    (name,) = choice.different()
    assert name == "tof" and "another instrument" in choice.different()["tof"]
    parts = {f"s{i}": scatter_of(centroids(1.5, seed=i)) for i in range(6)}
    parts["off"] = scatter_of(centroids(1.5, seed=9, shift=9.0))
    assert "--recalibrate" in common_window(parts).different()["off"]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_choice_does_not_depend_on_the_order(order) -> None:
    parts = [scatter_of(centroids(2.0 + i, seed=i)) for i in range(4)]
    assert (
        common_window({str(i): parts[i] for i in order}).window
        == common_window({str(i): part for i, part in enumerate(parts)}).window
    )


@given(
    power=st.sampled_from(sorted(LAWS)),
    ppm=st.floats(1, 2000),
    mz=st.lists(st.floats(50, 5000), min_size=2, max_size=9, unique=True),
)
def test_places_ascend_and_lead_back(power, ppm, mz) -> None:
    window, mz = Window(ppm, power, 700.0), np.sort(mz)
    place = window.place(np.log(mz))
    assert (np.diff(place) >= 0).all()
    np.testing.assert_allclose(np.exp(window.log_mz(place)), mz, rtol=1e-10)
    half = window.half_ppm(mz[0]) * 1e-6
    assert window.place(np.log(mz[:1]) + half * 1e-3)[0] - place[0] == pytest.approx(1e-3, rel=0.01)
    assert Window(**window.facts()) == window


def test_full_even_bins_are_no_centroids(write) -> None:
    rng = np.random.default_rng(5)
    grid, xy = np.linspace(600, 800, 500), [(i + 1, 1) for i in range(4)]
    full = [(grid, rng.uniform(1, 9, 500).astype("f4")) for _ in xy]
    sparse = [(grid, np.where(rng.random(500) < 0.1, v, 0).astype("f4")) for _, v in full]
    own = [(np.sort(rng.uniform(600, 800, 500)), v) for _, v in full]
    kinds = {
        "full": (full, "continuous"),
        "sparse": (sparse, "continuous"),
        "own": (own, "processed"),
    }
    found = {}
    for name, (spectra, mode) in kinds.items():
        file = write(name, xy=xy, spectra=spectra, mode=mode, spec_type="centroid")
        found[name] = binned(open_source(str(file.path)))
    assert found == {"full": True, "sparse": False, "own": False}
