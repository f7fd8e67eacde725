"""The study's PCA in batches: scikit-learn's on the same batches, whatever the chunks."""

from __future__ import annotations

import ast
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from sklearn.decomposition import IncrementalPCA

import msiscale
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.models import Basis, Fold, fit_linear_folds, incremental, leave_one_group_out
from msiscale.models.incremental import incremental_bases


def spectra(n=1450, p=210, seed=0):
    """A slowly falling spectrum, where batches lose something."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(p, p)))[0] * np.geomspace(3, 0.1, p)
    return (rng.normal(size=(n, p)) @ mix + 5).astype(np.float32)


@pytest.mark.parametrize(("k", "sizes"), [(200, [200] * 6 + [250]), (30, [200] * 7 + [50])])
def test_equal_to_scikit_learn_on_the_same_batches(k, sizes):
    x = spectra()
    rows = {"a": da.from_array(x[:700], chunks=(90, 70)), "b": da.from_array(x[700:], chunks=-1)}
    basis = incremental_bases(rows, [Fold("f", ("a", "b"), ())], n_components=k)["f"]
    theirs = IncrementalPCA(k)
    for batch in np.split(x, np.cumsum(sizes)[:-1]):
        theirs.partial_fit(batch.astype(np.float64))
    np.testing.assert_allclose(basis.mean, theirs.mean_, rtol=1e-6)
    np.testing.assert_allclose(basis.explained_variance, theirs.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(
        basis.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-4
    )
    alike = np.abs((basis.components[:20] * theirs.components_[:20]).sum(axis=1))
    np.testing.assert_allclose(alike, 1, atol=1e-4)
    largest = np.abs(basis.components).argmax(axis=1)
    assert (basis.components[np.arange(k), largest] > 0).all()


def test_whole_batches_of_each_specimen_without_background():
    x = spectra(1450, 60)
    x[::7] = 0  # background
    parts = {"a": x[:700], "b": x[700:800], "c": x[800:]}
    rows = {s: da.from_array(part, chunks=(90, 20)) for s, part in parts.items()}
    fold = [Fold("f", tuple(rows), ())]
    with pytest.warns(MsiscaleWarning, match="b: fewer than 200 pixels for the PCA, which leaves"):
        basis = incremental_bases(rows, fold, n_components=30, whole_batches=True)["f"]
    theirs = IncrementalPCA(30)
    for name in "ac":
        own = parts[name][parts[name].sum(axis=1) != 0]
        for at in range(0, len(own) - 199, 200):
            theirs.partial_fit(own[at : at + 200].astype(np.float64))
    assert theirs.n_samples_seen_ == 1000  # 600 and 557 rows are above zero
    np.testing.assert_allclose(basis.mean, theirs.mean_, rtol=1e-6)
    np.testing.assert_allclose(basis.explained_variance, theirs.explained_variance_, rtol=1e-4)
    few = {"b": rows["b"]}
    with pytest.warns(MsiscaleWarning, match="all their pixels together are one batch"):
        one = incremental_bases(few, [Fold("f", ("b",), ())], n_components=30, whole_batches=True)
    assert len(one["f"].components) == 30
    np.testing.assert_allclose(
        one["f"].mean, parts["b"][parts["b"].sum(1) != 0].mean(0, np.float64), rtol=1e-6
    )


def test_the_chunks_change_no_bit():
    x = spectra(620, 40)
    found = [
        incremental_bases({"a": da.from_array(x, chunks=c)}, [Fold("f", ("a",), ())])["f"]
        for c in (-1, (77, 13), (64, 40))
    ]
    for other in found[1:]:
        for name in ("mean", "components", "explained_variance", "explained_variance_ratio"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found[0], name))


def test_folds_are_fitted_to_such_modes(cohort):
    folds = leave_one_group_out(cohort.patients)
    rows = {s: da.from_array(x, chunks=(150, -1)) for s, x in cohort.intensity.items()}

    def columns(train):
        return np.arange(40) != len(train)

    bases = incremental_bases(rows, folds, columns=columns, n_components=40)
    args = (cohort.sums, folds, cohort.patients)
    models = fit_linear_folds(*args, bases=bases)
    exact = fit_linear_folds(*args, columns=columns, n_components=40)
    for ours, theirs in zip(models, exact, strict=True):  # nothing is dropped: both are exact
        np.testing.assert_array_equal(ours.columns, theirs.columns)
        np.testing.assert_allclose(ours.components[:3], theirs.components[:3], atol=1e-3)
        x = cohort.features[ours.fold.test[0]]
        found, expected = ours.spectrum(ours.predict(x)), theirs.spectrum(theirs.predict(x))
        np.testing.assert_allclose(found, expected, atol=2e-2)
    one = incremental_bases(rows, folds, shared=True, n_components=3)
    assert len({id(basis) for basis in one.values()}) == 1
    assert set(one) == {f.name for f in folds}


def test_what_has_no_components_is_refused():
    x = da.from_array(spectra(300, 30), chunks=-1)
    fold = [Fold("f", ("a",), ())]
    with pytest.raises(ValueError, match="no components"):
        incremental_bases({"a": x[:1]}, fold)
    with pytest.raises(ValueError, match="no components"):
        incremental_bases({"a": x}, fold, columns=lambda train: np.zeros(30, bool))
    with pytest.raises(ValueError, match="not finite"):
        incremental_bases({"a": da.where(x > 9, np.nan, x)}, fold)


def test_rank_below_what_was_asked_for():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(500, 3)) @ rng.normal(size=(3, 50))).astype(np.float32)
    basis = incremental_bases({"a": da.from_array(x)}, [Fold("f", ("a",), ())])["f"]
    assert isinstance(basis, Basis) and basis.components.shape == (3, 50)


def test_it_is_not_loaded_before_it_is_asked_for():
    for path in Path(msiscale.__file__).parent.rglob("*.py"):
        top = [ast.unparse(node) for node in ast.parse(path.read_text()).body]
        assert not any(line.startswith(("import dask_ml", "from dask_ml")) for line in top), path


def test_without_dask_ml_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(incremental, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'msiscale\[published\]'"):
        incremental.need_dask_ml()
