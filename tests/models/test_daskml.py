"""dask-ml's sound parts work around ours: its scalers, and `ParallelPostFit`."""

from __future__ import annotations

import dask.array as da
import numpy as np
from dask_ml.preprocessing import StandardScaler
from dask_ml.wrappers import ParallelPostFit
from sklearn.pipeline import make_pipeline

from msiscale.models import PCA, LogisticRegression, Ridge


def test_a_pipeline_with_its_scaler_stays_lazy():
    rng = np.random.default_rng(0)
    x = da.from_array(rng.normal(size=(500, 12)) * np.arange(1, 13) + 3, chunks=(90, 12))
    scores = make_pipeline(StandardScaler(), PCA(3)).fit_transform(x)
    assert isinstance(scores, da.Array)
    z = np.asarray(x)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    expected = PCA(3).fit_transform(z)
    np.testing.assert_allclose(np.asarray(scores), expected, atol=1e-6)


def test_parallel_post_fit_wraps_a_fitted_estimator():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5))
    lazy = da.from_array(x, chunks=(70, 5))
    ridge = ParallelPostFit(Ridge(0.1)).fit(x, x @ rng.normal(size=5))  # it takes one target
    np.testing.assert_allclose(np.asarray(ridge.predict(lazy)), ridge.estimator.predict(x))
    labels = (x[:, 0] + x[:, 1] > 0).astype(int)
    logistic = ParallelPostFit(LogisticRegression(), predict_proba_meta=np.zeros((1, 2)))
    logistic.fit(x, labels)
    np.testing.assert_allclose(
        np.asarray(logistic.predict_proba(lazy)), logistic.estimator.predict_proba(x)
    )
