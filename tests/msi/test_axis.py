"""The cohort's m/z axis: the planted ions, the same bits for any split, support by specimen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale import store
from msiscale.errors import InputError
from msiscale.grid import Block
from msiscale.msi import open_msi, open_source
from msiscale.msi.axis import find_axis, supported
from msiscale.msi.cube import cube_block, nearest
from msiscale.msi.fixed_axis import fixed_axis, half_step
from msiscale.msi.peaks import PeakSums, peak_sums
from msiscale.msi.scatter import common_window, scatter_of
from msiscale.msi.window import Window

IONS = np.array([150.1, 300.2, 300.2054, 512.7, 780.55, 781.55, 999.9])
FIELDS = ("bins", "count", "points", "weight", "moment")


def centroids(rng: np.random.Generator, ions: np.ndarray, n: int, noise: int = 20) -> list:
    """Peak lists with 1 ppm jitter, ions present in 60 % of the pixels, and random noise peaks."""
    spectra = []
    for _ in range(n):
        here = ions[rng.random(len(ions)) < 0.6]
        mz = np.concatenate(
            [here * (1 + rng.normal(0, 1e-6, len(here))), rng.uniform(100, 1000, noise)]
        )
        order = np.argsort(mz)
        values = np.concatenate([rng.uniform(50, 200, len(here)), rng.uniform(1, 10, noise)])
        spectra.append((mz[order], values[order].astype(np.float32)))
    return spectra


def place(n: int) -> list[tuple[int, int]]:
    return [(i % 10 + 1, i // 10 + 1) for i in range(n)]


@pytest.fixture
def image(write):
    rng = np.random.default_rng(0)
    return open_source(str(write(xy=place(200), spectra=centroids(rng, IONS, 200)).path))


def same(a: PeakSums, b: PeakSums) -> None:
    assert (a.step, a.n_pixels, a.profile, a.repairs) == (b.step, b.n_pixels, b.profile, b.repairs)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=4), order=st.randoms())
def test_sums_do_not_depend_on_the_split_or_its_order(split_source, cuts, order) -> None:
    source, whole = split_source
    parts = np.split(order.sample(range(200), 200), sorted(cuts))
    sums = [peak_sums(source, indices=np.asarray(part, int)) for part in parts]
    order.shuffle(sums)
    total = sums[0]
    for other in sums[1:]:
        total = total + other
    same(total, whole)


@pytest.fixture(scope="module")
def split_source(tmp_path_factory):
    from pyimzml.ImzMLWriter import ImzMLWriter

    path = tmp_path_factory.mktemp("split") / "split"
    with ImzMLWriter(str(path), mode="processed") as writer:
        spectra = centroids(np.random.default_rng(1), IONS, 200)
        for xy, (mz, values) in zip(place(200), spectra, strict=True):
            writer.addSpectrum(mz, values, xy)
    source = open_source(f"{path}.imzML")
    return source, peak_sums(source)


@pytest.mark.parametrize("profile", [False, True])
def test_sums_of_a_shared_axis_equal_those_of_the_same_spectra_ragged(write, profile) -> None:
    rng = np.random.default_rng(2)
    axis = np.linspace(500, 501, 300)
    shape = np.exp(-0.5 * ((axis - 500.5) / 0.01) ** 2) * 1000
    spectra = [(axis, (shape + rng.random(300)).astype(np.float32)) for _ in range(12)]
    kind = "profile" if profile else "centroid"
    sums = []
    for mode in ("continuous", "processed"):
        file = write(mode, xy=place(12), spectra=spectra, mode=mode, spec_type=kind)
        source = open_source(str(file.path))
        source.profile = profile
        sums.append(peak_sums(source))
    same(*sums)


def test_sums_survive_the_store(image, tmp_path: Path) -> None:
    sums = peak_sums(image)
    sums.save(store.open_group(str(tmp_path / "sums.zarr"), "a").require_group("peaks"))
    same(PeakSums.load(store.open_group(str(tmp_path / "sums.zarr"))["peaks"]), sums)


def test_planted_ions_are_found_and_noise_is_not(image) -> None:
    axis = find_axis({"a": peak_sums(image)}, tolerance_ppm=5.0, min_frequency=0.1)
    np.testing.assert_allclose(axis.mz, IONS, rtol=0.5e-6)
    # What the axis calls frequency and intensity is what the cube will hold.
    spectra = image.read(np.arange(200))
    index = nearest(spectra.mz, axis.mz.values, 5.0)
    hits = np.bincount(index[index >= 0], minlength=len(IONS)) / 200
    np.testing.assert_allclose(axis.frequency[0], hits, atol=0.006)
    assert (axis.snr > 50).all()
    assert axis.frequency.dims == ("specimen", "mz") and axis.mz.dtype == np.float64


def test_support_is_of_each_specimen(write) -> None:
    rng = np.random.default_rng(4)
    sums = {}
    for name, ions in (("a", IONS[:4]), ("b", IONS[2:]), ("c", IONS)):
        file = write(name, xy=place(100), spectra=centroids(rng, ions, 100))
        sums[name] = peak_sums(open_source(str(file.path)))
    axis = find_axis(sums, min_frequency=0.1)
    np.testing.assert_allclose(axis.mz, IONS, rtol=1e-6)
    np.testing.assert_array_equal(supported(axis, ["a"]), [1, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(supported(axis, ["b"]), [0, 0, 1, 1, 1, 1, 1])
    assert supported(axis, ["a", "b"]).all()
    assert not supported(axis, ["c"], min_frequency=1.1).any()
    # A specimen's own numbers do not change with its company, the axis being given.
    alone = find_axis({"b": sums["b"]}, mz=axis.mz.values, min_frequency=0.1)
    for name in ("frequency", "mean_intensity", "snr"):
        np.testing.assert_array_equal(alone[name][0], axis[name].sel(specimen="b"))
    assert supported(alone, ["b"]).all()


def test_an_ion_in_a_single_specimen_of_many_is_kept(write) -> None:
    rng = np.random.default_rng(5)
    sums = {}
    for i in range(6):
        ions = IONS if i == 3 else IONS[1:]
        file = write(f"s{i}", xy=place(60), spectra=centroids(rng, ions, 60))
        sums[f"s{i}"] = peak_sums(open_source(str(file.path)))
    axis = find_axis(sums, min_frequency=0.1)
    np.testing.assert_allclose(axis.mz, IONS, rtol=1e-6)


def test_profile_peaks(write) -> None:
    rng = np.random.default_rng(6)
    grid = 400 * np.exp(np.arange(8000) * 2e-6)
    ions = np.array([401.0, 402.5, 404.0, 405.7])
    sigma = 6e-6
    clean = sum(
        h * np.exp(-0.5 * (np.log(grid / m) / sigma) ** 2)
        for m, h in zip(ions, (100, 30, 300, 60), strict=True)
    )
    spectra = []
    for _ in range(30):
        values = clean * rng.uniform(0.5, 1.5) + np.abs(rng.normal(0, 3, len(grid)))
        spectra.append((grid, values.astype(np.float32)))
    for mode in ("continuous", "processed"):
        file = write(mode, xy=place(30), spectra=spectra, mode=mode, spec_type="profile")
        source = open_source(str(file.path))
        axis = find_axis({"a": peak_sums(source, tolerance_ppm=10.0)}, tolerance_ppm=10.0, snr=10)
        np.testing.assert_allclose(axis.mz, ions, rtol=2e-6)
        assert (axis.frequency > 0.9).all()


def test_real_files_give_axes(shared_data: Path) -> None:
    sums = {}
    for name in ("metaspace_untreated_tiny/Untreated_3_434_tiny", "matrixtests_n2/MatrixTests_N2"):
        source = open_source(str(shared_data / "imzml" / f"{name}.imzML"))
        sums[name] = peak_sums(source)
    axis = find_axis(sums)
    mz = axis.mz.values
    assert len(mz) > 100 and (np.diff(mz) > 0).all()
    # Ions in at least three of eight pixels of the spheroids, counted by hand.
    spectra = source = open_source(
        str(shared_data / "imzml/metaspace_untreated_tiny/Untreated_3_434_tiny.imzML")
    )
    spectra = source.read(np.arange(8))
    index = nearest(spectra.mz, mz, 5.0)
    strong = spectra.mz[spectra.intensity > np.quantile(spectra.intensity, 0.9)]
    assert (nearest(strong, mz, 5.0) >= 0).mean() > 0.7
    assert (index >= 0).any()


def test_nothing_found_says_what_to_do(write) -> None:
    file = write(xy=place(3), spectra=[([100.0 + i], [1.0]) for i in range(3)])
    sums = {"only": peak_sums(open_source(str(file.path)))}
    with pytest.raises(InputError, match=r"only.*fixed m/z axis"):
        find_axis(sums)
    with pytest.raises(ValueError, match="too coarse"):
        find_axis(sums, tolerance_ppm=0.5)
    blank = write("blank", xy=place(2), spectra=[([100.0], [0.0])] * 2)
    sums = {"blank": peak_sums(open_source(str(blank.path)))}
    with pytest.raises(InputError, match="no m/z found in blank"):
        find_axis(sums)
    assert find_axis(sums, mz=[100.0]).frequency.item() == 0


def test_fixed_axes(tmp_path: Path) -> None:
    np.testing.assert_array_equal(fixed_axis([3.0, 1.0, 3.0]), [1, 3])
    bins = fixed_axis("ppm:100:101:50")
    assert bins[0] == 100 and 100.99 < bins[-1] <= 101
    np.testing.assert_allclose(np.diff(bins) / bins[:-1], 50e-6, rtol=1e-6)
    csv = tmp_path / "ions.csv"
    csv.write_text("name,m/z\nPC,760.585\nPE,716.523\n")
    np.testing.assert_array_equal(fixed_axis(str(csv)), [716.523, 760.585])
    csv.write_text("\ufeff760.585\n716.523\n", "utf-8")
    np.testing.assert_array_equal(fixed_axis(str(csv)), [716.523, 760.585])
    csv.write_text("ions\n760.585\n")
    np.testing.assert_array_equal(fixed_axis(str(csv)), [760.585])
    for text, words in (
        ("", "empty"),
        ("a,b\n1,2\n", "no column mz"),
        ("mz\nx\n", "holds no m/z"),
        ("mz\n-1\n", "positive"),
    ):
        csv.write_text(text)
        with pytest.raises(InputError, match=words):
            fixed_axis(str(csv))
    for spec in (
        "ppm:1:2",
        "ppm:200:100:5",
        "ppm:100:200:0",
        str(tmp_path / "none.csv"),
        [],
        [-1.0],
    ):
        with pytest.raises(InputError):
            fixed_axis(spec)


def test_an_axis_longer_than_can_be_used_is_refused(image, tmp_path: Path) -> None:
    csv = tmp_path / "axis.csv"
    csv.write_text("mz\n100\n200\n300\n")
    assert len(fixed_axis(str(csv), most=3)) == 3
    for spec, words in (
        (str(csv), "axis.csv: 3 m/z"),
        ("ppm:100:1000:0.01", "230,258,511 m/z"),  # never made: it would take gigabytes
        ([1.0, 2.0, 3.0], "m/z axis: 3 m/z"),
    ):
        with pytest.raises(InputError, match=f"{words}, and at most 2 can be fitted; .*coarser"):
            fixed_axis(spec, most=2)
    sums = {"a": peak_sums(image)}
    assert find_axis(sums, most=1000).sizes["mz"] > 6
    with pytest.raises(InputError, match="at most 6 can be fitted; raise --min-frequency"):
        find_axis(sums, most=6)


def noise_only(n_pixels: int, seed: int) -> PeakSums:
    """Sums of random centroids, 200 a pixel, of no ion."""
    rng = np.random.default_rng(seed)
    place = np.log(rng.uniform(300, 1000, 200 * n_pixels)) / 0.5e-6
    bins, count = np.unique(np.floor(place).astype(np.int64), return_counts=True)
    weight = count * 1000
    return PeakSums(0.5e-6, n_pixels, False, bins, count, count, weight, weight * 128)


@pytest.mark.parametrize("ppm", [3.0, 40.0])
def test_noise_gives_no_peaks_at_all(ppm) -> None:
    for seed in range(5):
        with pytest.raises(InputError, match="no m/z found"):
            find_axis({"a": noise_only(300, seed)}, tolerance_ppm=ppm, snr=0.1)


def test_long_noisy_profiles_give_their_ions_only(write) -> None:
    rng = np.random.default_rng(8)
    grid = 500 * np.exp(np.arange(60_000) * 2e-6)
    ions = np.linspace(505, 555, 12)
    clean = sum(40 * np.exp(-0.5 * ((grid / m - 1) / 5e-6) ** 2) for m in ions)
    spectra = [
        (grid, (clean + np.hypot(*rng.normal(0, 9, (2, 60_000)))).astype("f4")) for _ in range(16)
    ]
    file = write(xy=place(16), spectra=spectra, mode="continuous", spec_type="profile")
    sums = {"a": peak_sums(open_source(str(file.path)))}
    window = common_window({"a": scatter_of(sums["a"])}).window
    axis = find_axis(sums, tolerance_ppm=window)
    np.testing.assert_allclose(axis.mz, ions, rtol=2e-6)


def test_windows_that_grow_with_mz(write) -> None:
    rng = np.random.default_rng(9)
    ions = np.array([200.0, 400.0, 800.0])
    spectra = [
        (ions * (1 + 1e-6 * rng.normal(0, 1, 3) * ions / 200), np.ones(3, "f4")) for _ in range(200)
    ]
    source = open_source(str(write(xy=place(200), spectra=spectra).path))
    window = Window(4.0, 1.0, 200.0)  # 16 ppm at m/z 800
    axis = find_axis({"a": peak_sums(source)}, tolerance_ppm=window)
    np.testing.assert_allclose(axis.mz, ions, rtol=1e-6)
    np.testing.assert_allclose(axis.captured, 1, atol=0.01)
    cube, _ = cube_block(source, axis.mz.values, Block(0, 20, 0, 10), tolerance_ppm=window)
    assert (cube > 0).mean() > 0.99
    narrow, _ = cube_block(source, axis.mz.values, Block(0, 20, 0, 10), tolerance_ppm=4.0)
    assert (narrow[..., 2] > 0).mean() < 0.8


def test_captured_is_the_share_that_the_cube_holds(image) -> None:
    axis = find_axis({"a": peak_sums(image)}, min_frequency=0.1)
    cube, _ = cube_block(image, axis.mz.values, Block(0, 20, 0, 10), normalise="tic")
    assert axis.captured.item() == pytest.approx(np.nanmean(cube.sum(axis=2)), abs=2e-3)


def test_bins_take_half_their_step_on_either_side(write) -> None:
    spec = "ppm:600:1000:100"
    assert half_step(spec) == 50.0 and half_step("axis.csv") is None and half_step([1.0]) is None
    rng = np.random.default_rng(10)
    mz = np.sort(rng.uniform(600, 1000, 3000))
    path = str(write(xy=place(1), spectra=[(mz, np.ones(3000, "f4"))]).path)
    cube = open_msi(path, mz=spec, tolerance_ppm=5)  # bins are bins, whatever the tolerance
    assert cube.intensity.sum() == ((mz >= 600) & (mz <= cube.mz[-1].item() * (1 + 50e-6))).sum()
