"""Mass errors that are known are found and taken away; where none can be, nothing is changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.grid import Block
from msiscale.msi import find_axis, open_source, peak_sums
from msiscale.msi.calibration import MIN_MATCHES, Calibration, correct_sums, estimate
from msiscale.msi.cube import cube_block

TRUE = Calibration(12.0, 1.5, 600.0, 300.0, 1000.0)  # ppm at m/z 600, ppm over 100 Da


def shifted(mz: np.ndarray, error: Calibration = TRUE) -> np.ndarray:
    """What a file says where the truth is `mz`."""
    out = mz
    for _ in range(4):  # the error is a function of what the file says
        out = mz * (1 + 1e-6 * error.error_ppm(out))
    return out


def ions(seed: int, n: int) -> np.ndarray:
    """m/z far apart from each other."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(np.linspace(300, 1000, 3000))[:n])


def noisy(mz: np.ndarray, seed: int = 0, ppm: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return mz * (1 + 1e-6 * ppm * rng.standard_normal(len(mz)))


def test_a_line_is_found_among_peaks_and_references_that_have_no_partner() -> None:
    here = ions(0, 60)
    peaks = np.concatenate([noisy(shifted(here)), np.random.default_rng(1).uniform(300, 1000, 600)])
    references = np.concatenate([here, ions(7, 150)])
    found = estimate(peaks, references)
    assert not found.note and 55 <= found.matches <= 75
    at = np.linspace(320, 980, 50)
    assert np.abs(found.calibration.error_ppm(at) - TRUE.error_ppm(at)).max() < 0.3
    assert found.before[0] == pytest.approx(12, abs=2)
    assert abs(found.after[0]) < 0.2 and found.after[1] < 0.6 < found.before[1]
    np.testing.assert_allclose(found.calibration.correct(shifted(at)), at, rtol=3e-7)


@settings(max_examples=40, deadline=None)
@given(st.floats(-40, 40), st.floats(-2, 2), st.integers(0, 50))
def test_any_error_within_the_window(offset: float, slope: float, seed: int) -> None:
    error = Calibration(offset, slope, 650.0, 300.0, 1000.0)
    here = ions(seed, 40)
    rng = np.random.default_rng(seed)
    peaks = np.concatenate([noisy(shifted(here, error), seed), rng.uniform(300, 1000, 200)])
    found = estimate(peaks, here)
    left = found.calibration.error_ppm(here) - error.error_ppm(here)
    if abs(offset) > 1.5 or abs(slope) > 1:  # else there is little to be better than
        assert not found.note
    assert np.abs(left).max() < (0.6 if not found.note else 5.0)


@pytest.mark.parametrize("n", range(0, 200, 8))
def test_nothing_is_corrected_by_chance(n: int) -> None:
    rng = np.random.default_rng(n)
    peaks = rng.uniform(300, 1000, 50 + 10 * n)
    found = estimate(peaks, rng.uniform(300, 1000, n + 5))
    assert not found.calibration and found.note.startswith("not recalibrated")
    assert found.before == found.after or found.matches == 0


def test_few_matches_correct_nothing_and_some_correct_a_constant() -> None:
    few, some = ions(3, MIN_MATCHES - 1), ions(3, 12)
    found = estimate(shifted(few), few)
    assert not found.calibration and "4 references" in found.note
    found = estimate(shifted(some, replace(TRUE, slope_ppm=0.3)), some)
    assert found.matches == 12 and not found.note and found.calibration.slope_ppm == 0
    assert found.calibration.offset_ppm == pytest.approx(12, abs=1)


def test_matches_over_a_small_part_of_the_range_make_no_line() -> None:
    here = np.linspace(500, 560, 40)
    found = estimate(np.concatenate([shifted(here), [310.0, 990.0]]), here)
    assert found.matches == 40 and found.calibration.slope_ppm == 0


def test_an_exact_instrument_is_left_alone() -> None:
    here = ions(0, 40)
    found = estimate(here, here)
    assert not found.calibration and "not halve" in found.note
    assert found.calibration.correct(here) is here


def test_the_error_is_not_extrapolated() -> None:
    inside = replace(TRUE, low=500.0, high=700.0)
    assert inside.error_ppm([0.0, 500, 700, 1e5]).tolist() == [10.5, 10.5, 13.5, 13.5]


def test_corrected_mz_ascend() -> None:
    mz = np.linspace(50, 2000, 100_001)
    assert (np.diff(Calibration(30, -5, 700, 400, 900).correct(mz)) > 0).all()


def image(write, name: str, mode: str, error: Calibration | None):
    """8 x 8 pixels of 60 ions and what little differs between pixels; the same but for m/z."""
    rng = np.random.default_rng(4)
    true = ions(0, 60)
    xy = [(x, y) for y in range(1, 9) for x in range(1, 9)]
    spectra = []
    for _ in xy:
        mz = true if mode == "continuous" else noisy(true, int(rng.integers(1e6)))
        mz = mz if error is None else shifted(mz, error)
        spectra.append((mz, rng.integers(1, 1000, 60).astype(np.float32)))
    return open_source(str(write(name, xy=xy, spectra=spectra, mode=mode).path)), true


@pytest.mark.parametrize("mode", ["processed", "continuous"])
def test_a_corrected_image_is_that_of_the_exact_instrument(write, mode) -> None:
    exact, true = image(write, "exact", mode, None)
    wrong, _ = image(write, "wrong", mode, TRUE)
    sums = peak_sums(wrong)
    found = estimate(find_axis({"a": sums})["mz"].values, true)
    assert not found.note and found.matches == 60
    before = np.abs(found.before[0])
    assert before > 10 and np.abs(found.after[0]) < 0.1 and found.after[1] < 0.3
    axis = find_axis({"a": correct_sums(sums, found.calibration)})["mz"].values
    expected = find_axis({"a": peak_sums(exact)})["mz"].values
    np.testing.assert_allclose(axis, expected, rtol=3e-7)
    whole = Block(0, 8, 0, 8)
    reference = {"normalise": "reference", "reference_mz": tuple(true[[10, 50]])}
    for options in ({"normalise": "tic"}, {**reference, "transform": "log"}):
        wanted, norm = cube_block(exact, expected, whole, **options)
        got, factor = cube_block(wrong, expected, whole, calibration=found.calibration, **options)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(factor, norm)
    lost, _ = cube_block(wrong, expected, whole)
    assert (lost == 0).mean() > 0.9  # which is what the correction is for


@settings(max_examples=40, deadline=None)
@given(st.floats(-60, 60), st.floats(-5, 5), st.integers(0, 20))
def test_corrected_sums_conserve_what_was_summed(offset: float, slope: float, seed: int) -> None:
    error = Calibration(offset, slope, 600.0, 350.0, 900.0)
    sums = _sums(seed)
    moved = correct_sums(sums, error)
    for name in ("count", "points", "weight"):
        assert getattr(moved, name).sum() == getattr(sums, name).sum()
    assert (np.diff(moved.bins) > 0).all()
    inside = moved.moment / moved.weight
    assert (inside >= 0).all() and (inside < 256).all()
    # each bin's mean m/z is where the correction puts it, to 1/256 of 0.5 ppm
    here, there = _mean_mz(sums), _mean_mz(moved)
    if len(there) == len(here):
        np.testing.assert_allclose(there, error.correct(here), rtol=3e-9)


def test_nothing_to_correct_is_the_same_sums() -> None:
    sums = _sums(0)
    assert correct_sums(sums, Calibration()) is sums


def _mean_mz(sums) -> np.ndarray:
    place = sums.bins + (sums.moment / sums.weight + 0.5) / 256
    return np.exp(place * sums.step)


def _sums(seed: int):
    from msiscale.msi.peaks import PeakSums

    rng = np.random.default_rng(seed)
    step = 5e-7
    bins = np.unique((np.log(rng.uniform(300, 1000, 500)) / step).astype(np.int64))
    bins = np.unique(np.concatenate([bins, bins + 1]))
    weight = rng.integers(1, 2**40, len(bins))
    count = rng.integers(1, 100, len(bins))
    moment = (weight * rng.uniform(0, 255, len(bins))).astype(np.int64)
    return PeakSums(step, 100, False, bins, count, weight, moment, count)


def test_a_real_image_by_its_matrix_and_its_lipids(shared_data) -> None:
    """Untreated_3_434 of METASPACE (DHB, positive), cut to 8 spectra."""
    from msiscale.biomarkers.lock_masses import lock_masses

    (path,) = (shared_data / "imzml").glob("metaspace_untreated_tiny/*.[iI]*[lL]")
    sums = peak_sums(open_source(str(path), pixel_um=50))
    peaks = find_axis({"a": sums})["mz"].values
    matrix = estimate(peaks, lock_masses("dhb", "+"))
    assert matrix.matches >= 20 and abs(matrix.before[0]) < 0.5  # well calibrated at low m/z
    lipids = estimate(peaks, lock_masses("lipids", "+"))
    assert not lipids.note and lipids.calibration.low > 450
    # PC 34:1 [M+H]+, by hand
    own = peaks[np.abs(peaks / 760.585082 - 1) < 5e-6]
    assert len(own) == 1 and (own[0] / 760.585082 - 1) * 1e6 > 2
    corrected = lipids.calibration.correct(own)[0]
    assert abs(corrected / 760.585082 - 1) * 1e6 < 0.5
    for name, polarity in (("lipids", "-"), ("9aa", "-"), ("chca", "+")):  # of other instruments
        assert not estimate(peaks, lock_masses(name, polarity)).calibration
