"""A distance from the training: Mahalanobis' where that is defined, and calibrated by patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from msiscale import store
from msiscale.models.joint import LinearMap
from msiscale.models.moments import Moments
from msiscale.models.novelty import EDGES, Limits, Novelty, foreign, histogram, pooled_quantiles
from msiscale.models.ridge import RidgePath


def features(n: int, p: int, seed: int) -> np.ndarray:
    """Correlated, of very different scales, one channel dead."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(p, p)))[0] * np.geomspace(3, 0.1, p)
    x = (rng.normal(size=(n, p)) @ mix + rng.normal(size=p)).astype(np.float32)
    x[:, 1] = 0.5
    return x


def _distance(novelty: Novelty, x: np.ndarray) -> np.ndarray:
    return novelty.measure(x)[0]


def mapped(x: np.ndarray) -> LinearMap:
    """As `FoldModel.maps` has it."""
    sums = Moments.of(x, x[:, :2], dtype=np.float64)
    path = RidgePath.of(sums, least_scale=0.5)
    inverse = np.divide(1, path.scale, out=np.zeros_like(path.scale), where=path.scale > 0)
    axes = inverse[:, None] * path.vectors
    return LinearMap(axes, -(sums.mean_x @ axes), path.values)


def test_it_is_mahalanobis_distance_where_all_directions_are_kept() -> None:
    x = features(4000, 8, 0)
    novelty = Novelty.of(mapped(x), share=1.0)
    live = np.delete(x.astype(float), 1, axis=1)
    inverse = np.linalg.inv(np.cov(live.T, ddof=0))
    expected = [mahalanobis(row, live.mean(0), inverse) / np.sqrt(7) for row in live[:20]]
    np.testing.assert_allclose(_distance(novelty, x[:20]), expected, rtol=1e-3)
    assert np.mean(_distance(novelty, x).astype(float) ** 2) == pytest.approx(1, rel=1e-3)


def test_fewer_directions_keep_the_mean_square_and_the_memory_small() -> None:
    x = features(3000, 60, 1)
    novelty = Novelty.of(mapped(x), share=0.8)
    assert novelty.axes.shape[1] < 40
    assert np.mean(_distance(novelty, x).astype(float) ** 2) == pytest.approx(1, rel=1e-2)
    assert Novelty.of(mapped(x), most=5).axes.shape == (60, 5)


def test_what_is_elsewhere_is_far_in_seen_and_in_unseen_directions() -> None:
    x = features(50, 60, 2)  # fewer pixels than channels
    novelty = Novelty.of(mapped(x))
    other = x[:10].copy()
    rng = np.random.default_rng(0)
    other += rng.normal(size=other.shape).astype(np.float32) * 3
    assert _distance(novelty, other).min() > 3 * _distance(novelty, x).max()
    assert np.isnan(_distance(novelty, np.full((2, 60), np.nan, np.float32))).all()


def test_saved_and_loaded_it_measures_the_same(tmp_path) -> None:  # type: ignore[no-untyped-def]
    x = features(300, 12, 3)
    novelty = Novelty.of(mapped(x))
    group = store.open_group(str(tmp_path / "novelty.zarr"), "a")
    novelty.save(group)
    np.testing.assert_array_equal(_distance(Novelty.load(group), x), _distance(novelty, x))
    with pytest.raises(ValueError, match="no distribution"):
        Novelty.load(store.open_group(str(tmp_path / "other.zarr"), "a"))


def test_the_unexplained_share_does_not_depend_on_the_size_of_a_deviation() -> None:
    x = features(3000, 30, 4)
    novelty = Novelty.of(mapped(x), most=5)
    deviation = x[:50] - novelty.mean
    one = novelty.measure(novelty.mean + deviation)[1]
    ten = novelty.measure(novelty.mean + 10 * deviation)[1]
    np.testing.assert_allclose(one, ten, rtol=1e-3)
    assert one.min() > 0 and one.max() < 1
    scale = np.divide(1, novelty.inverse, out=np.zeros(30, np.float32), where=novelty.inverse > 0)
    along = novelty.mean + novelty.axes[:, 0] * scale  # what the training varies along
    assert novelty.measure(along[None])[1] < 1e-2


def test_a_neighbourhood_is_of_msi_pixels_and_of_tissue_only() -> None:
    values = np.full((40, 40), np.nan, np.float32)
    values[5:35, 5:35] = 0.5
    found = foreign(values, 1.0)
    np.testing.assert_allclose(found[5:35, 5:35], 0.5, rtol=1e-5)  # its border does not count
    assert np.isnan(found[0, 0])
    values[20, 20] = 1
    fine = np.kron(values, np.ones((3, 3), np.float32))
    np.testing.assert_allclose(
        foreign(fine, 3.0)[1::3, 1::3], foreign(values, 1.0), rtol=0.02, equal_nan=True
    )


def test_either_limit_flags() -> None:
    levels = {"0.99": 2.0}, {"0.99": 0.7}
    limits = Limits(*levels, by="leave_one_patient_out")
    distance = np.array([[1, 3, 1, np.nan]], np.float32).repeat(30, 0)
    calm = np.full((30, 4), 0.5, np.float32)
    calm[:, 3] = np.nan
    expected = np.array([[False, True, False, False]]).repeat(30, 0)
    np.testing.assert_array_equal(limits.exceeded(distance, calm, 1.0), expected)
    assert limits.exceeded(distance, calm + 0.3, 1.0)[:, :3].all()


def test_quantiles_count_every_patient_the_same() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.uniform(0.5, 1, 100_000), rng.uniform(4, 5, 500)
    counts = {"a1": histogram(near[:60_000]), "a2": histogram(near[60_000:]), "b": histogram(far)}
    patients = {"a1": "a", "a2": "a", "b": "b"}
    quarter, most = pooled_quantiles(counts, patients, [0.25, 0.75])
    assert quarter == pytest.approx(np.quantile(near, 0.5), rel=5e-3)
    assert most == pytest.approx(np.quantile(far, 0.5), rel=5e-3)
    with pytest.raises(ValueError, match="no values to take"):
        pooled_quantiles({"a": histogram([np.nan])}, {"a": "a"}, [0.5])


def test_histograms_add_up_and_lose_nothing() -> None:
    values = np.array([0.0, 1e-3, 1.0, 2.0, 1e9, np.nan])
    parts = histogram(values[:3]) + histogram(values[3:])
    np.testing.assert_array_equal(parts, histogram(values))
    assert parts.sum() == 5 and parts.shape == (len(EDGES) - 1,)
