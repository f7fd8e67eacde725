"""Spectra on a long axis as sparse rows: the values of the dense cube."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.csr import CsrRows
from msiscale.models import PCA
from msiscale.msi import bin_spectra, normalisation, open_source, write_sparse
from msiscale.store import open_group, read


@pytest.mark.parametrize("normalise", ["none", "tic"])
def test_rows_are_those_of_dense_binning(write, tmp_path, normalise):
    image, where = write(), str(tmp_path / "rows.zarr")
    rows = write_sparse(
        str(image.path), where, "ppm:100:1000:10", tolerance_ppm=5, normalise=normalise
    )
    source = open_source(str(image.path))
    spectra = source.read(np.arange(len(source.positions)))
    group = open_group(where)
    mz, norm = read(group, "mz"), normalisation(spectra, normalise)
    dense = bin_spectra(spectra, mz, 5) / norm[:, None]
    assert rows.shape == dense.shape == (20, len(mz)) and len(mz) > 200_000
    np.testing.assert_allclose(CsrRows.open(where).read(0).toarray(), dense, rtol=1e-6)
    np.testing.assert_array_equal(read(group, "norm"), norm)
    np.testing.assert_array_equal(
        np.stack([read(group, n) for n in "yx"], axis=1), source.positions
    )
    fit = PCA(3).fit(rows)
    assert fit.components_.shape == (3, len(mz)) and fit.n_passes_ > 1


def test_a_blank_spectrum_is_an_empty_row(write, tmp_path):
    spectra = [([200.0, 300.0], [1.0, 3.0]), ([250.0], [0.0])]
    image, where = write(xy=[(1, 1), (2, 1)], spectra=spectra), str(tmp_path / "rows.zarr")
    rows = write_sparse(str(image.path), where, [200.0, 250.0, 300.0], normalise="tic")
    np.testing.assert_allclose(rows.read(0).toarray(), [[0.25, 0, 0.75], [0, 0, 0]])
    np.testing.assert_array_equal(read(open_group(where), "norm"), [4, np.nan])


def test_a_continuous_file_is_dense(write, tmp_path):
    mz = np.linspace(200, 300, 5)
    image = write(xy=[(1, 1), (2, 1)], spectra=[(mz, mz), (mz, mz)], mode="continuous")
    with pytest.raises(ValueError, match="open_msi"):
        write_sparse(str(image.path), str(tmp_path / "rows.zarr"), mz)
