"""Ion images of any m/z from the scores that a prediction left."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import msiscale as ms
from msiscale.errors import InputError
from msiscale.prediction import write_ion_images
from msiscale.store import create_array, join, open_group, put, read

MZ = np.array([500.1, 600.2, 700.3, 798.541])


@pytest.fixture
def predicted(tmp_path: Path) -> str:
    """As `msiscale predict` leaves a slide: shards of 16, an m/z already written."""
    rng = np.random.default_rng(0)
    url = str(tmp_path / "out" / "predictions.zarr")
    open_group(url, "a")
    group = open_group(join(url, "A"), "a")
    scores = rng.normal(size=(20, 34, 5)).astype(np.float32)
    scores[3:5] = np.nan
    words = {"chunks": (16, 16, 2), "shards": (16, 16, 5)}
    array = create_array(group, "predicted_scores", scores.shape, ("y", "x", "component"), **words)
    array[...] = scores
    components = rng.normal(size=(5, 4)).astype(np.float32)
    mean = np.array([1, 0.5, 0, 2], np.float32)
    components[:, 2] = 0
    put(group, "components", components, ("component", "mz_axis"))
    put(group, "mean", mean, ("mz_axis",))
    put(group, "mz_axis", MZ, ("mz_axis",))
    put(group, "mz", MZ[:1], ("mz",))
    put(group, "predicted_intensity", np.zeros((20, 34, 1), np.float32), ("y", "x", "mz"))
    put(group, "y", 8 * np.arange(20) + 4.0, ("y",))
    put(group, "x", 8 * np.arange(34) + 4.0, ("x",))
    return url


def test_they_are_lazy_and_what_the_whole_cube_would_hold(predicted: str) -> None:
    url = join(predicted, "A")
    images = ms.predicted_intensity(url, [798.54, 500.1])
    assert isinstance(images.data, da.Array) and images.dims == ("y", "x", "mz")
    assert images.data.chunks == ((16, 4), (16, 16, 2), (2,)) and images.dtype == np.float32
    group = open_group(url)
    cube = read(group, "predicted_scores") @ read(group, "components") + read(group, "mean")
    np.testing.assert_allclose(images, np.maximum(cube[..., [3, 0]], 0), rtol=1e-5, atol=1e-6)
    assert np.isnan(images[3:5]).all() and float(images.min()) == 0
    np.testing.assert_array_equal(images.mz, [798.541, 500.1])
    np.testing.assert_array_equal(images.x[:2], [4, 12])
    assert ms.predicted_intensity(url, 600.2).sizes["mz"] == 1


def test_of_one_slide_its_folder_will_do_of_several_it_asks(predicted: str) -> None:
    for url in (predicted, predicted.rsplit("/", 1)[0]):
        assert ms.predicted_intensity(url, 500.1).shape == (20, 34, 1)
    open_group(join(predicted, "B"), "a")
    with pytest.raises(InputError, match=r"no single slide.*A, B"):
        ms.predicted_intensity(predicted, 500.1)


@pytest.mark.parametrize(
    ("mz", "why"),
    [
        (500.2, "not on the axis; the nearest is 500.1000"),
        (700.3, "too rare in the training"),
        (-1.0, "not on the axis"),
    ],
)
def test_what_the_model_does_not_predict_is_refused(predicted: str, mz: float, why: str) -> None:
    with pytest.raises(InputError, match=why):
        ms.predicted_intensity(join(predicted, "A"), mz)


def test_written_as_arrays_they_are_the_same(predicted: str, tmp_path: Path) -> None:
    out = str(tmp_path / "images.zarr")
    write_ion_images(predicted, [600.2, 798.54], out)
    with xr.open_zarr(out, consolidated=False) as found:
        images = ms.predicted_intensity(predicted, [600.2, 798.54])
        np.testing.assert_array_equal(found["predicted_intensity"], images)
        np.testing.assert_array_equal(found["mz"], images.mz)


def test_written_as_a_picture(predicted: str, tmp_path: Path) -> None:
    out = str(tmp_path / "images.png")
    write_ion_images(predicted, [600.2, 798.54], out)
    with Image.open(out) as picture:
        assert min(picture.size) > 100
    with pytest.raises(InputError, match=r"neither \.png nor \.zarr"):
        write_ion_images(predicted, [600.2], str(tmp_path / "images.tiff"))
    with pytest.raises(InputError, match="give 16 at most"):
        write_ion_images(predicted, [600.2] * 17, out)
