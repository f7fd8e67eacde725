"""`open_msi`: labels, laziness, and the numbers of the file."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.msi import open_msi
from msiscale.msi.imzml import ImzmlSource


def test_continuous_image_is_labelled(shared_data: Path) -> None:
    path = shared_data / "imzml/example_continuous/Example_Continuous.imzML"
    image = open_msi(str(path))
    assert image.intensity.dims == ("y", "x", "mz") and image.intensity.dtype == np.float32
    assert isinstance(image.intensity.data, da.Array)
    np.testing.assert_allclose(image.y, [50, 150, 250])
    assert image.y.attrs["units"] == "µm"
    assert image.attrs["pixel_um"] == [100.0, 100.0]
    assert image.attrs["polarity"] == "-" and image.attrs["mode"] == "continuous"
    assert image.intensity.isel(y=0, x=0).sum().compute() == pytest.approx(121.85039)


def test_processed_image_keeps_each_spectrum(write) -> None:
    file = write()
    image = open_msi(str(file.path))
    assert image.intensity.dims == image.mz.dims == ("y", "x", "peak")
    assert image.mz.dtype == np.float64
    for (x, y), (mz, intensity) in zip(file.xy, file.spectra, strict=True):
        pixel = image.isel(y=y - 1, x=x - 1).compute()
        n = len(mz)
        np.testing.assert_array_equal(pixel.mz[:n], mz)
        np.testing.assert_array_equal(pixel.intensity[:n], intensity)
        assert np.isnan(pixel.mz[n:]).all() and np.isnan(pixel.intensity[n:]).all()
    np.testing.assert_array_equal(image.x, np.arange(5))  # no pixel size: indices
    tic = open_msi(str(file.path), normalise="tic")
    np.testing.assert_allclose(tic.intensity.sum("peak"), 1, rtol=1e-5)


def test_a_given_axis_gives_ion_images(write) -> None:
    file = write(xy=[(2, 1), (1, 2)], spectra=[([100.0, 200.0], [1.0, 2.0]), ([200.001], [4.0])])
    image = open_msi(str(file.path), mz=[100.0, 200.0], tolerance_ppm=10, pixel_um=20)
    expected = [[[np.nan] * 2, [1, 2]], [[0, 4], [np.nan] * 2]]
    np.testing.assert_array_equal(image.intensity, expected)
    np.testing.assert_array_equal(image.norm, [[np.nan, 1], [1, np.nan]])
    np.testing.assert_array_equal(image.mz, [100, 200])
    np.testing.assert_allclose(image.x, [10, 30])


def test_nothing_is_read_until_asked_for(write, monkeypatch) -> None:
    file = write()
    image = open_msi(str(file.path), mz="ppm:100:110:1000")

    def fail(*args):
        raise AssertionError("read")

    monkeypatch.setattr(ImzmlSource, "read", fail)
    assert image.intensity.shape == (4, 5, 96)
    with pytest.raises(AssertionError, match="read"):
        image.intensity.compute()


def test_bands_and_tiles_do_not_show(write, monkeypatch) -> None:
    import msiscale.msi.dataset as module

    file = write(xy=[(x, y) for y in range(1, 12) for x in range(1, 8)])
    whole = (
        open_msi(str(file.path)).compute(),
        open_msi(str(file.path), mz=[500.0], tolerance_ppm=2e5).compute(),
    )
    monkeypatch.setattr(module, "_BAND", 1)
    monkeypatch.setattr(module, "layout", lambda shape, n: ((4, 4, n), (4, 4, n)))
    ragged = open_msi(str(file.path))
    assert len(ragged.intensity.chunks[0]) == 11
    assert ragged.compute().identical(whole[0])
    cube = open_msi(str(file.path), mz=[500.0], tolerance_ppm=2e5)
    assert cube.intensity.chunks[0] == (4, 4, 3)
    assert cube.compute(scheduler="threads").identical(whole[1])


def test_wrong_options(write) -> None:
    path = str(write().path)
    with pytest.raises(InputError, match="normalise"):
        open_msi(path, normalise="max")
    with pytest.raises(InputError, match="m/z axis"):
        open_msi(path, mz=[])
