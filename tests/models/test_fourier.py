"""Random Fourier features against scikit-learn's, the kernel they stand for, and folds of them."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.sparse import csr_array
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge as Reference
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from msiscale.models import (
    FoldModel,
    FourierMap,
    Moments,
    RandomFourier,
    Ridge,
    RowBlock,
    fit_classifiers,
    fit_fourier_folds,
    fit_linear_folds,
    leave_one_group_out,
)
from msiscale.models.fourier_folds import SLIDE, labelled
from msiscale.models.novelty import Novelty


@parametrize_with_checks([RandomFourier(64)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def data(n=400, p=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 5


def test_scores_are_white_and_of_the_leading_directions():
    x = data()
    model = RandomFourier(8, directions=3).fit(x)
    scores = model.map_.scores(x)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(scores.T, bias=True), np.eye(3), atol=1e-9)
    u, s, _ = np.linalg.svd(StandardScaler().fit_transform(x), full_matrices=False)
    overlap = np.abs((u[:, :3] * scores).sum(axis=0)) / np.sqrt(len(x))
    np.testing.assert_allclose(overlap, 1, atol=1e-9)
    assert s[2] > 1.05 * s[3]  # so that they are told apart


def test_features_equal_those_of_the_sampler_of_scikit_learn():
    x = data()
    ours = RandomFourier(100).fit(x)
    scores = ours.map_.scores(x)
    theirs = RBFSampler(n_components=100).fit(scores)
    theirs.random_weights_, theirs.random_offset_ = ours.frequencies_, ours.phases_
    np.testing.assert_allclose(ours.transform(x), theirs.transform(scores), atol=1e-12)


@pytest.mark.parametrize("length", [0.5, 1.0, 2.0])
def test_inner_products_are_the_gaussian_kernel(length):
    x = data(n=80)
    model = RandomFourier(20_000, length=length).fit(x)
    scores, phi = model.map_.scores(x), model.transform(x)
    gamma = 1 / (2 * length**2 * scores.shape[1])
    # an inner product has a standard deviation below 1 / sqrt(20,000); of 80 x 80 the largest
    assert np.abs(phi @ phi.T - rbf_kernel(scores, gamma=gamma)).max() < 5 / 20_000**0.5


def test_ridge_on_them_is_that_of_scikit_learn():
    x = data()
    y = np.stack([np.cos(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    phi = RandomFourier(50).fit_transform(x)
    ours = Ridge(1e-2).fit(phi, y)
    theirs = Reference(alpha=len(x) * 1e-2).fit(StandardScaler().fit_transform(phi), y)
    expected = theirs.predict(StandardScaler().fit_transform(phi))
    np.testing.assert_allclose(ours.predict(phi), expected, rtol=1e-6, atol=1e-8)


def test_sums_decide_and_the_seed():
    x = data()
    model = RandomFourier(20, directions=4, random_state=3).fit(x)
    sums = Moments.merge(Moments.of(None, part, dtype=np.float64) for part in np.split(x, 4))
    for found in (
        RandomFourier.from_moments(sums, "m", 20, directions=4, random_state=3),
        RandomFourier.from_moments(sums.swap(), "x", 20, directions=4, random_state=3),
    ):
        np.testing.assert_allclose(found.transform(x), model.transform(x), atol=1e-9)
    other = RandomFourier(20, directions=4, random_state=4).fit(x)
    assert np.abs(other.transform(x) - model.transform(x)).max() > 0.1


def test_lazy_labelled_and_sparse_rows():
    x = data().astype(np.float32)
    model = RandomFourier(16).fit(x)
    expected = model.transform(x)
    assert expected.dtype == np.float32
    cube = xr.DataArray(
        da.from_array(x.reshape(20, 20, 6), chunks=(5, 20, 2)), dims=("y", "x", "c")
    )
    found = RandomFourier(16).fit(cube).transform(cube)
    assert found.dims == ("y", "x", "feature") and found.chunks is not None
    np.testing.assert_allclose(found.values.reshape(400, 16), expected, atol=1e-4)
    np.testing.assert_allclose(model.transform(csr_array(x)), expected, atol=1e-4)


def test_saved_and_loaded(tmp_path):
    model = RandomFourier(16).fit(data())
    model.map_.save(str(tmp_path / "map.zarr"))
    found = FourierMap.load(str(tmp_path / "map.zarr"))
    np.testing.assert_array_equal(found.apply(data(seed=1)), model.transform(data(seed=1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"n_components": 0}, "n_components=0"),
        ({"directions": 0}, "directions=0"),
        ({"length": 0.0}, "length=0.0"),
        ({"length": float("inf")}, "length=inf"),
    ],
)
def test_parameters_out_of_range(words, message):
    with pytest.raises(ValueError, match=message):
        RandomFourier(**words).fit(data())


def test_what_does_not_vary_has_no_direction():
    with pytest.raises(ValueError, match="no variable varies"):
        RandomFourier().fit(np.ones((20, 3)))


class Cohort:
    """Four patients whose chemistry, and cancer, follow the slide by curves alone."""

    def __init__(self, shift: float = 0.0) -> None:
        self.rows, self.cancer = {}, {}
        for i, name in enumerate("abcd"):
            rng = np.random.default_rng(i)
            x = rng.normal(size=(600, 3)) + (shift if name == "d" else 0)
            told = np.stack([x[:, 0] * x[:, 1], np.cos(2 * x[:, 2])], axis=1)
            m = told @ np.random.default_rng(9).normal(size=(2, 5))
            self.rows[name] = x, m + 0.2 * rng.normal(size=m.shape)
            self.cancer[name] = (x[:, 0] * x[:, 1] > 0).astype(float)
        self.patients = {name: name for name in self.rows}
        self.folds = leave_one_group_out(self.patients)

    def fit(self, which=slice(None), features=256):
        reads = {name: lambda rows=rows: np_halves(rows) for name, rows in self.rows.items()}
        return list(
            fit_fourier_folds(reads, self.folds[which], self.patients, features, n_components=2)
        )


def np_halves(rows):
    return zip(*(np.array_split(a, 2) for a in rows), strict=True)


def test_curves_are_predicted_for_patients_who_were_held_out():
    cohort = Cohort()
    linear = fit_linear_folds(
        {name: Moments.of(*rows) for name, rows in cohort.rows.items()},
        cohort.folds,
        cohort.patients,
        n_components=2,
    )
    for one, other in zip(cohort.fit(), linear, strict=True):
        name = other.fold.name
        assert other.scores[name].weighted < 0.1 and one.scores[name].weighted > 0.7
        # what the sums say is what the predictions do
        x, m = cohort.rows[name]
        measured, found = one.project(m), one.predict(x)
        squares = ((measured - found) ** 2).sum(axis=0)
        np.testing.assert_allclose(squares, one.scores[name].rss, rtol=1e-3)


def test_nothing_of_the_patient_held_out_reaches_a_fold():
    (here,), (moved,) = Cohort().fit(slice(3, 4)), Cohort(shift=3.0).fit(slice(3, 4))
    assert here.fold.test == ("d",)
    np.testing.assert_array_equal(here.fourier.axes, moved.fourier.axes)
    np.testing.assert_array_equal(here.fourier.mean, moved.fourier.mean)
    np.testing.assert_array_equal(here.coef, moved.coef)
    assert (here.alpha, here.weights) == (moved.alpha, moved.weights)


def test_classifiers_see_the_curves():
    cohort = Cohort()
    (fold,) = cohort.fit(slice(0, 1))
    blocks = [RowBlock(n, (x, cohort.cancer[n], None)) for n, (x, _) in cohort.rows.items()]
    maps = {"cancer_from_he": {fold.fold.name: (fold.maps or {})["cancer_from_he"]}}
    found = fit_classifiers(labelled(fold.fourier, blocks), maps, [fold.fold], cohort.patients)
    x = fold.beside(cohort.rows["a"][0])
    called = found["cancer_from_he", "a"].predict(x) > 0.5
    assert (called == cohort.cancer["a"]).mean() > 0.9  # by a line it would be one half


def test_a_fold_is_stored_with_what_makes_its_features(tmp_path):
    cohort = Cohort()
    (fold,) = cohort.fit(slice(0, 1), features=20)
    fold.save(str(tmp_path / "fold.zarr"))
    found = FoldModel.load(str(tmp_path / "fold.zarr"))
    x = cohort.rows["a"][0]
    np.testing.assert_array_equal(found.predict(x), fold.predict(x))
    assert found.slide_columns == (slice(0, 3), slice(3, 3)) and found.coef.shape == (2, 23)
    axes = (fold.maps or {})[SLIDE]
    assert axes.matrix.shape == (3, 3)
    assert np.median(Novelty.of(axes).measure(x.astype(np.float32))[0]) < 2
